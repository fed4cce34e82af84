//! Events: written with what they tell of, if somebody wants them, and handed over once, in order.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russet_store::{
    EffectAction, EnrollmentId, EventFilter, EventId, NewDecision, NewEffect, Observed, ObserverFailure, ReportStatus,
    Retention, TenantId, TokenTarget, Wanted,
};
use serde_json::json;

use crate::bench::{Bench, Settle, at};
use crate::queue::report;

crate::behaviours! {
    what_nobody_wants_is_not_written,
    events_tell_what_happened,
    old_events_go_when_all_took_them,
    emitted_events_reach_observers,
    an_answer_is_as_deep_as_what_caused_its_command,
}

pub(crate) const WATCH: &str = "watch";

/// Wants kinds of events, of every tenant.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    kinds: BTreeSet<&'static str>,
    pub(crate) first_of: Mutex<Vec<String>>,
}

impl Observed for Wants {
    fn wanted(&self, _: TenantId, kind: &str) -> Option<Wanted> {
        let first_of = self.first_of.lock().unwrap().clone();
        self.kinds.contains(kind).then_some(Wanted { first_of })
    }

    fn anywhere(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }
}

pub(crate) fn observe(bench: &Bench, kinds: &[&'static str]) -> Arc<Wants> {
    let wants = Arc::new(Wants {
        kinds: kinds.iter().copied().collect(),
        first_of: Mutex::default(),
    });
    bench.store.set_observed(wants.clone());
    wants
}

/// Watched from now on.
pub(crate) async fn watched(bench: &Bench) {
    bench
        .store
        .observers_seen(bench.tenant, vec![WATCH.to_owned()], at(0))
        .await
        .unwrap();
}

pub(crate) const UPDATED: &str = "enrollment.token-updated";

pub(crate) async fn update(bench: &Bench, id: EnrollmentId, seconds: i64) {
    let write = bench.token(TokenTarget::Enrollment(id));
    bench.store.token_update(write, at(seconds)).await.unwrap();
}

/// Takes everything over that is there; on PostgreSQL, another database's transaction may hold some up.
pub(crate) async fn taken(bench: &Bench, seconds: i64) {
    let store = &bench.store;
    loop {
        while store
            .observer_take(bench.tenant, WATCH, |_| true, 3, at(seconds))
            .await
            .unwrap()
            > 0
        {}
        if store.observers(bench.tenant).await.unwrap()[0].behind == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn next(bench: &Bench, seconds: i64) -> Vec<(EventId, EnrollmentId)> {
    let next = bench
        .store
        .observer_next(bench.tenant, WATCH, 100, at(seconds))
        .await
        .unwrap();
    next.into_iter()
        .map(|delivery| (delivery.event.id, delivery.event.enrollment.unwrap()))
        .collect()
}

pub(crate) async fn done(bench: &Bench, event: EventId) -> bool {
    let store = &bench.store;
    store
        .observer_done(bench.tenant, WATCH, event, vec![], at(50))
        .await
        .unwrap()
}

pub(crate) async fn failed(bench: &Bench, event: EventId, attempts: u32, retry_at: Option<i64>) {
    let failure = ObserverFailure {
        event,
        attempts,
        error: "the webhook does not answer".to_owned(),
        retry_at: retry_at.map(at),
    };
    let store = &bench.store;
    store
        .observer_failed(bench.tenant, WATCH, failure, vec![], at(50))
        .await
        .unwrap();
}

pub(crate) async fn kinds(bench: &Bench) -> Vec<String> {
    let page = bench
        .store
        .events(bench.tenant, &EventFilter::default(), None, 100)
        .await
        .unwrap();
    page.items.into_iter().rev().map(|event| event.kind).collect()
}

async fn what_nobody_wants_is_not_written(bench: Bench) {
    let id = bench.enrolled("U1").await;
    assert!(kinds(&bench).await.is_empty(), "nobody was named who knows");
    observe(&bench, &["enrollment.checked-out"]);
    update(&bench, id, 2).await;
    assert!(kinds(&bench).await.is_empty());
    bench.store.check_out(id, at(3)).await.unwrap();
    // A device says it again until it is told that it arrived.
    bench.store.check_out(id, at(4)).await.unwrap();
    assert_eq!(kinds(&bench).await, ["enrollment.checked-out"]);
}

async fn events_tell_what_happened(bench: Bench) {
    let store = &bench.store;
    observe(
        &bench,
        &[
            "enrollment.authenticated",
            "enrollment.enrolled",
            UPDATED,
            "command.queued",
            "command.answered",
            "push.failed",
        ],
    );
    let id = bench.enrolled("U1").await;
    update(&bench, id, 2).await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    let job = store.push_claim(1, at(10), at(3)).await.unwrap().remove(0);
    store.push_retry(&job, at(20), at(4)).await.unwrap();
    let job = store.push_claim(1, at(40), at(30)).await.unwrap().remove(0);
    // The second failure in a row tells nothing new; that the token is dead does.
    store.push_retry(&job, at(35), at(31)).await.unwrap();
    let job = store.push_claim(1, at(60), at(50)).await.unwrap().remove(0);
    assert!(store.push_park(&job, at(51)).await.unwrap());
    store
        .report(id, report(uuid, ReportStatus::Acknowledged), at(60))
        .await
        .unwrap();
    store
        .report(id, report(uuid, ReportStatus::Acknowledged), at(61))
        .await
        .unwrap();
    assert_eq!(
        kinds(&bench).await,
        [
            "enrollment.authenticated",
            "enrollment.enrolled",
            UPDATED,
            UPDATED,
            "command.queued",
            "push.failed",
            "push.failed",
            "command.answered",
        ]
    );
    let filter = EventFilter {
        enrollment: Some(id),
        kind: Some("command.answered".to_owned()),
    };
    let answered = store
        .events(bench.tenant, &filter, None, 10)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(answered.enrollment_key.as_deref(), Some("U1"));
    assert_eq!(answered.detail["command_uuid"], json!(uuid));
    assert_eq!(answered.detail["status"], "Acknowledged");
    assert_eq!(answered.created_at, at(60));
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let theirs = store.events(other, &EventFilter::default(), None, 10).await.unwrap();
    assert!(theirs.items.is_empty());
}

/// Writers commit in another order than they began; a reader that reads all the while misses none.
async fn old_events_go_when_all_took_them(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &[UPDATED]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    update(&bench, id, 2).await;
    let retention = Retention {
        events: Duration::from_secs(100),
        ..Retention::default()
    };
    assert_eq!(
        store.purge(at(1_000), &retention).await.unwrap().events,
        0,
        "they are still to be taken"
    );
    taken(&bench, 10).await;
    let [(first, _)] = next(&bench, 10).await[..] else {
        panic!("one in line")
    };
    assert!(done(&bench, first).await);
    assert_eq!(
        store.purge(at(50), &retention).await.unwrap().events,
        0,
        "they are kept for a while"
    );
    assert_eq!(
        store.purge(at(1_000), &retention).await.unwrap().events,
        1,
        "the other one still waits"
    );
    let [(second, _)] = next(&bench, 1_000).await[..] else {
        panic!("one in line")
    };
    assert!(done(&bench, second).await);
    assert_eq!(store.purge(at(1_000), &retention).await.unwrap().events, 1);
}

async fn emitted_events_reach_observers(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &["plugin.gate.seen"]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    let emit = |kind: &str| NewEffect {
        enrollment: None,
        action: EffectAction::EmitEvent {
            kind: kind.to_owned(),
            detail: json!({ "n": 1 }),
        },
    };
    let decision = NewDecision {
        enrollment: Some(id),
        depth: 3,
        effects: vec![emit("plugin.gate.seen"), emit("plugin.gate.unseen")],
        ..bench.decision("allow")
    };
    let about_nobody = NewDecision {
        effects: vec![emit("plugin.gate.seen")],
        ..bench.decision("allow")
    };
    store
        .record_decisions(bench.tenant, vec![decision, about_nobody], at(5))
        .await
        .unwrap();
    let events = store
        .events(bench.tenant, &EventFilter::default(), None, 10)
        .await
        .unwrap()
        .items;
    let told: Vec<_> = events
        .iter()
        .rev()
        .map(|event| (event.enrollment, event.depth))
        .collect();
    assert_eq!(told, [(Some(id), 3), (None, 0)]);
    let recorded = store
        .decisions(bench.tenant, Some(id), None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(recorded.effects[0]["outcome"], "applied");
    assert_eq!(recorded.effects[1]["outcome"], "unchanged");
    // Without an enrollment there is no line to stand in.
    taken(&bench, 6).await;
    assert_eq!(
        store.observer_next(bench.tenant, WATCH, 10, at(6)).await.unwrap().len(),
        2
    );
}

async fn an_answer_is_as_deep_as_what_caused_its_command(bench: Bench) {
    let store = &bench.store;
    observe(&bench, &["command.queued", "command.answered"]);
    watched(&bench).await;
    let id = bench.enrolled("U1").await;
    let (own, other) = (bench.command("DeviceInformation"), bench.command("SecurityInfo"));
    let uuids = [own.uuid, other.uuid];
    let wanted = NewEffect {
        enrollment: None,
        action: EffectAction::EnqueueCommand(Box::new(store.sealed_command(own).unwrap())),
    };
    let decision = NewDecision {
        enrollment: Some(id),
        depth: 3,
        effects: vec![wanted],
        ..bench.decision("allow")
    };
    store
        .record_decisions(bench.tenant, vec![decision], at(5))
        .await
        .unwrap();
    store.enqueue(other, vec![id], at(6)).await.unwrap();
    for uuid in uuids {
        let answer = report(uuid, ReportStatus::Acknowledged);
        store.report_and_next(id, answer, at(7)).await.unwrap();
    }
    let events = store.events(bench.tenant, &EventFilter::default(), None, 10).await;
    let told: Vec<_> = events.unwrap().items.into_iter().rev().collect();
    let told: Vec<_> = told.iter().map(|event| (event.kind.as_str(), event.depth)).collect();
    assert_eq!(
        told,
        [
            ("command.queued", 3),
            ("command.queued", 0),
            ("command.answered", 3),
            ("command.answered", 0)
        ]
    );
}
