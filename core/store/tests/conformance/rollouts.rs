//! Comparisons of two revisions of a plugin, and the nodes that make them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use russet_store::{
    Activation, Actor, ComparisonReport, ComparisonSample, NewRollout, NodeRecord, RevisionId, RevisionState,
    RolloutId, RolloutPhase, StoreError,
};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::plugins::{activation, insert};

behaviours![
    a_candidate_is_compared_and_promoted,
    a_share_is_changed_without_starting_anew,
    another_candidate_takes_the_place,
    what_is_promoted_is_watched_by_what_was_before,
    going_back_ends_the_watch,
    a_quarantined_candidate_is_compared_no_longer,
    nothing_is_compared_without_an_active_revision,
    totals_are_summed_over_nodes,
    samples_are_bounded,
    a_node_reports_what_it_runs,
];

async fn used(bench: &Bench, digest: u64) -> RevisionId {
    let id = insert(bench, "gate", digest).await;
    let store = &bench.store;
    store
        .activate_revision(bench.tenant, activation(id), at(1))
        .await
        .unwrap();
    id
}

fn new(revision: RevisionId, permille: u16) -> NewRollout {
    NewRollout {
        revision,
        permille,
        gates: json!({ "min_samples": 10 }),
        automatic: false,
        force: false,
        actor: Actor::new("anna"),
    }
}

async fn state(bench: &Bench, revision: RevisionId) -> RevisionState {
    let record = bench.store.revision(bench.tenant, revision).await.unwrap();
    record.unwrap().state
}

/// An active revision and a candidate that is compared with it.
async fn compared(bench: &Bench, permille: u16) -> (RevisionId, RevisionId, RolloutId) {
    let active = used(bench, 1).await;
    let candidate = insert(bench, "gate", 2).await;
    let store = &bench.store;
    store
        .start_rollout(bench.tenant, new(candidate, permille), at(2))
        .await
        .unwrap();
    let rollout = store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    (active, candidate, rollout.id)
}

async fn a_candidate_is_compared_and_promoted(bench: Bench) {
    let (active, candidate, id) = compared(&bench, 0).await;
    let store = &bench.store;
    let set = store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!(set.generation, 2, "the nodes have to know of it");
    assert_eq!((set.revisions.len(), set.revisions[0].id), (1, active));
    let staged = &set.rollouts[0];
    assert_eq!((staged.rollout.id, staged.other.id), (id, candidate));
    assert_eq!(
        (staged.rollout.phase, staged.rollout.base, staged.rollout.other),
        (RolloutPhase::Shadow, active, candidate)
    );
    assert_eq!(staged.rollout.gates, json!({ "min_samples": 10 }));
    assert_eq!(state(&bench, candidate).await, RevisionState::Shadow);
    assert_eq!(store.open_rollouts().await.unwrap()[0].0, "default");

    store
        .activate_revision(bench.tenant, activation(candidate), at(3))
        .await
        .unwrap();
    let ended = store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_eq!(
        (ended.ended_at, ended.outcome.as_deref()),
        (Some(at(3)), Some("promoted"))
    );
    assert_eq!(state(&bench, candidate).await, RevisionState::Active);
    let set = store.active_plugins(bench.tenant).await.unwrap();
    assert!(set.rollouts.is_empty());
    assert_eq!(set.warm[0].id, active);
    assert!(matches!(
        store
            .stop_rollout(bench.tenant, "gate", Actor::new("anna"), at(4))
            .await,
        Err(StoreError::NotFound(_))
    ));
}

async fn a_share_is_changed_without_starting_anew(bench: Bench) {
    let (_, candidate, id) = compared(&bench, 0).await;
    let store = &bench.store;
    let generation = store
        .start_rollout(bench.tenant, new(candidate, 50), at(3))
        .await
        .unwrap();
    assert_eq!(generation, 3);
    let rollout = store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_eq!(
        (rollout.id, rollout.phase, rollout.permille),
        (id, RolloutPhase::Canary, 50)
    );
    assert_eq!(state(&bench, candidate).await, RevisionState::Canary);
    store
        .stop_rollout(bench.tenant, "gate", Actor::new("anna"), at(4))
        .await
        .unwrap();
    let rollout = store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_eq!(rollout.outcome.as_deref(), Some("stopped"));
    assert_eq!(state(&bench, candidate).await, RevisionState::Retired);
    assert!(
        store.active_plugins(bench.tenant).await.unwrap().warm.is_empty(),
        "it never ran"
    );
}

