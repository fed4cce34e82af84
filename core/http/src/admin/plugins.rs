//! Plugins of a tenant: shown, installed, taken out of use.

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use russet_plugin_host::{Grants, InstallReport, InstallRequest, PluginStatus};
use russet_protocol::content_type;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::AtTenant;
use super::input::{self, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/plugins", get(list))
        .route("/plugins/{name}", get(show).put(install).delete(disable))
}

#[derive(Deserialize)]
struct PluginName {
    name: String,
}

async fn list(State(api): State<Api>, at: AtTenant) -> Result<Json<List<PluginStatus>>, Failure> {
    Ok(Json(List::whole(api.plugins.list(&at.tenant.name).await?)))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<PluginStatus>, Failure> {
    Ok(Json(api.plugins.get(&at.tenant.name, &name).await?))
}

/// An installation as JSON; the other form is the component itself. What is left out is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Installation {
    /// In base64.
    #[serde(default)]
    component: Option<String>,
    #[serde(default)]
    settings: Option<Value>,
    #[serde(default)]
    grants: Option<Grants>,
    #[serde(default)]
    position: Option<i64>,
    #[serde(default)]
    keep_pending: bool,
}

async fn install(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<InstallReport>), Failure> {
    let body = input::read_large(&api, body).await?;
    let is_wasm = input::sent_as(&headers).is_some_and(|sent| content_type::is(sent, "application/wasm"));
    let request = if is_wasm {
        InstallRequest {
            plugin: Some(name),
            component: Some(body.into()),
            ..InstallRequest::default()
        }
    } else if input::is_json(&headers) {
        let installation: Installation = input::parse(&body)?;
        drop(body);
        let component = installation
            .component
            .map(|component| STANDARD.decode(component))
            .transpose()
            .map_err(|_| Failure::bad_request("the component is not base64"))?;
        InstallRequest {
            plugin: Some(name),
            component,
            settings: installation.settings,
            grants: installation.grants,
            position: installation.position,
            keep_pending: installation.keep_pending,
        }
    } else {
        return Err(input::unsupported(
            "send JSON as application/json, or a component as application/wasm",
        ));
    };
    let report = api.plugins.install(&at.tenant.name, request).await?;
    let status = if report.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(report)))
}

async fn disable(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<Value>, Failure> {
    let reason = format!("disabled by {}", at.administrator.name);
    let generation = api.plugins.disable(&at.tenant.name, &name, &reason).await?;
    Ok(Json(json!({ "name": name, "generation": generation })))
}
