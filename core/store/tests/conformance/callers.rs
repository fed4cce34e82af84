//! What devices ask all the time: many of them in one statement, each with its own answer.

use std::collections::HashSet;

use russet_protocol::Channel;
use russet_store::{
    Caller, EnrollmentId, EntryState, Poll, QueueAsk, ReportStatus, Reported, Sha256, TokenTarget, UserFacts,
};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};
use crate::queue::report;

behaviours![
    a_caller_is_who_the_certificate_and_the_key_say,
    many_ask_at_the_same_moment,
    a_poll_sees_what_the_next_delivery_would_be,
    of_two_polls_at_once_one_gets_the_command,
    a_report_of_many_at_once_brings_each_its_next_command,
    what_changed_since_it_was_seen_is_not_gone_by,
    what_was_lost_comes_after_what_is_fresh_in_one_round,
    a_broken_question_is_its_own_askers_alone,
    a_lost_connection_is_replaced,
];

/// A device with the digest of its certificate.
async fn device(bench: &Bench, key: &str) -> (EnrollmentId, Sha256) {
    let write = bench.authenticate_write(key).await;
    let certificate = write.certificate_sha256;
    let id = bench.store.authenticate(write, at(0)).await.unwrap();
    let token = bench.token(TokenTarget::Enrollment(id));
    bench.store.token_update(token, at(1)).await.unwrap();
    (id, certificate)
}

async fn ask(bench: &Bench, certificate: Sha256, key: &str, ask: QueueAsk, seconds: i64) -> Caller {
    let asked = bench
        .store
        .caller(&certificate, bench.tenant, key, ask, at(seconds))
        .await;
    asked.unwrap()
}

async fn state(bench: &Bench, id: EnrollmentId, uuid: Uuid) -> EntryState {
    bench.store.command_entry(id, uuid).await.unwrap().unwrap().state
}

async fn a_caller_is_who_the_certificate_and_the_key_say(bench: Bench) {
    let store = &bench.store;
    let (id, certificate) = device(&bench, "D1").await;
    let user = TokenTarget::User {
        parent: id,
        key: "D1:U1".to_owned(),
        channel: Channel::User,
        user: UserFacts::default(),
    };
    let user = store.token_update(bench.token(user), at(2)).await.unwrap().id;
    for (key, sha256) in [
        ("D1", certificate),
        ("D1:U1", certificate),
        ("D2", certificate),
        ("D1", sha256(999_999)),
    ] {
        let resolved = store.resolve(&sha256, bench.tenant, key).await.unwrap();
        let caller = ask(&bench, sha256, key, QueueAsk::Idle, 3).await;
        assert_eq!(caller.enrollment, resolved.enrollment, "{key}");
        let known = resolved
            .certificate
            .map(|known| (known.tenant, known.enrollment, known.revoked_at));
        let caller = caller
            .certificate
            .map(|known| (known.tenant, known.enrollment, known.revoked_at));
        assert_eq!(caller, known, "{key}");
    }
    let of_user = ask(&bench, certificate, "D1:U1", QueueAsk::Nothing, 3).await;
    let of_user = of_user.enrollment.unwrap();
    assert_eq!(
        (of_user.id, of_user.parent, of_user.certificate_matches),
        (user, Some(id), true)
    );

    // The key belongs to a tenant, and the certificate tells its own.
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let foreign = store
        .caller(&certificate, other, "D1", QueueAsk::Idle, at(3))
        .await
        .unwrap();
    assert_eq!(foreign.enrollment, None);
    assert_eq!(foreign.certificate.unwrap().tenant, bench.tenant);

    store
        .revoke_certificate(bench.tenant, &certificate, "lost", at(4))
        .await
        .unwrap();
    let revoked = ask(&bench, certificate, "D1", QueueAsk::Idle, 5).await;
    assert_eq!(revoked.certificate.unwrap().revoked_at, Some(at(4)));
}

