//! Events, the observers that take them, and scheduled work.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use russet_engine::store::{
    EventFilter, EventId, EventRecord, ObserverRecord, Parked, ParkedEvent, ReplayFrom, ScheduleId, ScheduleOrigin,
    ScheduleRecord,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::AtTenant;
use super::input::{self, Named, OfDevice, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/events", get(events))
        .route("/observers", get(observers))
        .route("/observers/{plugin}/replay", post(replay))
        .route("/observers/{plugin}/parked", get(parked))
        .route("/observers/{plugin}/parked/retry", post(retry_all))
        .route("/observers/{plugin}/parked/drop", post(drop_all))
        .route("/observers/{plugin}/parked/{event}/retry", post(retry))
        .route("/observers/{plugin}/parked/{event}/drop", post(drop_one))
        .route("/schedules", get(schedules))
        .route("/schedules/{id}", axum::routing::delete(drop_schedule))
        .route("/schedules/{id}/run", post(run_schedule))
}

#[derive(Debug, Serialize)]
struct EventView {
    id: EventId,
    kind: String,
    /// The key of the enrollment.
    enrollment: Option<String>,
    detail: Value,
    depth: u8,
    created_at: Timestamp,
}

impl From<EventRecord> for EventView {
    fn from(event: EventRecord) -> Self {
        Self {
            id: event.id,
            kind: event.kind,
            enrollment: event.enrollment_key,
            detail: event.detail,
            depth: event.depth,
            created_at: event.created_at,
        }
    }
}

#[derive(Debug, Deserialize)]
struct OfKind {
    kind: Option<String>,
}

async fn events(
    State(api): State<Api>,
    at: AtTenant,
    Params(of): Params<OfDevice>,
    Params(kind): Params<OfKind>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<EventView>>, Failure> {
    let filter = EventFilter {
        enrollment: of.find(&api, &at.tenant).await?,
        kind: kind.kind,
    };
    let store = api.engine.store();
    let page = store
        .events(at.tenant.id, &filter, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, EventView::from)))
}

#[derive(Debug, Serialize)]
struct ObserverView {
    plugin: String,
    position: EventId,
    behind: u64,
    waiting: u64,
    oldest_waiting: Option<Timestamp>,
    parked: u64,
    error: Option<String>,
    seen_at: Timestamp,
}

impl From<ObserverRecord> for ObserverView {
    fn from(observer: ObserverRecord) -> Self {
        Self {
            plugin: observer.plugin,
            position: observer.position,
            behind: observer.behind,
            waiting: observer.waiting,
            oldest_waiting: observer.oldest_waiting,
            parked: observer.parked,
            error: observer.error,
            seen_at: observer.seen_at,
        }
    }
}

async fn observers(State(api): State<Api>, at: AtTenant) -> Result<Json<List<ObserverView>>, Failure> {
    let observers = api.engine.store().observers(at.tenant.id).await?;
    Ok(Json(List::whole(observers.into_iter().map(ObserverView::from))))
}

#[derive(Debug, Deserialize)]
struct OfPlugin {
    plugin: String,
}

#[derive(Debug, Deserialize)]
struct OfEvent {
    plugin: String,
    event: EventId,
}

/// From where: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    #[serde(default)]
    event: Option<EventId>,
    #[serde(default)]
    time: Option<Timestamp>,
}

async fn replay(
    State(api): State<Api>,
    at: AtTenant,
    Named(of): Named<OfPlugin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let from: Point = input::json(&api, &headers, body).await?;
    let from = match (from.event, from.time) {
        (Some(event), None) => ReplayFrom::Event(event),
        (None, Some(time)) => ReplayFrom::Time(time),
        _ => return Err(Failure::bad_request("say from where: either event or time")),
    };
    let store = api.engine.store();
    let events = store
        .replay_events(at.tenant.id, &of.plugin, from, Timestamp::now())
        .await?;
    Ok(Json(json!({ "events": events })))
}

#[derive(Debug, Serialize)]
struct ParkedView {
    event: EventView,
    attempts: u32,
    error: String,
    parked_at: Timestamp,
}

