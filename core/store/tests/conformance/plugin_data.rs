//! What plugins keep (values with versions, expiry and a quota; secrets; keys), and what they find devices by.

use std::collections::BTreeSet;

use russet_store::{
    ExpectedValue, MAX_PLUGIN_KEYS, MAX_PLUGIN_SECRETS, PluginValueWrite, PluginValueWritten, StoreError, TokenTarget,
};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![
    values_are_of_one_plugin_of_one_tenant,
    a_value_is_replaced_only_if_it_is_as_expected,
    of_many_that_replace_a_version_one_does,
    values_expire,
    a_space_holds_so_much_and_no_more,
    what_expired_makes_room,
    keys_come_in_the_order_of_their_bytes,
    secrets_are_of_one_plugin_of_one_tenant,
    a_plugin_has_so_many_secrets_and_keys,
    a_moved_secret_does_not_open,
    servers_agree_on_a_key,
    what_is_sealed_for_a_plugin_opens_for_it_only,
    devices_are_found_by_every_name,
    devices_are_found_by_what_is_known_of_them_now,
    devices_are_found_page_by_page_within_the_tenant,
    odd_attributes_do_no_harm,
];

fn write(bench: &Bench, key: &str, value: &[u8]) -> PluginValueWrite {
    PluginValueWrite {
        tenant: bench.tenant,
        plugin: "gate".to_owned(),
        key: key.to_owned(),
        value: value.to_vec(),
        expires_at: None,
        expected: ExpectedValue::Anything,
        max_keys: 10,
        max_bytes: 100,
    }
}

async fn put(bench: &Bench, write: PluginValueWrite) -> PluginValueWritten {
    bench.store.put_plugin_value(write, at(0)).await.unwrap()
}

async fn values_are_of_one_plugin_of_one_tenant(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(
        put(&bench, write(&bench, "k", b"mine")).await,
        PluginValueWritten::Stored
    );
    let theirs = PluginValueWrite {
        tenant: other,
        ..write(&bench, "k", b"theirs")
    };
    put(&bench, theirs).await;
    let second = PluginValueWrite {
        plugin: "gate2".to_owned(),
        ..write(&bench, "k", b"second")
    };
    put(&bench, second).await;
    for (tenant, plugin, value) in [
        (bench.tenant, "gate", Some("mine")),
        (other, "gate", Some("theirs")),
        (bench.tenant, "gate2", Some("second")),
        (other, "gate2", None),
        (bench.tenant, "gat", None),
    ] {
        let found = store.plugin_value(tenant, plugin, "k", at(1)).await.unwrap();
        assert_eq!(
            found.map(|found| found.value),
            value.map(|value| value.as_bytes().to_vec()),
            "{plugin}"
        );
    }
    assert!(store.delete_plugin_value(other, "gate", "k", at(1)).await.unwrap());
    assert!(!store.delete_plugin_value(other, "gate", "k", at(1)).await.unwrap());
    assert!(
        store
            .plugin_value(bench.tenant, "gate", "k", at(1))
            .await
            .unwrap()
            .is_some()
    );
}

async fn a_value_is_replaced_only_if_it_is_as_expected(bench: Bench) {
    let with = |expected| PluginValueWrite {
        expected,
        ..write(&bench, "k", b"v")
    };
    let version = async || {
        let found = bench.store.plugin_value(bench.tenant, "gate", "k", at(1)).await;
        found.unwrap().map(|found| found.version)
    };
    assert_eq!(
        put(&bench, with(ExpectedValue::Version(1))).await,
        PluginValueWritten::Unexpected
    );
    assert_eq!(version().await, None);
    assert_eq!(
        put(&bench, with(ExpectedValue::Absent)).await,
        PluginValueWritten::Stored
    );
    let first = version().await.unwrap();
    assert_eq!(
        put(&bench, with(ExpectedValue::Absent)).await,
        PluginValueWritten::Unexpected
    );
    assert_eq!(
        put(&bench, with(ExpectedValue::Version(first))).await,
        PluginValueWritten::Stored
    );
    assert_eq!(
        put(&bench, with(ExpectedValue::Version(first))).await,
        PluginValueWritten::Unexpected
    );
    let second = version().await.unwrap();
    // A key that went and came again is another one.
    bench
        .store
        .delete_plugin_value(bench.tenant, "gate", "k", at(1))
        .await
        .unwrap();
    put(&bench, with(ExpectedValue::Absent)).await;
    assert_eq!(BTreeSet::from([first, second, version().await.unwrap()]).len(), 3);
    assert_eq!(
        put(&bench, with(ExpectedValue::Version(second))).await,
        PluginValueWritten::Unexpected
    );
}

