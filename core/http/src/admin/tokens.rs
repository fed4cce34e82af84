//! Bearer tokens of the admin API.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{ApiToken, ApiTokenId, TenantId};
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::input::{self, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/tokens", get(list).post(create))
        .route("/v1/tokens/{id}", delete(revoke))
}

#[derive(Debug, Serialize)]
struct TokenView {
    id: ApiTokenId,
    name: String,
    /// Absent for tokens of the whole server.
    tenant: Option<String>,
    role: String,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

async fn list(State(api): State<Api>, Admin(admin): Admin) -> Result<Json<List<TokenView>>, Failure> {
    let store = api.engine.store();
    let names: HashMap<TenantId, String> = store
        .tenants()
        .await?
        .into_iter()
        .map(|tenant| (tenant.id, tenant.name))
        .collect();
    let tokens = store.api_tokens(admin.tenant).await?;
    let view = |token: ApiToken| TokenView {
        id: token.id,
        name: token.name,
        tenant: token.tenant.and_then(|tenant| names.get(&tenant).cloned()),
        role: token.role,
        created_at: token.created_at,
        revoked_at: token.revoked_at,
    };
    Ok(Json(List::whole(tokens.into_iter().map(view))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    #[serde(default)]
    tenant: Option<String>,
    /// Good for importing devices into the tenant, and for nothing else.
    #[serde(default)]
    import_only: bool,
}

#[derive(Serialize)]
struct MadeToken<'a> {
    id: ApiTokenId,
    name: &'a str,
    tenant: Option<&'a str>,
    /// Shown this once.
    token: &'a str,
}

/// The longest name of a token.
const MAX_NAME: usize = 128;

async fn create(State(api): State<Api>, admin: Admin, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let new: NewToken = input::json(&api, &headers, body).await?;
    if new.name.trim().is_empty() || new.name.len() > MAX_NAME || new.name.chars().any(char::is_control) {
        return Err(Failure::bad_request(format!(
            "the name of a token has 1 to {MAX_NAME} characters that can be printed"
        )));
    }
    let tenant = match &new.tenant {
        Some(name) => Some(api.engine.tenant(name).await),
        None => None,
    };
    let tenant = match tenant {
        Some(Ok(tenant)) if admin.0.may_act_on(&tenant) => Some(tenant),
        Some(Err(error)) if admin.0.tenant.is_none() => return Err(error.into()),
        // Another tenant, a tenant that does not exist, or the whole server, with a token of one tenant: all the same.
        Some(_) => return Err(admin.of_server().err().unwrap_or_else(|| Failure::not_found("tenant"))),
        None => {
            admin.of_server()?;
            None
        }
    };
    let now = Timestamp::now();
    let (id, token) = match (&tenant, new.import_only) {
        (tenant, false) => api.engine.create_token(tenant.as_ref(), &new.name, now).await?,
        (Some(tenant), true) => api.engine.create_import_token(tenant, &new.name, now).await?,
        (None, true) => {
            return Err(Failure::bad_request(
                "a token for imports is one tenant's; name the tenant",
            ));
        }
    };
    let made = MadeToken {
        id,
        name: &new.name,
        tenant: tenant.as_ref().map(|tenant| &*tenant.name),
        token: &token,
    };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(made)).into_response())
}

async fn revoke(
    State(api): State<Api>,
    Admin(admin): Admin,
    Named(id): Named<ApiTokenId>,
) -> Result<StatusCode, Failure> {
    api.engine.revoke_token(admin.tenant, id, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
