//! What a plugin leaves behind when it is out of use: deleted at an administrator's word.

use axum::extract::State;
use axum::routing::delete;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;

use super::auth::AtTenant;
use super::input::Named;
use super::plugin_secrets::check_plugin;
use super::plugins::PluginName;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/plugins/{name}/data", delete(purge))
}

/// How much there was.
#[derive(Debug, Serialize)]
struct PurgedView {
    values: u64,
    secrets: u64,
    keys: u64,
}

async fn purge(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<PurgedView>, Failure> {
    check_plugin(&name)?;
    let purged = api.engine.store().purge_plugin_data(at.tenant.id, &name).await?;
    let purged = purged.ok_or_else(|| {
        let message = "the plugin is in use; take it out of use with `russet plugin disable` first";
        Failure::new(StatusCode::CONFLICT, "in-use", message)
    })?;
    tracing::info!(
        plugin.name = name,
        tenant.name = %at.tenant.name,
        by = %at.administrator.name,
        values = purged.values,
        secrets = purged.secrets,
        keys = purged.keys,
        "a plugin's data was deleted"
    );
    Ok(Json(PurgedView {
        values: purged.values,
        secrets: purged.secrets,
        keys: purged.keys,
    }))
}
