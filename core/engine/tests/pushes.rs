//! The dispatcher: its connections to the database and to APNs, its pace, and what it loses when it is killed.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use russet_apns::{Endpoint, Roots};
use russet_engine::settings::PushSettings;
use russet_engine::{Engine, EngineSettings};
use russet_hooks::{FixedHooks, HookSet};
use russet_protocol::Channel;
use russet_simulator::apns::{ApnsOptions, ApnsStandIn, Scripted};
use russet_store::{
    AuthenticateWrite, DeviceFacts, MasterKey, NewCertificate, PushCertificate, Store, StoreConfig, TenantId,
    TokenTarget, TokenUpdateWrite,
};
use serde_json::json;
use support::TOPIC;
use tokio_util::sync::CancellationToken;

/// As many times the batch that it takes several, and each begins while pushes of the last are under way.
const DEVICES: u8 = 64;
const BATCH: u32 = 8;

/// A device of a tenant with a push token, as far as the dispatcher needs one, and a request to wake it.
async fn enroll_at(store: &Store, tenant: TenantId, topic: &str, token: Vec<u8>, now: Timestamp) {
    let digest = token.clone().try_into().unwrap();
    let key: String = token[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let certificate = NewCertificate {
        sha256: digest,
        tenant,
        serial_number: key.clone(),
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
        topic: Some(topic.to_owned()),
        renewal: false,
        decisions: Vec::new(),
    };
    let enrollment = store.authenticate(authenticate, now).await.unwrap();
    let token = TokenUpdateWrite {
        target: TokenTarget::Enrollment(enrollment),
        topic: topic.to_owned(),
        token,
        magic: "magic".to_owned(),
        awaiting_configuration: false,
        certificate_sha256: Some(certificate_sha256),
        commands: Vec::new(),
        commands_at_first: Vec::new(),
    };
    store.token_update(token, now).await.unwrap();
    store.push_request(enrollment, now).await.unwrap();
}

async fn enroll(store: &Store, number: u8, now: Timestamp) {
    enroll_at(store, store.default_tenant(), TOPIC, vec![number; 32], now).await;
}

async fn engine(store: &Store, push: PushSettings) -> Engine {
    let settings = EngineSettings {
        enrollment: support::settings(),
        push,
        queue: russet_engine::settings::QueueSettings::default(),
        work: russet_engine::settings::WorkSettings::default(),
        hook_budget: Duration::from_secs(5),
    };
    let hooks = Arc::new(FixedHooks(HookSet::builder().build()));
    Engine::open(store.clone(), hooks, settings, Timestamp::now())
        .await
        .unwrap()
}

/// A stand-in of APNs, a store with due pushes, and what they are to be sent with.
struct Wave {
    apns: ApnsStandIn,
    store: Store,
    push: PushSettings,
    _folder: tempfile::TempDir,
}

/// Longer than any of it takes; a test that gets here hangs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Wave {
    /// So many devices in each of two tenants, each with a push certificate of its own.
    async fn new(devices: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::new(format!("sqlite://{}", folder.path().join("russet.db").display()));
        let store = Store::open(config, &MasterKey::from_bytes([7; 32])).await.unwrap();
        let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
        let now = Timestamp::now();
        let other = store.create_tenant("other", now).await.unwrap();
        for (number, tenant) in [store.default_tenant(), other].into_iter().enumerate() {
            let topic = format!("{TOPIC}.{number}");
            let pem = apns.issue_push_certificate(&topic).unwrap();
            let certificate = PushCertificate {
                topic: topic.clone(),
                certificate: pem.certificate.into_bytes(),
                subject: String::new(),
                not_after: now + SignedDuration::from_hours(1),
                updated_at: now,
            };
            store
                .put_push_certificate(tenant, certificate, pem.key.as_bytes())
                .await
                .unwrap();
            for device in 0..devices {
                let mut token = vec![u8::try_from(number).unwrap(); 32];
                token[2..4].copy_from_slice(&device.to_be_bytes());
                apns.register(&token, &topic);
                enroll_at(&store, tenant, &topic, token, now).await;
            }
        }
        let roots = Roots::from_pem(apns.roots_pem().as_bytes()).unwrap();
        let endpoint = Endpoint::new(apns.host(), apns.address().port(), roots).with_address(apns.address());
        Self {
            apns,
            store,
            push: PushSettings::new(endpoint),
            _folder: folder,
        }
    }

    /// Runs a dispatcher until the outbox is empty; how long that took.
    async fn drain(&self) -> Duration {
        let stop = CancellationToken::new();
        let engine = engine(&self.store, self.push.clone()).await;
        let started = Instant::now();
        let dispatcher = tokio::spawn(engine.push_dispatcher().run(stop.clone()));
        let empty = async {
            while self.store.push_next_due().await.unwrap().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, empty).await.unwrap();
        stop.cancel();
        dispatcher.await.unwrap();
        started.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_is_one_push_for_each_device_over_one_connection_for_each_certificate() {
    let mut wave = Wave::new(150).await;
    wave.push.batch = 64;
    wave.drain().await;
    let counters = wave.apns.counters();
    assert_eq!(
        (counters.delivered, counters.refused, counters.connections),
        (300, 0, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_is_sent_as_fast_as_the_setting_says_and_no_faster() {
    let mut wave = Wave::new(60).await;
    wave.push.per_second = Some(100);
    let took = wave.drain().await;
    assert_eq!(wave.apns.counters().delivered, 120);
    // A tenth of a second's worth goes at once.
    assert!(took >= Duration::from_millis(1_050), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_a_pause_is_not_sent_the_other_pushes_of_the_certificate_before_it_ends() {
    const PAUSE: u64 = 1_800;
    let mut wave = Wave::new(40).await;
    wave.push.batch = 1;
    // Whoever comes first, of one of the two certificates.
    for device in 0_u16..40 {
        let mut token = vec![0; 32];
        token[2..4].copy_from_slice(&device.to_be_bytes());
        let busy = Scripted::new(503, "ServiceUnavailable").with_retry_after(PAUSE);
        wave.apns.answer_next(&token, busy);
    }
    let stop = CancellationToken::new();
    let before = Timestamp::now();
    let engine = engine(&wave.store, wave.push.clone()).await;
    let dispatcher = tokio::spawn(engine.push_dispatcher().run(stop.clone()));
    let all_put_off = async {
        while wave.store.figures(Timestamp::now()).await.unwrap().pushes_refused < 40 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_put_off).await.unwrap();
    let others_are_sent = async {
        while wave.apns.counters().delivered < 40 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, others_are_sent).await.unwrap();
    stop.cancel();
    dispatcher.await.unwrap();
    let counters = wave.apns.counters();
    assert_eq!((counters.refused, counters.delivered), (1, 40), "{counters:?}");
    let due = wave.store.push_next_due().await.unwrap().unwrap();
    let pause = due.duration_since(before).as_secs();
    assert!(pause >= i64::try_from(PAUSE).unwrap() - 1, "{pause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_that_is_killed_in_the_middle_of_a_wave_loses_no_push() {
    let mut wave = Wave::new(100).await;
    wave.push.batch = 32;
    wave.push.lease = Duration::from_secs(1);
    let mut pushes = wave.apns.subscribe();
    let engine = engine(&wave.store, wave.push.clone()).await;
    let dispatcher = tokio::spawn(engine.push_dispatcher().run(CancellationToken::new()));
    let mut times: HashMap<Vec<u8>, u32> = HashMap::new();
    for _ in 0..40 {
        let push = tokio::time::timeout(PATIENCE, pushes.recv()).await.unwrap().unwrap();
        *times.entry(push.token).or_default() += 1;
    }
    dispatcher.abort();
    assert!(dispatcher.await.unwrap_err().is_cancelled());
    wave.drain().await;
    while let Ok(push) = pushes.try_recv() {
        *times.entry(push.token).or_default() += 1;
    }
    assert_eq!(times.len(), 200, "every device was woken");
    // What was on its way, or not written down yet, is sent once more.
    let twice = times.values().filter(|times| **times > 1).count();
    assert!(twice <= 2 * 32 && times.values().all(|times| *times <= 2), "{twice}");
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
    let now = Timestamp::now();
    let engine = engine(&store, push).await;
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
