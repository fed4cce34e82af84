//! Plugins of a tenant: shown, installed, granted more, taken out of use. How a revision takes another one's place is in
//! [`super::plugin_rollouts`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use russet_plugin_host::{
    Actor, ConnectionGrants, Gates, GrantRequest, Grants, InstallReport, InstallRequest, LimitGrants, PluginStatus,
    RevisionEvent, RevisionSummary, RolloutRequest, Staging,
};
use russet_protocol::content_type;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::AtTenant;
use super::input::{self, Named, Params};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

/// When to try again while several plugins are being installed.
const AGAIN: Duration = Duration::from_secs(2);

/// The most events that are shown.
const EVENTS: u32 = 1_000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/plugins", get(list))
        .route("/plugins/{name}", get(show).put(install).delete(disable))
        .route("/plugins/{name}/grants", post(grant))
        .route("/plugins/{name}/revisions", get(revisions))
        .route("/plugins/{name}/history", get(history))
}

#[derive(Deserialize)]
pub(super) struct PluginName {
    pub(super) name: String,
}

/// Who acts, for the history of revisions.
pub(super) fn actor(at: &AtTenant) -> Actor {
    Actor::new(&at.administrator.name)
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
    /// Stores the revision without putting it into use.
    #[serde(default)]
    keep_pending: bool,
    /// Compares the revision with the active one instead of putting it into use.
    #[serde(default)]
    rollout: Option<Comparison>,
    /// Puts it into use even if its like is in quarantine.
    #[serde(default)]
    force: bool,
    /// Takes a lower version than was in use before, or other content of one that was.
    #[serde(default)]
    allow_downgrade: bool,
}

/// How a revision is compared with the active one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Comparison {
    /// The candidate, if there could be several: the beginning of its digest, or its number.
    #[serde(default)]
    pub(super) revision: Option<String>,
    /// The share of enrollments that it answers, in thousandths.
    #[serde(default)]
    pub(super) permille: u16,
    #[serde(default)]
    pub(super) gates: Option<Gates>,
    #[serde(default)]
    pub(super) automatic: bool,
    #[serde(default)]
    pub(super) force: bool,
}

impl From<Comparison> for RolloutRequest {
    fn from(comparison: Comparison) -> Self {
        Self {
            revision: comparison.revision,
            permille: comparison.permille,
            gates: comparison.gates,
            automatic: comparison.automatic,
            force: comparison.force,
        }
    }
}

async fn install(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<InstallReport>), Failure> {
    // Each component that is being read or compiled is held in memory.
    let _place = api.plugins.upload().ok_or_else(|| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "several plugins are being installed; try again in a moment",
        )
        .retry_after(AGAIN)
    })?;
    let body = input::read_large(&api, body).await?;
    let is_wasm = input::sent_as(&headers).is_some_and(|sent| content_type::is(sent, "application/wasm"));
    let request = if is_wasm {
        InstallRequest {
            plugin: Some(name),
            component: Some(body.into()),
            actor: actor(&at),
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
            staging: match (installation.rollout, installation.keep_pending) {
                (Some(rollout), _) => Staging::Compare(rollout.into()),
                (None, true) => Staging::Keep,
                (None, false) => Staging::Activate,
            },
            force: installation.force,
            allow_downgrade: installation.allow_downgrade,
            actor: actor(&at),
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

/// What to grant in addition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Granting {
    #[serde(default)]
    capabilities: std::collections::BTreeSet<String>,
    #[serde(default)]
    connections: ConnectionGrants,
    #[serde(default)]
    limits: LimitGrants,
    /// All that the revision asks for.
    #[serde(default)]
    all_asked: bool,
    /// Keeps the revision instead of putting it into use.
    #[serde(default)]
    keep: bool,
}

async fn grant(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<InstallReport>, Failure> {
    let granting: Granting = input::json(&api, &headers, body).await?;
    let request = GrantRequest {
        grants: Grants {
            capabilities: granting.capabilities,
            connections: granting.connections,
            limits: granting.limits,
        },
        all_asked: granting.all_asked,
        keep: granting.keep,
        actor: actor(&at),
    };
    Ok(Json(api.plugins.grant(&at.tenant.name, &name, request).await?))
}

async fn revisions(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<List<RevisionSummary>>, Failure> {
    // A plugin that there is not has no list.
    api.plugins.get(&at.tenant.name, &name).await?;
    Ok(Json(List::whole(api.plugins.revisions(&at.tenant.name, &name).await?)))
}

#[derive(Deserialize)]
struct Newest {
    #[serde(default)]
    limit: Option<u32>,
}

async fn history(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    Params(Newest { limit }): Params<Newest>,
) -> Result<Json<List<RevisionEvent>>, Failure> {
    api.plugins.get(&at.tenant.name, &name).await?;
    let limit = limit.unwrap_or(EVENTS).clamp(1, EVENTS);
    Ok(Json(List::whole(
        api.plugins.history(&at.tenant.name, &name, limit).await?,
    )))
}

async fn disable(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<Value>, Failure> {
    let generation = api.plugins.disable(&at.tenant.name, &name, actor(&at)).await?;
    Ok(Json(json!({ "name": name, "generation": generation })))
}