async fn another_candidate_takes_the_place(bench: Bench) {
    let (_, first, id) = compared(&bench, 0).await;
    let second = insert(&bench, "gate", 3).await;
    assert_eq!(state(&bench, first).await, RevisionState::Shadow, "it does not wait");
    bench
        .store
        .start_rollout(bench.tenant, new(second, 0), at(3))
        .await
        .unwrap();
    let rollout = bench.store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_ne!(rollout.id, id);
    assert_eq!(rollout.other, second);
    assert_eq!(state(&bench, first).await, RevisionState::Retired);
    assert_eq!(bench.store.open_rollouts().await.unwrap().len(), 1);
}

async fn watched(bench: &Bench) -> (RevisionId, RevisionId) {
    let (before, candidate, _) = compared(bench, 0).await;
    let promoted = Activation {
        watch: Some((at(60), json!({ "min_samples": 5 }))),
        ..activation(candidate)
    };
    bench
        .store
        .activate_revision(bench.tenant, promoted, at(3))
        .await
        .unwrap();
    (before, candidate)
}

async fn what_is_promoted_is_watched_by_what_was_before(bench: Bench) {
    let (before, promoted) = watched(&bench).await;
    let set = bench.store.active_plugins(bench.tenant).await.unwrap();
    let rollout = &set.rollouts[0].rollout;
    assert_eq!(
        (rollout.phase, rollout.base, rollout.other, rollout.watch_until),
        (RolloutPhase::Watch, promoted, before, Some(at(60)))
    );
    assert_eq!(state(&bench, before).await, RevisionState::Retired);
    bench
        .store
        .stop_rollout(bench.tenant, "gate", Actor::new("server"), at(61))
        .await
        .unwrap();
    let ended = bench.store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_eq!(ended.outcome.as_deref(), Some("kept"));
    assert_eq!(state(&bench, promoted).await, RevisionState::Active);
}

async fn going_back_ends_the_watch(bench: Bench) {
    let (before, promoted) = watched(&bench).await;
    let done = bench
        .store
        .quarantine_revision(
            bench.tenant,
            promoted,
            Actor::new("server").because("new denies"),
            at(9),
        )
        .await
        .unwrap();
    assert_eq!(done.instead, Some(before));
    let ended = bench.store.rollout(bench.tenant, "gate").await.unwrap().unwrap();
    assert_eq!(ended.outcome.as_deref(), Some("rolled-back"));
    assert_eq!(state(&bench, promoted).await, RevisionState::Quarantined);
    assert!(
        bench
            .store
            .active_plugins(bench.tenant)
            .await
            .unwrap()
            .rollouts
            .is_empty()
    );
}

async fn a_quarantined_candidate_is_compared_no_longer(bench: Bench) {
    let (active, candidate, _) = compared(&bench, 100).await;
    let done = bench
        .store
        .quarantine_revision(bench.tenant, candidate, Actor::new("server").because("faults"), at(9))
        .await
        .unwrap();
    assert_eq!((done.was_active, done.instead), (false, None));
    assert_eq!(state(&bench, candidate).await, RevisionState::Quarantined);
    assert_eq!(state(&bench, active).await, RevisionState::Active);
    assert!(matches!(
        bench.store.start_rollout(bench.tenant, new(candidate, 0), at(10)).await,
        Err(StoreError::Quarantined)
    ));
    let forced = NewRollout {
        force: true,
        ..new(candidate, 0)
    };
    bench.store.start_rollout(bench.tenant, forced, at(11)).await.unwrap();
}

async fn nothing_is_compared_without_an_active_revision(bench: Bench) {
    let waiting = insert(&bench, "gate", 1).await;
    let none = bench.store.start_rollout(bench.tenant, new(waiting, 0), at(1)).await;
    assert!(matches!(none, Err(StoreError::NotFound(_))));
    let active = used(&bench, 2).await;
    let itself = bench.store.start_rollout(bench.tenant, new(active, 0), at(2)).await;
    assert!(matches!(itself, Err(StoreError::NotFound(_))));
    assert!(bench.store.open_rollouts().await.unwrap().is_empty());
}

