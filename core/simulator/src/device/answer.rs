//! Commands as a device receives them, and the reports that it answers with.

use std::fmt;

use russet_protocol::codec::{self, Limits};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{ErrorChainItem, ReportStatus};

use super::error::{DeviceError, Step};

/// A command that the server handed over.
#[derive(Clone, PartialEq)]
pub struct ReceivedCommand {
    /// Its identifier, which the answer repeats.
    pub uuid: String,
    /// The command with its `RequestType`.
    pub command: Dictionary,
    /// The body as it came.
    pub raw: Vec<u8>,
}

impl fmt::Debug for ReceivedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedCommand")
            .field("uuid", &self.uuid)
            .field("request_type", &self.request_type())
            .finish_non_exhaustive()
    }
}

impl ReceivedCommand {
    /// Reads the body of an answer to a report; an empty one means that there is nothing to do.
    pub(crate) fn read(body: &[u8]) -> Result<Option<Self>, DeviceError> {
        if body.is_empty() {
            return Ok(None);
        }
        let envelope = codec::decode(body, &Limits::default()).map_err(DeviceError::plist(Step::Connect))?;
        let uuid = envelope.get("CommandUUID").and_then(Value::as_string);
        let command = envelope.get("Command").and_then(Value::as_dictionary);
        let (Some(uuid), Some(command)) = (uuid, command) else {
            return Err(DeviceError::answer(
                Step::Connect,
                "a command needs a CommandUUID and a Command dictionary",
            ));
        };
        Ok(Some(Self {
            uuid: uuid.to_owned(),
            command: command.clone(),
            raw: body.to_vec(),
        }))
    }

    /// The type of the command; empty when it has none.
    pub fn request_type(&self) -> &str {
        self.text("RequestType").unwrap_or_default()
    }

    /// A key of the command that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.command.get(key).and_then(Value::as_string)
    }
}

/// What a device reports: that it is idle, or what became of a command.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: ReportStatus,
    /// Which command; none when idle.
    pub command_uuid: Option<String>,
    /// The result: the keys of the report beside status, command and the device's names.
    pub result: Dictionary,
    /// What went wrong.
    pub error_chain: Vec<ErrorChainItem>,
}

impl fmt::Debug for Answer {
    /// Without the result, which holds recovery keys and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("command_uuid", &self.command_uuid)
            .field("result_keys", &self.result.keys().collect::<Vec<_>>())
            .field("error_chain", &self.error_chain)
            .finish()
    }
}

impl Answer {
    /// Nothing to report; is there a command?
    pub fn idle() -> Self {
        Self {
            status: ReportStatus::Idle,
            command_uuid: None,
            result: Dictionary::new(),
            error_chain: Vec::new(),
        }
    }

    /// The command was carried out, with this result.
    pub fn acknowledged(command_uuid: impl Into<String>, result: Dictionary) -> Self {
        Self {
            result,
            ..Self::of(ReportStatus::Acknowledged, command_uuid)
        }
    }

    /// The command cannot be carried out now.
    pub fn not_now(command_uuid: impl Into<String>) -> Self {
        Self::of(ReportStatus::NotNow, command_uuid)
    }

    /// The command failed.
    pub fn error(command_uuid: impl Into<String>, error_chain: Vec<ErrorChainItem>) -> Self {
        Self {
            error_chain,
            ..Self::of(ReportStatus::Error, command_uuid)
        }
    }

    /// The command was not understood.
    pub fn format_error(command_uuid: impl Into<String>, error_chain: Vec<ErrorChainItem>) -> Self {
        Self {
            error_chain,
            ..Self::of(ReportStatus::CommandFormatError, command_uuid)
        }
    }

    fn of(status: ReportStatus, command_uuid: impl Into<String>) -> Self {
        Self {
            status,
            command_uuid: Some(command_uuid.into()),
            ..Self::idle()
        }
    }

    /// The status as on the wire.
    pub fn status_name(&self) -> &'static str {
        match self.status {
            ReportStatus::Idle => "Idle",
            ReportStatus::Acknowledged => "Acknowledged",
            ReportStatus::Error => "Error",
            ReportStatus::CommandFormatError => "CommandFormatError",
            ReportStatus::NotNow => "NotNow",
            ReportStatus::Unknown(_) => "an unknown status",
        }
    }

    /// The report's body; `names` are the keys that say who reports.
    pub fn encode(&self, names: &Dictionary) -> Vec<u8> {
        let mut report = self.result.clone();
        for (key, value) in names {
            report.insert(key.clone(), value.clone());
        }
        report.insert("Status".to_owned(), Value::from(self.status.as_str()));
        if let Some(uuid) = &self.command_uuid {
            report.insert("CommandUUID".to_owned(), Value::from(uuid.as_str()));
        }
        if !self.error_chain.is_empty() {
            let chain = self.error_chain.iter().map(error_item).collect();
            report.insert("ErrorChain".to_owned(), Value::Array(chain));
        }
        codec::encode(&report)
    }
}

/// An item of an error chain, from its parts.
pub fn chain_item(error_code: i64, error_domain: &str, description: &str) -> ErrorChainItem {
    ErrorChainItem {
        error_code,
        error_domain: error_domain.to_owned(),
        localized_description: Some(description.to_owned()),
        us_english_description: Some(description.to_owned()),
    }
}

fn error_item(item: &ErrorChainItem) -> Value {
    let mut error = Dictionary::from_iter([
        ("ErrorCode", Value::from(item.error_code)),
        ("ErrorDomain", Value::from(item.error_domain.as_str())),
    ]);
    let texts = [
        ("LocalizedDescription", &item.localized_description),
        ("USEnglishDescription", &item.us_english_description),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            error.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    Value::Dictionary(error)
}
