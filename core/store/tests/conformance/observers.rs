//! Observers: what happened is handed over at least once, in order for each enrollment, and done once.

use std::time::Duration;

use russet_store::{
    EffectAction, EnrollmentId, EventFilter, EventId, NewDecision, NewEffect, Parked, ReplayFrom, Retention,
};
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::bench::{Bench, at};
use crate::events::{UPDATED, WATCH, done, failed, kinds, next, observe, taken, update, watched};
use crate::locked::{another, has_row_locks};

crate::behaviours! {
    an_observer_begins_with_what_happens_from_now_on,
    the_first_event_makes_the_cursor,
    events_are_handed_over_in_order,
    what_is_done_is_done_once,
    failures_hold_up_their_enrollment_only,
    parked_events_are_shown_and_come_back,
    events_are_replayed,
    no_event_is_skipped,
    an_event_that_is_not_certain_yet_is_looked_for_again,
    observers_that_are_gone_are_forgotten,
}

async fn an_observer_begins_with_what_happens_from_now_on(bench: Bench) {
    observe(&bench, &[UPDATED]);
    let id = bench.enrolled("U1").await;
    loop {
        // Until the event before is certainly there, an observer would be handed it.
        bench.store.forget_observers(at(100)).await.unwrap();
        watched(&bench).await;
        if bench.store.observers(bench.tenant).await.unwrap()[0].behind == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    update(&bench, id, 2).await;
    taken(&bench, 3).await;
    let next = next(&bench, 3).await;
    assert_eq!(next.len(), 1);
    let events = bench
        .store
        .events(bench.tenant, &EventFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(next[0].0, events.items[0].id, "the newer one of two");
}

async fn the_first_event_makes_the_cursor(bench: Bench) {
    let wants = observe(&bench, &[UPDATED]);
    let id = bench.enrolled("U1").await;
    *wants.first_of.lock().unwrap() = vec![WATCH.to_owned()];
    update(&bench, id, 2).await;
    update(&bench, id, 3).await;
    watched(&bench).await;
    taken(&bench, 4).await;
    let first = next(&bench, 4).await;
    assert_eq!(first.len(), 1);
    assert!(done(&bench, first[0].0).await);
    assert_eq!(
        next(&bench, 4).await.len(),
        1,
        "the event that made the cursor, and the one after it"
    );
}

async fn events_are_handed_over_in_order(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let before: Vec<_> = kinds(&bench).await;
    assert_eq!(before.len(), 2);
    watched(&bench).await;
    store
        .replay_events(bench.tenant, WATCH, ReplayFrom::Event(EventId(1)), at(1))
        .await
        .unwrap();
    for second in 2..5 {
        update(&bench, one, second).await;
    }
    taken(&bench, 10).await;
    // Of each enrollment the first one only.
    let first = next(&bench, 10).await;
    assert_eq!(first.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [one, two]);
    assert!(done(&bench, first[0].0).await);
    let second = next(&bench, 10).await;
    assert_eq!(second.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [two, one]);
    assert!(second[1].0 > first[0].0);
    assert!(done(&bench, second[0].0).await);
    assert!(done(&bench, second[1].0).await);
    let mut last = second[1].0;
    for _ in 0..2 {
        let [(event, of)] = next(&bench, 10).await[..] else {
            panic!("one in line")
        };
        assert!(of == one && event > last);
        assert!(done(&bench, event).await);
        last = event;
    }
    assert!(next(&bench, 10).await.is_empty());
    assert!(store.observers_due(at(10)).await.unwrap().is_empty());
}

async fn what_is_done_is_done_once(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    taken(&bench, 2).await;
    let [(event, _)] = next(&bench, 2).await[..] else {
        panic!("one event")
    };
    // A node that dies before it is done leaves it for another.
    assert_eq!(next(&bench, 2).await.len(), 1);
    let effect = NewEffect {
        enrollment: Some("U1".to_owned()),
        action: EffectAction::SetAttribute {
            name: "seen".to_owned(),
            value: "once".to_owned(),
        },
    };
    let decision = || NewDecision {
        hook: "observer".to_owned(),
        effects: vec![effect.clone()],
        ..bench.decision("observed")
    };
    // What fails with the effects leaves the event where it is.
    let nobody = NewDecision {
        enrollment: Some(EnrollmentId(4711)),
        ..bench.decision("observed")
    };
    let failed = store
        .observer_done(bench.tenant, WATCH, event, vec![decision(), nobody], at(3))
        .await;
    assert!(failed.is_err());
    assert_eq!(next(&bench, 3).await.len(), 1);
    let lookup = russet_store::EnrollmentLookup::Id(id);
    let attributes = async || {
        store
            .enrollment(bench.tenant, lookup)
            .await
            .unwrap()
            .unwrap()
            .attributes
    };
    assert_eq!(attributes().await["seen"], json!(null));

    assert!(
        store
            .observer_done(bench.tenant, WATCH, event, vec![decision()], at(4))
            .await
            .unwrap()
    );
    assert_eq!(attributes().await["seen"], "once");
    // Another node that had it in its hands too does nothing.
    assert!(
        !store
            .observer_done(bench.tenant, WATCH, event, vec![decision()], at(5))
            .await
            .unwrap()
    );
    assert_eq!(
        store.decisions(bench.tenant, None, None, 10).await.unwrap().items.len(),
        1
    );
    assert!(next(&bench, 6).await.is_empty());
}

async fn failures_hold_up_their_enrollment_only(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    update(&bench, one, 3).await;
    taken(&bench, 4).await;
    let first = next(&bench, 4).await;
    failed(&bench, first[0].0, 1, Some(100)).await;
    assert_eq!(next(&bench, 60).await, [first[1]], "the other enrollment goes on");
    assert!(done(&bench, first[1].0).await);
    assert!(next(&bench, 60).await.is_empty());
    assert!(store.observers_due(at(60)).await.unwrap().is_empty());
    assert_eq!(store.observers_next_due(at(60)).await.unwrap(), Some(at(100)));
    let state = store.observers(bench.tenant).await.unwrap().remove(0);
    assert_eq!((state.waiting, state.parked), (2, 0));
    assert_eq!(state.error.as_deref(), Some("the webhook does not answer"));
    // Its time has come.
    let again = store.observer_next(bench.tenant, WATCH, 10, at(100)).await.unwrap();
    assert_eq!((again.len(), again[0].event.id, again[0].attempts), (1, first[0].0, 1));
    assert_eq!(again[0].event.enrollment, Some(one));
    assert_ne!(one, two);
}

async fn parked_events_are_shown_and_come_back(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    update(&bench, id, 2).await;
    update(&bench, id, 3).await;
    taken(&bench, 4).await;
    let mut parked = Vec::new();
    for _ in 0..2 {
        let [(event, _)] = next(&bench, 10).await[..] else {
            panic!("one in line")
        };
        failed(&bench, event, 10, None).await;
        parked.push(event);
    }
    let [(third, _)] = next(&bench, 10).await[..] else {
        panic!("the ones behind go on")
    };
    assert!(done(&bench, third).await);
    let shown = store.parked_events(bench.tenant, WATCH, None, 10).await.unwrap().items;
    assert_eq!(
        shown.iter().map(|one| one.delivery.event.id).collect::<Vec<_>>(),
        parked
    );
    assert_eq!((shown[0].parked_at, shown[0].delivery.attempts), (at(50), 10));
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.retry_parked(other, WATCH, Parked::All, at(60)).await.unwrap(), 0);
    assert_eq!(store.drop_parked(other, WATCH, Parked::All).await.unwrap(), 0);

    assert_eq!(
        store
            .drop_parked(bench.tenant, WATCH, Parked::One(parked[0]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .retry_parked(bench.tenant, WATCH, Parked::All, at(60))
            .await
            .unwrap(),
        1
    );
    let again = store.observer_next(bench.tenant, WATCH, 10, at(60)).await.unwrap();
    assert_eq!((again.len(), again[0].event.id, again[0].attempts), (1, parked[1], 0));
    assert_eq!(store.observers(bench.tenant).await.unwrap()[0].parked, 0);
}

async fn events_are_replayed(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    for second in 2..6 {
        update(&bench, id, second).await;
    }
    taken(&bench, 10).await;
    let mut all = Vec::new();
    while let [(event, _)] = next(&bench, 10).await[..] {
        assert!(done(&bench, event).await);
        all.push(event);
    }
    assert_eq!(all.len(), 5);
    let replayed = async |from| {
        let count = store.replay_events(bench.tenant, WATCH, from, at(20)).await.unwrap();
        taken(&bench, 20).await;
        let mut again = Vec::new();
        while let [(event, _)] = next(&bench, 20).await[..] {
            assert!(done(&bench, event).await);
            again.push(event);
        }
        assert_eq!(count, again.len() as u64);
        again
    };
    assert_eq!(replayed(ReplayFrom::Event(all[3])).await, all[3..]);
    assert_eq!(replayed(ReplayFrom::Time(at(3))).await, all[2..]);
    assert_eq!(replayed(ReplayFrom::Time(at(100))).await, []);
    let nobody = store
        .replay_events(bench.tenant, "nobody", ReplayFrom::Time(at(3)), at(20))
        .await;
    assert!(nobody.is_err());
}

async fn no_event_is_skipped(bench: Bench) {
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let ids = futures::future::join_all((0..8).map(|number| {
        let key = format!("U{number}");
        let bench = &bench;
        async move { bench.enrolled(&key).await }
    }))
    .await;
    let writers = ids.iter().map(|id| {
        let bench = &bench;
        async move {
            for second in 2..12 {
                update(bench, *id, second).await;
            }
        }
    });
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 88 {
            bench
                .store
                .observer_take(bench.tenant, WATCH, |_| true, 7, at(20))
                .await
                .unwrap();
            for (event, id) in next(&bench, 20).await {
                assert!(done(&bench, event).await);
                seen.push((id, event));
            }
        }
        seen
    };
    let (_, seen) = futures::future::join(futures::future::join_all(writers), reading).await;
    for id in ids {
        let own: Vec<_> = seen
            .iter()
            .filter(|(of, _)| *of == id)
            .map(|(_, event)| *event)
            .collect();
        assert_eq!(own.len(), 11);
        assert!(own.is_sorted(), "{own:?}");
    }
}

async fn observers_that_are_gone_are_forgotten(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    bench.enrolled("U1").await;
    taken(&bench, 2).await;
    store.forget_observers(at(0)).await.unwrap();
    assert_eq!(store.observers(bench.tenant).await.unwrap()[0].waiting, 1);
    store.forget_observers(at(1)).await.unwrap();
    assert!(store.observers(bench.tenant).await.unwrap().is_empty());
    let retention = Retention {
        events: Duration::from_secs(1),
        ..Retention::default()
    };
    assert_eq!(store.purge(at(1_000), &retention).await.unwrap().events, 1);
}

async fn an_event_that_is_not_certain_yet_is_looked_for_again(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    let id = bench.enrolled("U1").await;
    watched(&bench).await;
    taken(&bench, 2).await;
    if !has_row_locks(&bench) {
        assert_eq!(store.observers_next_due(at(3)).await.unwrap(), None);
        return;
    }
    let other = another(&bench).await;
    other.execute_unprepared("SELECT pg_current_xact_id()").await.unwrap();
    update(&bench, id, 3).await;
    assert_eq!(store.observers_due(at(3)).await.unwrap(), []);
    let soon = store.observers_next_due(at(3)).await.unwrap().unwrap();
    assert!(at(3) < soon && soon < at(4), "{soon}");
    other.rollback().await.unwrap();
    taken(&bench, 4).await;
    assert_eq!(next(&bench, 4).await.len(), 1);
    assert_eq!(store.observers_next_due(at(4)).await.unwrap(), None);
}
