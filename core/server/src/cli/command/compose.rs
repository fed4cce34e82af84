//! What a command consists of, from the command line or a file.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use miette::Diagnostic;
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::error::ClientError;
use crate::cli::file;

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    /// The devices, by serial number, UDID or enrollment identifier. Repeat it for several.
    #[arg(long = "device", value_name = "DEVICE", required_unless_present_any = ["group", "all"])]
    devices: Vec<String>,
    /// The devices of a group.
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["devices", "all"])]
    group: Option<String>,
    /// Every device of the tenant.
    #[arg(long, conflicts_with = "devices")]
    all: bool,
    /// Send it to so many devices a minute instead of to all at once.
    #[arg(long, value_name = "DEVICES")]
    pace: Option<u32>,
    /// Apple's request type, such as DeviceInformation.
    #[arg(required_unless_present_any = ["json_file", "plist", "profile"])]
    request_type: Option<String>,
    /// The command's keys: KEY=TEXT, or KEY:=JSON for numbers, truth values, lists and dictionaries.
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
    /// Take the command from a JSON file, `-` for the standard input: an object with RequestType and its keys.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request_type", "keys", "plist"])]
    json_file: Option<PathBuf>,
    /// Take the command from a property list, `-` for the standard input.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["request_type", "keys", "profile", "priority", "not_before", "expires_at", "pace"]
    )]
    plist: Option<PathBuf>,
    /// Install the stored profile of this name.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Commands with a lower number go first; 0 is usual.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Do not send it before this time, such as 2027-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Do not send it after this time.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Wait for the answers, for this many seconds (60 if none are given).
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", require_equals = true)]
    pub(super) wait: Option<u64>,
}

/// A command that was written wrongly.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum ComposeError {
    #[error("`{0}` is no key with a value")]
    #[diagnostic(
        code("command"),
        help("write text as Message='Please return me' and anything else as JSON, such as Queries:='[\"OSVersion\"]'")
    )]
    NoValue(String),
    #[error("the value of {key} is not JSON: {reason}")]
    #[diagnostic(code("command"), help("after := comes JSON; for text use {key}=…"))]
    NotJson { key: String, reason: String },
    #[error("{0} is given twice")]
    #[diagnostic(code("command"), help("give each key once; a list is written as KEY:='[…]'"))]
    Twice(String),
    #[error("the file does not hold a command: it must be a JSON object with RequestType")]
    #[diagnostic(help("it looks like {{\"RequestType\": \"DeviceInformation\", \"Queries\": [\"OSVersion\"]}}"))]
    NoCommand,
}

/// What is posted.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    Json(Value),
    Plist {
        audience: Vec<(&'static str, String)>,
        plist: Vec<u8>,
    },
}

impl SendArgs {
    pub(super) fn compose(&self) -> miette::Result<Body> {
        if let Some(path) = &self.plist {
            let devices = self.devices.iter().map(|device| ("device", device.clone()));
            let group = self.group.iter().map(|group| ("group", group.clone()));
            let all = self.all.then(|| ("all", "true".to_owned()));
            return Ok(Body::Plist {
                audience: devices.chain(group).chain(all).collect(),
                plist: file::read(path)?,
            });
        }
        let mut body = Map::new();
        let (key, audience) = match &self.group {
            Some(group) => ("group", json!(group)),
            None if self.all => ("all", json!(true)),
            None => ("devices", json!(self.devices)),
        };
        body.insert(key.to_owned(), audience);
        body.extend(self.pace.map(|pace| ("pace".to_owned(), pace.into())));
        if let Some(command) = self.command()? {
            body.insert("command".to_owned(), command);
        }
        let times = [("not_before", self.not_before), ("expires_at", self.expires_at)];
        body.extend(
            times
                .into_iter()
                .filter_map(|(key, time)| Some((key.to_owned(), time?.to_string().into()))),
        );
        body.extend(self.priority.map(|priority| ("priority".to_owned(), priority.into())));
        body.extend(
            self.profile
                .as_ref()
                .map(|profile| ("profile".to_owned(), profile.as_str().into())),
        );
        Ok(Body::Json(Value::Object(body)))
    }

    fn command(&self) -> miette::Result<Option<Value>> {
        if let Some(path) = &self.json_file {
            let command = file::read_json(path)?;
            if !command.get("RequestType").is_some_and(Value::is_string) {
                return Err(ComposeError::NoCommand.into());
            }
            return Ok(Some(command));
        }
        let Some(request_type) = &self.request_type else {
            return Ok(None);
        };
        let mut command = Map::new();
        command.insert("RequestType".to_owned(), request_type.as_str().into());
        for text in &self.keys {
            let (key, value) = key_and_value(text)?;
            if command.insert(key.clone(), value).is_some() {
                return Err(ComposeError::Twice(key).into());
            }
        }
        Ok(Some(Value::Object(command)))
    }
}

