//! The command queue.

use russet_store::{CommandCounts, EnrollmentId, EntryState, Poll, ReportStatus, ReportWrite, Reported, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![
    a_command_goes_round,
    an_idle_poll_writes_nothing,
    priority_goes_before_age,
    one_command_for_many,
    an_unanswered_duplicate_is_not_queued,
    a_command_waits_for_its_time,
    an_expired_command_is_not_delivered,
    not_now_waits_for_the_next_round,
    a_lost_command_is_offered_again,
    a_command_that_was_lost_with_the_answer_to_a_report_is_offered_again,
    a_repeated_report_changes_nothing,
    an_unknown_report_is_told_apart,
    a_report_and_the_next_command_are_one_step,
    a_deferred_command_waits_and_says_why,
    a_cancelled_command_is_not_delivered,
    what_a_device_did_is_kept_although_it_was_cancelled,
];

pub(crate) fn report(uuid: Uuid, status: ReportStatus) -> ReportWrite {
    ReportWrite {
        uuid,
        status,
        error_chain: None,
        result: b"<plist/>".to_vec(),
    }
}

async fn next(bench: &Bench, id: EnrollmentId, seconds: i64) -> Option<Uuid> {
    bench
        .store
        .next(id, at(seconds), Poll::Idle)
        .await
        .unwrap()
        .map(|delivery| delivery.uuid)
}

async fn after_report(bench: &Bench, id: EnrollmentId, seconds: i64) -> Option<Uuid> {
    bench
        .store
        .next(id, at(seconds), Poll::AfterReport)
        .await
        .unwrap()
        .map(|delivery| delivery.uuid)
}

async fn state(bench: &Bench, id: EnrollmentId, uuid: Uuid) -> EntryState {
    bench.store.command_entry(id, uuid).await.unwrap().unwrap().state
}

async fn a_command_goes_round(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut command = bench.command("DeviceInformation");
    command.payload = vec![0, 159, 146, 150];
    command.profile_name = Some("wifi".to_owned());
    command.warnings = vec!["odd".to_owned()];
    let uuid = command.uuid;
    let enqueued = store.enqueue(command.clone(), vec![id], at(2)).await.unwrap();
    assert_eq!(
        (enqueued.queued, enqueued.deduplicated, enqueued.unknown),
        (1, vec![], vec![])
    );
    assert!(matches!(
        store.enqueue(command, vec![id], at(2)).await,
        Err(StoreError::Exists("command"))
    ));
    assert_eq!(state(&bench, id, uuid).await, EntryState::Pending);

    let delivery = store.next(id, at(3), Poll::Idle).await.unwrap().unwrap();
    assert_eq!(
        (delivery.uuid, delivery.request_type.as_str()),
        (uuid, "DeviceInformation")
    );
    assert_eq!(
        (delivery.payload, delivery.profile_name.as_deref()),
        (vec![0, 159, 146, 150], Some("wifi"))
    );
    assert_eq!(delivery.attempts, 1);
    let entry = store.command_entry(id, uuid).await.unwrap().unwrap();
    assert_eq!(
        (entry.id, entry.state, entry.sent_at),
        (delivery.entry, EntryState::Sent, Some(at(3)))
    );

    let reported = store
        .report(id, report(uuid, ReportStatus::Acknowledged), at(4))
        .await
        .unwrap();
    assert_eq!(reported, Reported::Recorded);
    let entry = store.command_entry(id, uuid).await.unwrap().unwrap();
    assert_eq!(
        (entry.state, entry.finished_at),
        (EntryState::Acknowledged, Some(at(4)))
    );
    assert_eq!(
        (entry.status, entry.result),
        (Some(ReportStatus::Acknowledged), Some(b"<plist/>".to_vec()))
    );
    assert_eq!(next(&bench, id, 5).await, None);
    assert_eq!(store.queue(id).await.unwrap(), []);
    assert_eq!(store.queue_history(id, None, 10).await.unwrap().items.len(), 1);
}

async fn an_idle_poll_writes_nothing(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let other = bench.enrolled("U2").await;
    bench.queued(other, "DeviceInformation").await;
    let done = bench.queued(id, "ProfileList").await;
    assert_eq!(next(&bench, id, 3).await, Some(done));
    bench
        .store
        .report(id, report(done, ReportStatus::Acknowledged), at(4))
        .await
        .unwrap();
    let mut later = bench.command("DeviceLock");
    later.not_before = Some(at(1000));
    bench.store.enqueue(later, vec![id], at(5)).await.unwrap();

    let before = bench.writes().await;
    for seconds in 5..25 {
        assert_eq!(next(&bench, id, seconds).await, None);
        assert_eq!(after_report(&bench, id, seconds).await, None);
        bench.store.touch(id, at(seconds));
    }
    assert_eq!(bench.writes().await, before);
    // The measure is not blind: a poll that delivers shows.
    assert!(next(&bench, other, 30).await.is_some());
    assert_ne!(bench.writes().await, before);
}

async fn priority_goes_before_age(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let mut expected = Vec::new();
    for (priority, place) in [(100, 2), (100, 3), (-5, 0), (200, 4), (50, 1)] {
        let command = russet_store::NewCommand {
            priority,
            ..bench.command("DeviceInformation")
        };
        expected.push((place, command.uuid));
        bench.store.enqueue(command, vec![id], at(2)).await.unwrap();
    }
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|(_, uuid)| uuid).collect();
    let shown: Vec<_> = bench
        .store
        .queue(id)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.uuid)
        .collect();
    assert_eq!(shown, expected);
    for uuid in expected {
        assert_eq!(next(&bench, id, 3).await, Some(uuid));
        bench
            .store
            .report(id, report(uuid, ReportStatus::Acknowledged), at(3))
            .await
            .unwrap();
    }
}

