//! Scheduled work: due at its time, run by one node at a time, and gone with its plugin. And leases.

use russet_store::{
    AfterFailure, AfterRun, EffectAction, ManifestSchedule, NewCall, NewDecision, NewEffect, ScheduleOrigin,
};
use uuid::Uuid;

use crate::bench::{Bench, at};

crate::behaviours! {
    a_lease_has_one_holder,
    schedules_come_again,
    a_changed_schedule_begins_anew,
    calls_are_scheduled_by_effects,
    work_is_run_by_one_node,
    failed_work_is_tried_again,
    work_goes_with_its_plugin,
}

async fn a_lease_has_one_holder(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(store.lease("work", one, at(10), at(0)).await.unwrap());
    assert!(!store.lease("work", two, at(10), at(5)).await.unwrap());
    assert!(store.lease("other", two, at(10), at(5)).await.unwrap());
    assert!(
        store.lease("work", one, at(20), at(9)).await.unwrap(),
        "its holder prolongs it"
    );
    assert!(!store.lease("work", two, at(30), at(19)).await.unwrap());
    assert!(
        store.lease("work", two, at(30), at(20)).await.unwrap(),
        "its time is over"
    );
    store.release_lease("work", one).await.unwrap();
    assert!(
        !store.lease("work", one, at(40), at(21)).await.unwrap(),
        "only its holder gives it back"
    );
    store.release_lease("work", two).await.unwrap();
    assert!(store.lease("work", one, at(40), at(21)).await.unwrap());
}

fn schedule(name: &str, rule: &str, seconds: i64) -> ManifestSchedule {
    ManifestSchedule {
        plugin: "clock".to_owned(),
        name: name.to_owned(),
        rule: rule.to_owned(),
        next: at(seconds),
    }
}

async fn seen(bench: &Bench, schedules: Vec<ManifestSchedule>, seconds: i64) {
    let plugins = vec!["clock".to_owned()];
    bench
        .store
        .schedules_seen(bench.tenant, plugins, schedules, at(seconds))
        .await
        .unwrap();
}

pub(crate) fn decision(bench: &Bench, effects: Vec<NewEffect>) -> Vec<NewDecision> {
    vec![NewDecision {
        hook: "scheduled".to_owned(),
        plugin: Some("clock".to_owned()),
        effects,
        ..bench.decision("ran")
    }]
}

pub(crate) fn call(name: &str, seconds: i64, payload: &str) -> NewEffect {
    NewEffect {
        enrollment: None,
        action: EffectAction::ScheduleCall(NewCall {
            name: name.to_owned(),
            at: at(seconds),
            payload: payload.to_owned(),
            depth: 1,
        }),
    }
}

async fn schedules_come_again(bench: Bench) {
    let store = &bench.store;
    seen(&bench, vec![schedule("sweep", "every minute", 60)], 0).await;
    assert!(store.schedules_claim(10, at(90), at(59)).await.unwrap().is_empty());
    assert_eq!(store.schedules_next_due().await.unwrap(), Some(at(60)));
    // The server was away for hours: it is made up for once.
    seen(&bench, vec![schedule("sweep", "every minute", 9_060)], 9_000).await;
    let mut jobs = store.schedules_claim(10, at(9_100), at(9_000)).await.unwrap();
    assert_eq!(jobs.len(), 1);
    let job = jobs.remove(0);
    assert_eq!((job.work.due_at, job.work.origin), (at(60), ScheduleOrigin::Manifest));
    assert!(
        store
            .schedule_done(&job, AfterRun::Next(at(9_060)), decision(&bench, vec![]), at(9_001))
            .await
            .unwrap()
    );
    assert!(
        store
            .schedules_claim(10, at(9_100), at(9_059))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.schedules_claim(10, at(9_100), at(9_060)).await.unwrap().len(), 1);
    assert_eq!(
        store.decisions(bench.tenant, None, None, 10).await.unwrap().items[0].verdict,
        "ran"
    );
}

async fn a_changed_schedule_begins_anew(bench: Bench) {
    let store = &bench.store;
    seen(
        &bench,
        vec![schedule("sweep", "every minute", 60), schedule("report", "daily", 600)],
        0,
    )
    .await;
    seen(&bench, vec![schedule("sweep", "every hour", 3_600)], 10).await;
    let all = store.schedules(bench.tenant).await.unwrap();
    let all: Vec<_> = all
        .iter()
        .map(|one| (one.name.as_str(), one.rule.as_str(), one.due_at))
        .collect();
    assert_eq!(all, [("sweep", "every hour", at(3_600))]);
}

