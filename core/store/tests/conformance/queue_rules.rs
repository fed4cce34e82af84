//! What is not answered, what is put off, what is stuck, what is taken back, and how devices are woken again.

use jiff::SignedDuration;
use russet_store::{EnrollmentId, EntryState, FlushFilter, NewCommand, Poll, ReportStatus};
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, Settle, at};
use crate::queue::report;

behaviours![
    a_command_that_is_never_answered_stands_in_nobodys_way,
    a_stuck_command_is_shown_and_counted_and_offered_rarely,
    an_answer_ends_being_stuck,
    not_now_is_never_a_loop,
    waking_a_device_ends_every_rest,
    a_queue_is_flushed,
    a_device_that_does_not_come_is_woken_again_and_again_but_not_too_often,
    a_device_that_comes_is_woken_for_what_it_put_off,
    a_device_that_answered_everything_is_not_woken_again,
];

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

async fn idle(bench: &Bench, id: EnrollmentId, seconds: i64) -> Option<Uuid> {
    let next = bench.store.next(id, at(seconds), Poll::Idle).await.unwrap();
    next.map(|delivery| delivery.uuid)
}

async fn state(bench: &Bench, id: EnrollmentId, uuid: Uuid) -> EntryState {
    bench.store.command_entry(id, uuid).await.unwrap().unwrap().state
}

async fn answer(bench: &Bench, id: EnrollmentId, uuid: Uuid, status: ReportStatus, seconds: i64) {
    bench.store.report(id, report(uuid, status), at(seconds)).await.unwrap();
}

/// Delivers a command until it is stuck; when that was.
async fn until_stuck(bench: &Bench, id: EnrollmentId, uuid: Uuid) -> i64 {
    let mut seconds = 10;
    for _ in 0..6 {
        assert_eq!(idle(bench, id, seconds).await, Some(uuid), "at {seconds}");
        seconds += 10 * MINUTE;
    }
    assert_eq!(state(bench, id, uuid).await, EntryState::Stuck);
    seconds - 10 * MINUTE
}

async fn a_command_that_is_never_answered_stands_in_nobodys_way(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let urgent = NewCommand {
        priority: -10,
        ..bench.command("RemoveProfile")
    };
    let deaf = urgent.uuid;
    bench.store.enqueue(urgent, vec![id], at(2)).await.unwrap();
    assert_eq!(idle(&bench, id, 3).await, Some(deaf));
    // The next polls get what came later and is less urgent.
    for seconds in [4, 5] {
        let other = bench.queued(id, "DeviceInformation").await;
        assert_eq!(idle(&bench, id, seconds).await, Some(other));
        answer(&bench, id, other, ReportStatus::Acknowledged, seconds).await;
    }
    // Nothing else is left: once more at once, because the answer may have been lost, and then with growing rests.
    assert_eq!(idle(&bench, id, 6).await, Some(deaf));
    for (rest, from) in [(MINUTE, 6), (2 * MINUTE, 67), (4 * MINUTE, 188)] {
        assert_eq!(idle(&bench, id, from + rest).await, None, "rests {rest} s");
        let before = bench.writes().await;
        assert_eq!(idle(&bench, id, from + 1).await, None);
        assert_eq!(bench.writes().await, before);
        assert_eq!(idle(&bench, id, from + rest + 1).await, Some(deaf));
    }
}

