//! Clock, random numbers, the plugin's own store, secrets and keys, and the inventory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use russet_hooks::{Device, Person};
use russet_plugin_host::Limits;
use russet_plugin_host::ports::memory::{FixedClock, MemoryInventory, MemoryKv};
use russet_plugin_host::ports::{CallError, FoundDevice, KvEntry, KvPort, KvWrite, Ports, Space};
use serde_json::{Value, json};

use crate::probe::{Load, Probe, nowhere};

async fn probe(ports: &Ports, tenant: &'static str) -> Probe {
    let load = Load {
        tenant,
        ports: ports.clone(),
        connections: nowhere(),
        ..Load::default()
    };
    load.granted().await
}

async fn fresh() -> Probe {
    probe(&Ports::memory(), "default").await
}

#[tokio::test]
async fn the_clock_is_the_servers() {
    let clock = Arc::new(FixedClock::at("2026-11-01T00:00:00Z".parse().unwrap()));
    let ports = Ports {
        clock: clock.clone(),
        ..Ports::memory()
    };
    let probe = probe(&ports, "default").await;
    assert_eq!(probe.one(json!({"do": "now"})).await, json!(1_793_491_200_000_u64));
    clock.set("2026-11-01T00:00:01Z".parse().unwrap());
    assert_eq!(probe.one(json!({"do": "now"})).await, json!(1_793_491_201_000_u64));
}

#[tokio::test]
async fn random_numbers_are_never_the_same() {
    let probe = fresh().await;
    let step = json!({"do": "random", "count": 32});
    let given = probe.run(json!([step, step])).await;
    assert_eq!(given[0].as_str().unwrap().len(), 64);
    assert_ne!(given[0], given[1]);
    assert_ne!(given[0], probe.one(step).await);
    assert_eq!(
        probe
            .one(json!({"do": "random", "count": 5_000}))
            .await
            .as_str()
            .unwrap()
            .len(),
        10_000
    );
}

#[tokio::test]
async fn values_stay_over_calls_and_are_replaced_only_as_expected() {
    let probe = fresh().await;
    let given = probe
        .run(json!([
            {"do": "kv-get", "key": "k"},
            {"do": "kv-set", "key": "k", "value": "one"},
            {"do": "kv-get", "key": "k"},
            {"do": "kv-compare-and-set", "key": "k", "version": null, "value": "no"},
            {"do": "kv-replace", "key": "k", "value": "two"},
            {"do": "kv-compare-and-set", "key": "k", "version": 4_000_000, "value": "no"},
            {"do": "kv-delete", "key": "other"},
        ]))
        .await;
    assert_eq!(given, json!([null, true, "one", false, true, false, false]));
    let given = probe
        .run(json!([
            {"do": "kv-get", "key": "k"},
            {"do": "kv-delete", "key": "k"},
            {"do": "kv-compare-and-set", "key": "k", "version": null, "value": "three"},
            {"do": "kv-set", "key": "k/2", "value": ""},
            {"do": "kv-set", "key": "l", "value": ""},
            {"do": "kv-keys", "limit": 10},
            {"do": "kv-keys", "prefix": "k", "after": "k", "limit": 10},
            {"do": "kv-keys", "limit": 1},
            {"do": "kv-keys", "limit": 0},
        ]))
        .await;
    assert_eq!(
        given,
        json!(["two", true, true, true, true, ["k", "k/2", "l"], ["k/2"], ["k"], []])
    );
}

