//! Plugins, their revisions and the generations of a tenant's set.

use russet_store::{Activation, Actor, NewRevision, RevisionId, RevisionState, Sha256, StoreError};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    a_revision_is_stored_and_activated,
    activating_retires_the_last_one,
    what_fails_does_not_count_as_a_change,
    the_order_is_by_position,
    components_are_stored_once,
    every_step_is_kept_with_who_and_why,
    a_newer_revision_takes_the_place_of_one_that_waits,
    disabling_leaves_nothing_that_waits,
    a_pending_revision_is_granted,
    rolling_back_goes_back_step_by_step,
    a_quarantined_revision_makes_way_for_the_one_before,
    without_one_before_the_quarantined_revision_stays,
    what_is_in_quarantine_comes_back_by_force_only,
    old_revisions_and_their_components_go,
];

pub(crate) fn revision(bench: &Bench, plugin: &str, digest: Sha256) -> NewRevision {
    NewRevision {
        tenant: bench.tenant,
        plugin: plugin.to_owned(),
        version: "1.0.0".to_owned(),
        digest,
        component: Some(vec![0, 97, 115, 109]),
        manifest: json!({ "hooks": ["enrollment-gate"] }),
        settings: json!({ "serials": ["C02"] }),
        grants: json!([]),
        signature: None,
        staging: None,
        // Another one for another component; for the same, with the same settings and grants, the same.
        revision: Some(format!("{plugin}-{digest:?}")),
        steps: vec![RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed],
        actor: Actor::new("anna"),
    }
}

pub(crate) fn activation(revision: RevisionId) -> Activation {
    Activation {
        revision,
        actor: Actor::new("anna"),
        force: false,
        watch: None,
    }
}

fn because(reason: &str) -> Actor {
    Actor::new("anna").because(reason)
}

pub(crate) async fn insert(bench: &Bench, plugin: &str, digest: u64) -> RevisionId {
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
        ("gate", RevisionState::Probed, None)
    );
    assert_eq!(record.settings, json!({ "serials": ["C02"] }));
    assert_eq!(
        store
            .activate_revision(bench.tenant, activation(id), at(5))
            .await
            .unwrap(),
        1
    );
    let set = store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!((set.generation, set.revisions[0].activated_at), (1, Some(at(5))));
    assert_eq!(store.plugins(bench.tenant).await.unwrap()[0].active, Some(id));

    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.revision(other, id).await.unwrap().is_none());
    assert!(matches!(
        store.activate_revision(other, activation(id), at(6)).await,
        Err(StoreError::NotFound(_))
    ));
    assert_eq!(store.plugin_generation(other).await.unwrap(), 0);
}

