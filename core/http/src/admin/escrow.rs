//! What is kept of devices' secrets, without showing one: lists, and what an administrator decides about them. (Handing one
//! out is in [`devices`](super::devices).)

use axum::extract::State;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use russet_engine::store::EscrowKind as StoredKind;
use russet_hooks::EscrowKind;
use serde::{Deserialize, Serialize};

use super::auth::AtTenant;
use super::input::{Id, Named, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/escrow/held", get(held))
        .route("/devices/{id}/escrow", get(list))
        .route("/devices/{id}/escrow/{kind}", delete(remove))
        .route("/devices/{id}/escrow/{kind}/accept", post(accept))
}

/// A kind of secret by its name in an address.
pub(super) fn kind(name: &str) -> Result<EscrowKind, Failure> {
    match name {
        "bootstrap-token" => Ok(EscrowKind::BootstrapToken),
        "unlock-token" => Ok(EscrowKind::UnlockToken),
        _ => Err(Failure::not_found(
            "kind of secret; there are bootstrap-token and unlock-token",
        )),
    }
}

#[derive(Debug, Serialize)]
struct KeptView {
    kind: StoredKind,
    deposited_at: Timestamp,
    /// Why no policy could decide about it; null if one did.
    held: Option<String>,
}

#[derive(Debug, Serialize)]
struct HeldView {
    /// The enrollment.
    device: String,
    #[serde(flatten)]
    kept: KeptView,
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<Json<List<KeptView>>, Failure> {
    let kept = api.engine.escrow_of(&at.tenant, &id).await?;
    Ok(Json(List::whole(kept.into_iter().map(|(kind, info)| KeptView {
        kind,
        deposited_at: info.deposited_at,
        held: info.held,
    }))))
}

async fn held(
    State(api): State<Api>,
    at: AtTenant,
    Params(paging): Params<Paging>,
) -> Result<Json<List<HeldView>>, Failure> {
    let page = api
        .engine
        .held_escrow(&at.tenant, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, |deposit| HeldView {
        device: deposit.enrollment_key,
        kept: KeptView {
            kind: deposit.kind,
            deposited_at: deposit.deposited_at,
            held: Some(deposit.reason),
        },
    })))
}

/// A secret in the path: the device, and the name of the kind.
#[derive(Deserialize)]
pub(super) struct Secret {
    pub(super) id: String,
    pub(super) kind: String,
}

async fn remove(
    State(api): State<Api>,
    at: AtTenant,
    Named(Secret { id, kind: name }): Named<Secret>,
) -> Result<StatusCode, Failure> {
    let kind = kind(&name)?;
    let request = at.begin(&api).await?;
    api.engine
        .remove_escrow(&request, &id, kind, &at.administrator, Timestamp::now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(api): State<Api>,
    at: AtTenant,
    Named(Secret { id, kind: name }): Named<Secret>,
) -> Result<StatusCode, Failure> {
    let kind = kind(&name)?;
    let request = at.begin(&api).await?;
    api.engine
        .accept_escrow(&request, &id, kind, &at.administrator, Timestamp::now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
