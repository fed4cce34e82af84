//! A clock that was ahead by days and was set right: nothing waits for the time before. And leases of a server that ended.

use std::collections::BTreeMap;

use russet_store::{
    AfterFailure, EnrollmentId, EnrollmentLookup, ManifestSchedule, NewCommand, NodeRecord, Poll, ReportStatus, Store,
};
use uuid::Uuid;

use crate::bench::{Bench, Settle, at, master};
use crate::events::{UPDATED, failed, next, observe, taken, update, watched};
use crate::queue::report;
use crate::schedules::{call, decision};

crate::behaviours! {
    what_rested_while_the_clock_was_ahead_is_offered,
    what_was_deferred_while_the_clock_was_ahead_is_offered,
    waves_that_began_while_the_clock_was_ahead_begin_now,
    pushes_of_a_clock_that_was_ahead_are_due,
    a_push_that_was_under_way_is_settled_by_the_right_clock,
    plans_events_and_schedules_of_a_clock_that_was_ahead_are_due,
    leases_of_a_clock_that_was_ahead_end,
    the_next_server_knows_that_a_clock_was_ahead,
    a_clock_that_was_set_forward_is_known_at_once,
    clocks_that_differ_a_little_are_right,
    a_device_was_not_seen_in_the_future,
    many_devices_are_looked_through_in_lots,
    a_server_that_ended_has_nothing_in_its_hands,
}

/// By how much the clock is ahead.
const AHEAD: i64 = 10 * 24 * 3600;

async fn reports(store: &Store, id: &str, seconds: i64) {
    let node = NodeRecord {
        id: id.to_owned(),
        name: id.to_owned(),
        generations: BTreeMap::new(),
        started_at: at(0),
        seen_at: at(seconds),
    };
    store.report_node(node).await.unwrap();
}

/// The server reports by a clock that is ahead, and by the right one.
async fn set_right(bench: &Bench, seconds: i64) {
    reports(&bench.store, "one", AHEAD).await;
    reports(&bench.store, "one", seconds).await;
    assert!(bench.store.follow_clock(at(seconds)).await.unwrap());
    assert!(!bench.store.follow_clock(at(seconds)).await.unwrap(), "it is over");
}

async fn idle(bench: &Bench, id: EnrollmentId, seconds: i64) -> Option<Uuid> {
    let next = bench.store.next(id, at(seconds), Poll::Idle).await.unwrap();
    next.map(|delivery| delivery.uuid)
}

async fn pushed(store: &Store, seconds: i64) -> Vec<EnrollmentId> {
    let claimed = store.push_claim(100, at(seconds + 30), at(seconds)).await;
    let mut pushed: Vec<_> = claimed.unwrap().iter().map(|job| job.enrollment).collect();
    pushed.sort();
    pushed
}

async fn what_rested_while_the_clock_was_ahead_is_offered(bench: Bench) {
    let (id, other) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let deaf = bench.queued(id, "RemoveProfile").await;
    let right = bench.queued(other, "RemoveProfile").await;
    for seconds in [10, 11] {
        assert_eq!(idle(&bench, other, seconds).await, Some(right));
        assert_eq!(idle(&bench, id, AHEAD + seconds).await, Some(deaf));
    }
    // It rests for a minute by that clock, and is offered by the right one, once.
    assert_eq!(idle(&bench, id, AHEAD + 12).await, None);
    assert_eq!(idle(&bench, id, 20).await, None);
    set_right(&bench, 20).await;
    assert_eq!(idle(&bench, id, 20).await, Some(deaf));
    assert_eq!(idle(&bench, id, 20).await, None);
    assert_eq!(idle(&bench, other, 20).await, None, "it rests by the right clock");

    for seconds in 600..604 {
        assert_eq!(idle(&bench, id, AHEAD + seconds).await, Some(deaf));
        let not_now = report(deaf, ReportStatus::NotNow);
        bench.store.report(id, not_now, at(AHEAD + seconds)).await.unwrap();
    }
    assert_eq!(idle(&bench, id, AHEAD + 605).await, None);
    assert_eq!(idle(&bench, id, 30).await, None);
    set_right(&bench, 30).await;
    assert_eq!(idle(&bench, id, 30).await, Some(deaf));
    assert_eq!(idle(&bench, id, 30).await, None);
}