#[tokio::test]
async fn what_one_plugin_of_one_tenant_keeps_no_other_reads() {
    let ports = Ports::memory();
    let mine = probe(&ports, "default").await;
    let theirs = probe(&ports, "other").await;
    let sealed = mine
        .run(json!([
            {"do": "kv-set", "key": "k", "value": "mine"},
            {"do": "secret-put", "name": "s", "value": "mine"},
            {"do": "public-key", "key": "p"},
            {"do": "seal", "value": "mine"},
        ]))
        .await;
    let given = theirs
        .run(json!([
            {"do": "kv-get", "key": "k"},
            {"do": "kv-keys", "limit": 10},
            {"do": "secret-get", "name": "s"},
            {"do": "public-key", "key": "p"},
            {"do": "open", "sealed": sealed[3]},
        ]))
        .await;
    assert_eq!(given[0], Value::Null);
    assert_eq!(given[1], json!([]));
    assert_eq!(given[2], Value::Null);
    assert_ne!(given[3], sealed[2]);
    assert!(given[4]["error"].as_str().unwrap().contains("Invalid"), "{given}");
    let given = mine
        .run(json!([
            {"do": "kv-get", "key": "k"},
            {"do": "secret-get", "name": "s"},
            {"do": "public-key", "key": "p"},
            {"do": "open", "sealed": sealed[3]},
        ]))
        .await;
    assert_eq!(given, json!(["mine", "mine", sealed[2], "mine"]));
}

#[tokio::test]
async fn values_expire() {
    let clock = Arc::new(FixedClock::at("2026-11-01T00:00:00Z".parse().unwrap()));
    let ports = Ports {
        kv: Arc::new(MemoryKv::with_clock(clock.clone())),
        ..Ports::memory()
    };
    let probe = probe(&ports, "default").await;
    let given = probe
        .run(json!([
            {"do": "kv-set", "key": "k", "value": "v", "expires_in_ms": 1_000},
            {"do": "kv-get", "key": "k"},
        ]))
        .await;
    assert_eq!(given, json!([true, "v"]));
    clock.set("2026-11-01T00:00:01Z".parse().unwrap());
    assert_eq!(probe.one(json!({"do": "kv-get", "key": "k"})).await, Value::Null);
    // Further away than the end of time is never.
    let far = json!({"do": "kv-set", "key": "k", "value": "v", "expires_in_ms": u64::MAX});
    assert_eq!(probe.one(far).await, json!(true));
}

#[tokio::test]
async fn keys_values_and_spaces_have_sizes() {
    let load = Load {
        connections: nowhere(),
        limits: Limits {
            kv_keys: 2,
            kv_bytes: 100_000,
            ..Load::default().limits
        },
        ..Load::default()
    };
    let probe = load.granted().await;
    let long = "x".repeat(257);
    for (step, error) in [
        (json!({"do": "kv-get", "key": ""}), "Invalid"),
        (json!({"do": "kv-get", "key": long}), "Invalid"),
        (json!({"do": "kv-get", "key": "a\u{0}b"}), "Invalid"),
        (json!({"do": "kv-delete", "key": long}), "Invalid"),
        (json!({"do": "kv-set", "key": long, "value": "v"}), "Invalid"),
        (json!({"do": "kv-keys", "prefix": long, "limit": 1}), "Invalid"),
        (json!({"do": "kv-keys", "after": long, "limit": 1}), "Invalid"),
        (json!({"do": "kv-fill", "key": "k", "bytes": 65_537}), "Invalid"),
    ] {
        let given = probe.error(step.clone()).await;
        assert!(given.starts_with(error), "{step}: {given}");
    }
    let given = probe
        .run(json!([
            {"do": "kv-fill", "key": "x".repeat(256), "bytes": 65_536},
            {"do": "kv-fill", "key": "b", "bytes": 65_536},
            {"do": "kv-fill", "key": "b", "bytes": 1},
            {"do": "kv-fill", "key": "c", "bytes": 1},
            {"do": "kv-delete", "key": "b"},
            {"do": "kv-fill", "key": "c", "bytes": 1},
        ]))
        .await;
    let quota = |given: &Value| given["error"].as_str().is_some_and(|error| error.starts_with("Quota"));
    assert_eq!(given[0], json!(true));
    assert!(quota(&given[1]), "too many bytes: {given}");
    assert_eq!(given[2], json!(true));
    assert!(quota(&given[3]), "too many keys: {given}");
    assert_eq!(given[5], json!(true));
}