fn counted(rollout: RolloutId, node: &str, same: u64, samples: Vec<ComparisonSample>) -> ComparisonReport {
    ComparisonReport {
        rollout,
        node: node.to_owned(),
        totals: BTreeMap::from([("same".to_owned(), same), (format!("pair:allow>{node}"), 1)]),
        samples,
    }
}

async fn totals_are_summed_over_nodes(bench: Bench) {
    let (.., id) = compared(&bench, 0).await;
    let store = &bench.store;
    for (node, same) in [("one", 3), ("two", 4), ("one", 5)] {
        let report = counted(id, node, same, vec![]);
        store.report_comparison(bench.tenant, report.clone()).await.unwrap();
        // Written twice, it counts once.
        store.report_comparison(bench.tenant, report).await.unwrap();
    }
    let sum = store.comparison(bench.tenant, id).await.unwrap();
    assert_eq!(
        sum.totals,
        BTreeMap::from([
            ("same".to_owned(), 9),
            ("pair:allow>one".to_owned(), 1),
            ("pair:allow>two".to_owned(), 1)
        ])
    );
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.comparison(other, id).await.unwrap().totals.is_empty());
    store
        .report_comparison(other, counted(id, "three", 100, vec![]))
        .await
        .unwrap();
    store
        .stop_rollout(bench.tenant, "gate", Actor::new("anna"), at(5))
        .await
        .unwrap();
    store
        .report_comparison(bench.tenant, counted(id, "late", 100, vec![]))
        .await
        .unwrap();
    let after = store.comparison(bench.tenant, id).await.unwrap();
    assert_eq!(after, sum, "neither another tenant nor a latecomer counts");
}

async fn samples_are_bounded(bench: Bench) {
    let (.., id) = compared(&bench, 0).await;
    let sample = |number: i64| ComparisonSample {
        hook: "enrollment-gate".to_owned(),
        subject: format!("C02{number:05}\0"),
        base_verdict: "allow".to_owned(),
        other_verdict: "deny".to_owned(),
        reason: Some("not on the list".to_owned()),
        at: at(number),
    };
    for round in 0..6 {
        let samples = (0..50).map(|number| sample(round * 50 + number)).collect();
        let report = counted(id, "one", 0, samples);
        bench.store.report_comparison(bench.tenant, report).await.unwrap();
    }
    let samples = bench.store.comparison(bench.tenant, id).await.unwrap().samples;
    assert_eq!(samples.len(), 200);
    assert_eq!(samples[0].at, at(299));
    assert_eq!(samples[0].subject, "C0200299\u{fffd}");
    assert_eq!(samples[0].reason.as_deref(), Some("not on the list"));
}

fn node(id: &str, generation: u64, seen_at: Timestamp) -> NodeRecord {
    NodeRecord {
        id: id.to_owned(),
        name: format!("node-{id}"),
        generations: BTreeMap::from([("default".to_owned(), generation)]),
        started_at: at(0),
        seen_at,
    }
}

async fn a_node_reports_what_it_runs(bench: Bench) {
    let store = &bench.store;
    let within = Duration::from_secs(30);
    store.report_node(node("a", 1, at(10))).await.unwrap();
    store.report_node(node("b", 2, at(20))).await.unwrap();
    store.report_node(node("a", 2, at(30))).await.unwrap();
    let nodes = store.nodes(within, at(40)).await.unwrap();
    assert_eq!(nodes, [node("a", 2, at(30)), node("b", 2, at(20))]);
    assert_eq!(store.nodes(within, at(55)).await.unwrap(), [node("a", 2, at(30))]);
    store.forget_node("a").await.unwrap();
    assert!(store.nodes(within, at(55)).await.unwrap().is_empty());
    // After a day nothing is left of one that never said goodbye.
    store.report_node(node("c", 2, at(25 * 60 * 60))).await.unwrap();
    assert_eq!(bench.count("nodes").await, 1);
}
