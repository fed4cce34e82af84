//! Queueing a command: JSON or a property list in, for devices, a group or all.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::{Audience, CommandSource, EnqueueReport, EnqueueRequest};
use russet_protocol::content_type;
use serde::{Deserialize, Serialize};
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

use crate::Api;
use crate::admin::auth::AtTenant;
use crate::admin::input;
use crate::failure::Failure;
use crate::query::{Plus, pairs};

/// A command and where it goes, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCommand {
    #[serde(default)]
    devices: Option<Vec<String>>,
    /// The name of a group.
    #[serde(default)]
    group: Option<String>,
    /// Every device of the tenant.
    #[serde(default)]
    all: bool,
    /// With Apple's key names.
    #[serde(default)]
    command: Option<JsonValue>,
    /// The name of a stored profile, for InstallProfile.
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    priority: i16,
    #[serde(default)]
    not_before: Option<Timestamp>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// How many devices a minute get it.
    #[serde(default)]
    pace: Option<u32>,
}

impl NewCommand {
    fn audience(devices: Option<Vec<String>>, group: Option<String>, all: bool) -> Result<Audience, Failure> {
        match (devices, group, all) {
            (Some(devices), None, false) => Ok(Audience::Devices(devices)),
            (None, Some(group), false) => Ok(Audience::Group(group)),
            (None, None, true) => Ok(Audience::All),
            _ => Err(Failure::bad_request(
                "say whom the command is for: \"devices\", a \"group\", or \"all\": true; one of the three",
            )),
        }
    }

    fn source(command: Option<JsonValue>, profile: Option<String>) -> Result<CommandSource, Failure> {
        match (command, profile) {
            (Some(command), None) => Ok(CommandSource::Json(command)),
            (None, Some(profile)) => Ok(CommandSource::StoredProfile(profile)),
            (Some(command), Some(profile)) => {
                // The profile is all that such a command has to say.
                if command == json!({ "RequestType": "InstallProfile" }) {
                    Ok(CommandSource::StoredProfile(profile))
                } else {
                    Err(Failure::bad_request(
                        "beside \"profile\", leave \"command\" out or make it {\"RequestType\":\"InstallProfile\"}",
                    ))
                }
            }
            (None, None) => Err(Failure::bad_request(
                "give a \"command\", or the \"profile\" to install",
            )),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Queued {
    command_uuid: Uuid,
    request_type: String,
    queued: u64,
    /// The first hundred of the named devices that have the same question waiting.
    deduplicated: Vec<String>,
    /// How many devices have.
    duplicates: u64,
    /// Why it waits for an approval, if it does.
    held: Option<Held>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Held {
    reason: String,
    message: String,
}

impl From<EnqueueReport> for Queued {
    fn from(report: EnqueueReport) -> Self {
        Self {
            command_uuid: report.command_uuid,
            request_type: report.request_type,
            queued: report.queued,
            deduplicated: report.deduplicated,
            duplicates: report.duplicates,
            held: report.held.map(|(reason, message)| Held { reason, message }),
            warnings: report.warnings,
        }
    }
}

pub(super) async fn enqueue(
    State(api): State<Api>,
    at: AtTenant,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Queued>), Failure> {
    let administrator = at.administrator.clone();
    let ask = if input::is_json(&headers) {
        let new: NewCommand = input::json(&api, &headers, body).await?;
        EnqueueRequest {
            source: NewCommand::source(new.command, new.profile)?,
            audience: NewCommand::audience(new.devices, new.group, new.all)?,
            priority: new.priority,
            not_before: new.not_before,
            expires_at: new.expires_at,
            pace: new.pace,
            administrator,
        }
    } else if is_plist(&headers) {
        let ask = EnqueueRequest {
            source: CommandSource::Plist(Vec::new()),
            audience: Audience::All,
            priority: 0,
            not_before: None,
            expires_at: None,
            pace: None,
            administrator,
        };
        let mut ask = with_query(ask, query.as_deref().unwrap_or_default())?;
        ask.source = CommandSource::Plist(input::read(&api, body).await?.into());
        ask
    } else {
        return Err(input::unsupported(
            "send JSON as application/json, or a property list as application/xml",
        ));
    };
    let request = at.begin(&api).await?;
    let report = api.engine.enqueue(&request, ask, Timestamp::now()).await?;
    let status = match report.held {
        None => StatusCode::CREATED,
        // Stored, and nothing happens until somebody approves.
        Some(_) => StatusCode::ACCEPTED,
    };
    Ok((status, Json(report.into())))
}

fn is_plist(headers: &HeaderMap) -> bool {
    const TYPES: [&str; 5] = [
        content_type::PLIST,
        "text/xml",
        "application/x-plist",
        "application/x-apple-plist",
        content_type::CONNECT,
    ];
    input::sent_as(headers).is_some_and(|sent| TYPES.iter().any(|known| content_type::is(sent, known)))
}

/// What stands beside a property list: `?device=a&device=b&priority=0&not_before=…&expires_at=…`, or `?group=a`, or
/// `?all=true`.
fn with_query(mut ask: EnqueueRequest, query: &str) -> Result<EnqueueRequest, Failure> {
    let wrong = |what: &str| Failure::bad_request(format!("the query parameter {what} cannot be read"));
    let time = |key: &str, value: &str| value.parse::<Timestamp>().map(Some).map_err(|_| wrong(key));
    let (mut devices, mut group, mut all) = (None, None, false);
    for (key, value) in pairs(query, Plus::Space)? {
        match key.as_str() {
            "device" => devices.get_or_insert_with(Vec::new).push(value),
            "group" => group = Some(value),
            "all" => all = value.parse().map_err(|_| wrong(&key))?,
            "priority" => ask.priority = value.parse().map_err(|_| wrong(&key))?,
            "not_before" => ask.not_before = time(&key, &value)?,
            "expires_at" => ask.expires_at = time(&key, &value)?,
            "pace" => ask.pace = Some(value.parse().map_err(|_| wrong(&key))?),
            _ => {
                return Err(Failure::bad_request(
                    "the query takes device, group, all, priority, not_before, expires_at and pace",
                ));
            }
        }
    }
    ask.audience = NewCommand::audience(devices, group, all)?;
    Ok(ask)
}