async fn calls_are_scheduled_by_effects(bench: Bench) {
    let store = &bench.store;
    let effects = vec![
        call("later", 100, "one"),
        call("later", 50, "two"),
        call("also", 70, "three"),
    ];
    store
        .record_decisions(bench.tenant, decision(&bench, effects), at(1))
        .await
        .unwrap();
    let jobs = store.schedules_claim(10, at(90), at(60)).await.unwrap();
    let [job] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((job.work.name.as_str(), job.work.payload.as_str()), ("later", "two"));
    assert_eq!((job.work.origin, job.work.depth), (ScheduleOrigin::Effect, 1));
    // The work schedules itself again.
    let again = decision(&bench, vec![call("later", 200, "four")]);
    assert!(store.schedule_done(job, AfterRun::Over, again, at(61)).await.unwrap());
    let all = store.schedules(bench.tenant).await.unwrap();
    let all: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.due_at)).collect();
    assert_eq!(all, [("also", at(70)), ("later", at(200))]);
    // A manifest's schedule of the same name is something else.
    seen(&bench, vec![schedule("later", "every hour", 3_600)], 70).await;
    assert_eq!(store.schedules(bench.tenant).await.unwrap().len(), 3);
}

async fn work_is_run_by_one_node(bench: Bench) {
    let store = &bench.store;
    let other = bench.reopen(&crate::bench::master()).await.unwrap();
    let effects = (0..20).map(|number| call(&format!("n{number}"), 10, "")).collect();
    store
        .record_decisions(bench.tenant, decision(&bench, effects), at(1))
        .await
        .unwrap();
    let (one, two) = futures::future::join(
        store.schedules_claim(15, at(100), at(20)),
        other.schedules_claim(15, at(100), at(20)),
    )
    .await;
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut names: Vec<_> = one.iter().chain(&two).map(|job| job.work.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), one.len() + two.len(), "no work is in two hands");
    // A node that dies lets go when its lease ends; what it does after that is not done.
    let lost = one.into_iter().chain(two).next().unwrap();
    let again = other.schedules_claim(100, at(300), at(200)).await.unwrap();
    assert_eq!(again.len(), 20);
    let effect = decision(&bench, vec![call("extra", 500, "")]);
    assert!(
        !store
            .schedule_done(&lost, AfterRun::Over, effect, at(201))
            .await
            .unwrap()
    );
    assert_eq!(store.schedules(bench.tenant).await.unwrap().len(), 20);
    other.close().await.unwrap();
}

async fn failed_work_is_tried_again(bench: Bench) {
    let store = &bench.store;
    store
        .record_decisions(bench.tenant, decision(&bench, vec![call("later", 10, "")]), at(1))
        .await
        .unwrap();
    let mut jobs = store.schedules_claim(10, at(60), at(10)).await.unwrap();
    let job = jobs.remove(0);
    store
        .schedule_failed(&job, AfterFailure::Retry(at(30)), "trap: boom", vec![], at(11))
        .await
        .unwrap();
    assert!(store.schedules_claim(10, at(60), at(29)).await.unwrap().is_empty());
    let job = store.schedules_claim(10, at(60), at(30)).await.unwrap().remove(0);
    assert_eq!((job.work.attempts, job.work.due_at), (1, at(10)));
    assert_eq!(job.work.error.as_deref(), Some("trap: boom"));
    store
        .schedule_failed(&job, AfterFailure::Wait(at(31)), "quarantined", vec![], at(30))
        .await
        .unwrap();
    let job = store.schedules_claim(10, at(60), at(31)).await.unwrap().remove(0);
    assert_eq!(job.work.attempts, 1, "what was not asked was not tried");
    store
        .schedule_failed(&job, AfterFailure::Park, "trap: boom", vec![], at(31))
        .await
        .unwrap();
    assert!(
        store
            .schedules_claim(10, at(5_000), at(4_000))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.schedules_next_due().await.unwrap(), None);
    let shown = store.schedules(bench.tenant).await.unwrap().remove(0);
    assert_eq!((shown.parked_at, shown.attempts), (Some(at(31)), 2));
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(!store.run_schedule(other, shown.id, at(4_000)).await.unwrap());
    assert!(!store.drop_schedule(other, shown.id).await.unwrap());
    assert!(store.run_schedule(bench.tenant, shown.id, at(4_000)).await.unwrap());
    assert_eq!(
        store.schedules_claim(10, at(5_000), at(4_000)).await.unwrap()[0]
            .work
            .attempts,
        0
    );
    assert!(store.drop_schedule(bench.tenant, shown.id).await.unwrap());
}

async fn work_goes_with_its_plugin(bench: Bench) {
    let store = &bench.store;
    seen(&bench, vec![schedule("sweep", "every minute", 60)], 0).await;
    store
        .record_decisions(bench.tenant, decision(&bench, vec![call("later", 100, "")]), at(1))
        .await
        .unwrap();
    seen(&bench, vec![schedule("sweep", "every minute", 60)], 1_000).await;
    assert_eq!(
        store.forget_schedules(at(1_000)).await.unwrap(),
        0,
        "a node had the plugin a moment ago"
    );
    assert_eq!(store.schedules(bench.tenant).await.unwrap().len(), 2);
    assert_eq!(store.forget_schedules(at(5_000)).await.unwrap(), 2);
}
