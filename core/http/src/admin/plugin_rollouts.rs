//! How a revision takes another one's place: compared, given a share, promoted, rolled back; and which node runs what.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use russet_plugin_host::{NodeStatus, PromoteRequest, Promoted, RolloutStatus};
use serde::Deserialize;

use super::auth::AtTenant;
use super::input::{self, Named};
use super::page::List;
use super::plugins::{Comparison, PluginName, actor};
use crate::Api;
use crate::failure::Failure;

/// The longest that a promoted revision is watched: thirty days.
const LONGEST_WATCH: u64 = 30 * 24 * 60 * 60;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/plugins/{name}/rollout", get(show).put(start).delete(stop))
        .route("/plugins/{name}/promote", post(promote))
        .route("/plugins/{name}/rollback", post(rollback))
        .route("/nodes", get(nodes))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<RolloutStatus>, Failure> {
    Ok(Json(api.plugins.rollout(&at.tenant.name, &name).await?))
}

async fn start(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RolloutStatus>, Failure> {
    let comparison: Comparison = input::json(&api, &headers, body).await?;
    let started = api
        .plugins
        .roll_out(&at.tenant.name, &name, comparison.into(), actor(&at))
        .await?;
    Ok(Json(started))
}

async fn stop(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<RolloutStatus>, Failure> {
    Ok(Json(
        api.plugins.stop_rollout(&at.tenant.name, &name, actor(&at)).await?,
    ))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promotion {
    /// The candidate, if there could be several: the beginning of its digest, or its number.
    #[serde(default)]
    revision: Option<String>,
    /// Even if it does not keep to its gates.
    #[serde(default)]
    force: bool,
    /// How long the revision before watches it; an hour if absent, not at all if zero.
    #[serde(default)]
    watch_seconds: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    reason: Option<String>,
}

async fn promote(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Promoted>, Failure> {
    let promotion: Promotion = input::json(&api, &headers, body).await?;
    if promotion.watch_seconds.is_some_and(|seconds| seconds > LONGEST_WATCH) {
        return Err(Failure::bad_request(
            "a promoted revision is watched for thirty days at most",
        ));
    }
    let request = PromoteRequest {
        revision: promotion.revision,
        force: promotion.force,
        watch: promotion.watch_seconds.map(Duration::from_secs),
    };
    let mut actor = actor(&at);
    actor.reason = promotion.reason;
    Ok(Json(api.plugins.promote(&at.tenant.name, &name, request, actor).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoingBack {
    /// Why, for the history.
    #[serde(default)]
    reason: Option<String>,
}

async fn rollback(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Promoted>, Failure> {
    let going_back: GoingBack = input::json(&api, &headers, body).await?;
    let mut actor = actor(&at);
    actor.reason = going_back.reason;
    Ok(Json(api.plugins.rollback(&at.tenant.name, &name, actor).await?))
}

async fn nodes(State(api): State<Api>, at: AtTenant) -> Result<Json<List<NodeStatus>>, Failure> {
    Ok(Json(List::whole(api.plugins.nodes(&at.tenant.name).await?)))
}
