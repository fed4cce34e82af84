//! Profiles that devices have for good, and the renewal of a device's identity.

use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::assigned::{Assignment, given, taken};
use super::auth::AtTenant;
use super::input::{Id, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/devices/{id}/profiles", get(of_device))
        .route("/devices/{id}/profiles/{name}", put(assign).delete(unassign))
        .route("/devices/{id}/renew", post(renew))
        .route("/profiles/{name}/devices", get(devices))
}

#[derive(Debug, Serialize)]
struct AssignedView {
    profile: String,
    /// The `PayloadIdentifier` that was delivered last; null before the first delivery.
    identifier: Option<String>,
    assigned_by: String,
    created_at: Timestamp,
}

async fn of_device(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<Json<List<AssignedView>>, Failure> {
    let device = api.engine.device(&at.tenant, &id).await?;
    let assigned = api.engine.store().assigned_profiles(device.id).await?;
    Ok(Json(List::whole(assigned.into_iter().map(|assigned| AssignedView {
        profile: assigned.profile,
        identifier: assigned.identifier,
        assigned_by: assigned.assigned_by,
        created_at: assigned.created_at,
    }))))
}

#[derive(Deserialize)]
struct ProfileName {
    name: String,
}

async fn devices(
    State(api): State<Api>,
    at: AtTenant,
    Named(ProfileName { name }): Named<ProfileName>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<String>>, Failure> {
    let store = api.engine.store();
    let page = store
        .enrollments_with_profile(at.tenant.id, &name, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, |key| key)))
}

async fn assign(
    State(api): State<Api>,
    at: AtTenant,
    Named(Assignment { id, name }): Named<Assignment>,
) -> Result<StatusCode, Failure> {
    let assigned = api
        .engine
        .assign_profile(&at.tenant, &id, &name, &at.administrator, Timestamp::now())
        .await?;
    Ok(given(assigned))
}

async fn unassign(
    State(api): State<Api>,
    at: AtTenant,
    Named(Assignment { id, name }): Named<Assignment>,
) -> Result<StatusCode, Failure> {
    let had = api
        .engine
        .unassign_profile(&at.tenant, &id, &name, &at.administrator, Timestamp::now())
        .await?;
    taken(had, "profile of this device")
}

#[derive(Debug, Serialize)]
struct Queued {
    command_uuid: Uuid,
}

async fn renew(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<(StatusCode, Json<Queued>), Failure> {
    let command_uuid = api
        .engine
        .renew_device(&at.tenant, &id, &at.administrator, Timestamp::now())
        .await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { command_uuid })))
}