async fn of_many_that_replace_a_version_one_does(bench: Bench) {
    put(&bench, write(&bench, "k", b"0")).await;
    let found = bench
        .store
        .plugin_value(bench.tenant, "gate", "k", at(0))
        .await
        .unwrap();
    let version = found.unwrap().version;
    let tries = (0..12).map(|number: u8| {
        let store = bench.store.clone();
        let write = PluginValueWrite {
            expected: ExpectedValue::Version(version),
            ..write(&bench, "k", &[number])
        };
        tokio::spawn(async move { store.put_plugin_value(write, at(0)).await.unwrap() })
    });
    let mut stored = 0;
    for one in tries.collect::<Vec<_>>() {
        stored += u32::from(one.await.unwrap() == PluginValueWritten::Stored);
    }
    assert_eq!(stored, 1);
}

async fn values_expire(bench: Bench) {
    let store = &bench.store;
    let short = PluginValueWrite {
        expires_at: Some(at(10)),
        ..write(&bench, "short", b"v")
    };
    put(&bench, short.clone()).await;
    put(&bench, write(&bench, "long", b"v")).await;
    let get = async |seconds| {
        store
            .plugin_value(bench.tenant, "gate", "short", at(seconds))
            .await
            .unwrap()
    };
    assert_eq!(get(9).await.unwrap().expires_at, Some(at(10)));
    assert_eq!(get(10).await, None);
    let keys = async |seconds| {
        store
            .plugin_keys(bench.tenant, "gate", "", None, 10, at(seconds))
            .await
            .unwrap()
    };
    assert_eq!(keys(9).await, ["long", "short"]);
    assert_eq!(keys(10).await, ["long"]);
    // Gone for whoever writes, too.
    let again = PluginValueWrite {
        expected: ExpectedValue::Absent,
        expires_at: Some(at(20)),
        ..short
    };
    assert_eq!(
        store.put_plugin_value(again, at(10)).await.unwrap(),
        PluginValueWritten::Stored
    );
    assert!(
        !store
            .delete_plugin_value(bench.tenant, "gate", "short", at(20))
            .await
            .unwrap()
    );
    assert_eq!(store.purge_plugin_values(at(1_000)).await.unwrap(), 0);
    let last = PluginValueWrite {
        expires_at: Some(at(30)),
        ..write(&bench, "last", b"v")
    };
    put(&bench, last).await;
    assert_eq!(store.purge_plugin_values(at(30)).await.unwrap(), 1);
    assert_eq!(keys(0).await, ["long"]);
}

async fn a_space_holds_so_much_and_no_more(bench: Bench) {
    for number in 0..10 {
        let one = write(&bench, &format!("{number}"), b"123456789");
        assert_eq!(put(&bench, one).await, PluginValueWritten::Stored);
    }
    // 100 bytes in 10 keys: neither another key nor another byte, but as much as before in place of it.
    assert_eq!(
        put(&bench, write(&bench, "x", b"")).await,
        PluginValueWritten::Full { keys: 11, bytes: 101 }
    );
    assert_eq!(
        put(&bench, write(&bench, "0", b"1234567890")).await,
        PluginValueWritten::Full { keys: 10, bytes: 101 }
    );
    assert_eq!(
        put(&bench, write(&bench, "0", b"987654321")).await,
        PluginValueWritten::Stored
    );
    // Each plugin has its own.
    let other = PluginValueWrite {
        plugin: "other".to_owned(),
        ..write(&bench, "x", b"")
    };
    assert_eq!(put(&bench, other).await, PluginValueWritten::Stored);
    // What is removed makes room, exactly.
    bench
        .store
        .delete_plugin_value(bench.tenant, "gate", "0", at(0))
        .await
        .unwrap();
    assert_eq!(
        put(&bench, write(&bench, "y", b"123456789")).await,
        PluginValueWritten::Stored
    );
    assert!(matches!(
        put(&bench, write(&bench, "y", b"1234567890")).await,
        PluginValueWritten::Full { .. }
    ));
}