async fn what_was_deferred_while_the_clock_was_ahead_is_offered(bench: Bench) {
    let (id, other) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let uuid = bench.queued(id, "InstallProfile").await;
    let taken = bench.store.next(id, at(AHEAD), Poll::Idle).await.unwrap().unwrap();
    let until = at(AHEAD + 300);
    bench.store.defer(taken.entry, "not yet", until).await.unwrap();
    let later = NewCommand {
        not_before: Some(at(AHEAD)),
        ..bench.command("RestartDevice")
    };
    bench.store.enqueue(later, vec![other], at(19)).await.unwrap();
    set_right(&bench, 20).await;
    assert_eq!(pushed(&bench.store, 20).await, [id], "it is woken for it");
    assert_eq!(idle(&bench, id, 20).await, Some(uuid));
    // What an administrator wants later is not early.
    assert_eq!(idle(&bench, other, 22).await, None);
    assert!(idle(&bench, other, AHEAD).await.is_some());
}

async fn waves_that_began_while_the_clock_was_ahead_begin_now(bench: Bench) {
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let waves = |not_before| NewCommand {
        pace: Some(1),
        not_before,
        ..bench.command("RestartDevice")
    };
    let devices = vec![one, two];
    let enqueued = bench.store.enqueue(waves(None), devices.clone(), at(AHEAD)).await;
    assert_eq!(enqueued.unwrap().queued, 2);
    set_right(&bench, 20).await;
    assert_eq!(pushed(&bench.store, 20).await, [one]);
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(20 + 30)));
    assert!(idle(&bench, one, 20).await.is_some());
    assert_eq!(idle(&bench, two, 79).await, None);
    assert_eq!(pushed(&bench.store, 80).await, [one, two], "the lease of one is over");
    assert!(idle(&bench, two, 80).await.is_some());
    // At the time that an administrator named, they stay.
    let named = waves(Some(at(2 * AHEAD)));
    bench.store.enqueue(named, devices, at(AHEAD)).await.unwrap();
    set_right(&bench, 90).await;
    assert_eq!(
        idle(&bench, one, 2 * AHEAD - 1).await.map(|_| ()),
        Some(()),
        "the one before"
    );
    let last = format!("queue_entries WHERE not_before = {}", at(2 * AHEAD).as_millisecond());
    assert_eq!(bench.count(&last).await, 1);
}

async fn pushes_of_a_clock_that_was_ahead_are_due(bench: Bench) {
    let store = &bench.store;
    let waits = bench.enrolled("U1").await;
    let later = NewCommand {
        not_before: Some(at(2 * AHEAD)),
        ..bench.command("RestartDevice")
    };
    store.enqueue(later, vec![waits], at(2)).await.unwrap();
    // Was woken by the right clock, and is to be again later.
    let slow = bench.enrolled("U2").await;
    bench.queued(slow, "DeviceInformation").await;
    let job = store.push_claim(10, at(30), at(3)).await.unwrap().remove(0);
    store.push_done(&job, at(4)).await.unwrap();
    let (asked, refused, again) = (
        bench.enrolled("U3").await,
        bench.enrolled("U4").await,
        bench.enrolled("U5").await,
    );
    let uuid = bench.queued(again, "DeviceInformation").await;
    store.push_request(refused, at(5)).await.unwrap();
    let jobs = store.push_claim(10, at(AHEAD + 30), at(5)).await.unwrap();
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    assert_eq!(idle(&bench, again, AHEAD).await, Some(uuid));
    for job in &jobs {
        match job.enrollment == refused {
            true => store.push_retry(job, at(AHEAD + 600), at(AHEAD + 1)).await,
            false => store.push_done(job, at(AHEAD + 1)).await,
        }
        .unwrap();
    }
    store.push_request(asked, at(AHEAD + 2)).await.unwrap();
    assert!(pushed(store, 20).await.is_empty());
    set_right(&bench, 20).await;
    assert_eq!(pushed(store, 20).await, [asked, refused, again]);
    // Each once, and the others when it is their time.
    assert!(pushed(store, 21).await.is_empty());
    assert_eq!(pushed(store, 4 + 15 * 60).await, [slow, asked, refused, again]);
    assert!(!pushed(store, 2 * AHEAD - 1).await.contains(&waits));
    assert!(pushed(store, 2 * AHEAD).await.contains(&waits));
}

async fn a_push_that_was_under_way_is_settled_by_the_right_clock(bench: Bench) {
    let (store, id) = (&bench.store, bench.enrolled("U1").await);
    bench.queued(id, "DeviceInformation").await;
    let job = store.push_claim(10, at(30), at(3)).await.unwrap().remove(0);
    store.push_done(&job, at(AHEAD)).await.unwrap();
    // The next one was taken by the clock that is ahead.
    let job = store
        .push_claim(10, at(2 * AHEAD + 30), at(2 * AHEAD))
        .await
        .unwrap()
        .remove(0);
    set_right(&bench, 20).await;
    store.push_done(&job, at(21)).await.unwrap();
    let due = store.push_next_due().await.unwrap().unwrap();
    assert!(due <= at(21 + 24 * 3600), "it is woken again within a day: {due}");
}

