//! What plugins leave behind: kept for a while after they are out of use, deleted at a word, never under one that runs.

use russet_store::{
    Actor, ExpectedValue, PluginValueWrite, PluginValueWritten, PurgedPluginData, Retention, StoreError, TenantId,
};

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::plugins::{activation, insert};

behaviours![
    what_a_plugin_keeps_goes_at_a_word_unless_it_is_in_use,
    what_is_out_of_use_for_long_loses_what_it_keeps,
];

fn write(tenant: TenantId, plugin: &str, key: &str) -> PluginValueWrite {
    PluginValueWrite {
        tenant,
        plugin: plugin.to_owned(),
        key: key.to_owned(),
        value: b"value".to_vec(),
        expires_at: None,
        expected: ExpectedValue::Absent,
        max_keys: 2,
        max_bytes: 1_000,
    }
}

/// Two values, a secret and a key.
async fn fill(bench: &Bench, tenant: TenantId, plugin: &str) {
    let store = &bench.store;
    for key in ["one", "two"] {
        let written = store.put_plugin_value(write(tenant, plugin, key), at(0)).await.unwrap();
        assert_eq!(written, PluginValueWritten::Stored, "{plugin} {key}");
    }
    assert!(
        store
            .put_plugin_secret(tenant, plugin, "api", b"secret", at(0))
            .await
            .unwrap()
    );
    assert!(
        store
            .plugin_key(tenant, plugin, "sign", b"key", at(0))
            .await
            .unwrap()
            .is_some()
    );
}

async fn keeps(bench: &Bench, tenant: TenantId, plugin: &str) -> (bool, usize) {
    let value = bench.store.plugin_value(tenant, plugin, "one", at(1)).await.unwrap();
    let secrets = bench.store.plugin_secret_names(tenant, plugin).await.unwrap();
    (value.is_some(), secrets.len())
}

const ALL: PurgedPluginData = PurgedPluginData {
    values: 2,
    secrets: 1,
    keys: 1,
};

async fn what_a_plugin_keeps_goes_at_a_word_unless_it_is_in_use(bench: Bench) {
    let (store, other) = (&bench.store, bench.store.create_tenant("other", at(0)).await.unwrap());
    let revision = insert(&bench, "gate", 1).await;
    store
        .activate_revision(bench.tenant, activation(revision), at(1))
        .await
        .unwrap();
    fill(&bench, bench.tenant, "gate").await;
    fill(&bench, other, "gate").await;
    fill(&bench, bench.tenant, "gate2").await;
    let version = async || {
        let found = store.plugin_value(bench.tenant, "gate", "one", at(1)).await.unwrap();
        found.unwrap().version
    };
    let before = version().await;

    assert_eq!(store.purge_plugin_data(bench.tenant, "gate").await.unwrap(), None);
    assert_eq!(keeps(&bench, bench.tenant, "gate").await, (true, 1));
    store
        .disable_plugin(bench.tenant, "gate", Actor::new("anna"), at(2))
        .await
        .unwrap();
    assert_eq!(store.purge_plugin_data(bench.tenant, "gate").await.unwrap(), Some(ALL));
    assert_eq!(keeps(&bench, bench.tenant, "gate").await, (false, 0));
    // Nobody else's, and nothing a second time.
    assert_eq!(keeps(&bench, other, "gate").await, (true, 1));
    assert_eq!(keeps(&bench, bench.tenant, "gate2").await, (true, 1));
    let again = store.purge_plugin_data(bench.tenant, "gate").await.unwrap();
    assert_eq!(again, Some(PurgedPluginData::default()));

    // It can come back, with all the room that it had, and no version is given twice.
    fill(&bench, bench.tenant, "gate").await;
    assert!(version().await > before);
    // One that was never installed was given something all the same.
    assert_eq!(store.purge_plugin_data(bench.tenant, "gate2").await.unwrap(), Some(ALL));
}

async fn what_is_out_of_use_for_long_loses_what_it_keeps(bench: Bench) {
    let store = &bench.store;
    let retention = Retention {
        plugin_data: std::time::Duration::from_secs(100),
        ..Retention::default()
    };
    for (digest, plugin) in [(1, "runs"), (2, "left"), (3, "back"), (4, "waits")] {
        let revision = insert(&bench, plugin, digest).await;
        store
            .activate_revision(bench.tenant, activation(revision), at(1))
            .await
            .unwrap();
        fill(&bench, bench.tenant, plugin).await;
    }
    // Given something before it is installed.
    fill(&bench, bench.tenant, "later").await;
    for plugin in ["left", "back", "waits"] {
        store
            .disable_plugin(bench.tenant, plugin, Actor::new("anna"), at(10))
            .await
            .unwrap();
    }
    let back = insert(&bench, "back", 3).await;
    store
        .activate_revision(bench.tenant, activation(back), at(20))
        .await
        .unwrap();
    insert(&bench, "waits", 5).await;

    let purged = async |second: i64| -> Result<u64, StoreError> {
        let would = store.would_purge(at(second), &retention).await?.plugin_data;
        let done = store.purge(at(second), &retention).await?.plugin_data;
        assert_eq!(would, done, "at {second}");
        Ok(done)
    };
    assert_eq!(purged(109).await.unwrap(), 0);
    assert_eq!(purged(110).await.unwrap(), 4);
    assert_eq!(purged(1_000).await.unwrap(), 0);
    for (plugin, expected) in [
        ("left", (false, 0)),
        ("runs", (true, 1)),
        ("back", (true, 1)),
        ("waits", (true, 1)),
        ("later", (true, 1)),
    ] {
        assert_eq!(keeps(&bench, bench.tenant, plugin).await, expected, "{plugin}");
    }
}
