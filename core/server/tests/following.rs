//! What a server notices by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use jiff::Timestamp;
use russet::Server;
use russet::config::Config;
use russet_store::{Activation, Actor, NewRevision, Sha256};
use serde_json::json;

/// As after an installation whose client went away between the store and the host.
#[tokio::test]
async fn plugins_of_the_store_come_into_use_without_another_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data_dir = folder.path().to_owned();
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::builder(config).start().await.unwrap();
    let store = server.engine().store();
    let tenant = store.default_tenant();
    let revision = NewRevision {
        tenant,
        plugin: "gate".to_owned(),
        version: "1.0.0".to_owned(),
        digest: Sha256::default(),
        component: Some(b"not one".to_vec()),
        manifest: json!({}),
        settings: json!({}),
        grants: json!({}),
        signature: None,
        staging: None,
        revision: None,
        steps: Vec::new(),
        actor: Actor::new("anna"),
    };
    let id = store.insert_revision(revision, Timestamp::now()).await.unwrap();
    let activation = Activation {
        revision: id,
        actor: Actor::new("anna"),
        force: false,
        watch: None,
    };
    let generation = store
        .activate_revision(tenant, activation, Timestamp::now())
        .await
        .unwrap();
    let generation = u64::try_from(generation).unwrap();
    let host = server.plugins().host();
    let followed = async {
        while host.generation("default") != Some(generation) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
    server.shutdown().await;
}
