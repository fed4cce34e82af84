//! Devices and users on them, as enrolled: shown, woken, given to a person, and their escrowed secrets.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{EnrollmentFilter, EnrollmentRecord, EnrollmentState, OpenCounts};
use russet_hooks::Person;
use russet_protocol::Channel;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::auth::AtTenant;
use super::commands::{Cancelled, EntryView};
use super::escrow::{self, Secret};
use super::input::{self, Id, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/devices", get(list))
        .route("/devices/{id}", get(show))
        .route("/devices/{id}/commands", get(commands))
        .route("/devices/{id}/push", post(push))
        .route("/devices/{id}/flush", post(flush))
        .route("/devices/{id}/person", put(assign))
        .route("/devices/{id}/escrow/{kind}", get(release))
}

#[derive(Debug, Serialize)]
struct DeviceView {
    id: String,
    channel: Channel,
    state: EnrollmentState,
    serial_number: Option<String>,
    udid: Option<String>,
    device_name: Option<String>,
    model: Option<String>,
    model_name: Option<String>,
    product_name: Option<String>,
    os_version: Option<String>,
    build_version: Option<String>,
    imei: Option<String>,
    meid: Option<String>,
    user: Option<UserView>,
    person: Option<serde_json::Value>,
    attributes: serde_json::Value,
    push: Option<PushView>,
    awaiting_configuration: bool,
    certificate_sha256: Option<String>,
    created_at: Timestamp,
    enrolled_at: Option<Timestamp>,
    last_seen_at: Option<Timestamp>,
    removed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct UserView {
    id: Option<String>,
    short_name: Option<String>,
    long_name: Option<String>,
}

/// The push token itself is a secret and not shown.
#[derive(Debug, Serialize)]
struct PushView {
    topic: String,
    updated_at: Option<Timestamp>,
    /// Since when Apple says that the token is dead.
    parked_at: Option<Timestamp>,
}

impl From<EnrollmentRecord> for DeviceView {
    fn from(record: EnrollmentRecord) -> Self {
        let is_user = record.channel.is_user();
        let facts = record.facts;
        Self {
            id: record.key,
            channel: record.channel,
            state: record.state,
            serial_number: facts.serial_number,
            udid: facts.udid,
            device_name: facts.device_name,
            model: facts.model,
            model_name: facts.model_name,
            product_name: facts.product_name,
            os_version: facts.os_version,
            build_version: facts.build_version,
            imei: facts.imei,
            meid: facts.meid,
            user: is_user.then_some(UserView {
                id: record.user.user_id,
                short_name: record.user.short_name,
                long_name: record.user.long_name,
            }),
            person: record.person,
            attributes: record.attributes,
            push: record.push.map(|push| PushView {
                topic: push.topic,
                updated_at: push.updated_at,
                parked_at: push.parked_at,
            }),
            awaiting_configuration: record.awaiting_configuration,
            certificate_sha256: record.certificate_sha256.map(hex::encode),
            created_at: record.created_at,
            enrolled_at: record.enrolled_at,
            last_seen_at: record.last_seen_at,
            removed_at: record.removed_at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Filter {
    state: Option<EnrollmentState>,
    channel: Option<Channel>,
    serial_number: Option<String>,
    search: Option<String>,
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(filter): Params<Filter>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<DeviceView>>, Failure> {
    let serial = filter.serial_number.filter(|serial| !serial.is_empty());
    let store_filter = EnrollmentFilter {
        state: filter.state,
        channel: filter.channel,
        parent: None,
        search: serial.clone().or(filter.search).filter(|search| !search.is_empty()),
    };
    let mut page = api
        .engine
        .store()
        .enrollments(at.tenant.id, &store_filter, paging.cursor(), paging.limit())
        .await?;
    if let Some(serial) = serial {
        // The store searches in several columns and in parts of them.
        page.items.retain(|record| {
            let own = record.facts.serial_number.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(&serial))
        });
    }
    Ok(Json(List::of(page, DeviceView::from)))
}

/// A device with its queue in numbers.
#[derive(Debug, Serialize)]
struct DeviceWithQueue {
    #[serde(flatten)]
    device: DeviceView,
    /// How many open commands are in which state.
    queue: OpenCounts,
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<Json<DeviceWithQueue>, Failure> {
    let device = api.engine.device(&at.tenant, &id).await?;
    let queue = api.engine.store().open_counts(device.id).await?;
    let device = device.into();
    Ok(Json(DeviceWithQueue { device, queue }))
}

async fn commands(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<EntryView>>, Failure> {
    let device = api.engine.device(&at.tenant, &id).await?;
    let page = api
        .engine
        .store()
        .queue_history(device.id, paging.cursor(), paging.limit())
        .await?;
    let now = Timestamp::now();
    Ok(Json(List::of(page, |entry| EntryView::new(entry, now))))
}

async fn push(State(api): State<Api>, at: AtTenant, Named(Id { id }): Named<Id>) -> Result<StatusCode, Failure> {
    api.engine.push(&at.tenant, &id, Timestamp::now()).await?;
    // It is in the outbox; when the device comes is up to Apple and to the device.
    Ok(StatusCode::ACCEPTED)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flush {
    /// Only commands of this request type.
    #[serde(default)]
    request_type: Option<String>,
}

async fn flush(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Cancelled>, Failure> {
    let Flush { request_type } = input::json_or_nothing(&api, &headers, body).await?;
    let cancelled = api
        .engine
        .flush_queue(&at.tenant, &id, request_type, Timestamp::now())
        .await?;
    Ok(Json(Cancelled { cancelled }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    user_name: String,
}

async fn assign(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Person>, Failure> {
    let assignment: Assignment = input::json(&api, &headers, body).await?;
    let request = at.begin(&api).await?;
    let person = api
        .engine
        .assign_person(&request, &id, &assignment.user_name, Timestamp::now())
        .await?;
    Ok(Json(person))
}

async fn release(
    State(api): State<Api>,
    at: AtTenant,
    Named(Secret { id, kind }): Named<Secret>,
) -> Result<Response, Failure> {
    let kind = escrow::kind(&kind)?;
    let request = at.begin(&api).await?;
    let secret = api
        .engine
        .release_escrow(&request, &id, kind, &at.administrator, Timestamp::now())
        .await?;
    let secret = Zeroizing::new(STANDARD.encode(&*secret));
    let answer = json!({ "kind": kind, "secret": *secret });
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