impl From<ParkedEvent> for ParkedView {
    fn from(parked: ParkedEvent) -> Self {
        Self {
            event: parked.delivery.event.into(),
            attempts: parked.delivery.attempts,
            error: parked.error,
            parked_at: parked.parked_at,
        }
    }
}

async fn parked(
    State(api): State<Api>,
    at: AtTenant,
    Named(of): Named<OfPlugin>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<ParkedView>>, Failure> {
    let store = api.engine.store();
    let page = store
        .parked_events(at.tenant.id, &of.plugin, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, ParkedView::from)))
}

async fn retry_all(State(api): State<Api>, at: AtTenant, Named(of): Named<OfPlugin>) -> Result<Json<Value>, Failure> {
    retry_which(&api, &at, &of.plugin, Parked::All).await
}

async fn retry(State(api): State<Api>, at: AtTenant, Named(of): Named<OfEvent>) -> Result<Json<Value>, Failure> {
    retry_which(&api, &at, &of.plugin, Parked::One(of.event)).await
}

async fn retry_which(api: &Api, at: &AtTenant, plugin: &str, which: Parked) -> Result<Json<Value>, Failure> {
    let store = api.engine.store();
    let events = store
        .retry_parked(at.tenant.id, plugin, which, Timestamp::now())
        .await?;
    found(which, events)
}

async fn drop_all(State(api): State<Api>, at: AtTenant, Named(of): Named<OfPlugin>) -> Result<Json<Value>, Failure> {
    drop_which(&api, &at, &of.plugin, Parked::All).await
}

async fn drop_one(State(api): State<Api>, at: AtTenant, Named(of): Named<OfEvent>) -> Result<Json<Value>, Failure> {
    drop_which(&api, &at, &of.plugin, Parked::One(of.event)).await
}

async fn drop_which(api: &Api, at: &AtTenant, plugin: &str, which: Parked) -> Result<Json<Value>, Failure> {
    let events = api.engine.store().drop_parked(at.tenant.id, plugin, which).await?;
    found(which, events)
}

fn found(which: Parked, events: u64) -> Result<Json<Value>, Failure> {
    if events == 0 && which != Parked::All {
        return Err(Failure::not_found("parked event"));
    }
    Ok(Json(json!({ "events": events })))
}

#[derive(Debug, Serialize)]
struct ScheduleView {
    id: ScheduleId,
    plugin: String,
    origin: ScheduleOrigin,
    name: String,
    /// When a manifest's schedule comes, in words.
    rule: Option<String>,
    due_at: Timestamp,
    next_try_at: Timestamp,
    attempts: u32,
    error: Option<String>,
    parked_at: Option<Timestamp>,
}

impl From<ScheduleRecord> for ScheduleView {
    fn from(work: ScheduleRecord) -> Self {
        Self {
            id: work.id,
            plugin: work.plugin,
            origin: work.origin,
            name: work.name,
            rule: Some(work.rule).filter(|rule| !rule.is_empty()),
            due_at: work.due_at,
            next_try_at: work.next_try_at,
            attempts: work.attempts,
            error: work.error,
            parked_at: work.parked_at,
        }
    }
}

async fn schedules(State(api): State<Api>, at: AtTenant) -> Result<Json<List<ScheduleView>>, Failure> {
    let schedules = api.engine.store().schedules(at.tenant.id).await?;
    Ok(Json(List::whole(schedules.into_iter().map(ScheduleView::from))))
}

#[derive(Debug, Deserialize)]
struct OfSchedule {
    id: ScheduleId,
}

async fn run_schedule(
    State(api): State<Api>,
    at: AtTenant,
    Named(of): Named<OfSchedule>,
) -> Result<Json<Value>, Failure> {
    let store = api.engine.store();
    if !store.run_schedule(at.tenant.id, of.id, Timestamp::now()).await? {
        return Err(Failure::not_found("scheduled work"));
    }
    Ok(Json(json!({})))
}

async fn drop_schedule(
    State(api): State<Api>,
    at: AtTenant,
    Named(of): Named<OfSchedule>,
) -> Result<Json<Value>, Failure> {
    if !api.engine.store().drop_schedule(at.tenant.id, of.id).await? {
        return Err(Failure::not_found("scheduled work"));
    }
    Ok(Json(json!({})))
}