async fn what_expired_makes_room(bench: Bench) {
    for number in 0..10 {
        let one = PluginValueWrite {
            expires_at: Some(at(10)),
            ..write(&bench, &format!("{number}"), b"123456789")
        };
        put(&bench, one).await;
    }
    assert!(matches!(
        put(&bench, write(&bench, "x", b"123456789")).await,
        PluginValueWritten::Full { .. }
    ));
    let later = bench
        .store
        .put_plugin_value(write(&bench, "x", b"123456789"), at(10))
        .await;
    assert_eq!(later.unwrap(), PluginValueWritten::Stored);
    let keys = bench.store.plugin_keys(bench.tenant, "gate", "", None, 20, at(0)).await;
    assert_eq!(keys.unwrap(), ["x"]);
}

async fn keys_come_in_the_order_of_their_bytes(bench: Bench) {
    for key in ["b", "a", "B", "ä", "a/2", "a/10", "a/ä", "a0"] {
        put(&bench, write(&bench, key, b"")).await;
    }
    let keys = async |prefix: &str, after: Option<&str>, limit| {
        bench
            .store
            .plugin_keys(bench.tenant, "gate", prefix, after, limit, at(0))
            .await
            .unwrap()
    };
    assert_eq!(
        keys("", None, 100).await,
        ["B", "a", "a/10", "a/2", "a/ä", "a0", "b", "ä"]
    );
    assert_eq!(keys("a/", None, 100).await, ["a/10", "a/2", "a/ä"]);
    assert_eq!(keys("a/", Some("a/10"), 1).await, ["a/2"]);
    assert_eq!(keys("a/", Some("b"), 10).await, [""; 0]);
    assert_eq!(keys("", None, 0).await, [""; 0]);
}

async fn secrets_are_of_one_plugin_of_one_tenant(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    for (tenant, plugin, secret) in [
        (bench.tenant, "gate", "one"),
        (other, "gate", "two"),
        (bench.tenant, "hook", "three"),
    ] {
        let stored = store.put_plugin_secret(tenant, plugin, "token", secret.as_bytes(), at(0));
        assert!(stored.await.unwrap());
    }
    store
        .put_plugin_secret(bench.tenant, "gate", "token", b"changed", at(5))
        .await
        .unwrap();
    for (tenant, plugin, secret) in [
        (bench.tenant, "gate", Some("changed")),
        (other, "gate", Some("two")),
        (bench.tenant, "hook", Some("three")),
        (other, "hook", None),
    ] {
        let found = store.plugin_secret(tenant, plugin, "token").await.unwrap();
        assert_eq!(
            found.as_deref().map(Vec::as_slice),
            secret.map(str::as_bytes),
            "{plugin}"
        );
    }
    let names = store.plugin_secret_names(bench.tenant, "gate").await.unwrap();
    assert_eq!(names, [("token".to_owned(), at(5))]);
    assert!(store.delete_plugin_secret(other, "gate", "token").await.unwrap());
    assert!(!store.delete_plugin_secret(other, "gate", "token").await.unwrap());
    assert!(
        store
            .plugin_secret(bench.tenant, "gate", "token")
            .await
            .unwrap()
            .is_some()
    );
}

async fn a_plugin_has_so_many_secrets_and_keys(bench: Bench) {
    let store = &bench.store;
    let put = async |name: String| {
        store
            .put_plugin_secret(bench.tenant, "gate", &name, b"s", at(0))
            .await
            .unwrap()
    };
    for number in 0..MAX_PLUGIN_SECRETS {
        assert!(put(format!("{number}")).await, "{number}");
    }
    assert!(!put("more".to_owned()).await);
    assert!(put("0".to_owned()).await, "one that is there can be changed");
    let key = async |plugin: &str, name: String| {
        store
            .plugin_key(bench.tenant, plugin, &name, &[7; 32], at(0))
            .await
            .unwrap()
    };
    for number in 0..MAX_PLUGIN_KEYS {
        assert!(key("gate", format!("{number}")).await.is_some(), "{number}");
    }
    assert!(key("gate", "more".to_owned()).await.is_none());
    assert!(key("gate", "0".to_owned()).await.is_some());
    assert!(key("other", "more".to_owned()).await.is_some());
}