async fn a_stuck_command_is_shown_and_counted_and_offered_rarely(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let deaf = bench.queued(id, "RemoveProfile").await;
    let since = until_stuck(&bench, id, deaf).await;
    let counts = store.queue_counts(bench.tenant).await.unwrap();
    assert_eq!((counts.stuck_entries, counts.held_commands), (1, 0));
    let stuck = store.stuck_entries(bench.tenant, None, 10).await.unwrap().items;
    assert_eq!(stuck.len(), 1);
    assert_eq!(
        (stuck[0].uuid, stuck[0].unanswered, stuck[0].retry_at),
        (deaf, 6, Some(at(since + DAY)))
    );
    assert_eq!(store.open_counts(id).await.unwrap()[&EntryState::Stuck], 1);
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.queue_counts(other).await.unwrap(), Default::default());
    assert!(store.stuck_entries(other, None, 10).await.unwrap().items.is_empty());
    // It is offered behind everything else, once a day.
    assert_eq!(idle(&bench, id, since + DAY).await, None);
    let fresh = bench.queued(id, "DeviceInformation").await;
    assert_eq!(idle(&bench, id, since + DAY + 1).await, Some(fresh));
    assert_eq!(
        idle(&bench, id, since + DAY + 2).await,
        Some(fresh),
        "also before it when it was offered before"
    );
    assert_eq!(idle(&bench, id, since + DAY + 3).await, Some(deaf));
    assert_eq!(idle(&bench, id, since + DAY + HOUR).await, Some(fresh));
    // A repeated report does not bring it back either.
    answer(&bench, id, fresh, ReportStatus::Acknowledged, since + DAY + HOUR).await;
    let again = report(fresh, ReportStatus::Acknowledged);
    let (_, next) = store.report_and_next(id, again, at(since + 2 * DAY)).await.unwrap();
    assert_eq!(next, None);
}

async fn an_answer_ends_being_stuck(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let (put_off, done) = (bench.queued(id, "InstallProfile").await, bench.enrolled("U2").await);
    let since = until_stuck(&bench, id, put_off).await;
    answer(&bench, id, put_off, ReportStatus::NotNow, since + 1).await;
    assert_eq!(state(&bench, id, put_off).await, EntryState::NotNow);
    assert_eq!(store.queue_counts(bench.tenant).await.unwrap().stuck_entries, 0);
    assert_eq!(idle(&bench, id, since + 2).await, Some(put_off));

    let other = bench.queued(done, "RemoveProfile").await;
    let since = until_stuck(&bench, done, other).await;
    answer(&bench, done, other, ReportStatus::Acknowledged, since + 1).await;
    assert_eq!(store.queue_counts(bench.tenant).await.unwrap().stuck_entries, 0);
}

async fn not_now_is_never_a_loop(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "InstallProfile").await;
    // A device that polls over and over, and says NotNow each time.
    let mut offered = Vec::new();
    for seconds in 10..10 + HOUR {
        if idle(&bench, id, seconds).await.is_some() {
            offered.push(seconds - 10);
            answer(&bench, id, uuid, ReportStatus::NotNow, seconds).await;
        }
    }
    // At three polls in a row, and then after 1, 2, 4, 8, 16 minutes.
    let minutes: Vec<_> = offered.iter().map(|seconds| seconds / MINUTE).collect();
    assert_eq!(minutes, [0, 0, 0, 0, 1, 3, 7, 15, 31], "{offered:?}");
    assert_eq!(state(&bench, id, uuid).await, EntryState::NotNow);
}

async fn waking_a_device_ends_every_rest(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let deaf = bench.queued(id, "RemoveProfile").await;
    let since = until_stuck(&bench, id, deaf).await;
    assert_eq!(idle(&bench, id, since + 1).await, None);
    bench.store.push_request(id, at(since + 2)).await.unwrap();
    assert_eq!(idle(&bench, id, since + 3).await, Some(deaf));
}

