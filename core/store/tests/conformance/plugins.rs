//! Plugins, their revisions and the generations of a tenant's set.

use russet_store::{NewRevision, RevisionId, RevisionState, Sha256, StoreError};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    a_revision_is_stored_and_activated,
    activating_retires_the_last_one,
    what_fails_does_not_count_as_a_change,
    the_order_is_by_position,
    components_are_stored_once,
];

fn revision(bench: &Bench, plugin: &str, digest: Sha256) -> NewRevision {
    NewRevision {
        tenant: bench.tenant,
        plugin: plugin.to_owned(),
        version: "1.0.0".to_owned(),
        digest,
        component: vec![0, 97, 115, 109],
        manifest: json!({ "hooks": ["enrollment-gate"] }),
        settings: json!({ "serials": ["C02"] }),
        grants: json!([]),
    }
}

async fn insert(bench: &Bench, plugin: &str, digest: u64) -> RevisionId {
    bench
        .store
        .insert_revision(revision(bench, plugin, sha256(digest)), at(0))
        .await
        .unwrap()
}

async fn active(bench: &Bench) -> (i64, Vec<RevisionId>) {
    let set = bench.store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!(
        bench.store.plugin_generation(bench.tenant).await.unwrap(),
        set.generation
    );
    (
        set.generation,
        set.revisions.into_iter().map(|revision| revision.id).collect(),
    )
}

async fn a_revision_is_stored_and_activated(bench: Bench) {
    let store = &bench.store;
    assert_eq!(active(&bench).await, (0, vec![]));
    let id = insert(&bench, "gate", 1).await;
    assert_eq!(active(&bench).await, (0, vec![]));
    let record = store.revision(bench.tenant, id).await.unwrap().unwrap();
    assert_eq!(
        (record.plugin.as_str(), record.state, record.activated_at),
        ("gate", RevisionState::Pending, None)
    );
    assert_eq!(record.settings, json!({ "serials": ["C02"] }));
    assert_eq!(store.activate_revision(bench.tenant, id, at(5)).await.unwrap(), 1);
    let set = store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!((set.generation, set.revisions[0].activated_at), (1, Some(at(5))));
    assert_eq!(store.plugins(bench.tenant).await.unwrap()[0].active, Some(id));

    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.revision(other, id).await.unwrap().is_none());
    assert!(matches!(
        store.activate_revision(other, id, at(6)).await,
        Err(StoreError::NotFound(_))
    ));
    assert_eq!(store.plugin_generation(other).await.unwrap(), 0);
}

async fn activating_retires_the_last_one(bench: Bench) {
    let store = &bench.store;
    let old = insert(&bench, "gate", 1).await;
    let new = insert(&bench, "gate", 2).await;
    store.activate_revision(bench.tenant, old, at(1)).await.unwrap();
    assert_eq!(store.activate_revision(bench.tenant, new, at(2)).await.unwrap(), 2);
    assert_eq!(active(&bench).await, (2, vec![new]));
    let states: Vec<_> = store
        .revisions(bench.tenant, "gate")
        .await
        .unwrap()
        .iter()
        .map(|r| (r.id, r.state))
        .collect();
    assert_eq!(states, [(new, RevisionState::Active), (old, RevisionState::Retired)]);
    // And back.
    assert_eq!(store.activate_revision(bench.tenant, old, at(3)).await.unwrap(), 3);
    assert_eq!(active(&bench).await, (3, vec![old]));
    assert_eq!(store.disable_plugin(bench.tenant, "gate", "by hand").await.unwrap(), 4);
    assert_eq!(active(&bench).await, (4, vec![]));
    let record = store.revision(bench.tenant, old).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref()),
        (RevisionState::Retired, Some("by hand"))
    );
}

async fn what_fails_does_not_count_as_a_change(bench: Bench) {
    let store = &bench.store;
    let good = insert(&bench, "gate", 1).await;
    let bad = insert(&bench, "gate", 2).await;
    store.activate_revision(bench.tenant, good, at(1)).await.unwrap();
    store
        .reject_revision(bench.tenant, bad, "asks for network")
        .await
        .unwrap();
    let record = store.revision(bench.tenant, bad).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref()),
        (RevisionState::Rejected, Some("asks for network"))
    );

    assert!(matches!(
        store.activate_revision(bench.tenant, bad, at(2)).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(
        store
            .activate_revision(bench.tenant, RevisionId(4711), at(2))
            .await
            .is_err()
    );
    assert!(store.disable_plugin(bench.tenant, "nothing", "by hand").await.is_err());
    assert!(store.set_plugin_position(bench.tenant, "nothing", 1).await.is_err());
    assert!(store.reject_revision(bench.tenant, good, "too late").await.is_err());
    assert_eq!(active(&bench).await, (1, vec![good]));
}

async fn the_order_is_by_position(bench: Bench) {
    let mut ids = Vec::new();
    for (digest, name) in ["first", "second", "third"].into_iter().enumerate() {
        let id = insert(&bench, name, digest as u64).await;
        bench.store.activate_revision(bench.tenant, id, at(1)).await.unwrap();
        ids.push(id);
    }
    assert_eq!(active(&bench).await, (3, ids.clone()));
    assert_eq!(
        bench.store.set_plugin_position(bench.tenant, "third", 0).await.unwrap(),
        4
    );
    assert_eq!(active(&bench).await, (4, vec![ids[2], ids[0], ids[1]]));
    let names: Vec<_> = bench
        .store
        .plugins(bench.tenant)
        .await
        .unwrap()
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert_eq!(names, ["third", "first", "second"]);
}

async fn components_are_stored_once(bench: Bench) {
    let store = &bench.store;
    insert(&bench, "gate", 1).await;
    // The same component with other settings is another revision.
    let mut again = revision(&bench, "gate", sha256(1));
    again.settings = json!({});
    store.insert_revision(again, at(1)).await.unwrap();
    assert_eq!(store.revisions(bench.tenant, "gate").await.unwrap().len(), 2);
    let component = store.plugin_component(bench.tenant, &sha256(1)).await.unwrap();
    assert_eq!(component.as_deref(), Some(&[0, 97, 115, 109][..]));
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.plugin_component(other, &sha256(1)).await.unwrap(), None);
}