async fn plans_events_and_schedules_of_a_clock_that_was_ahead_are_due(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    update(&bench, id, 2).await;
    taken(&bench, 3).await;
    let first = next(&bench, 3).await;
    assert_eq!(first.len(), 1);
    failed(&bench, first[0].0, 1, Some(AHEAD + 60)).await;

    store.plan_request(id, at(4)).await.unwrap();
    let plan = store.plan_claim(10, at(60), at(5)).await.unwrap().remove(0);
    store.plan_again(&plan, at(AHEAD + 60), true).await.unwrap();

    let effects = vec![call("failed", 6, ""), call("later", AHEAD, "")];
    store
        .record_decisions(bench.tenant, decision(&bench, effects), at(5))
        .await
        .unwrap();
    let job = store.schedules_claim(10, at(60), at(6)).await.unwrap().remove(0);
    let retry = AfterFailure::Retry(at(AHEAD + 60));
    store
        .schedule_failed(&job, retry, "trap", vec![], at(AHEAD))
        .await
        .unwrap();
    let manifest = |seconds| {
        let schedule = ManifestSchedule {
            plugin: "clock".to_owned(),
            name: "sweep".to_owned(),
            rule: "every 15 minutes".to_owned(),
            next: at(seconds),
        };
        store.schedules_seen(
            bench.tenant,
            vec!["clock".to_owned()],
            vec![schedule],
            at(seconds - 900),
        )
    };
    manifest(AHEAD + 900).await.unwrap();
    manifest(900).await.unwrap();
    let due = async || {
        let all = store.schedules(bench.tenant).await.unwrap().into_iter();
        let due = all.map(|one| (one.name, one.next_try_at));
        due.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(due().await["sweep"], at(AHEAD + 900));

    assert!(next(&bench, 20).await.is_empty());
    assert!(store.plan_claim(10, at(80), at(20)).await.unwrap().is_empty());
    set_right(&bench, 20).await;
    assert_eq!(next(&bench, 20).await, first);
    assert_eq!(store.plan_claim(10, at(80), at(20)).await.unwrap().len(), 1);
    manifest(900).await.unwrap();
    let right = [("failed", 20), ("later", AHEAD), ("sweep", 900)];
    assert_eq!(
        due().await,
        right.map(|(name, seconds)| (name.to_owned(), at(seconds))).into()
    );
}

async fn leases_of_a_clock_that_was_ahead_end(bench: Bench) {
    let store = &bench.store;
    let (dead, alive) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(store.lease("work", dead, at(AHEAD + 30), at(AHEAD)).await.unwrap());
    let (lost, kept) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    for id in [lost, kept] {
        store.push_request(id, at(2)).await.unwrap();
        store.plan_request(id, at(2)).await.unwrap();
    }
    let jobs = store.push_claim(10, at(AHEAD + 30), at(AHEAD)).await.unwrap();
    assert_eq!(jobs.len(), 2);
    assert_eq!(store.plan_claim(10, at(AHEAD + 60), at(AHEAD)).await.unwrap().len(), 2);
    assert!(!store.lease("work", alive, at(50), at(20)).await.unwrap());
    set_right(&bench, 20).await;
    assert!(store.lease("work", alive, at(50), at(20)).await.unwrap());
    // Whoever has a push in its hands may be at work, for a while.
    assert!(pushed(store, 21).await.is_empty());
    let job = jobs.iter().find(|job| job.enrollment == kept).unwrap();
    store.push_done(job, at(22)).await.unwrap();
    assert_eq!(pushed(store, 50).await, [lost]);
    assert_eq!(store.plan_claim(10, at(100), at(50)).await.unwrap().len(), 2);
}

async fn the_next_server_knows_that_a_clock_was_ahead(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    for seconds in 0..2 {
        assert_eq!(idle(&bench, id, AHEAD + seconds).await, Some(uuid));
    }
    // It stops in order, as whoever sets a clock right may wish.
    reports(&bench.store, "one", AHEAD).await;
    bench.store.forget_node("one").await.unwrap();
    let other = bench.reopen(&master()).await.unwrap();
    assert_eq!(idle(&bench, id, 20).await, None);
    reports(&other, "two", 20).await;
    assert!(!other.follow_clock(at(20)).await.unwrap(), "it was another's clock");
    assert_eq!(idle(&bench, id, 20).await, Some(uuid));
    // And one that is killed is there as if it would report for days.
    reports(&bench.store, "one", AHEAD).await;
    let third = bench.reopen(&master()).await.unwrap();
    third.follow_clock(at(40)).await.unwrap();
    let seen = third.nodes(std::time::Duration::from_secs(60), at(40)).await.unwrap();
    assert!(seen.iter().all(|node| node.seen_at <= at(40)), "{seen:?}");
    other.close().await.unwrap();
    third.close().await.unwrap();
}

async fn a_clock_that_was_set_forward_is_known_at_once(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    reports(&bench.store, "one", 1).await;
    bench.store.follow_clock(at(AHEAD)).await.unwrap();
    for seconds in 0..2 {
        assert_eq!(idle(&bench, id, AHEAD + seconds).await, Some(uuid));
    }
    // Killed before it reports by the new time.
    let other = bench.reopen(&master()).await.unwrap();
    other.follow_clock(at(20)).await.unwrap();
    assert_eq!(idle(&bench, id, 20).await, Some(uuid));
    other.close().await.unwrap();
}

async fn clocks_that_differ_a_little_are_right(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    for seconds in 69..71 {
        assert_eq!(idle(&bench, id, seconds).await, Some(uuid));
    }
    reports(&bench.store, "one", 79).await;
    reports(&bench.store, "two", 20).await;
    assert!(!bench.store.follow_clock(at(20)).await.unwrap());
    let other = bench.reopen(&master()).await.unwrap();
    assert!(!other.follow_clock(at(20)).await.unwrap());
    assert_eq!(idle(&bench, id, 120).await, None, "it rests for a minute");
    assert_eq!(idle(&bench, id, 131).await, Some(uuid));
    other.close().await.unwrap();
}

async fn a_device_was_not_seen_in_the_future(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let seen = async || {
        bench.store.flush_touched().await.unwrap();
        let record = bench
            .store
            .enrollment(bench.tenant, EnrollmentLookup::Id(id))
            .await
            .unwrap();
        record.unwrap().last_seen_at
    };
    bench.store.touch(id, at(AHEAD));
    assert_eq!(seen().await, Some(at(AHEAD)));
    // Heard of by a device's message alone, and not written yet.
    bench.store.touch(id, at(AHEAD + 5));
    assert!(bench.store.follow_clock(at(50)).await.unwrap());
    assert_eq!(seen().await, Some(at(50)));
    bench.store.touch(id, at(60));
    bench.store.touch(id, at(55));
    assert_eq!(seen().await, Some(at(60)));
}

async fn many_devices_are_looked_through_in_lots(bench: Bench) {
    bench.enrolled_many(3_500).await;
    let wrong = at(AHEAD).as_millisecond();
    let seen = format!("UPDATE enrollments SET last_seen_at = {wrong} WHERE id % 7 = 0");
    bench.meddle(&seen, &seen).await;
    let pushes = format!(
        "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts) SELECT id, tenant_id, 1, {wrong}, 0 \
         FROM enrollments WHERE id % 5 = 0"
    );
    bench.meddle(&pushes, &pushes).await;
    set_right(&bench, 20).await;
    assert_eq!(
        bench.count(&format!("enrollments WHERE last_seen_at = {wrong}")).await,
        0
    );
    let right = at(20).as_millisecond();
    let count = bench.count(&format!("enrollments WHERE last_seen_at = {right}")).await;
    assert_eq!(count, 500);
    assert_eq!(bench.count(&format!("push_outbox WHERE due_at = {right}")).await, 700);
}

async fn a_server_that_ended_has_nothing_in_its_hands(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.push_request(id, at(2)).await.unwrap();
    store.plan_request(id, at(2)).await.unwrap();
    store
        .record_decisions(bench.tenant, decision(&bench, vec![call("one", 2, "")]), at(2))
        .await
        .unwrap();
    let hour = at(3_600);
    let (dead, next) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(store.lease("work", dead, hour, at(3)).await.unwrap());
    let push = store.push_claim(10, hour, at(3)).await.unwrap().remove(0);
    assert_eq!(store.plan_claim(10, hour, at(3)).await.unwrap().len(), 1);
    assert_eq!(store.schedules_claim(10, hour, at(3)).await.unwrap().len(), 1);
    // The command line opens the store beside a server.
    let other = bench.reopen(&master()).await.unwrap();
    assert!(pushed(&other, 4).await.is_empty());
    // On PostgreSQL, other servers may be at work.
    let alone = other.backend_name() == "sqlite";
    assert_eq!(other.end_leases().await.unwrap(), if alone { 4 } else { 0 });
    let free = usize::from(alone);
    assert_eq!(other.lease("work", next, hour, at(4)).await.unwrap(), alone);
    assert_eq!(pushed(&other, 4).await.len(), free);
    assert_eq!(other.plan_claim(10, hour, at(4)).await.unwrap().len(), free);
    assert_eq!(other.schedules_claim(10, hour, at(4)).await.unwrap().len(), free);
    if alone {
        // It was not its any more.
        store.push_done(&push, at(5)).await.unwrap();
        assert_eq!(bench.count("push_outbox WHERE lease_until IS NOT NULL").await, 1);
    }
    other.close().await.unwrap();
}