async fn a_moved_secret_does_not_open(bench: Bench) {
    let store = &bench.store;
    for (plugin, name) in [("gate", "whole"), ("gate", "moved"), ("hook", "whole")] {
        store
            .put_plugin_secret(bench.tenant, plugin, name, b"secret", at(0))
            .await
            .unwrap();
    }
    let copy = "UPDATE plugin_secrets SET sealed = \
                (SELECT sealed FROM plugin_secrets WHERE plugin = 'gate' AND name = 'whole') \
                WHERE plugin = 'hook' OR name = 'moved'";
    bench.meddle(copy, copy).await;
    for (plugin, name) in [("gate", "moved"), ("hook", "whole")] {
        let error = store.plugin_secret(bench.tenant, plugin, name).await.unwrap_err();
        assert!(matches!(error, StoreError::Sealed(_)), "{plugin} {name}: {error:?}");
    }
    let whole = store.plugin_secret(bench.tenant, "gate", "whole").await.unwrap();
    assert_eq!(whole.unwrap().as_slice(), b"secret");
}

async fn servers_agree_on_a_key(bench: Bench) {
    let tries = (0..8).map(|number: u8| {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        tokio::spawn(async move {
            let key = store.plugin_key(tenant, "gate", "k", &[number; 32], at(0)).await;
            key.unwrap().unwrap().to_vec()
        })
    });
    let mut keys = BTreeSet::new();
    for one in tries.collect::<Vec<_>>() {
        keys.insert(one.await.unwrap());
    }
    assert_eq!(keys.len(), 1);
}

async fn what_is_sealed_for_a_plugin_opens_for_it_only(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let sealed = store.seal_for_plugin(bench.tenant, "gate", b"secret").unwrap();
    assert!(!sealed.windows(6).any(|part| part == b"secret"));
    let opened = store.open_for_plugin(bench.tenant, "gate", &sealed).unwrap();
    assert_eq!(opened.as_slice(), b"secret");
    for (tenant, plugin) in [(other, "gate"), (bench.tenant, "hook")] {
        let error = store.open_for_plugin(tenant, plugin, &sealed).unwrap_err();
        assert!(matches!(error, StoreError::Sealed(_)), "{error:?}");
    }
}

async fn devices_are_found_by_every_name(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let id = bench.enrolled("D1").await;
    for name in ["D1", "SERIAL-D1"] {
        let found = store.enrolled_device(bench.tenant, name).await.unwrap();
        assert_eq!(found.unwrap().id, id, "{name}");
        assert!(store.enrolled_device(other, name).await.unwrap().is_none(), "{name}");
    }
    assert!(store.enrolled_device(bench.tenant, "D2").await.unwrap().is_none());
    // Not yet enrolled.
    store
        .authenticate(bench.authenticate_write("D2").await, at(2))
        .await
        .unwrap();
    assert!(store.enrolled_device(bench.tenant, "D2").await.unwrap().is_none());
    // One that claims the serial number of another is told apart from it, or both are refused.
    let mut twin = bench.authenticate_write("D3").await;
    twin.facts.serial_number = Some("SERIAL-D1".to_owned());
    let twin = store.authenticate(twin, at(3)).await.unwrap();
    store
        .token_update(bench.token(TokenTarget::Enrollment(twin)), at(4))
        .await
        .unwrap();
    let error = store.enrolled_device(bench.tenant, "SERIAL-D1").await.unwrap_err();
    assert!(matches!(error, StoreError::Ambiguous(_)), "{error:?}");
    assert_eq!(store.enrolled_device(bench.tenant, "D1").await.unwrap().unwrap().id, id);
}

