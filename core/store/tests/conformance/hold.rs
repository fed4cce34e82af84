//! Commands that wait for an approval.

use russet_store::{
    Approval, CommandCounts, EntryState, Hold, NewCommand, Poll, ReportStatus, Reported, StoreError, Targets,
};

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::queue::report;

behaviours![
    a_held_command_waits_for_its_approval,
    a_rejected_command_never_goes_out,
    a_cancelled_command_waits_for_no_approval,
    a_delivery_is_held_back,
    a_delivery_is_denied,
    of_two_decisions_one_counts,
];

fn held(bench: &Bench) -> NewCommand {
    NewCommand {
        hold: Some(Hold {
            reason: "erase-needs-approval".to_owned(),
            message: "ask Grace".to_owned(),
        }),
        creator_token: Some(russet_store::ApiTokenId(7)),
        ..bench.command("EraseDevice")
    }
}

async fn a_held_command_waits_for_its_approval(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let id = bench.enrolled("U1").await;
    let command = held(&bench);
    let uuid = command.uuid;
    assert_eq!(store.enqueue(command, Targets::All, at(2)).await.unwrap().queued, 1);
    assert_eq!(store.push_next_due().await.unwrap(), None, "nobody is woken");
    assert_eq!(store.next(id, at(3), Poll::Idle).await.unwrap(), None);
    let (record, counts) = store.command(bench.tenant, uuid).await.unwrap().unwrap();
    assert_eq!(counts, CommandCounts::from([(EntryState::Held, 1)]));
    assert_eq!(
        (record.approval, record.creator_token.unwrap().0),
        (Some(Approval::Held), 7)
    );
    assert_eq!(record.hold.unwrap().message, "ask Grace");
    assert_eq!(
        store.commands(bench.tenant, true, None, 10).await.unwrap().items.len(),
        1
    );
    assert_eq!(store.queue_counts(bench.tenant).await.unwrap().held_commands, 1);
    assert_eq!(
        store.command_payload(bench.tenant, uuid).await.unwrap().unwrap(),
        b"<plist/>"
    );
    assert_eq!(store.command_payload(other, uuid).await.unwrap(), None);

    let foreign = store.approve(other, uuid, "mallory", None, vec![], at(4)).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))), "{foreign:?}");
    let payload = Some(b"changed".to_vec());
    let decisions = vec![bench.decision("replace")];
    let released = store
        .approve(bench.tenant, uuid, "grace", payload, decisions, at(5))
        .await
        .unwrap();
    assert_eq!(released, 1);
    assert!(store.push_next_due().await.unwrap().is_some());
    let delivery = store.next(id, at(6), Poll::Idle).await.unwrap().unwrap();
    assert_eq!((delivery.uuid, delivery.payload), (uuid, b"changed".to_vec()));
    assert_eq!(
        (delivery.approved_by.as_deref(), delivery.created_by.as_str()),
        (Some("grace"), "test")
    );
    let (record, _) = store.command(bench.tenant, uuid).await.unwrap().unwrap();
    assert_eq!(
        (record.approval, record.decided),
        (Some(Approval::Approved), Some(("grace".to_owned(), at(5))))
    );
    assert!(
        store
            .commands(bench.tenant, true, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        store.commands(bench.tenant, false, None, 10).await.unwrap().items.len(),
        1
    );
}

async fn a_rejected_command_never_goes_out(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let command = held(&bench);
    let uuid = command.uuid;
    store.enqueue(command, vec![id], at(2)).await.unwrap();
    let reason = Some("not this one".to_owned());
    assert_eq!(
        store
            .reject(bench.tenant, uuid, "grace", reason, vec![], at(3))
            .await
            .unwrap(),
        1
    );
    let entry = store.command_entry(id, uuid).await.unwrap().unwrap();
    assert_eq!(
        (entry.state, entry.defer_reason.as_deref()),
        (EntryState::Cancelled, Some("not this one"))
    );
    let late = store.approve(bench.tenant, uuid, "ada", None, vec![], at(4)).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
    assert_eq!(store.next(id, at(5), Poll::Idle).await.unwrap(), None);
}