async fn many_ask_at_the_same_moment(bench: Bench) {
    const DEVICES: usize = 150;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let key = format!("D{number}");
        let (id, certificate) = device(&bench, &key).await;
        // Every third has something to fetch.
        let uuid = match number % 3 {
            0 => Some(bench.queued(id, "DeviceInformation").await),
            _ => None,
        };
        devices.push((key, id, certificate, uuid));
    }
    let before = bench.writes().await;
    let mut asking = JoinSet::new();
    for (key, id, certificate, uuid) in devices {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        asking.spawn(async move {
            let caller = store
                .caller(&certificate, tenant, &key, QueueAsk::Idle, at(5))
                .await
                .unwrap();
            assert_eq!(caller.enrollment.unwrap().id, id);
            assert_eq!(caller.certificate.unwrap().enrollment, Some(id));
            (id, uuid, caller.queue)
        });
    }
    let asked = asking.join_all().await;
    assert_eq!(bench.writes().await, before, "asking wrote something");

    let mut fetching = JoinSet::new();
    for (id, uuid, queue) in asked {
        let store = bench.store.clone();
        fetching.spawn(async move {
            let delivery = store.next_of(id, queue, at(5)).await.unwrap();
            assert_eq!(delivery.as_ref().map(|delivery| delivery.uuid), uuid);
            if let Some(delivery) = delivery {
                assert_eq!(delivery.payload, b"<plist/>");
                assert_eq!(delivery.attempts, 1);
            }
        });
    }
    fetching.join_all().await;
    assert_eq!(
        bench.count("queue_entries WHERE state = 'sent'").await,
        DEVICES as i64 / 3
    );
}

async fn a_poll_sees_what_the_next_delivery_would_be(bench: Bench) {
    let store = &bench.store;
    let (id, certificate) = device(&bench, "D1").await;
    let seen = async |seconds| {
        let queue = ask(&bench, certificate, "D1", QueueAsk::Idle, seconds).await.queue;
        let delivery = store.next_of(id, queue, at(seconds)).await.unwrap();
        delivery.map(|delivery| delivery.uuid)
    };
    assert_eq!(seen(3).await, None);
    let later = russet_store::NewCommand {
        not_before: Some(at(100)),
        priority: 1,
        ..bench.command("RestartDevice")
    };
    let late = later.uuid;
    store.enqueue(later, vec![id], at(2)).await.unwrap();
    let expired = russet_store::NewCommand {
        expires_at: Some(at(4)),
        priority: 2,
        ..bench.command("EraseDevice")
    };
    let too_late = expired.uuid;
    store.enqueue(expired, vec![id], at(2)).await.unwrap();
    let (first, second) = (bench.queued(id, "A").await, bench.queued(id, "B").await);
    // What is expired is marked, and what comes after it goes out.
    assert_eq!(seen(5).await, Some(first));
    assert_eq!(state(&bench, id, too_late).await, EntryState::Expired);
    // What was put off goes before what was not answered, but after nothing that is fresh.
    store
        .report(id, report(first, ReportStatus::NotNow), at(6))
        .await
        .unwrap();
    assert_eq!(seen(7).await, Some(first));
    assert_eq!(seen(8).await, Some(second));
    assert_eq!(seen(9).await, Some(first));
    // One is delivered twice without an answer and rests; the other one is offered behind everything else.
    assert_eq!(seen(10).await, Some(second));
    assert_eq!(seen(11).await, None);
    assert_eq!(seen(101).await, Some(late));
    // A message that is about something else is told nothing.
    let queue = ask(&bench, certificate, "D1", QueueAsk::Nothing, 4_000).await.queue;
    assert_eq!(store.next_of(id, queue, at(4_000)).await.unwrap(), None);
}

