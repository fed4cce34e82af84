//! The ports over a real store: what a plugin keeps comes back, for it and for nobody else.

use jiff::Timestamp;
use russet_plugin_host::ports::{CallError, Expected, KvQuota, KvWrite, Ports, Space};
use russet_protocol::Channel;
use russet_store::{
    AuthenticateWrite, DeviceFacts, MasterKey, NewCertificate, Store, StoreConfig, TokenTarget, TokenUpdateWrite,
};
use serde_json::json;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::ports;

async fn store() -> (TempDir, Store, Ports) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("russet.db").display());
    let store = Store::open(StoreConfig::new(url), &MasterKey::from_bytes([7; 32]))
        .await
        .unwrap();
    store.create_tenant("other", Timestamp::now()).await.unwrap();
    let ports = ports(&store);
    (folder, store, ports)
}

fn write(key: &str, value: &str, expected: Expected) -> KvWrite {
    KvWrite {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        expires_in_ms: None,
        expected,
        quota: KvQuota { keys: 2, bytes: 100 },
    }
}

#[tokio::test]
async fn values_secrets_and_keys_are_kept_for_one_plugin_of_one_tenant() {
    let (_folder, _store, ports) = store().await;
    let mine = Space::new("default", "gate");
    let others = [
        Space::new("other", "gate"),
        Space::new("default", "gate2"),
        Space::new("default", "gat"),
    ];
    assert!(ports.kv.write(&mine, write("k", "v", Expected::Absent)).await.unwrap());
    assert!(!ports.kv.write(&mine, write("k", "w", Expected::Absent)).await.unwrap());
    ports.secrets.put(&mine, "s", b"secret").await.unwrap();
    let sealed = ports.secrets.seal(&mine, b"sealed").await.unwrap();
    let fresh = |number| Zeroizing::new([number; 32]);
    let key = ports.secrets.signing_key(&mine, "k", fresh(1)).await.unwrap();
    assert_eq!(ports.secrets.signing_key(&mine, "k", fresh(2)).await.unwrap(), key);

    let entry = ports.kv.get(&mine, "k").await.unwrap().unwrap();
    assert_eq!(entry.value, b"v");
    let version = Expected::Version(entry.version);
    assert!(ports.kv.write(&mine, write("k", "w", version)).await.unwrap());
    assert!(!ports.kv.write(&mine, write("k", "x", version)).await.unwrap());
    assert_eq!(ports.kv.keys(&mine, "", None, 10).await.unwrap(), ["k"]);
    let secret = ports.secrets.get(&mine, "s").await.unwrap().unwrap();
    assert_eq!(secret.as_slice(), b"secret");
    assert_eq!(ports.secrets.open(&mine, &sealed).await.unwrap().as_slice(), b"sealed");

    for other in &others {
        assert_eq!(ports.kv.get(other, "k").await.unwrap(), None);
        assert!(ports.kv.keys(other, "", None, 10).await.unwrap().is_empty());
        assert!(!ports.kv.delete(other, "k").await.unwrap());
        assert!(ports.secrets.get(other, "s").await.unwrap().is_none());
        assert!(!ports.secrets.delete(other, "s").await.unwrap());
        assert!(matches!(
            ports.secrets.open(other, &sealed).await,
            Err(CallError::Invalid(_))
        ));
        assert_ne!(ports.secrets.signing_key(other, "k", fresh(3)).await.unwrap(), key);
    }
    assert!(ports.kv.delete(&mine, "k").await.unwrap());
    assert!(ports.secrets.delete(&mine, "s").await.unwrap());
}