async fn a_cancelled_command_waits_for_no_approval(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let command = held(&bench);
    let uuid = command.uuid;
    store.enqueue(command, vec![id], at(2)).await.unwrap();
    assert_eq!(store.cancel(bench.tenant, uuid, None, at(3)).await.unwrap(), 1);
    assert_eq!(store.queue_counts(bench.tenant).await.unwrap().held_commands, 0);
    let late = store.approve(bench.tenant, uuid, "grace", None, vec![], at(4)).await;
    assert!(matches!(late, Err(StoreError::NotFound(_))), "{late:?}");
}

async fn a_delivery_is_held_back(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let command = bench.command("DeviceLock");
    let uuid = command.uuid;
    store.enqueue(command, vec![one, two], at(2)).await.unwrap();
    let entry = store.next(one, at(3), Poll::Idle).await.unwrap().unwrap().entry;
    let why = Hold {
        reason: "at-night".to_owned(),
        message: "not at night".to_owned(),
    };
    let hold = |entry| store.hold_delivery(bench.tenant, entry, why.clone(), vec![bench.decision("hold")], at(3));
    assert!(hold(entry).await.unwrap());
    assert_eq!(store.next(one, at(4), Poll::Idle).await.unwrap(), None);
    let waiting = store.command_entry(one, uuid).await.unwrap().unwrap();
    assert_eq!(
        (waiting.state, waiting.defer_reason.as_deref()),
        (EntryState::Held, Some("not at night"))
    );
    assert_eq!(
        store.commands(bench.tenant, true, None, 10).await.unwrap().items.len(),
        1
    );
    // The other device is not held up.
    assert_eq!(store.next(two, at(4), Poll::Idle).await.unwrap().unwrap().uuid, uuid);
    assert_eq!(
        store
            .approve(bench.tenant, uuid, "grace", None, vec![], at(5))
            .await
            .unwrap(),
        1
    );
    let delivery = store.next(one, at(6), Poll::Idle).await.unwrap().unwrap();
    assert_eq!((delivery.uuid, delivery.approved_by.as_deref()), (uuid, Some("grace")));
    store
        .report(one, report(uuid, ReportStatus::Acknowledged), at(7))
        .await
        .unwrap();
    assert!(!hold(entry).await.unwrap(), "what is over is not held back");
}

async fn a_delivery_is_denied(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceLock").await;
    let entry = store.next(id, at(3), Poll::Idle).await.unwrap().unwrap().entry;
    let decisions = vec![bench.decision("deny")];
    let denied = store
        .deny_delivery(bench.tenant, entry, "not this device", decisions, at(3))
        .await;
    assert!(denied.unwrap());
    let ended = store.command_entry(id, uuid).await.unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.defer_reason.as_deref()),
        (EntryState::Cancelled, Some("not this device"))
    );
    // Had the device got it before, what it did would be kept.
    let late = store
        .report(id, report(uuid, ReportStatus::Acknowledged), at(4))
        .await
        .unwrap();
    assert_eq!(late, Reported::Recorded);
}

async fn of_two_decisions_one_counts(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let command = held(&bench);
    let uuid = command.uuid;
    bench.store.enqueue(command, vec![id], at(2)).await.unwrap();
    let decide = |number: i64| {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        tokio::spawn(async move {
            if number % 2 == 0 {
                store.approve(tenant, uuid, "grace", None, vec![], at(3)).await
            } else {
                store.reject(tenant, uuid, "ada", None, vec![], at(3)).await
            }
        })
    };
    let mut counted = 0;
    for decision in (0..8).map(decide).collect::<Vec<_>>() {
        match decision.await.unwrap() {
            Ok(entries) => counted += entries,
            Err(error) => assert!(matches!(error, StoreError::NotFound(_)), "{error:?}"),
        }
    }
    assert_eq!(counted, 1);
}