async fn one_command_for_many(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    let gone = bench.enrolled("U3").await;
    store.check_out(gone, at(2)).await.unwrap();
    let mut foreign = bench.authenticate_write("U4").await;
    foreign.tenant = other;
    let foreign = store.authenticate(foreign, at(0)).await.unwrap();

    let command = bench.command("DeviceInformation");
    let uuid = command.uuid;
    let unknown = EnrollmentId(4711);
    let targets = vec![first, second, gone, unknown, foreign, first];
    let enqueued = store.enqueue(command, targets, at(3)).await.unwrap();
    assert_eq!(enqueued.queued, 2);
    assert_eq!(enqueued.unknown, [gone, unknown, foreign]);
    assert_eq!(enqueued.deduplicated, []);

    store.next(first, at(4), Poll::Idle).await.unwrap().unwrap();
    let failed = ReportWrite {
        error_chain: Some(json!([{ "ErrorCode": 12 }])),
        ..report(uuid, ReportStatus::Error)
    };
    store.report(first, failed, at(5)).await.unwrap();
    let (record, counts) = store.command(bench.tenant, uuid).await.unwrap().unwrap();
    assert_eq!(record.request_type, "DeviceInformation");
    assert_eq!(
        counts,
        CommandCounts::from([(EntryState::Failed, 1), (EntryState::Pending, 1)])
    );
    let entries = store.command_entries(bench.tenant, uuid, None, 10).await.unwrap().items;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].error_chain, Some(json!([{ "ErrorCode": 12 }])));
    assert!(store.command(other, uuid).await.unwrap().is_none());
    assert_eq!(store.command_entries(other, uuid, None, 10).await.unwrap().items, []);
    // The other device still gets it.
    assert_eq!(next(&bench, second, 6).await, Some(uuid));
}