async fn activating_retires_the_last_one(bench: Bench) {
    let store = &bench.store;
    let old = insert(&bench, "gate", 1).await;
    store
        .activate_revision(bench.tenant, activation(old), at(1))
        .await
        .unwrap();
    let new = insert(&bench, "gate", 2).await;
    assert_eq!(
        store
            .activate_revision(bench.tenant, activation(new), at(2))
            .await
            .unwrap(),
        2
    );
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
    assert_eq!(
        store
            .activate_revision(bench.tenant, activation(old), at(3))
            .await
            .unwrap(),
        3
    );
    assert_eq!(active(&bench).await, (3, vec![old]));
    assert_eq!(
        store
            .disable_plugin(bench.tenant, "gate", because("by hand"), at(4))
            .await
            .unwrap(),
        4
    );
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
    store
        .activate_revision(bench.tenant, activation(good), at(1))
        .await
        .unwrap();
    let bad = insert(&bench, "gate", 2).await;
    store
        .reject_revision(bench.tenant, bad, because("asks for network"), at(2))
        .await
        .unwrap();
    let record = store.revision(bench.tenant, bad).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref()),
        (RevisionState::Rejected, Some("asks for network"))
    );

    assert!(matches!(
        store.activate_revision(bench.tenant, activation(bad), at(2)).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(
        store
            .activate_revision(bench.tenant, activation(RevisionId(4711)), at(2))
            .await
            .is_err()
    );
    assert!(
        store
            .disable_plugin(bench.tenant, "nothing", because("by hand"), at(4))
            .await
            .is_err()
    );
    assert!(store.set_plugin_position(bench.tenant, "nothing", 1).await.is_err());
    assert!(
        store
            .reject_revision(bench.tenant, good, because("too late"), at(3))
            .await
            .is_err()
    );
    assert_eq!(active(&bench).await, (1, vec![good]));
}

async fn the_order_is_by_position(bench: Bench) {
    let mut ids = Vec::new();
    for (digest, name) in ["first", "second", "third"].into_iter().enumerate() {
        let id = insert(&bench, name, digest as u64).await;
        bench
            .store
            .activate_revision(bench.tenant, activation(id), at(1))
            .await
            .unwrap();
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

/// Uploads and activates, and returns the revision.
async fn used(bench: &Bench, digest: u64) -> RevisionId {
    let id = insert(bench, "gate", digest).await;
    bench
        .store
        .activate_revision(bench.tenant, activation(id), at(1))
        .await
        .unwrap();
    id
}

async fn states(bench: &Bench) -> Vec<(RevisionId, RevisionState)> {
    let revisions = bench.store.revisions(bench.tenant, "gate").await.unwrap();
    revisions.iter().map(|record| (record.id, record.state)).collect()
}

async fn every_step_is_kept_with_who_and_why(bench: Bench) {
    let id = used(&bench, 1).await;
    bench
        .store
        .disable_plugin(bench.tenant, "gate", because("a drill"), at(9))
        .await
        .unwrap();
    let events = bench.store.revision_events(bench.tenant, "gate", 100).await.unwrap();
    let steps: Vec<&str> = events.iter().rev().map(|event| event.to.as_str()).collect();
    assert_eq!(
        steps,
        ["pending", "verified", "compiled", "probed", "active", "retired"]
    );
    let last = &events[0];
    assert_eq!((last.revision, last.from), (id, Some(RevisionState::Active)));
    assert_eq!((last.actor.as_str(), last.reason.as_deref()), ("anna", Some("a drill")));
    assert_eq!((last.at, last.version.as_str()), (at(9), "1.0.0"));
    assert_eq!(
        bench
            .store
            .revision_events(bench.tenant, "gate", 2)
            .await
            .unwrap()
            .len(),
        2
    );
    let other = bench.store.create_tenant("other", at(0)).await.unwrap();
    assert!(
        bench
            .store
            .revision_events(other, "gate", 100)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_newer_revision_takes_the_place_of_one_that_waits(bench: Bench) {
    let active = used(&bench, 1).await;
    let waiting = insert(&bench, "gate", 2).await;
    let newer = insert(&bench, "gate", 3).await;
    assert_eq!(
        states(&bench).await,
        [
            (newer, RevisionState::Probed),
            (waiting, RevisionState::Rejected),
            (active, RevisionState::Active)
        ]
    );
    // One that is only noted as rejected takes nobody's place.
    let mut rejected = revision(&bench, "gate", sha256(4));
    rejected.steps = vec![RevisionState::Rejected];
    rejected.component = None;
    bench.store.insert_revision(rejected, at(3)).await.unwrap();
    assert_eq!(states(&bench).await[1], (newer, RevisionState::Probed));
    assert_eq!(
        bench.store.plugin_component(bench.tenant, &sha256(4)).await.unwrap(),
        None
    );
}

async fn disabling_leaves_nothing_that_waits(bench: Bench) {
    let active = used(&bench, 1).await;
    let waiting = insert(&bench, "gate", 2).await;
    bench
        .store
        .disable_plugin(bench.tenant, "gate", because("by hand"), at(3))
        .await
        .unwrap();
    assert_eq!(
        states(&bench).await,
        [(waiting, RevisionState::Rejected), (active, RevisionState::Retired)]
    );
}

async fn a_pending_revision_is_granted(bench: Bench) {
    let mut pending = revision(&bench, "gate", sha256(1));
    (pending.steps, pending.revision) = (vec![], None);
    pending.staging = Some(json!({ "compare": { "permille": 50 } }));
    let id = bench.store.insert_revision(pending.clone(), at(0)).await.unwrap();
    let grant = |grants, probed: Option<&str>| {
        let probed = probed.map(str::to_owned);
        bench
            .store
            .grant_revision(bench.tenant, id, grants, probed, because("asked for"), at(2))
    };
    grant(json!({ "capabilities": ["log.write"] }), None).await.unwrap();
    assert_eq!(states(&bench).await, [(id, RevisionState::Pending)]);
    grant(json!({ "capabilities": [] }), Some("r1")).await.unwrap();
    let record = bench.store.revision(bench.tenant, id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.revision.as_deref()),
        (RevisionState::Probed, Some("r1"))
    );
    assert_eq!(record.grants, json!({ "capabilities": [] }));
    assert_eq!(record.staging, pending.staging);
    assert!(
        grant(json!({}), None).await.is_err(),
        "only what is pending waits for grants"
    );
}

async fn rolling_back_goes_back_step_by_step(bench: Bench) {
    let (first, second, third) = (used(&bench, 1).await, used(&bench, 2).await, used(&bench, 3).await);
    let back = || {
        bench
            .store
            .rollback_plugin(bench.tenant, "gate", because("worse"), at(5))
    };
    let warm = async || bench.store.active_plugins(bench.tenant).await.unwrap().warm;
    assert_eq!(warm().await[0].id, second);
    assert_eq!(back().await.unwrap().0, second);
    assert_eq!(warm().await[0].id, first);
    assert_eq!(back().await.unwrap().0, first);
    assert!(warm().await.is_empty());
    assert!(matches!(back().await, Err(StoreError::NotFound(_))));
    // What was gone back from is nothing to go back to, and can be activated anew.
    bench
        .store
        .activate_revision(bench.tenant, activation(third), at(1))
        .await
        .unwrap();
    assert_eq!(back().await.unwrap().0, first);
}

async fn a_quarantined_revision_makes_way_for_the_one_before(bench: Bench) {
    let (first, second) = (used(&bench, 1).await, used(&bench, 2).await);
    let quarantine = || {
        bench
            .store
            .quarantine_revision(bench.tenant, second, because("it traps"), at(5))
    };
    let done = quarantine().await.unwrap();
    assert_eq!((done.was_active, done.instead), (true, Some(first)));
    assert_eq!(active(&bench).await, (done.generation, vec![first]));
    assert_eq!(
        states(&bench).await,
        [(second, RevisionState::Quarantined), (first, RevisionState::Active)]
    );
    let again = quarantine().await.unwrap();
    assert_eq!((again.was_active, again.instead), (false, None));
    assert_eq!(active(&bench).await.1, [first]);
}

async fn without_one_before_the_quarantined_revision_stays(bench: Bench) {
    let only = used(&bench, 1).await;
    // The same component with the same settings and grants would fail the same.
    let same = used(&bench, 1).await;
    let done = bench
        .store
        .quarantine_revision(bench.tenant, same, because("it traps"), at(5))
        .await
        .unwrap();
    assert_eq!((done.was_active, done.instead), (true, None));
    let set = bench.store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!(set.revisions.len(), 1, "its hooks have to fail");
    assert_eq!(
        (set.revisions[0].id, set.revisions[0].state),
        (same, RevisionState::Quarantined)
    );
    assert_eq!(set.revisions[0].reason.as_deref(), Some("it traps"));
    // Until something else is used, or the plugin is disabled.
    let other = used(&bench, 2).await;
    assert_eq!(active(&bench).await.1, [other]);
    bench
        .store
        .quarantine_revision(bench.tenant, other, because("it traps too"), at(6))
        .await
        .unwrap();
    bench
        .store
        .disable_plugin(bench.tenant, "gate", because("enough"), at(7))
        .await
        .unwrap();
    assert_eq!(active(&bench).await.1, []);
    assert!(states(&bench).await.contains(&(only, RevisionState::Retired)));
}

async fn what_is_in_quarantine_comes_back_by_force_only(bench: Bench) {
    used(&bench, 1).await;
    let bad = used(&bench, 2).await;
    bench
        .store
        .quarantine_revision(bench.tenant, bad, because("it traps"), at(5))
        .await
        .unwrap();
    let like_it = insert(&bench, "gate", 2).await;
    for id in [bad, like_it] {
        assert!(matches!(
            bench.store.activate_revision(bench.tenant, activation(id), at(6)).await,
            Err(StoreError::Quarantined)
        ));
    }
    let forced = Activation {
        force: true,
        ..activation(bad)
    };
    bench
        .store
        .activate_revision(bench.tenant, forced, at(7))
        .await
        .unwrap();
    assert_eq!(active(&bench).await.1, [bad]);
}

async fn old_revisions_and_their_components_go(bench: Bench) {
    let mut last = RevisionId(0);
    for digest in 1..=20 {
        last = used(&bench, digest).await;
    }
    let states = states(&bench).await;
    assert_eq!(states.len(), 6, "the active one and five to go back to");
    assert_eq!(states[0], (last, RevisionState::Active));
    for digest in 1..=14 {
        let component = bench.store.plugin_component(bench.tenant, &sha256(digest)).await;
        assert_eq!(component.unwrap(), None, "component {digest}");
    }
    assert_eq!(bench.count("plugin_components").await, 6);
    // What happened is still known.
    let events = bench.store.revision_events(bench.tenant, "gate", 1_000).await.unwrap();
    assert_eq!(
        events.iter().filter(|event| event.to == RevisionState::Active).count(),
        20
    );
}
