//! The dispatcher and the connections to the database.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_apns::{Endpoint, Roots};
use russet_engine::settings::PushSettings;
use russet_engine::{Engine, EngineSettings};
use russet_hooks::{FixedHooks, HookSet};
use russet_protocol::Channel;
use russet_store::{
    AuthenticateWrite, DeviceFacts, MasterKey, NewCertificate, PushCertificate, Store, StoreConfig, TokenTarget,
    TokenUpdateWrite,
};
use serde_json::json;
use support::TOPIC;
use tokio_util::sync::CancellationToken;

/// As many times the batch that it takes several, and each begins while pushes of the last are under way.
const DEVICES: u8 = 64;
const BATCH: u32 = 8;

/// A device with a push token, as far as the dispatcher needs one.
async fn enroll(store: &Store, number: u8, now: Timestamp) {
    let tenant = store.default_tenant();
    let certificate = NewCertificate {
        sha256: [number; 32],
        tenant,
        serial_number: format!("{number:02x}"),
        subject: String::new(),
        der: vec![0x30],
        not_before: now,
        not_after: now + SignedDuration::from_hours(1),
        person: None,
        attributes: json!({}),
        bound_serial: None,
        bound_udid: None,
        renews: None,
    };
    let certificate_sha256 = certificate.sha256;
    store.insert_certificate(certificate, Vec::new(), now).await.unwrap();
    let key = format!("UDID-{number}");
    let authenticate = AuthenticateWrite {
        tenant,
        key: key.clone(),
        channel: Channel::Device,
        facts: DeviceFacts {
            udid: Some(key),
            ..DeviceFacts::default()
        },
        certificate_sha256,
        person: None,
        attributes: json!({}),
        topic: Some(TOPIC.to_owned()),
        renewal: false,
        decisions: Vec::new(),
    };
    let enrollment = store.authenticate(authenticate, now).await.unwrap();
    let token = TokenUpdateWrite {
        target: TokenTarget::Enrollment(enrollment),
        topic: TOPIC.to_owned(),
        token: vec![number; 32],
        magic: "magic".to_owned(),
        awaiting_configuration: false,
        certificate_sha256: Some(certificate_sha256),
        commands: Vec::new(),
        commands_at_first: Vec::new(),
    };
    store.token_update(token, now).await.unwrap();
    store.push_request(enrollment, now).await.unwrap();
}

// Pushes that hold connections must go on while the dispatcher waits for one. If they did not, nothing here would end: the
// store waits an hour for a connection.
#[tokio::test]
async fn pushes_go_on_when_there_are_fewer_connections_than_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(format!("sqlite://{}", folder.path().join("russet.db").display()));
    config.max_connections = 1;
    config.acquire_timeout = Duration::from_secs(3600);
    let store = Store::open(config, &MasterKey::from_bytes([7; 32])).await.unwrap();
    let mut push = PushSettings::new(Endpoint::new("localhost", 9, Roots::Custom(Vec::new())));
    push.batch = BATCH;
    let settings = EngineSettings {
        enrollment: support::settings(),
        push,
        queue: russet_engine::settings::QueueSettings::default(),
        work: russet_engine::settings::WorkSettings::default(),
        hook_budget: Duration::from_secs(5),
    };
    let now = Timestamp::now();
    let hooks = Arc::new(FixedHooks(HookSet::builder().build()));
    let engine = Engine::open(store.clone(), hooks, settings, now).await.unwrap();
    // One that does not read: every push is put off for an hour, through the database and not the network.
    let certificate = PushCertificate {
        topic: TOPIC.to_owned(),
        certificate: Vec::new(),
        subject: String::new(),
        not_after: now + SignedDuration::from_hours(1),
        updated_at: now,
    };
    let tenant = store.default_tenant();
    store.put_push_certificate(tenant, certificate, b"key").await.unwrap();
    for number in 0..DEVICES {
        enroll(&store, number, now).await;
    }

    let stop = CancellationToken::new();
    let dispatcher = tokio::spawn(engine.push_dispatcher().run(stop.clone()));
    let put_off = async {
        // With a lease under way the next date is minutes from now; with all put off, an hour.
        let later = now + SignedDuration::from_mins(30);
        while store.push_next_due().await.unwrap().is_none_or(|due| due < later) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), put_off).await.unwrap();
    stop.cancel();
    dispatcher.await.unwrap();
}