async fn an_unanswered_duplicate_is_not_queued(bench: Bench) {
    let store = &bench.store;
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    let keyed = || russet_store::NewCommand {
        dedupe_key: Some("inventory".to_owned()),
        ..bench.command("DeviceInformation")
    };
    let original = keyed();
    let uuid = original.uuid;
    assert_eq!(store.enqueue(original, vec![first], at(2)).await.unwrap().queued, 1);
    let again = store.enqueue(keyed(), vec![first, second], at(3)).await.unwrap();
    assert_eq!((again.queued, again.deduplicated), (1, vec![first]));
    // Delivered or put off, it is still unanswered.
    assert_eq!(next(&bench, first, 4).await, Some(uuid));
    let refused = keyed();
    let nobody = refused.uuid;
    assert_eq!(
        store.enqueue(refused, vec![first], at(5)).await.unwrap().deduplicated,
        [first]
    );
    // Of what nobody gets nothing is kept.
    assert!(store.command(bench.tenant, nobody).await.unwrap().is_none());
    store
        .report(first, report(uuid, ReportStatus::NotNow), at(6))
        .await
        .unwrap();
    assert_eq!(
        store.enqueue(keyed(), vec![first], at(7)).await.unwrap().deduplicated,
        [first]
    );
    // Without a key nothing is a duplicate.
    assert_eq!(
        store
            .enqueue(bench.command("DeviceInformation"), vec![first], at(7))
            .await
            .unwrap()
            .queued,
        1
    );
    store
        .report(first, report(uuid, ReportStatus::Acknowledged), at(8))
        .await
        .unwrap();
    assert_eq!(store.enqueue(keyed(), vec![first], at(9)).await.unwrap().queued, 1);
}

async fn a_command_waits_for_its_time(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let mut later = bench.command("DeviceLock");
    later.not_before = Some(at(100));
    let later_uuid = later.uuid;
    bench.store.enqueue(later, vec![id], at(2)).await.unwrap();
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(100)));
    let now = bench.queued(id, "DeviceInformation").await;
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(2)));
    assert_eq!(next(&bench, id, 3).await, Some(now));
    bench
        .store
        .report(id, report(now, ReportStatus::Acknowledged), at(4))
        .await
        .unwrap();
    assert_eq!(next(&bench, id, 99).await, None);
    assert_eq!(next(&bench, id, 100).await, Some(later_uuid));
}

async fn an_expired_command_is_not_delivered(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut short = Vec::new();
    for _ in 0..3 {
        let command = russet_store::NewCommand {
            priority: 1,
            expires_at: Some(at(10)),
            dedupe_key: Some(format!("key {}", short.len())),
            ..bench.command("DeviceLock")
        };
        short.push(command.uuid);
        store.enqueue(command, vec![id], at(2)).await.unwrap();
    }
    let lasting = bench.queued(id, "DeviceInformation").await;
    assert_eq!(next(&bench, id, 9).await, Some(short[0]));
    // Met in the transaction of a report, and by a plain poll.
    let (_, delivery) = store
        .report_and_next(id, report(short[0], ReportStatus::Error), at(10))
        .await
        .unwrap();
    assert_eq!(delivery.unwrap().uuid, lasting);
    assert_eq!(next(&bench, id, 11).await, Some(lasting));
    assert_eq!(state(&bench, id, short[0]).await, EntryState::Failed);
    for uuid in &short[1..] {
        assert_eq!(state(&bench, id, *uuid).await, EntryState::Expired);
    }
    let again = russet_store::NewCommand {
        dedupe_key: Some("key 1".to_owned()),
        ..bench.command("DeviceLock")
    };
    assert_eq!(store.enqueue(again, vec![id], at(12)).await.unwrap().queued, 1);
}

async fn not_now_waits_for_the_next_round(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let first = bench.queued(id, "InstallProfile").await;
    let second = bench.queued(id, "ProfileList").await;
    assert_eq!(next(&bench, id, 3).await, Some(first));
    let (reported, delivery) = store
        .report_and_next(id, report(first, ReportStatus::NotNow), at(4))
        .await
        .unwrap();
    assert_eq!(reported, Reported::Recorded);
    assert_eq!(delivery.unwrap().uuid, second);
    let (_, delivery) = store
        .report_and_next(id, report(second, ReportStatus::NotNow), at(5))
        .await
        .unwrap();
    assert_eq!(delivery, None);
    assert_eq!(state(&bench, id, first).await, EntryState::NotNow);
    // A new round: both again, the first one first.
    let delivery = store.next(id, at(6), Poll::Idle).await.unwrap().unwrap();
    assert_eq!((delivery.uuid, delivery.attempts), (first, 2));
    store
        .report(id, report(first, ReportStatus::Acknowledged), at(7))
        .await
        .unwrap();
    assert_eq!(after_report(&bench, id, 7).await, None);
    assert_eq!(next(&bench, id, 8).await, Some(second));
}

