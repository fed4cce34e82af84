//! Tenants of the server.

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::input;
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/tenants", get(list).post(create))
}

#[derive(Debug, Serialize)]
struct TenantView {
    name: String,
    created_at: Timestamp,
}

async fn list(State(api): State<Api>, Admin(admin): Admin) -> Result<Json<List<TenantView>>, Failure> {
    let tenants = api.engine.store().tenants().await?;
    Ok(Json(List::whole(
        tenants
            .into_iter()
            .filter(|tenant| admin.tenant.is_none_or(|own| own == tenant.id))
            .map(|tenant| TenantView {
                name: tenant.name,
                created_at: tenant.created_at,
            }),
    )))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    name: String,
}

async fn create(
    State(api): State<Api>,
    admin: Admin,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TenantView>), Failure> {
    admin.of_server()?;
    let new: NewTenant = input::json(&api, &headers, body).await?;
    let now = Timestamp::now();
    let tenant = api.engine.create_tenant(&new.name, now).await?;
    let view = TenantView {
        name: tenant.name.to_string(),
        created_at: now,
    };
    Ok((StatusCode::CREATED, Json(view)))
}
