//! Publishers of plugins that a tenant trusts.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{NewPublisher, Publisher};
use russet_plugin_host::is_plugin_name;
use russet_plugin_host::package::{KeyId, PublicKey};
use serde::{Deserialize, Serialize};

use super::auth::AtTenant;
use super::input::{self, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

/// The most publishers that a tenant trusts.
const MAX_PUBLISHERS: usize = 100;
/// The most plugins that one of them can be held to.
const MAX_PLUGINS: usize = 100;
/// The longest name of a publisher, in bytes.
const MAX_NAME: usize = 64;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/publishers", get(list).post(add))
        .route("/publishers/{name}", delete(remove))
}

#[derive(Debug, Serialize)]
struct PublisherView {
    name: String,
    public_key: PublicKey,
    key_id: KeyId,
    /// The only plugins that it may publish; empty for any.
    plugins: Vec<String>,
    added_by: String,
    added_at: Timestamp,
}

impl From<Publisher> for PublisherView {
    fn from(publisher: Publisher) -> Self {
        let public_key = PublicKey::from_bytes(publisher.public_key);
        Self {
            name: publisher.name,
            public_key,
            key_id: public_key.id(),
            plugins: publisher.plugins,
            added_by: publisher.added_by,
            added_at: publisher.added_at,
        }
    }
}

#[derive(Deserialize)]
struct PublisherName {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublisherInput {
    name: String,
    public_key: String,
    #[serde(default)]
    plugins: Vec<String>,
}

async fn list(State(api): State<Api>, at: AtTenant) -> Result<Json<List<PublisherView>>, Failure> {
    let publishers = api.engine.store().publishers(at.tenant.id).await?;
    Ok(Json(List::whole(publishers.into_iter().map(PublisherView::from))))
}

async fn add(
    State(api): State<Api>,
    at: AtTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PublisherView>), Failure> {
    let mut input: PublisherInput = input::json(&api, &headers, body).await?;
    // It stands in a line of the command line that people copy.
    if input.name.is_empty()
        || input.name.len() > MAX_NAME
        || input.name.starts_with('-')
        || !input
            .name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Err(Failure::bad_request(format!(
            "the name of a publisher is 1 to {MAX_NAME} of letters, digits, '-', '_' and '.'"
        )));
    }
    let public_key: PublicKey = input
        .public_key
        .parse()
        .map_err(|error| Failure::bad_request(format!("{error}")))?;
    if let Some(name) = input.plugins.iter().find(|name| !is_plugin_name(name)) {
        return Err(Failure::bad_request(format!(
            "{name:?} is no name of a plugin: 1 to 64 of a-z, 0-9 and -"
        )));
    }
    input.plugins.sort_unstable();
    input.plugins.dedup();
    if input.plugins.len() > MAX_PLUGINS {
        return Err(Failure::bad_request(format!("at most {MAX_PLUGINS} plugins")));
    }
    let store = api.engine.store();
    if store.publishers(at.tenant.id).await?.len() >= MAX_PUBLISHERS {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "conflict",
            format!("the tenant trusts {MAX_PUBLISHERS} publishers already; remove one first"),
        ));
    }
    let publisher = Publisher {
        name: input.name,
        public_key: *public_key.as_bytes(),
        plugins: input.plugins,
        added_by: at.administrator.name.clone(),
        added_at: Timestamp::now(),
    };
    let new = NewPublisher {
        tenant: at.tenant.id,
        name: publisher.name.clone(),
        public_key: publisher.public_key,
        plugins: publisher.plugins.clone(),
        added_by: publisher.added_by.clone(),
    };
    store.add_publisher(new, publisher.added_at).await?;
    tracing::info!(
        publisher.name = publisher.name,
        publisher.key = %public_key.id(),
        tenant.name = %at.tenant.name,
        administrator = publisher.added_by,
        "publisher trusted"
    );
    Ok((StatusCode::CREATED, Json(publisher.into())))
}

async fn remove(
    State(api): State<Api>,
    at: AtTenant,
    Named(PublisherName { name }): Named<PublisherName>,
) -> Result<StatusCode, Failure> {
    api.engine.store().remove_publisher(at.tenant.id, &name).await?;
    tracing::info!(
        publisher.name = name,
        tenant.name = %at.tenant.name,
        administrator = %at.administrator.name,
        "publisher trusted no longer"
    );
    Ok(StatusCode::NO_CONTENT)
}
