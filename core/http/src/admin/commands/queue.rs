//! Queues as a whole: what needs attention, and taking commands back.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use jiff::Timestamp;
use russet_engine::store::{EnrollmentLookup, QueueCounts, StoreError};
use serde::{Deserialize, Serialize};

use super::{CommandName, EntryView, parse};
use crate::Api;
use crate::admin::auth::AtTenant;
use crate::admin::input::{self, Named, Params};
use crate::admin::page::{List, Paging};
use crate::failure::Failure;

/// How many queues something was taken out of.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct Cancelled {
    pub(in crate::admin) cancelled: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromWhom {
    /// Only from this device's queue.
    #[serde(default)]
    device: Option<String>,
}

pub(super) async fn cancel(
    State(api): State<Api>,
    at: AtTenant,
    Named(CommandName { uuid }): Named<CommandName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Cancelled>, Failure> {
    let uuid = parse(&uuid)?;
    let FromWhom { device } = input::json_or_nothing(&api, &headers, body).await?;
    let cancelled = api
        .engine
        .cancel_command(&at.tenant, uuid, device.as_deref(), Timestamp::now())
        .await?;
    Ok(Json(Cancelled { cancelled }))
}

pub(super) async fn overview(State(api): State<Api>, at: AtTenant) -> Result<Json<QueueCounts>, Failure> {
    Ok(Json(api.engine.store().queue_counts(at.tenant.id).await?))
}

/// An entry that its device does not answer.
#[derive(Debug, Serialize)]
pub(super) struct StuckEntry {
    id: String,
    serial_number: Option<String>,
    #[serde(flatten)]
    entry: EntryView,
}

pub(super) async fn stuck(
    State(api): State<Api>,
    at: AtTenant,
    Params(paging): Params<Paging>,
) -> Result<Json<List<StuckEntry>>, Failure> {
    let store = api.engine.store();
    let page = store
        .stuck_entries(at.tenant.id, paging.cursor(), paging.limit())
        .await?;
    let now = Timestamp::now();
    let mut shown = Vec::with_capacity(page.items.len());
    for entry in page.items {
        let device = store
            .enrollment(at.tenant.id, EnrollmentLookup::Id(entry.enrollment))
            .await?
            .ok_or(StoreError::NotFound("device"))?;
        shown.push(StuckEntry {
            id: device.key,
            serial_number: device.facts.serial_number,
            entry: EntryView::new(entry, now),
        });
    }
    let page = russet_engine::store::Page {
        items: shown,
        next: page.next,
    };
    Ok(Json(List::of(page, std::convert::identity)))
}
