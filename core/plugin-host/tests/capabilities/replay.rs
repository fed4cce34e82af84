//! Recorded calls decided again: the same plugin decides the same with nothing but its journal, another one gets what was
//! recorded and no more, and what it writes is seen by nobody else.

use std::sync::Arc;

use russet_hooks::FaultKind;
use russet_plugin_host::journal::{HostAnswer, HostCall};
use russet_plugin_host::ports::memory::{MemoryInventory, MemoryKv, MemorySecrets};
use russet_plugin_host::ports::{Expected, FoundDevice, KvPort, KvQuota, KvWrite, Ports, SecretsPort, Space};
use serde_json::{Value, json};

use crate::probe::{Load, Probe, nowhere};

fn space() -> Space {
    Space::new("default", "probe")
}

async fn probe(ports: &Ports, extra: Value) -> Probe {
    let load = Load {
        ports: ports.clone(),
        connections: nowhere(),
        settings: json!({ "extra": extra }),
        ..Load::default()
    };
    load.granted().await
}

fn ports() -> (Ports, Arc<MemoryKv>, Arc<MemorySecrets>) {
    let (kv, secrets) = (Arc::new(MemoryKv::default()), Arc::new(MemorySecrets::default()));
    let ports = Ports {
        kv: kv.clone(),
        secrets: secrets.clone(),
        ..Ports::memory()
    };
    (ports, kv, secrets)
}

async fn put(kv: &MemoryKv, key: &str, value: &str) {
    let write = KvWrite {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        expires_in_ms: None,
        expected: Expected::Anything,
        quota: KvQuota {
            keys: 100,
            bytes: 100_000,
        },
    };
    assert!(kv.write(&space(), write).await.unwrap());
}

async fn value(kv: &MemoryKv, key: &str) -> Option<String> {
    let entry = kv.get(&space(), key).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value).unwrap())
}

/// Steps of every kind, whose answers differ from one run to the next.
fn steps() -> Value {
    json!([
        {"do": "now"},
        {"do": "random", "count": 16},
        {"do": "kv-get", "key": "count"},
        {"do": "kv-set", "key": "count", "value": "2"},
        {"do": "kv-get", "key": "count"},
        {"do": "kv-version", "key": "count"},
        {"do": "kv-replace", "key": "count", "value": "3"},
        {"do": "kv-keys", "limit": 10},
        {"do": "kv-delete", "key": "count"},
        {"do": "kv-get", "key": "count"},
        {"do": "find-device", "name": "A"},
        {"do": "secret-put", "name": "token", "value": "hunter2"},
        {"do": "secret-get", "name": "token"},
        {"do": "hmac", "secret": "token", "message": "m"},
        {"do": "seal-and-open", "value": "hunter3"},
        {"do": "sign", "key": "k", "message": "m"},
        {"do": "public-key", "key": "k"},
        {"do": "http", "connection": "nowhere", "path": "/"},
        {"do": "now"},
    ])
}

#[tokio::test]
async fn the_same_plugin_decides_the_same_again() {
    let (mut ports, kv, secrets) = ports();
    let inventory = MemoryInventory::default();
    let mut device = FoundDevice {
        device: russet_hooks::Device {
            enrollment_id: Some("A".to_owned()),
            serial_number: Some("SERIAL".to_owned()),
            ..Default::default()
        },
        person: None,
    };
    inventory.add("default", device.clone());
    let inventory = Arc::new(inventory);
    ports.inventory = inventory.clone();
    put(&kv, "count", "1").await;
    let probe = probe(&ports, json!([])).await;
    let (given, record) = probe.recorded(&steps()).await;
    assert!(record.journal.len() >= 20, "{}", record.journal.len());

    // The world goes on.
    put(&kv, "count", "100").await;
    put(&kv, "other", "x").await;
    device.device.serial_number = Some("ANOTHER".to_owned());
    inventory.add("default", device);
    for strict in [true, false] {
        let (again, decided) = probe.replayed(&steps(), &record.journal, strict).await;
        assert_eq!(again.unwrap(), given, "strict: {strict}");
        assert_eq!(decided.verdict_json, record.verdict_json);
    }
    // And nothing of it was seen there.
    assert_eq!(value(&kv, "count").await.as_deref(), Some("100"));
    secrets.delete(&space(), "token").await.unwrap();
    let (again, _) = probe.replayed(&steps(), &record.journal, true).await;
    assert_eq!(again.unwrap(), given, "the call's own secret is its own");
    assert!(secrets.get(&space(), "token").await.unwrap().is_none());
}