async fn devices_are_found_by_what_is_known_of_them_now(bench: Bench) {
    let store = &bench.store;
    let mut write = bench.authenticate_write("D1").await;
    write.attributes = json!({ "group": "staff", "building": "7", "number": 4 });
    write.person = Some(json!({ "id": "1", "user_name": "ada" }));
    let id = store.authenticate(write, at(0)).await.unwrap();
    let by = async |name: &str, value: &str| {
        let found = store.devices_with_attribute(bench.tenant, name, value, None, 10).await;
        found.unwrap().into_iter().map(|device| device.id).collect::<Vec<_>>()
    };
    let of = async |name: &str| {
        let found = store.devices_of_person(bench.tenant, name, 10).await;
        found.unwrap().into_iter().map(|device| device.id).collect::<Vec<_>>()
    };
    assert!(by("group", "staff").await.is_empty(), "it is not enrolled yet");
    store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(1))
        .await
        .unwrap();
    assert_eq!(by("group", "staff").await, [id]);
    assert_eq!(by("building", "7").await, [id]);
    assert_eq!(of("ada").await, [id]);
    for (name, value) in [
        ("group", "Staff"),
        ("group", ""),
        ("number", "4"),
        ("", "ada"),
        ("staff", "group"),
    ] {
        if !name.is_empty() {
            assert!(by(name, value).await.is_empty(), "{name}={value}");
        }
    }
    // It enrolls anew with other attributes, and gets another person.
    let mut again = bench.authenticate_write("D1").await;
    again.attributes = json!({ "group": "guests" });
    store.authenticate(again, at(2)).await.unwrap();
    store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(3))
        .await
        .unwrap();
    assert!(by("group", "staff").await.is_empty());
    assert!(by("building", "7").await.is_empty());
    assert_eq!(by("group", "guests").await, [id]);
    store
        .set_person(id, Some(json!({ "id": "2", "user_name": "grace" })), at(4))
        .await
        .unwrap();
    assert!(of("ada").await.is_empty());
    assert_eq!(of("grace").await, [id]);
    store.set_person(id, None, at(5)).await.unwrap();
    assert!(of("grace").await.is_empty());
    assert_eq!(by("group", "guests").await, [id]);
}

async fn devices_are_found_page_by_page_within_the_tenant(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    for key in ["C", "A", "B"] {
        bench.enrolled(key).await;
    }
    let page = async |tenant, after: Option<&str>, limit| {
        let found = store
            .devices_with_attribute(tenant, "group", "staff", after, limit)
            .await;
        found.unwrap().into_iter().map(|device| device.key).collect::<Vec<_>>()
    };
    assert_eq!(page(bench.tenant, None, 2).await, ["A", "B"]);
    assert_eq!(page(bench.tenant, Some("B"), 2).await, ["C"]);
    assert_eq!(page(bench.tenant, Some("C"), 2).await, [""; 0]);
    assert_eq!(page(other, None, 2).await, [""; 0]);
}

async fn odd_attributes_do_no_harm(bench: Bench) {
    let store = &bench.store;
    let long = "x".repeat(10_000);
    for (key, attributes, person) in [
        ("A", json!({ "a": "zero \u{0} byte", "b": "x" }), None),
        (
            "B",
            json!({ "long": long, "b": "x" }),
            Some(json!({ "user_name": "a\u{0}b" })),
        ),
        (
            "C",
            json!({ long.as_str(): "x", "b": "x" }),
            Some(json!({ "user_name": long })),
        ),
        (
            "D",
            json!({ "b": "x", "list": ["x"], "none": null }),
            Some(json!("text")),
        ),
        ("E", json!({ "": "x", "b": "x" }), Some(json!({ "user_name": 7 }))),
        (
            "F",
            json!({ "b": "x", "quote": "\"'; DROP TABLE enrollments; --" }),
            Some(json!({ "user_name": "" })),
        ),
    ] {
        let mut write = bench.authenticate_write(key).await;
        write.attributes = attributes;
        write.person = person;
        let id = store.authenticate(write, at(0)).await.unwrap();
        store
            .token_update(bench.token(TokenTarget::Enrollment(id)), at(1))
            .await
            .unwrap();
    }
    let found = store
        .devices_with_attribute(bench.tenant, "b", "x", None, 10)
        .await
        .unwrap();
    let keys: Vec<_> = found.iter().map(|device| device.key.as_str()).collect();
    // Of a device whose attributes hold what PostgreSQL has no text for, none is found there.
    let expected: &[&str] = match store.backend_name() {
        "postgres" => &["B", "C", "D", "E", "F"],
        _ => &["A", "B", "C", "D", "E", "F"],
    };
    assert_eq!(keys, expected);
    assert!(store.devices_of_person(bench.tenant, "", 10).await.unwrap().is_empty());
}
