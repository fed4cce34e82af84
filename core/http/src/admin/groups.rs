//! Groups: named sets of devices, for commands to many.

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::GroupChange;
use russet_engine::store::GroupRecord;
use serde::{Deserialize, Serialize};

use super::auth::AtTenant;
use super::input::{self, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{name}", get(show).put(put).delete(delete))
        .route("/groups/{name}/members", get(members).post(change))
}

#[derive(Debug, Serialize)]
struct GroupView {
    name: String,
    /// How many devices are in it.
    members: u64,
    created_at: Timestamp,
}

impl From<GroupRecord> for GroupView {
    fn from(record: GroupRecord) -> Self {
        Self {
            name: record.name,
            members: record.members,
            created_at: record.created_at,
        }
    }
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(paging): Params<Paging>,
) -> Result<Json<List<GroupView>>, Failure> {
    let store = api.engine.store();
    let page = store.groups(at.tenant.id, paging.cursor(), paging.limit()).await?;
    Ok(Json(List::of(page, GroupView::from)))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(Name { name }): Named<Name>,
) -> Result<Json<GroupView>, Failure> {
    let group = api.engine.store().group(at.tenant.id, &name).await?;
    Ok(Json(group.ok_or_else(|| Failure::not_found("group"))?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    devices: Vec<String>,
}

async fn put(
    State(api): State<Api>,
    at: AtTenant,
    Named(Name { name }): Named<Name>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Failure> {
    let Members { devices } = input::json(&api, &headers, body).await?;
    let change = GroupChange::Set(devices);
    let group = api
        .engine
        .change_group(&at.tenant, &name, change, Timestamp::now())
        .await?;
    Ok(Json(group.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

async fn change(
    State(api): State<Api>,
    at: AtTenant,
    Named(Name { name }): Named<Name>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<GroupView>, Failure> {
    let Change { add, remove } = input::json(&api, &headers, body).await?;
    let change = match (add.is_empty(), remove.is_empty()) {
        (false, true) => GroupChange::Add(add),
        (true, false) => GroupChange::Remove(remove),
        _ => {
            return Err(Failure::bad_request(
                "name devices to \"add\", or devices to \"remove\"",
            ));
        }
    };
    let group = api
        .engine
        .change_group(&at.tenant, &name, change, Timestamp::now())
        .await?;
    Ok(Json(group.into()))
}

async fn delete(
    State(api): State<Api>,
    at: AtTenant,
    Named(Name { name }): Named<Name>,
) -> Result<StatusCode, Failure> {
    api.engine.delete_group(&at.tenant, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize)]
struct Member {
    id: String,
    serial_number: Option<String>,
}

async fn members(
    State(api): State<Api>,
    at: AtTenant,
    Named(Name { name }): Named<Name>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<Member>>, Failure> {
    let store = api.engine.store();
    let group = store.group(at.tenant.id, &name).await?;
    let group = group.ok_or_else(|| Failure::not_found("group"))?;
    let page = store.group_members(group.id, paging.cursor(), paging.limit()).await?;
    Ok(Json(List::of(page, |(_, id, serial_number)| Member {
        id,
        serial_number,
    })))
}
