//! Secrets that an operator gives to a plugin. They go in and never come out again: only the plugin reads them.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::MAX_PLUGIN_SECRETS;
use russet_plugin_host::is_plugin_name;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::auth::AtTenant;
use super::input::{self, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

/// The longest name, in bytes: that of the plugin's own calls.
const MAX_NAME: usize = 128;
/// The largest secret, in bytes, likewise.
const MAX_SECRET: usize = 16 << 10;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/plugins/{name}/secrets", get(list))
        .route("/plugins/{name}/secrets/{secret}", put(store).delete(remove))
}

#[derive(Debug, Serialize)]
struct SecretView {
    name: String,
    updated_at: Timestamp,
}

#[derive(Deserialize)]
struct PluginName {
    name: String,
}

#[derive(Deserialize)]
struct SecretName {
    name: String,
    secret: String,
}

impl SecretName {
    fn check(&self) -> Result<(), Failure> {
        check_plugin(&self.name)?;
        if self.secret.is_empty() || self.secret.len() > MAX_NAME || self.secret.chars().any(char::is_control) {
            return Err(Failure::bad_request(format!(
                "the name of a secret has 1 to {MAX_NAME} bytes, and no control characters"
            )));
        }
        Ok(())
    }
}

/// It need not be installed: its first call may want the secret already.
pub(super) fn check_plugin(name: &str) -> Result<(), Failure> {
    if is_plugin_name(name) {
        Ok(())
    } else {
        Err(Failure::bad_request(
            "this is no name of a plugin: 1 to 64 of a-z, 0-9 and -",
        ))
    }
}

/// Text, or other bytes in base64.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretInput {
    value: Option<String>,
    value_base64: Option<String>,
}

impl SecretInput {
    fn bytes(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (text, encoded) = (self.value.map(Zeroizing::new), self.value_base64.map(Zeroizing::new));
        let bytes = match (text, encoded) {
            (Some(text), None) => Zeroizing::new(text.as_bytes().to_vec()),
            (None, Some(encoded)) => Zeroizing::new(
                STANDARD
                    .decode(encoded.as_bytes())
                    .map_err(|_| Failure::bad_request("value_base64 is not base64"))?,
            ),
            _ => return Err(Failure::bad_request("send either value or value_base64")),
        };
        if bytes.is_empty() || bytes.len() > MAX_SECRET {
            return Err(Failure::bad_request(format!("a secret has 1 to {MAX_SECRET} bytes")));
        }
        Ok(bytes)
    }
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Named(PluginName { name }): Named<PluginName>,
) -> Result<Json<List<SecretView>>, Failure> {
    check_plugin(&name)?;
    let names = api.engine.store().plugin_secret_names(at.tenant.id, &name).await?;
    Ok(Json(List::whole(
        names
            .into_iter()
            .map(|(name, updated_at)| SecretView { name, updated_at }),
    )))
}

async fn store(
    State(api): State<Api>,
    at: AtTenant,
    Named(named): Named<SecretName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SecretView>, Failure> {
    named.check()?;
    let input: SecretInput = input::json(&api, &headers, body).await?;
    let now = Timestamp::now();
    let stored = api
        .engine
        .store()
        .put_plugin_secret(at.tenant.id, &named.name, &named.secret, &input.bytes()?, now)
        .await?;
    if !stored {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "conflict",
            format!("the plugin has {MAX_PLUGIN_SECRETS} secrets already; remove one first"),
        ));
    }
    tracing::info!(
        plugin.name = named.name,
        secret.name = named.secret,
        tenant.name = %at.tenant.name,
        administrator = %at.administrator.name,
        "a secret was given to a plugin"
    );
    Ok(Json(SecretView {
        name: named.secret,
        updated_at: now,
    }))
}

async fn remove(State(api): State<Api>, at: AtTenant, Named(named): Named<SecretName>) -> Result<StatusCode, Failure> {
    named.check()?;
    let removed = api
        .engine
        .store()
        .delete_plugin_secret(at.tenant.id, &named.name, &named.secret)
        .await?;
    if !removed {
        return Err(Failure::not_found("secret"));
    }
    tracing::info!(
        plugin.name = named.name,
        secret.name = named.secret,
        tenant.name = %at.tenant.name,
        administrator = %at.administrator.name,
        "a secret of a plugin was removed"
    );
    Ok(StatusCode::NO_CONTENT)
}