#[tokio::test]
async fn nothing_secret_is_written_down() {
    let (ports, _, secrets) = ports();
    secrets.put(&space(), "kept", b"hunter1").await.unwrap();
    let probe = probe(&ports, json!([])).await;
    let steps = json!([
        {"do": "secret-get", "name": "kept"},
        {"do": "secret-put", "name": "token", "value": "hunter2"},
        {"do": "secret-get", "name": "token"},
        {"do": "seal-and-open", "value": "hunter3"},
        {"do": "http", "connection": "nowhere", "path": "/", "headers": [["Authorization", "Bearer hunter4"], ["X-Api-Key", "hunter5"]]},
        {"do": "ldap-bind", "connection": "nowhere", "dn": "uid=a,dc=example,dc=org", "password": "hunter6"},
    ]);
    let (given, record) = probe.recorded(&steps).await;
    assert_eq!(given[0], "hunter1");
    let written = format!("{:?}", record.journal);
    assert!(!written.contains("hunter"), "{written}");
    // base64 of it neither.
    assert!(!written.contains("aHVudGVy"), "{written}");
    // Each entry reads back as what it is.
    for entry in &record.journal {
        let call: HostCall = serde_json::from_str(&entry.call).unwrap();
        assert!(entry.call.contains(call.name()), "{entry:?}");
        let _: HostAnswer = serde_json::from_str(&entry.answer).unwrap();
    }
    let (again, _) = probe.replayed(&steps, &record.journal, true).await;
    assert_eq!(again.unwrap(), given);
}

#[tokio::test]
async fn nothing_is_written_down_unless_asked_for() {
    let (ports, ..) = ports();
    let probe = probe(&ports, json!([])).await;
    let scope = crate::common::scope();
    let (_, record) = probe
        .ask(scope, &json!([{"do": "now"}]), russet_hooks::Answers::Live)
        .await;
    assert!(record.journal.is_empty());
}

#[tokio::test]
async fn another_plugin_gets_what_was_recorded_and_no_more() {
    let (ports, kv, _) = ports();
    put(&kv, "a", "1").await;
    let asked = json!([{"do": "kv-get", "key": "a"}, {"do": "kv-get", "key": "b"}]);
    let (_, record) = probe(&ports, json!([])).await.recorded(&asked).await;
    put(&kv, "a", "2").await;
    put(&kv, "c", "3").await;

    for (more, strict) in [
        (json!({"do": "kv-get", "key": "c"}), true),
        (json!({"do": "kv-keys", "limit": 1}), true),
        (json!({"do": "now"}), true),
        (json!({"do": "random", "count": 1}), true),
        (json!({"do": "find-device", "name": "A"}), true),
        (json!({"do": "secret-get", "name": "s"}), true),
        (json!({"do": "seal", "value": "s"}), true),
        (json!({"do": "sign", "key": "k", "message": "m"}), true),
        (
            json!({"do": "kv-compare-and-set", "key": "c", "version": 1, "value": "x"}),
            true,
        ),
        // Nothing goes out over a network, however the journal is read.
        (json!({"do": "http", "connection": "nowhere", "path": "/"}), false),
        (
            json!({"do": "ldap-search", "connection": "nowhere", "filter": "(a=b)", "attribute": "a", "limit": 1}),
            false,
        ),
        (
            json!({"do": "ldap-bind", "connection": "nowhere", "dn": "dc=example,dc=org", "password": "x"}),
            false,
        ),
        // Nor is a key made.
        (json!({"do": "sign", "key": "k", "message": "m"}), false),
    ] {
        let other = probe(&ports, json!([more])).await;
        let (answer, decided) = other.replayed(&asked, &record.journal, strict).await;
        let fault = answer.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotRecorded, "{more}: {fault}");
        assert_eq!(decided.fault.unwrap().kind, FaultKind::NotRecorded);
    }
    // What is only read here is read now, where that is allowed.
    for (more, given) in [
        (json!({"do": "kv-get", "key": "c"}), json!("3")),
        (json!({"do": "kv-get", "key": "a"}), json!("1")),
        (json!({"do": "kv-keys", "limit": 9}), json!(["a", "c"])),
        (json!({"do": "find-device", "name": "A"}), Value::Null),
        (json!({"do": "secret-get", "name": "s"}), Value::Null),
        (json!({"do": "seal-and-open", "value": "s"}), json!("s")),
    ] {
        let other = probe(&ports, json!([more])).await;
        let (answer, _) = other.replayed(&asked, &record.journal, false).await;
        assert_eq!(answer.unwrap()[2], given, "{more}");
    }
}