fn key_and_value(text: &str) -> Result<(String, Value), ComposeError> {
    let no_value = || ComposeError::NoValue(text.to_owned());
    let (key, value) = text.split_once('=').ok_or_else(no_value)?;
    let (key, value) = match key.strip_suffix(':') {
        None => (key, Value::from(value)),
        Some(key) => {
            let value = serde_json::from_str(value).map_err(|error| ComposeError::NotJson {
                key: key.to_owned(),
                reason: error.to_string(),
            })?;
            (key, value)
        }
    };
    if key.is_empty() {
        Err(no_value())
    } else {
        Ok((key.to_owned(), value))
    }
}

impl Body {
    pub(super) async fn send(self, client: &Client) -> Result<Value, ClientError> {
        let mut url = client.of_tenant(&["commands"]);
        match self {
            Self::Json(body) => client.post(url, &body).await,
            Self::Plist { audience, plist } => {
                url.query_pairs_mut().extend_pairs(audience);
                client.post_bytes(url, "application/xml", plist).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        send: SendArgs,
    }

    fn compose(line: &[&str]) -> miette::Result<Body> {
        Line::try_parse_from([&["send"], line].concat()).unwrap().send.compose()
    }

    #[test]
    fn keys_are_text_unless_they_say_json() {
        let body = compose(&[
            "--device",
            "A",
            "--device",
            "B",
            "DeviceLock",
            "PIN=123456",
            "Message=a=b",
            "X:=[1,true]",
        ]);
        assert_eq!(
            body.unwrap(),
            Body::Json(json!({
                "devices": ["A", "B"],
                "command": {"RequestType": "DeviceLock", "PIN": "123456", "Message": "a=b", "X": [1, true]},
            }))
        );
    }

    #[test]
    fn a_stored_profile_needs_no_command() {
        let line = [
            "--device",
            "A",
            "--profile",
            "wifi",
            "--priority",
            "-1",
            "--not-before",
            "2027-01-31T08:00:00+01:00",
        ];
        assert_eq!(
            compose(&line).unwrap(),
            Body::Json(json!({
                "devices": ["A"], "profile": "wifi", "priority": -1, "not_before": "2027-01-31T07:00:00Z",
            }))
        );
    }

    #[test]
    fn what_is_no_command_is_explained() {
        for (key, message) in [
            ("PIN", "`PIN` is no key with a value"),
            ("=x", "`=x` is no key with a value"),
            (
                "PIN:=x",
                "the value of PIN is not JSON: expected value at line 1 column 1",
            ),
            ("RequestType=x", "RequestType is given twice"),
        ] {
            assert_eq!(
                compose(&["--device", "A", "DeviceLock", key]).unwrap_err().to_string(),
                message
            );
        }
    }

    #[test]
    fn files_hold_commands_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("command");
        let name = path.to_str().unwrap();

        std::fs::write(&path, r#"{"RequestType": "ProfileList"}"#).unwrap();
        let body = compose(&["--device", "A", "--json-file", name]).unwrap();
        assert_eq!(
            body,
            Body::Json(json!({"devices": ["A"], "command": {"RequestType": "ProfileList"}}))
        );

        std::fs::write(&path, r#"["ProfileList"]"#).unwrap();
        let message = compose(&["--device", "A", "--json-file", name])
            .unwrap_err()
            .to_string();
        assert!(message.contains("must be a JSON object with RequestType"), "{message}");

        std::fs::write(&path, "<plist/>").unwrap();
        let body = compose(&["--device", "A", "--plist", name]).unwrap();
        assert_eq!(
            body,
            Body::Plist {
                audience: vec![("device", "A".to_owned())],
                plist: b"<plist/>".to_vec()
            }
        );
    }

    #[test]
    fn a_command_is_for_devices_a_group_or_all() {
        for (line, expected) in [
            (&["--group", "lab"][..], json!({"group": "lab"})),
            (&["--all", "--pace", "500"], json!({"all": true, "pace": 500})),
        ] {
            let mut expected = expected;
            expected["command"] = json!({"RequestType": "ProfileList"});
            let body = compose(&[line, &["ProfileList"]].concat()).unwrap();
            assert_eq!(body, Body::Json(expected));
        }
        for line in [
            &["ProfileList"][..],
            &["--all", "--group", "lab", "ProfileList"],
            &["--all", "--device", "A", "ProfileList"],
        ] {
            assert!(Line::try_parse_from([&["send"], line].concat()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn sources_of_a_command_exclude_each_other() {
        for line in [
            &["--device", "A"][..],
            &["ProfileList"],
            &["--device", "A", "--json-file", "f", "ProfileList"],
            &["--device", "A", "--json-file", "f", "--plist", "f"],
            &["--device", "A", "--plist", "f", "--priority", "1"],
        ] {
            assert!(Line::try_parse_from([&["send"], line].concat()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn waiting_has_a_default() {
        let wait = |line: &[&str]| {
            Line::try_parse_from([&["send", "--device", "A", "X"], line].concat())
                .unwrap()
                .send
                .wait
        };
        assert_eq!(
            (wait(&[]), wait(&["--wait"]), wait(&["--wait=5"])),
            (None, Some(60), Some(5))
        );
    }
}
