//! Commands: queued for devices, approved, taken back, and what became of them.

mod enqueue;
mod queue;
mod view;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use russet_engine::store::{CommandCounts, EnrollmentLookup, EntryRecord, Store, StoreError, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use uuid::Uuid;

use super::auth::AtTenant;
use super::input::{self, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;
use view::{CommandView, as_json};

pub(super) use queue::Cancelled;
pub(super) use view::EntryView;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/commands", get(list).post(enqueue::enqueue))
        .route("/commands/{uuid}", get(show))
        .route("/commands/{uuid}/progress", get(progress))
        .route("/commands/{uuid}/cancel", post(queue::cancel))
        .route("/commands/{uuid}/approve", post(approve))
        .route("/commands/{uuid}/reject", post(reject))
        .route("/queue", get(queue::overview))
        .route("/queue/stuck", get(queue::stuck))
}

#[derive(Deserialize)]
struct Filter {
    approval: Option<String>,
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(filter): Params<Filter>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<CommandView>>, Failure> {
    let held = match filter.approval.as_deref() {
        None => false,
        Some("held") => true,
        Some(_) => return Err(Failure::bad_request("the filter is approval=held, or none")),
    };
    let page = api
        .engine
        .store()
        .commands(at.tenant.id, held, paging.cursor(), paging.limit())
        .await?;
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

fn parse(uuid: &str) -> Result<Uuid, Failure> {
    uuid.parse().map_err(|_| Failure::not_found("command"))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
    Params(paging): Params<Paging>,
) -> Result<Json<CommandWithDevices>, Failure> {
    let uuid = parse(&uuid)?;
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

/// How far a command is, in numbers; for many devices much smaller than the command itself.
#[derive(Debug, Serialize)]
struct Progress {
    #[serde(flatten)]
    command: CommandView,
    /// How many devices are in which state.
    counts: CommandCounts,
    /// How many devices it was queued for.
    total: u64,
    /// How many of them have neither done it nor failed, nor was it taken back.
    open: u64,
}

async fn progress(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
) -> Result<Json<Progress>, Failure> {
    let found = api.engine.store().command(at.tenant.id, parse(&uuid)?).await?;
    let (command, counts) = found.ok_or_else(|| Failure::not_found("command"))?;
    let open = counts.iter().filter(|(state, _)| !state.is_final());
    Ok(Json(Progress {
        command: command.into(),
        total: counts.values().sum(),
        open: open.map(|(_, count)| count).sum(),
        counts,
    }))
}

#[derive(Debug, Serialize)]
struct Approved {
    command_uuid: Uuid,
    /// How many devices it was released for.
    released: u64,
}

async fn approve(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
) -> Result<Json<Approved>, Failure> {
    let command_uuid = parse(&uuid)?;
    let request = at.begin(&api).await?;
    let released = api
        .engine
        .approve_command(&request, command_uuid, &at.administrator, Timestamp::now())
        .await?;
    Ok(Json(Approved { command_uuid, released }))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejection {
    #[serde(default)]
    reason: Option<String>,
}

async fn reject(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Cancelled>, Failure> {
    let command_uuid = parse(&uuid)?;
    let Rejection { reason } = input::json_or_nothing(&api, &headers, body).await?;
    let cancelled = api
        .engine
        .reject_command(&at.tenant, command_uuid, &at.administrator, reason, Timestamp::now())
        .await?;
    Ok(Json(Cancelled { cancelled }))
}