async fn a_lost_command_is_offered_again(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let first = bench.queued(id, "InstallProfile").await;
    assert_eq!(next(&bench, id, 3).await, Some(first));
    let second = bench.queued(id, "ProfileList").await;
    // The answer got lost; the device polls anew. What is fresh goes first.
    assert_eq!(next(&bench, id, 4).await, Some(second));
    bench
        .store
        .report(id, report(second, ReportStatus::Acknowledged), at(5))
        .await
        .unwrap();
    // In the same round: with something fresh at each poll, it would never come otherwise.
    let delivery = bench.store.next(id, at(5), Poll::AfterReport).await.unwrap().unwrap();
    assert_eq!((delivery.uuid, delivery.attempts), (first, 2));
    // Who does not answer it then is not offered it over and over.
    assert_eq!(after_report(&bench, id, 6).await, None);
}

async fn a_command_that_was_lost_with_the_answer_to_a_report_is_offered_again(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let mut uuids = Vec::new();
    for _ in 0..3 {
        uuids.push(bench.queued(id, "DeviceInformation").await);
    }
    let [first, second, third] = uuids[..] else {
        unreachable!()
    };
    assert_eq!(next(&bench, id, 3).await, Some(first));
    let steps = [
        (first, ReportStatus::Acknowledged, Reported::Recorded, Some(second)),
        (first, ReportStatus::Acknowledged, Reported::Duplicate, Some(second)),
        (second, ReportStatus::NotNow, Reported::Recorded, Some(third)),
        // What it put off is not offered in the same round.
        (second, ReportStatus::NotNow, Reported::Duplicate, Some(third)),
        (third, ReportStatus::Acknowledged, Reported::Recorded, None),
        (third, ReportStatus::Acknowledged, Reported::Duplicate, None),
    ];
    for (seconds, (uuid, status, reported, offered)) in (4..).zip(steps) {
        let (told, delivery) = bench
            .store
            .report_and_next(id, report(uuid, status), at(seconds))
            .await
            .unwrap();
        assert_eq!(
            (told, delivery.map(|delivery| delivery.uuid)),
            (reported, offered),
            "at {seconds}"
        );
    }
}

async fn a_repeated_report_changes_nothing(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    next(&bench, id, 3).await.unwrap();
    assert_eq!(
        store
            .report(id, report(uuid, ReportStatus::Acknowledged), at(4))
            .await
            .unwrap(),
        Reported::Recorded
    );
    let before = store.command_entry(id, uuid).await.unwrap();
    for status in [ReportStatus::Acknowledged, ReportStatus::Error, ReportStatus::NotNow] {
        let again = ReportWrite {
            result: b"other".to_vec(),
            ..report(uuid, status)
        };
        assert_eq!(store.report(id, again, at(5)).await.unwrap(), Reported::Duplicate);
    }
    assert_eq!(store.command_entry(id, uuid).await.unwrap(), before);
}

async fn an_unknown_report_is_told_apart(bench: Bench) {
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    let uuid = bench.queued(first, "DeviceInformation").await;
    let acknowledged = |uuid| report(uuid, ReportStatus::Acknowledged);
    let unknown = bench
        .store
        .report(first, acknowledged(Uuid::now_v7()), at(3))
        .await
        .unwrap();
    assert_eq!(unknown, Reported::UnknownCommand);
    // Another device's command is none of this one's.
    assert_eq!(
        bench.store.report(second, acknowledged(uuid), at(3)).await.unwrap(),
        Reported::UnknownCommand
    );
    assert_eq!(state(&bench, first, uuid).await, EntryState::Pending);
}