/// A store that never answers.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl KvPort for Stuck {
    async fn get(&self, _: &Space, _: &str) -> Result<Option<KvEntry>, CallError> {
        std::future::pending().await
    }

    async fn write(&self, _: &Space, _: KvWrite) -> Result<bool, CallError> {
        std::future::pending().await
    }

    async fn delete(&self, _: &Space, _: &str) -> Result<bool, CallError> {
        std::future::pending().await
    }

    async fn keys(&self, _: &Space, _: &str, _: Option<&str>, _: u32) -> Result<Vec<String>, CallError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_ends_with_the_call() {
    let ports = Ports {
        kv: Arc::new(Stuck),
        ..Ports::memory()
    };
    let probe = probe(&ports, "default").await;
    let scope = russet_hooks::Scope::new("default", "test", Duration::from_millis(300));
    let began = std::time::Instant::now();
    let steps = json!([{"do": "kv-get", "key": "k"}]);
    let (answer, _) = probe.ask(scope, &steps, russet_hooks::Answers::Live).await;
    // Told to the plugin, or the end of its call: whichever timer is first.
    match answer {
        Ok(answer) => assert!(String::from_utf8(answer.0).unwrap().contains("Unavailable")),
        Err(fault) => assert_eq!(fault.kind, russet_hooks::FaultKind::Deadline),
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn secrets_are_kept_and_have_sizes() {
    let probe = fresh().await;
    let given = probe
        .run(json!([
            {"do": "secret-get", "name": "token"},
            {"do": "secret-put", "name": "token", "value": "one"},
            {"do": "secret-put", "name": "token", "value": "two"},
            {"do": "secret-get", "name": "token"},
            {"do": "secret-delete", "name": "token"},
            {"do": "secret-delete", "name": "token"},
            {"do": "secret-get", "name": "token"},
            {"do": "secret-fill", "name": "x".repeat(128), "bytes": 16_384},
        ]))
        .await;
    assert_eq!(given, json!([null, true, true, "two", true, false, null, true]));
    for step in [
        json!({"do": "secret-get", "name": ""}),
        json!({"do": "secret-get", "name": "x".repeat(129)}),
        json!({"do": "secret-put", "name": "x".repeat(129), "value": ""}),
        json!({"do": "secret-fill", "name": "x", "bytes": 16_385}),
        json!({"do": "open", "sealed": "00".repeat(40_000)}),
        json!({"do": "open", "sealed": ""}),
        json!({"do": "open", "sealed": "00".repeat(64)}),
    ] {
        let given = probe.error(step.clone()).await;
        assert!(given.starts_with("Invalid"), "{step}: {given}");
    }
    let mut steps: Vec<Value> = (1..100)
        .map(|number| json!({"do": "secret-put", "name": format!("{number}"), "value": ""}))
        .collect();
    steps.push(json!({"do": "secret-put", "name": "more", "value": ""}));
    let given = probe.run(Value::from(steps)).await;
    assert_eq!(given[98], json!(true));
    assert!(given[99]["error"].as_str().unwrap().starts_with("Quota"), "{given}");
}

#[tokio::test]
async fn the_server_signs_with_keys_that_the_plugin_never_sees() {
    let probe = fresh().await;
    let given = probe
        .run(json!([
            {"do": "sign", "key": "main", "message": "hello"},
            {"do": "public-key", "key": "main"},
            {"do": "sign", "key": "main", "message": "hello"},
            {"do": "public-key", "key": "other"},
        ]))
        .await;
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let public = bytes(&given[1]);
    assert_eq!(public.len(), 32);
    let key = UnparsedPublicKey::new(&ED25519, &public);
    key.verify(b"hello", &bytes(&given[0])).unwrap();
    assert!(key.verify(b"hullo", &bytes(&given[0])).is_err());
    assert_eq!(given[0], given[2], "the key is kept");
    assert_ne!(given[1], given[3]);
    let step = json!({"do": "public-key", "key": "main"});
    assert_eq!(probe.one(step).await, given[1], "over calls, too");

    // RFC 4231, test case 2.
    let given = probe
        .run(json!([
            {"do": "hmac", "secret": "k", "message": "m"},
            {"do": "secret-put", "name": "k", "value": "Jefe"},
            {"do": "hmac", "secret": "k", "message": "what do ya want for nothing?"},
        ]))
        .await;
    assert!(given[0]["error"].as_str().unwrap().starts_with("Invalid"), "{given}");
    assert_eq!(
        given[2],
        json!("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    );
    let steps: Vec<Value> = (0..17)
        .map(|number| json!({"do": "public-key", "key": format!("{number}")}))
        .collect();
    let given = probe.run(Value::from(steps)).await;
    assert!(given[16]["error"].as_str().unwrap().starts_with("Invalid"), "{given}");
}

fn device(id: &str, group: &str, user: Option<&str>) -> FoundDevice {
    FoundDevice {
        device: Device {
            enrollment_id: Some(id.to_owned()),
            serial_number: Some(format!("SERIAL-{id}")),
            attributes: [("group".to_owned(), group.to_owned())].into(),
            ..Device::default()
        },
        person: user.map(|user| Person {
            user_name: user.to_owned(),
            ..Person::default()
        }),
    }
}

#[tokio::test]
async fn the_inventory_is_the_tenants() {
    let inventory = MemoryInventory::default();
    inventory.add("default", device("A", "staff", Some("ada")));
    inventory.add("default", device("B", "staff", None));
    inventory.add("default", device("C", "guests", Some("ada")));
    inventory.add("other", device("D", "staff", Some("ada")));
    let ports = Ports {
        inventory: Arc::new(inventory),
        ..Ports::memory()
    };
    let steps = json!([
        {"do": "find-device", "name": "SERIAL-A"},
        {"do": "find-device", "name": "B"},
        {"do": "find-device", "name": "D"},
        {"do": "devices-with-attribute", "name": "group", "value": "staff", "limit": 10},
        {"do": "devices-with-attribute", "name": "group", "value": "staff", "after": "A", "limit": 10},
        {"do": "devices-with-attribute", "name": "group", "value": "staff", "limit": 1},
        {"do": "devices-of-person", "user_name": "ada"},
        {"do": "devices-of-person", "user_name": "eve"},
    ]);
    assert_eq!(
        probe(&ports, "default").await.run(steps.clone()).await,
        json!([
            ["SERIAL-A", "ada"],
            ["SERIAL-B", null],
            null,
            ["SERIAL-A", "SERIAL-B"],
            ["SERIAL-B"],
            ["SERIAL-A"],
            ["SERIAL-A", "SERIAL-C"],
            [],
        ])
    );
    let other = probe(&ports, "other").await;
    assert_eq!(
        other.run(steps).await,
        json!([
            null,
            null,
            ["SERIAL-D", "ada"],
            ["SERIAL-D"],
            ["SERIAL-D"],
            ["SERIAL-D"],
            ["SERIAL-D"],
            []
        ])
    );
    for step in [
        json!({"do": "find-device", "name": ""}),
        json!({"do": "find-device", "name": "x".repeat(257)}),
        json!({"do": "find-device", "name": "a\u{0}"}),
        json!({"do": "devices-with-attribute", "name": "", "value": "staff", "limit": 1}),
        json!({"do": "devices-with-attribute", "name": "a", "value": "x".repeat(257), "limit": 1}),
        json!({"do": "devices-of-person", "user_name": ""}),
    ] {
        let given = other.error(step.clone()).await;
        assert!(given.starts_with("Invalid"), "{step}: {given}");
    }
}
