//! Publishers of plugins, the signatures of revisions, and the versions that were in use.

use russet_store::{Activation, Actor, NewPublisher, NewRevision, RevisionId, StoreError, TenantId};
use serde_json::{Value, json};

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    a_publisher_is_trusted_by_its_tenant_alone,
    a_name_and_a_key_are_trusted_once,
    a_revision_keeps_its_signature,
    only_what_was_in_use_counts_as_past,
    what_was_gone_back_from_counts_as_past,
];

fn publisher(tenant: TenantId, name: &str, key: u8) -> NewPublisher {
    NewPublisher {
        tenant,
        name: name.to_owned(),
        public_key: [key; 32],
        plugins: vec!["gate".to_owned(), "people".to_owned()],
        added_by: "ada".to_owned(),
    }
}

async fn names(bench: &Bench, tenant: TenantId) -> Vec<String> {
    let publishers = bench.store.publishers(tenant).await.unwrap();
    publishers.into_iter().map(|publisher| publisher.name).collect()
}

async fn a_publisher_is_trusted_by_its_tenant_alone(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    store
        .add_publisher(publisher(bench.tenant, "orchard", 1), at(1))
        .await
        .unwrap();
    store
        .add_publisher(publisher(bench.tenant, "acme", 2), at(2))
        .await
        .unwrap();
    let stored = store.publishers(bench.tenant).await.unwrap();
    assert_eq!(stored[1].public_key, [1; 32]);
    assert_eq!(stored[1].plugins, ["gate", "people"]);
    assert_eq!((stored[1].added_by.as_str(), stored[1].added_at), ("ada", at(1)));
    assert_eq!(names(&bench, bench.tenant).await, ["acme", "orchard"]);
    assert!(names(&bench, other).await.is_empty());

    assert!(matches!(
        store.remove_publisher(other, "acme").await,
        Err(StoreError::NotFound(_))
    ));
    store.remove_publisher(bench.tenant, "acme").await.unwrap();
    assert_eq!(names(&bench, bench.tenant).await, ["orchard"]);
    assert!(store.remove_publisher(bench.tenant, "acme").await.is_err());
}

async fn a_name_and_a_key_are_trusted_once(bench: Bench) {
    let store = &bench.store;
    store
        .add_publisher(publisher(bench.tenant, "acme", 1), at(1))
        .await
        .unwrap();
    for again in [publisher(bench.tenant, "acme", 2), publisher(bench.tenant, "other", 1)] {
        assert!(matches!(
            store.add_publisher(again, at(2)).await,
            Err(StoreError::Exists(_))
        ));
    }
    let other = store.create_tenant("other", at(0)).await.unwrap();
    store.add_publisher(publisher(other, "acme", 1), at(3)).await.unwrap();
    assert_eq!(names(&bench, bench.tenant).await, ["acme"]);
}

async fn insert(bench: &Bench, version: &str, digest: u64, signature: Option<Value>) -> RevisionId {
    let revision = NewRevision {
        tenant: bench.tenant,
        plugin: "gate".to_owned(),
        version: version.to_owned(),
        digest: sha256(digest),
        component: Some(vec![0, 97, 115, 109]),
        manifest: json!({}),
        settings: json!({}),
        grants: json!({}),
        signature,
        staging: None,
        revision: None,
        steps: Vec::new(),
        actor: Actor::new("ada"),
    };
    bench.store.insert_revision(revision, at(0)).await.unwrap()
}

async fn activate(bench: &Bench, revision: RevisionId, second: i64) {
    let activation = Activation {
        revision,
        actor: Actor::new("ada"),
        force: false,
        watch: None,
    };
    bench
        .store
        .activate_revision(bench.tenant, activation, at(second))
        .await
        .unwrap();
}

async fn a_revision_keeps_its_signature(bench: Bench) {
    let signature = json!({"status": "signed", "publisher": "acme"});
    let signed = insert(&bench, "1.0.0", 1, Some(signature.clone())).await;
    let unknown = insert(&bench, "1.0.0", 2, None).await;
    let read = async |id| bench.store.revision(bench.tenant, id).await.unwrap().unwrap().signature;
    assert_eq!(read(signed).await, Some(signature));
    assert_eq!(read(unknown).await, None);
}

async fn only_what_was_in_use_counts_as_past(bench: Bench) {
    let store = &bench.store;
    let signature = json!({"content": "abc"});
    let first = insert(&bench, "1.2.0", 1, Some(signature.clone())).await;
    activate(&bench, first, 1).await;
    let second = insert(&bench, "1.1.0", 2, None).await;
    activate(&bench, second, 2).await;
    insert(&bench, "3.0.0", 3, None).await;
    store
        .disable_plugin(bench.tenant, "gate", Actor::new("ada"), at(3))
        .await
        .unwrap();
    let used = store.used_versions(bench.tenant, "gate").await.unwrap();
    let versions: Vec<_> = used.iter().map(|used| used.version.as_str()).collect();
    assert_eq!(versions, ["1.1.0", "1.2.0"]);
    assert_eq!((used[1].digest, &used[1].signature), (sha256(1), &Some(signature)));
    assert!(store.used_versions(bench.tenant, "people").await.unwrap().is_empty());
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.used_versions(other, "gate").await.unwrap().is_empty());

    // Also when so many came after it that the revision itself is gone.
    for number in 0_u32..20 {
        let version = format!("1.0.{number}");
        let id = insert(&bench, &version, 100 + u64::from(number), None).await;
        activate(&bench, id, 10 + i64::from(number)).await;
    }
    assert!(store.revision(bench.tenant, first).await.unwrap().is_none());
    let used = store.used_versions(bench.tenant, "gate").await.unwrap();
    assert!(
        used.iter()
            .any(|used| used.version == "1.2.0" && used.digest == sha256(1))
    );
}

async fn what_was_gone_back_from_counts_as_past(bench: Bench) {
    let store = &bench.store;
    let signature = |content: &str| Some(json!({ "content": content }));
    for (version, digest) in [("1.0.0", 1), ("2.0.0", 2)] {
        let revision = insert(&bench, version, digest, signature(version)).await;
        activate(&bench, revision, i64::try_from(digest).unwrap()).await;
    }
    store
        .rollback_plugin(bench.tenant, "gate", Actor::new("ada"), at(3))
        .await
        .unwrap();
    let used = store.used_versions(bench.tenant, "gate").await.unwrap();
    let used: Vec<_> = used.into_iter().map(|used| (used.version, used.signature)).collect();
    assert_eq!(
        used,
        [
            ("1.0.0".to_owned(), signature("1.0.0")),
            ("2.0.0".to_owned(), signature("2.0.0"))
        ]
    );
}