async fn a_report_and_the_next_command_are_one_step(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let mut uuids = Vec::new();
    for _ in 0..3 {
        uuids.push(bench.queued(id, "DeviceInformation").await);
    }
    let mut current = next(&bench, id, 3).await;
    let mut delivered = Vec::new();
    while let Some(uuid) = current {
        delivered.push(uuid);
        let answer = report(uuid, ReportStatus::CommandFormatError);
        let (reported, delivery) = store.report_and_next(id, answer, at(4)).await.unwrap();
        assert_eq!(reported, Reported::Recorded);
        current = delivery.map(|delivery| delivery.uuid);
    }
    assert_eq!(delivered, uuids);
    for uuid in uuids {
        let entry = store.command_entry(id, uuid).await.unwrap().unwrap();
        assert_eq!(
            (entry.state, entry.status),
            (EntryState::Failed, Some(ReportStatus::CommandFormatError))
        );
    }
}

async fn a_deferred_command_waits_and_says_why(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "InstallProfile").await;
    let delivery = store.next(id, at(3), Poll::Idle).await.unwrap().unwrap();
    store.defer(delivery.entry, "no such template", at(60)).await.unwrap();
    let entry = &store.queue(id).await.unwrap()[0];
    assert_eq!((entry.state, entry.not_before), (EntryState::Pending, Some(at(60))));
    assert_eq!(entry.defer_reason.as_deref(), Some("no such template"));
    assert_eq!(next(&bench, id, 59).await, None);
    assert_eq!(next(&bench, id, 60).await, Some(uuid));
    // Who mended what it is made from pushes the device, and it need not wait any longer.
    store
        .defer(delivery.entry, "no such template", at(9_000))
        .await
        .unwrap();
    assert_eq!(next(&bench, id, 60).await, None);
    store.push_request(id, at(60)).await.unwrap();
    assert_eq!(next(&bench, id, 60).await, Some(uuid));
    store
        .report(id, report(uuid, ReportStatus::Acknowledged), at(61))
        .await
        .unwrap();
    assert!(matches!(
        store.defer(delivery.entry, "late", at(99)).await,
        Err(StoreError::NotFound(_))
    ));
}

async fn a_cancelled_command_is_not_delivered(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    let command = bench.command("EraseDevice");
    let uuid = command.uuid;
    store.enqueue(command, vec![first, second], at(2)).await.unwrap();
    assert!(matches!(
        store.cancel(other, uuid, None, at(3)).await,
        Err(StoreError::NotFound("command"))
    ));
    assert_eq!(store.cancel(bench.tenant, uuid, Some(first), at(3)).await.unwrap(), 1);
    assert_eq!(next(&bench, first, 4).await, None);
    assert_eq!(store.cancel(bench.tenant, uuid, None, at(5)).await.unwrap(), 1);
    assert_eq!(next(&bench, second, 6).await, None);
    assert_eq!(store.cancel(bench.tenant, uuid, None, at(7)).await.unwrap(), 0);
    assert_eq!(state(&bench, first, uuid).await, EntryState::Cancelled);
}

async fn what_a_device_did_is_kept_although_it_was_cancelled(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "EraseDevice").await;
    next(&bench, id, 3).await.unwrap();
    store.cancel(bench.tenant, uuid, None, at(4)).await.unwrap();
    assert_eq!(
        store
            .report(id, report(uuid, ReportStatus::NotNow), at(5))
            .await
            .unwrap(),
        Reported::Duplicate
    );
    assert_eq!(state(&bench, id, uuid).await, EntryState::Cancelled);
    assert_eq!(
        store
            .report(id, report(uuid, ReportStatus::Acknowledged), at(6))
            .await
            .unwrap(),
        Reported::Recorded
    );
    assert_eq!(state(&bench, id, uuid).await, EntryState::Acknowledged);
}