async fn a_queue_is_flushed(bench: Bench) {
    let store = &bench.store;
    let (id, other) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    let mut uuids = Vec::new();
    for request_type in ["ProfileList", "DeviceLock", "ProfileList"] {
        let command = bench.command(request_type);
        uuids.push(command.uuid);
        store.enqueue(command, vec![id, other], at(2)).await.unwrap();
    }
    assert_eq!(idle(&bench, id, 3).await, Some(uuids[0]));
    let lists = FlushFilter {
        request_type: Some("ProfileList".to_owned()),
    };
    assert_eq!(store.flush(id, lists.clone(), at(4)).await.unwrap(), 2);
    assert_eq!(store.flush(id, lists, at(4)).await.unwrap(), 0);
    assert_eq!(idle(&bench, id, 5).await, Some(uuids[1]));
    assert_eq!(store.flush(id, FlushFilter::default(), at(6)).await.unwrap(), 1);
    assert_eq!(idle(&bench, id, 7 + DAY).await, None);
    // The device had the first one already, and did it.
    answer(&bench, id, uuids[0], ReportStatus::Acknowledged, 8).await;
    assert_eq!(state(&bench, id, uuids[0]).await, EntryState::Acknowledged);
    assert_eq!(
        idle(&bench, other, 9).await,
        Some(uuids[0]),
        "another device's queue is its own"
    );
}

/// Lets time go by, and APNs take every push; when there were some.
async fn pushes(bench: &Bench, from: i64, until: i64) -> Vec<i64> {
    let mut pushed = Vec::new();
    loop {
        let Some(due) = bench.store.push_next_due().await.unwrap() else {
            return pushed;
        };
        let now = due.max(at(from));
        if now > at(until) {
            return pushed;
        }
        let lease = now + SignedDuration::from_secs(30);
        for job in bench.store.push_claim(10, lease, now).await.unwrap() {
            pushed.push(now.duration_since(at(0)).as_secs());
            bench.store.push_done(&job, now).await.unwrap();
        }
    }
}

async fn a_device_that_does_not_come_is_woken_again_and_again_but_not_too_often(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.queued(id, "DeviceInformation").await;
    let pushed = pushes(&bench, 2, 3 * DAY).await;
    let minutes: Vec<_> = pushed.iter().map(|seconds| (seconds - 2) / MINUTE).collect();
    assert_eq!(
        minutes,
        [0, 15, 45, 105, 225, 465, 945, 1905, 3345],
        "each pause twice the last, up to a day"
    );
    assert!(
        pushes(&bench, 2, 30 * DAY).await.len() <= 28,
        "and so on, however old the command is"
    );
}

async fn a_device_that_comes_is_woken_for_what_it_put_off(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "InstallProfile").await;
    let mut pushed = Vec::new();
    let mut from = 2;
    // It comes at each push and puts the command off.
    while from < DAY {
        let next = bench.store.push_next_due().await.unwrap().unwrap();
        let until = next.duration_since(at(0)).as_secs();
        for seconds in pushes(&bench, from, until).await {
            pushed.push(seconds);
            bench.store.touch(id, at(seconds + 1));
            bench.store.flush_touched().await.unwrap();
            if idle(&bench, id, seconds + 1).await == Some(uuid) {
                answer(&bench, id, uuid, ReportStatus::NotNow, seconds + 2).await;
            }
        }
        from = until;
    }
    assert_eq!(pushed[..3], [2, 2 + 15 * MINUTE, 2 + 30 * MINUTE], "{pushed:?}");
    assert_eq!(
        pushed.iter().filter(|seconds| **seconds < DAY).count(),
        9,
        "one and eight more in a day: {pushed:?}"
    );
}

async fn a_device_that_answered_everything_is_not_woken_again(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let held = NewCommand {
        hold: Some(russet_store::Hold {
            reason: "r".to_owned(),
            message: "m".to_owned(),
        }),
        ..bench.command("EraseDevice")
    };
    let uuid = bench.queued(id, "DeviceInformation").await;
    store.enqueue(held, vec![id], at(2)).await.unwrap();
    let job = store.push_claim(10, at(60), at(3)).await.unwrap().remove(0);
    store.push_done(&job, at(3)).await.unwrap();
    assert_eq!(idle(&bench, id, 4).await, Some(uuid));
    answer(&bench, id, uuid, ReportStatus::Acknowledged, 5).await;
    assert_eq!(pushes(&bench, 5, DAY).await, [0; 0]);
    assert_eq!(
        store.push_next_due().await.unwrap(),
        None,
        "nothing is left in the outbox"
    );
}