async fn of_two_polls_at_once_one_gets_the_command(bench: Bench) {
    let (id, certificate) = device(&bench, "D1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    let mut views = Vec::new();
    for _ in 0..8 {
        views.push(ask(&bench, certificate, "D1", QueueAsk::Idle, 5).await.queue);
    }
    let mut fetching = JoinSet::new();
    for queue in views {
        let store = bench.store.clone();
        fetching.spawn(async move { store.next_of(id, queue, at(5)).await.unwrap() });
    }
    let got: Vec<_> = fetching.join_all().await.into_iter().flatten().collect();
    assert_eq!(got.len(), 1, "the command went out {} times", got.len());
    assert_eq!(got[0].uuid, uuid);
    assert_eq!(bench.count("queue_entries WHERE attempts = 1").await, 1);
}

async fn a_report_of_many_at_once_brings_each_its_next_command(bench: Bench) {
    const DEVICES: usize = 90;
    let store = &bench.store;
    let mut reporting = JoinSet::new();
    for number in 0..DEVICES {
        let key = format!("D{number}");
        let (id, certificate) = device(&bench, &key).await;
        let first = bench.queued(id, "A").await;
        assert_eq!(store.next(id, at(5), Poll::Idle).await.unwrap().unwrap().uuid, first);
        // Every second has another one.
        let second = match number % 2 {
            0 => Some(bench.queued(id, "B").await),
            _ => None,
        };
        let status = if number % 5 == 0 {
            ReportStatus::Error
        } else {
            ReportStatus::Acknowledged
        };
        let (store, tenant) = (store.clone(), bench.tenant);
        reporting.spawn(async move {
            let ask = QueueAsk::Report(first);
            let queue = store
                .caller(&certificate, tenant, &key, ask, at(6))
                .await
                .unwrap()
                .queue;
            let mut write = report(first, status);
            write.result = key.clone().into_bytes();
            if status == ReportStatus::Error {
                write.error_chain = Some(json!([{ "ErrorCode": number }]));
            }
            let (reported, next) = store.report_of(id, write, queue, at(6)).await.unwrap();
            assert_eq!(reported, Reported::Recorded);
            assert_eq!(next.map(|next| next.uuid), second);
            (key, id, certificate, first, status, number)
        });
    }
    for (key, id, certificate, first, status, number) in reporting.join_all().await {
        let entry = store.command_entry(id, first).await.unwrap().unwrap();
        let (expected, chain) = match status {
            ReportStatus::Error => (EntryState::Failed, Some(json!([{ "ErrorCode": number }]))),
            _ => (EntryState::Acknowledged, None),
        };
        assert_eq!(
            (entry.state, entry.status, entry.error_chain),
            (expected, Some(status), chain)
        );
        assert_eq!((entry.answered_at, entry.finished_at), (Some(at(6)), Some(at(6))));
        let entries = store
            .command_entries(bench.tenant, first, None, 10)
            .await
            .unwrap()
            .items;
        assert_eq!(
            entries[0].result.as_deref(),
            Some(key.as_bytes()),
            "{key} has another one's result"
        );
        // Repeated: as before, and the command that was lost with the answer comes again.
        let queue = ask(&bench, certificate, &key, QueueAsk::Report(first), 7).await.queue;
        let (reported, next) = store.report_of(id, report(first, status), queue, at(7)).await.unwrap();
        assert_eq!(reported, Reported::Duplicate);
        assert_eq!(next.is_some(), number % 2 == 0);
    }
}

async fn what_was_lost_comes_after_what_is_fresh_in_one_round(bench: Bench) {
    let store = &bench.store;
    let (id, certificate) = device(&bench, "D1").await;
    let lost = bench.queued(id, "A").await;
    let queue = ask(&bench, certificate, "D1", QueueAsk::Idle, 3).await.queue;
    assert_eq!(store.next_of(id, queue, at(3)).await.unwrap().unwrap().uuid, lost);
    let (fresh, put_off) = (bench.queued(id, "B").await, bench.queued(id, "C").await);
    let queue = ask(&bench, certificate, "D1", QueueAsk::Idle, 4).await.queue;
    assert_eq!(store.next_of(id, queue, at(4)).await.unwrap().unwrap().uuid, fresh);
    for (seconds, answered, status, offered) in [
        (5, fresh, ReportStatus::Acknowledged, Some(put_off)),
        (6, put_off, ReportStatus::NotNow, Some(lost)),
        // Not what it put off in this round, and not what it has just answered.
        (7, lost, ReportStatus::Acknowledged, None),
    ] {
        let asked = QueueAsk::Report(answered);
        let queue = ask(&bench, certificate, "D1", asked, seconds).await.queue;
        let (reported, next) = store
            .report_of(id, report(answered, status), queue, at(seconds))
            .await
            .unwrap();
        let next = next.map(|delivery| delivery.uuid);
        assert_eq!((reported, next), (Reported::Recorded, offered), "at {seconds}");
    }
}

async fn what_changed_since_it_was_seen_is_not_gone_by(bench: Bench) {
    let store = &bench.store;
    let (id, certificate) = device(&bench, "D1").await;
    let (first, second) = (bench.queued(id, "A").await, bench.queued(id, "B").await);
    let third = bench.queued(id, "C").await;
    assert_eq!(store.next(id, at(5), Poll::Idle).await.unwrap().unwrap().uuid, first);

    // The next one is taken back between look and report.
    let queue = ask(&bench, certificate, "D1", QueueAsk::Report(first), 6).await.queue;
    store.cancel(bench.tenant, second, Some(id), at(6)).await.unwrap();
    let (reported, next) = store
        .report_of(id, report(first, ReportStatus::Acknowledged), queue, at(6))
        .await
        .unwrap();
    assert_eq!(reported, Reported::Recorded);
    assert_eq!(next.unwrap().uuid, third);
    assert_eq!(state(&bench, id, second).await, EntryState::Cancelled);

    // The report itself was stored meanwhile: it is a repeated one, and nothing new is delivered with it.
    let queue = ask(&bench, certificate, "D1", QueueAsk::Report(third), 7).await.queue;
    let fourth = bench.queued(id, "D").await;
    let done = report(third, ReportStatus::Acknowledged);
    store.report(id, done.clone(), at(7)).await.unwrap();
    let (reported, next) = store.report_of(id, done, queue, at(7)).await.unwrap();
    assert_eq!(reported, Reported::Duplicate);
    assert_eq!(next.unwrap().uuid, fourth);

    // What the device put off stays in its queue; what it was never sent is told apart.
    let queue = ask(&bench, certificate, "D1", QueueAsk::Report(fourth), 8).await.queue;
    let put_off = report(fourth, ReportStatus::NotNow);
    let (reported, next) = store.report_of(id, put_off, queue, at(8)).await.unwrap();
    assert_eq!((reported, next), (Reported::Recorded, None));
    assert_eq!(state(&bench, id, fourth).await, EntryState::NotNow);
    let unknown = Uuid::now_v7();
    let queue = ask(&bench, certificate, "D1", QueueAsk::Report(unknown), 9).await.queue;
    let (reported, next) = store
        .report_of(id, report(unknown, ReportStatus::Acknowledged), queue, at(9))
        .await
        .unwrap();
    assert_eq!((reported, next), (Reported::UnknownCommand, None));

    // A poll whose command was taken back gets what comes after it.
    let (fifth, sixth) = (bench.queued(id, "E").await, bench.queued(id, "F").await);
    let queue = ask(&bench, certificate, "D1", QueueAsk::Idle, 7_200).await.queue;
    store.cancel(bench.tenant, fourth, None, at(7_200)).await.unwrap();
    store.cancel(bench.tenant, fifth, None, at(7_200)).await.unwrap();
    assert_eq!(store.next_of(id, queue, at(7_200)).await.unwrap().unwrap().uuid, sixth);
}

/// PostgreSQL refuses a NUL in a text, and with it the whole statement.
async fn a_broken_question_is_its_own_askers_alone(bench: Bench) {
    let (id, certificate) = device(&bench, "D1").await;
    let mut asking = JoinSet::new();
    for number in 0..60 {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        asking.spawn(async move {
            let key = if number % 20 == 0 { "D1\0" } else { "D1" };
            let caller = store.caller(&certificate, tenant, key, QueueAsk::Idle, at(5)).await;
            match caller {
                Ok(caller) => {
                    let found = caller.enrollment.map(|enrollment| enrollment.id);
                    assert_eq!(found, (number % 20 != 0).then_some(id));
                    true
                }
                Err(_) => {
                    assert_eq!(number % 20, 0, "somebody else's question failed");
                    false
                }
            }
        });
    }
    let answered: HashSet<bool> = asking.join_all().await.into_iter().collect();
    assert!(answered.contains(&true));
}

async fn a_lost_connection_is_replaced(bench: Bench) {
    let store = &bench.store;
    let (id, certificate) = device(&bench, "D1").await;
    for round in 0..4 {
        let seconds = 5 + 10 * round;
        let uuid = bench.queued(id, "DeviceInformation").await;
        let queue = ask(&bench, certificate, "D1", QueueAsk::Idle, seconds).await.queue;
        assert_eq!(store.next_of(id, queue, at(seconds)).await.unwrap().unwrap().uuid, uuid);
        bench
            .meddle(
                "SELECT 1",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let asked = QueueAsk::Report(uuid);
        let queue = ask(&bench, certificate, "D1", asked, seconds + 1).await.queue;
        bench
            .meddle(
                "SELECT 1",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let write = report(uuid, ReportStatus::Acknowledged);
        let (reported, _) = store.report_of(id, write, queue, at(seconds + 1)).await.unwrap();
        assert_eq!(reported, Reported::Recorded);
    }
}
