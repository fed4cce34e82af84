//! Commands: queued for devices, and what became of them.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{
    CommandCounts, CommandRecord, EnrollmentLookup, EntryRecord, EntryState, ReportStatus, Store, StoreError, TenantId,
};
use russet_engine::{CommandSource, EnqueueReport, EnqueueRequest};
use russet_protocol::{Limits, codec, content_type};
use serde::{Deserialize, Serialize};
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

use super::auth::AtTenant;
use super::input::{self, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;
use crate::query::{Plus, pairs};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/commands", get(list).post(enqueue))
        .route("/commands/{uuid}", get(show))
}

/// A command and where it goes, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCommand {
    devices: Vec<String>,
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
}

impl NewCommand {
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
struct Queued {
    command_uuid: Uuid,
    request_type: String,
    queued: u64,
    deduplicated: Vec<String>,
    warnings: Vec<String>,
}

impl From<EnqueueReport> for Queued {
    fn from(report: EnqueueReport) -> Self {
        Self {
            command_uuid: report.command_uuid,
            request_type: report.request_type,
            queued: report.queued,
            deduplicated: report.deduplicated,
            warnings: report.warnings,
        }
    }
}

async fn enqueue(
    State(api): State<Api>,
    at: AtTenant,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Queued>), Failure> {
    let created_by = at.administrator.name.clone();
    let ask = if input::is_json(&headers) {
        let new: NewCommand = input::json(&api, &headers, body).await?;
        EnqueueRequest {
            source: NewCommand::source(new.command, new.profile)?,
            devices: new.devices,
            priority: new.priority,
            not_before: new.not_before,
            expires_at: new.expires_at,
            created_by,
        }
    } else if is_plist(&headers) {
        let ask = EnqueueRequest {
            source: CommandSource::Plist(Vec::new()),
            devices: Vec::new(),
            priority: 0,
            not_before: None,
            expires_at: None,
            created_by,
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
    Ok((StatusCode::CREATED, Json(report.into())))
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

/// What stands beside a property list: `?device=a&device=b&priority=0&not_before=…&expires_at=…`.
fn with_query(mut ask: EnqueueRequest, query: &str) -> Result<EnqueueRequest, Failure> {
    let wrong = |what: &str| Failure::bad_request(format!("the query parameter {what} cannot be read"));
    let time = |key: &str, value: &str| value.parse::<Timestamp>().map(Some).map_err(|_| wrong(key));
    for (key, value) in pairs(query, Plus::Space)? {
        match key.as_str() {
            "device" => ask.devices.push(value),
            "priority" => ask.priority = value.parse().map_err(|_| wrong(&key))?,
            "not_before" => ask.not_before = time(&key, &value)?,
            "expires_at" => ask.expires_at = time(&key, &value)?,
            _ => {
                return Err(Failure::bad_request(
                    "the query takes device, priority, not_before and expires_at",
                ));
            }
        }
    }
    Ok(ask)
}

#[derive(Debug, Serialize)]
struct CommandView {
    command_uuid: Uuid,
    request_type: String,
    profile: Option<String>,
    priority: i64,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    created_by: String,
    created_at: Timestamp,
    warnings: Vec<String>,
}

impl From<CommandRecord> for CommandView {
    fn from(record: CommandRecord) -> Self {
        Self {
            command_uuid: record.uuid,
            request_type: record.request_type,
            profile: record.profile_name,
            priority: record.priority,
            not_before: record.not_before,
            expires_at: record.expires_at,
            created_by: record.created_by,
            created_at: record.created_at,
            warnings: record.warnings,
        }
    }
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(paging): Params<Paging>,
) -> Result<Json<List<CommandView>>, Failure> {
    let store = api.engine.store();
    let page = store.commands(at.tenant.id, paging.cursor(), paging.limit()).await?;
    Ok(Json(List::of(page, CommandView::from)))
}

/// A command with one page of its devices.
#[derive(Debug, Serialize)]
struct CommandWithDevices {
    #[serde(flatten)]
    command: CommandView,
    /// How many devices are in which state.
    counts: CommandCounts,
    devices: Vec<DeviceEntry>,
    /// Where the next page of devices starts.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct DeviceEntry {
    id: String,
    serial_number: Option<String>,
    #[serde(flatten)]
    entry: EntryView,
    /// The device's report, as JSON.
    result: Option<JsonValue>,
}

#[derive(Deserialize)]
struct CommandName {
    uuid: String,
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
    Params(paging): Params<Paging>,
) -> Result<Json<CommandWithDevices>, Failure> {
    let uuid: Uuid = uuid.parse().map_err(|_| Failure::not_found("command"))?;
    let store = api.engine.store();
    let found = store.command(at.tenant.id, uuid).await?;
    let (command, counts) = found.ok_or_else(|| Failure::not_found("command"))?;
    let page = store
        .command_entries(at.tenant.id, uuid, paging.cursor(), paging.limit())
        .await?;
    let now = Timestamp::now();
    let mut devices = Vec::with_capacity(page.items.len());
    for entry in page.items {
        devices.push(device_entry(store, at.tenant.id, entry, now).await?);
    }
    Ok(Json(CommandWithDevices {
        command: command.into(),
        counts,
        devices,
        next: page.next.map(|cursor| cursor.to_string()),
    }))
}

async fn device_entry(
    store: &Store,
    tenant: TenantId,
    mut entry: EntryRecord,
    now: Timestamp,
) -> Result<DeviceEntry, StoreError> {
    let device = store
        .enrollment(tenant, EnrollmentLookup::Id(entry.enrollment))
        .await?
        .ok_or(StoreError::NotFound("device"))?;
    let result = entry.result.take().map(|report| as_json(&report));
    Ok(DeviceEntry {
        id: device.key,
        serial_number: device.facts.serial_number,
        entry: EntryView::new(entry, now),
        result,
    })
}

/// A report as JSON. It was read when it came, within the limits of its time; should it not read any more, that is said
/// instead of hiding the rest of the answer.
fn as_json(report: &[u8]) -> JsonValue {
    let limits = Limits {
        max_bytes: report.len(),
        ..Limits::default()
    };
    match codec::decode_value(report, &limits) {
        Ok(value) => codec::to_json(&value),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

/// An entry of a queue.
#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    command_uuid: Uuid,
    request_type: String,
    state: EntryState,
    priority: i64,
    attempts: i64,
    /// Why it is not delivered at the moment.
    waiting_for: Option<String>,
    status: Option<ReportStatus>,
    error_chain: Option<JsonValue>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    sent_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl EntryView {
    pub(super) fn new(entry: EntryRecord, now: Timestamp) -> Self {
        let waiting_for = if entry.finished_at.is_some() {
            None
        } else if let Some(reason) = &entry.defer_reason {
            Some(reason.clone())
        } else {
            match (entry.state, entry.not_before) {
                (EntryState::NotNow, _) => Some("the device said NotNow".to_owned()),
                (EntryState::Pending, Some(time)) if time > now => Some(format!("its time, {time}")),
                _ => None,
            }
        };
        Self {
            command_uuid: entry.uuid,
            request_type: entry.request_type,
            state: entry.state,
            priority: entry.priority,
            attempts: entry.attempts,
            waiting_for,
            status: entry.status,
            error_chain: entry.error_chain,
            not_before: entry.not_before,
            expires_at: entry.expires_at,
            created_at: entry.created_at,
            sent_at: entry.sent_at,
            answered_at: entry.answered_at,
            finished_at: entry.finished_at,
        }
    }
}