#[tokio::test]
async fn a_full_space_and_an_unknown_tenant_are_told_apart() {
    let (_folder, _store, ports) = store().await;
    let mine = Space::new("default", "gate");
    for key in ["a", "b"] {
        ports.kv.write(&mine, write(key, "", Expected::Anything)).await.unwrap();
    }
    let full = ports.kv.write(&mine, write("c", "", Expected::Anything)).await;
    assert!(matches!(full, Err(CallError::Quota(_))), "{full:?}");
    let nobody = ports.kv.get(&Space::new("nobody", "gate"), "a").await;
    assert!(matches!(nobody, Err(CallError::Unavailable(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_lifetime_beyond_the_end_of_time_is_for_ever() {
    let (_folder, _store, ports) = store().await;
    let mine = Space::new("default", "gate");
    for (key, ms, ends) in [
        ("a", u64::MAX, false),
        ("a", i64::MAX as u64, false),
        ("b", 1_000_000, true),
    ] {
        let write = KvWrite {
            expires_in_ms: Some(ms),
            ..write(key, "v", Expected::Anything)
        };
        assert!(ports.kv.write(&mine, write).await.unwrap());
        let entry = ports.kv.get(&mine, key).await.unwrap().unwrap();
        assert_eq!(entry.expires_at_ms.is_some(), ends, "{ms}");
    }
    let gone = KvWrite {
        expires_in_ms: Some(0),
        ..write("a", "v", Expected::Anything)
    };
    assert!(ports.kv.write(&mine, gone).await.unwrap());
    assert_eq!(ports.kv.get(&mine, "a").await.unwrap(), None);
}

async fn enroll(store: &Store, number: u8, serial: &str) {
    let now = Timestamp::now();
    let tenant = store.default_tenant();
    let certificate = NewCertificate {
        sha256: [number; 32],
        tenant,
        serial_number: format!("{number}"),
        subject: "CN=device".to_owned(),
        der: vec![0x30],
        not_before: now,
        not_after: now,
        person: None,
        attributes: json!({}),
        bound_serial: None,
        bound_udid: None,
        renews: None,
    };
    store.insert_certificate(certificate, vec![], now).await.unwrap();
    let write = AuthenticateWrite {
        tenant,
        key: format!("KEY-{number}"),
        channel: Channel::Device,
        facts: DeviceFacts {
            serial_number: Some(serial.to_owned()),
            ..DeviceFacts::default()
        },
        certificate_sha256: [number; 32],
        person: Some(json!({ "id": "1", "user_name": "ada" })),
        attributes: json!({ "group": "staff" }),
        topic: None,
        renewal: false,
        decisions: vec![],
    };
    let id = store.authenticate(write, now).await.unwrap();
    let token = TokenUpdateWrite {
        target: TokenTarget::Enrollment(id),
        topic: "topic".to_owned(),
        token: vec![number],
        magic: "magic".to_owned(),
        awaiting_configuration: false,
        certificate_sha256: None,
        commands_at_first: vec![],
        commands: vec![],
    };
    store.token_update(token, now).await.unwrap();
}

#[tokio::test]
async fn devices_are_found_within_their_tenant() {
    let (_folder, store, ports) = store().await;
    enroll(&store, 1, "SERIAL").await;
    enroll(&store, 2, "TWIN").await;
    enroll(&store, 3, "TWIN").await;
    let inventory = &ports.inventory;
    let found = inventory.find_device("default", "SERIAL").await.unwrap().unwrap();
    assert_eq!(found.device.enrollment_id.as_deref(), Some("KEY-1"));
    assert_eq!(found.device.attributes["group"], "staff");
    assert_eq!(found.person.unwrap().user_name, "ada");
    let twins = inventory.find_device("default", "TWIN").await;
    assert!(matches!(twins, Err(CallError::Invalid(_))), "{twins:?}");
    let staff = inventory
        .devices_with_attribute("default", "group", "staff", Some("KEY-1"), 10)
        .await
        .unwrap();
    assert_eq!(staff.len(), 2);
    assert_eq!(
        inventory.devices_of_person("default", "ada", 10).await.unwrap().len(),
        3
    );
    assert!(inventory.find_device("other", "SERIAL").await.unwrap().is_none());
    assert!(
        inventory
            .devices_of_person("other", "ada", 10)
            .await
            .unwrap()
            .is_empty()
    );
}