#[tokio::test]
async fn another_order_finds_the_same_answers() {
    let (ports, kv, _) = ports();
    put(&kv, "a", "1").await;
    put(&kv, "b", "2").await;
    let probe = probe(&ports, json!([])).await;
    let asked = json!([
        {"do": "kv-get", "key": "a"}, {"do": "random", "count": 4}, {"do": "kv-get", "key": "b"}, {"do": "random", "count": 4},
    ]);
    let (given, record) = probe.recorded(&asked).await;
    put(&kv, "a", "changed").await;
    let other = json!([
        {"do": "random", "count": 4}, {"do": "kv-get", "key": "b"}, {"do": "random", "count": 4}, {"do": "kv-get", "key": "a"},
        {"do": "kv-get", "key": "a"}, {"do": "random", "count": 4},
    ]);
    let (answer, _) = probe.replayed(&other, &record.journal, true).await;
    assert_eq!(
        answer.unwrap(),
        json!([given[1], given[2], given[3], given[0], given[0], given[3]])
    );
}

#[tokio::test]
async fn what_a_replayed_call_writes_only_it_reads() {
    let (ports, kv, secrets) = ports();
    put(&kv, "a", "1").await;
    put(&kv, "b", "1").await;
    secrets.put(&space(), "s", b"server's").await.unwrap();
    let asked = json!([{"do": "kv-get", "key": "a"}, {"do": "kv-keys", "limit": 10}]);
    let (_, record) = probe(&ports, json!([])).await.recorded(&asked).await;
    let extra = json!([
        {"do": "kv-set", "key": "a", "value": "2"},
        {"do": "kv-get", "key": "a"},
        {"do": "kv-replace", "key": "a", "value": "3"},
        {"do": "kv-get", "key": "a"},
        {"do": "kv-set", "key": "c", "value": "1"},
        {"do": "kv-delete", "key": "b"},
        {"do": "kv-keys", "limit": 10},
        {"do": "kv-compare-and-set", "key": "c", "version": null, "value": "no"},
        {"do": "kv-compare-and-set", "key": "b", "version": null, "value": "again"},
        {"do": "kv-get", "key": "b"},
        {"do": "kv-delete", "key": "nothing"},
        {"do": "secret-put", "name": "s", "value": "own"},
        {"do": "secret-get", "name": "s"},
        {"do": "hmac", "secret": "s", "message": "m"},
        {"do": "secret-delete", "name": "s"},
        {"do": "secret-get", "name": "s"},
    ]);
    let other = probe(&ports, extra).await;
    let (answer, _) = other.replayed(&asked, &record.journal, false).await;
    let given = answer.unwrap();
    let given = given.as_array().unwrap();
    assert_eq!(
        Value::from(&given[2..13]),
        json!([
            true,
            "2",
            true,
            "3",
            true,
            true,
            ["a", "c"],
            false,
            true,
            "again",
            false
        ])
    );
    assert_eq!(given[13..15], [json!(true), json!("own")]);
    let own = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"own"), b"m");
    assert_eq!(given[15], hex::encode(own));
    assert_eq!(given[16..], [json!(true), Value::Null]);
    // Outside, nothing happened.
    assert_eq!(value(&kv, "a").await.as_deref(), Some("1"));
    assert_eq!(value(&kv, "b").await.as_deref(), Some("1"));
    assert_eq!(value(&kv, "c").await, None);
    let kept = secrets.get(&space(), "s").await.unwrap();
    assert_eq!(kept.unwrap().as_slice(), b"server's");
}

#[tokio::test]
async fn a_journal_that_was_changed_is_no_answer() {
    let (ports, ..) = ports();
    let probe = probe(&ports, json!([])).await;
    let steps = json!([{"do": "kv-get", "key": "a"}, {"do": "now"}]);
    let (_, record) = probe.recorded(&steps).await;
    for answer in ["", "{", "{\"Ok\":{\"flag\":true}}", "{\"Ok\":{\"time\":\"x\"}}", "null"] {
        let mut journal = record.journal.clone();
        answer.clone_into(&mut journal[0].answer);
        let (given, _) = probe.replayed(&steps, &journal, true).await;
        assert_eq!(given.unwrap_err().kind, FaultKind::NotRecorded, "{answer}");
    }
}
