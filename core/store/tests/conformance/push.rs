//! The push outbox, push certificates.

use std::collections::HashSet;
use std::time::Duration;

use russet_store::testing::statements;
use russet_store::{
    EnrollmentId, NewCommand, PushCertificate, PushJob, PushOutcome, ReportStatus, StoreError, TokenTarget,
};

use crate::behaviours;
use crate::bench::{Bench, Settle, at};
use crate::queue::report;

behaviours![
    pushes_coalesce_per_enrollment,
    a_push_is_leased_to_one,
    a_request_during_a_push_is_not_lost,
    a_refused_push_waits,
    a_dead_token_is_parked,
    many_pushes_are_written_down_in_few_statements,
    what_became_of_pushes_is_told_apart,
    a_new_token_is_not_parked_for_the_old_one,
    a_waiting_command_asks_for_its_own_push,
    the_dispatcher_is_woken_after_the_commit,
    push_certificates_keep_their_key_sealed,
    a_push_certificate_is_reminded_of_once_for_each_number_of_days,
    a_device_that_nobody_is_going_to_wake_is_found,
    a_new_push_certificate_ends_the_wait_of_its_pushes,
];

async fn claim(bench: &Bench, seconds: i64) -> Vec<PushJob> {
    bench
        .store
        .push_claim(100, at(seconds + 30), at(seconds))
        .await
        .unwrap()
}

async fn the_one(bench: &Bench, seconds: i64) -> PushJob {
    let mut jobs = claim(bench, seconds).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

async fn parked(bench: &Bench, id: EnrollmentId) -> bool {
    let record = bench
        .store
        .enrollment(bench.tenant, russet_store::EnrollmentLookup::Id(id))
        .await
        .unwrap()
        .unwrap();
    record.push.unwrap().parked_at.is_some()
}

async fn pushes_coalesce_per_enrollment(bench: Bench) {
    let id = bench.enrolled("U1").await;
    assert!(claim(&bench, 2).await.is_empty());
    for _ in 0..3 {
        bench.queued(id, "DeviceInformation").await;
    }
    bench.store.push_request(id, at(3)).await.unwrap();
    let job = the_one(&bench, 4).await;
    assert_eq!((job.enrollment, job.tenant, job.attempts), (id, bench.tenant, 0));
    assert_eq!(
        (job.topic.as_str(), job.magic.as_str()),
        ("com.apple.mgmt.test", "magic")
    );
    bench.store.push_done(&job, at(5)).await.unwrap();
    // Once more, should it not come by then.
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(5 + 900)));

    // Without a token there is nobody to wake.
    let pending = bench
        .store
        .authenticate(bench.authenticate_write("U2").await, at(5))
        .await
        .unwrap();
    bench.store.push_request(pending, at(6)).await.unwrap();
    assert!(claim(&bench, 7).await.is_empty());
}

async fn a_push_is_leased_to_one(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let first = bench.store.push_claim(10, at(30), at(3)).await.unwrap().remove(0);
    let before = bench.writes().await;
    assert!(bench.store.push_claim(10, at(30), at(29)).await.unwrap().is_empty());
    assert_eq!(bench.writes().await, before);
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(30)));
    // Its dispatcher died: another one takes over, and the first cannot settle it any more.
    let second = bench.store.push_claim(10, at(60), at(30)).await.unwrap().remove(0);
    bench.store.push_done(&first, at(31)).await.unwrap();
    bench.store.push_retry(&first, at(32), at(31)).await.unwrap();
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(60)));
    bench.store.push_done(&second, at(33)).await.unwrap();
    assert_eq!(bench.store.push_next_due().await.unwrap(), None);
}

async fn a_request_during_a_push_is_not_lost(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let job = the_one(&bench, 3).await;
    bench.store.push_request(id, at(4)).await.unwrap();
    assert!(claim(&bench, 5).await.is_empty());
    bench.store.push_done(&job, at(6)).await.unwrap();
    let again = the_one(&bench, 6).await;
    bench.store.push_done(&again, at(7)).await.unwrap();
    assert!(claim(&bench, 8).await.is_empty());
}

async fn a_refused_push_waits(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let job = the_one(&bench, 3).await;
    bench.store.push_retry(&job, at(50), at(49)).await.unwrap();
    // Another request does not shorten what APNs asked for.
    bench.store.push_request(id, at(4)).await.unwrap();
    assert!(claim(&bench, 49).await.is_empty());
    assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(50)));
    assert_eq!(the_one(&bench, 50).await.attempts, 1);
}

async fn a_dead_token_is_parked(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let job = the_one(&bench, 3).await;
    assert!(bench.store.push_park(&job, at(4)).await.unwrap());
    assert!(parked(&bench, id).await);
    bench.queued(id, "DeviceInformation").await;
    assert_eq!(bench.store.push_next_due().await.unwrap(), None);
    // The next TokenUpdate wakes it for what waits.
    bench
        .store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(5))
        .await
        .unwrap();
    assert!(!parked(&bench, id).await);
    assert_eq!(the_one(&bench, 6).await.enrollment, id);
}

async fn many_pushes_are_written_down_in_few_statements(bench: Bench) {
    let store = &bench.store;
    let mut ids = Vec::new();
    for number in 0..40 {
        let id = bench.enrolled(&format!("U{number}")).await;
        // Every other one has something to fetch.
        match number % 2 {
            0 => store.push_request(id, at(2)).await.unwrap(),
            _ => drop(bench.queued(id, "DeviceInformation").await),
        }
        ids.push(id);
    }
    let mut jobs = claim(&bench, 3).await;
    assert_eq!(jobs.len(), 40);
    let rest = jobs.split_off(4);
    let count = async |jobs: Vec<PushJob>| {
        let before = statements();
        let taken = jobs.into_iter().map(|job| (job, PushOutcome::Taken)).collect();
        store.push_settle(taken, at(4)).await.unwrap();
        statements() - before
    };
    let few = count(jobs).await;
    assert_eq!((count(rest).await, few), (few, 3));
    // Those with something to fetch are woken again.
    assert_eq!(bench.count("push_outbox").await, 20);
    let again: HashSet<_> = claim(&bench, 4 + 900).await.iter().map(|job| job.enrollment).collect();
    assert_eq!(again, ids.into_iter().skip(1).step_by(2).collect());
}

async fn what_became_of_pushes_is_told_apart(bench: Bench) {
    let store = &bench.store;
    let mut ids = Vec::new();
    for name in ["taken", "asked for again", "refused", "dead", "given to another"] {
        let id = bench.enrolled(name).await;
        store.push_request(id, at(2)).await.unwrap();
        ids.push(id);
    }
    let [taken, again, refused, dead, others] = ids[..] else {
        panic!("five")
    };
    // Two claims, and all of them are written down at once.
    let mut jobs = store.push_claim(2, at(30), at(3)).await.unwrap();
    jobs.extend(store.push_claim(2, at(30), at(3)).await.unwrap());
    let lost = store.push_claim(10, at(10), at(3)).await.unwrap();
    store.push_request(again, at(4)).await.unwrap();
    let theirs = store.push_claim(10, at(60), at(10)).await.unwrap();
    assert_eq!((lost.len(), theirs.len(), theirs[0].enrollment), (1, 1, others));
    jobs.extend(lost);
    let outcome = |job: PushJob| {
        let outcome = match job.enrollment {
            id if id == refused => PushOutcome::Refused { due_at: at(100) },
            id if id == dead => PushOutcome::Dead,
            _ => PushOutcome::Taken,
        };
        (job, outcome)
    };
    let parks = store.push_settle(jobs.into_iter().map(outcome).collect(), at(11)).await;
    assert_eq!(parks.unwrap(), 1);
    assert!(parked(&bench, dead).await && !parked(&bench, taken).await);
    assert_eq!(the_one(&bench, 12).await.enrollment, again);
    assert_eq!(bench.count("push_outbox").await, 3);
    let due = store.push_claim(10, at(200), at(100)).await.unwrap();
    let attempts: HashSet<_> = due.iter().map(|job| (job.enrollment, job.attempts)).collect();
    assert_eq!(attempts, HashSet::from([(again, 0), (refused, 1), (others, 0)]));
}

async fn a_new_token_is_not_parked_for_the_old_one(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let job = the_one(&bench, 3).await;
    let update = bench.token(TokenTarget::Enrollment(id));
    bench.store.token_update(update.clone(), at(4)).await.unwrap();
    assert!(!bench.store.push_park(&job, at(5)).await.unwrap());
    assert!(!parked(&bench, id).await);
    assert_eq!(the_one(&bench, 6).await.token, update.token);
}

async fn a_waiting_command_asks_for_its_own_push(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let mut later = bench.command("DeviceLock");
    later.not_before = Some(at(100));
    let later_uuid = later.uuid;
    bench.store.enqueue(later, vec![id], at(2)).await.unwrap();
    let now = bench.queued(id, "DeviceInformation").await;
    let job = the_one(&bench, 3).await;
    bench.store.push_done(&job, at(4)).await.unwrap();
    bench
        .store
        .report(id, report(now, ReportStatus::Acknowledged), at(5))
        .await
        .unwrap();
    assert!(claim(&bench, 99).await.is_empty());
    let job = the_one(&bench, 100).await;
    bench
        .store
        .report(id, report(later_uuid, ReportStatus::Acknowledged), at(101))
        .await
        .unwrap();
    bench.store.push_done(&job, at(101)).await.unwrap();
    assert_eq!(bench.store.push_next_due().await.unwrap(), None);
}

async fn the_dispatcher_is_woken_after_the_commit(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let signal = bench.store.push_signal();
    bench.queued(id, "DeviceInformation").await;
    tokio::time::timeout(Duration::from_secs(5), signal.notified())
        .await
        .unwrap();
    assert_eq!(claim(&bench, 3).await.len(), 1);
    // What failed wakes nobody: the same command again is refused.
    let command = bench.command("DeviceInformation");
    bench.store.enqueue(command.clone(), vec![], at(4)).await.unwrap();
    assert!(matches!(
        bench.store.enqueue(command, vec![id], at(5)).await,
        Err(StoreError::Exists(_))
    ));
    let woken = tokio::time::timeout(Duration::from_millis(20), signal.notified()).await;
    assert!(woken.is_err());
}

async fn a_device_that_nobody_is_going_to_wake_is_found(bench: Bench) {
    let store = &bench.store;
    let (lost, later, idle) = (
        bench.enrolled("U1").await,
        bench.enrolled("U2").await,
        bench.enrolled("U3").await,
    );
    let parked = bench.enrolled("U4").await;
    for id in [lost, parked] {
        bench.queued(id, "DeviceInformation").await;
    }
    let command = NewCommand {
        not_before: Some(at(500)),
        ..bench.command("SecurityInfo")
    };
    store.enqueue(command, vec![later], at(2)).await.unwrap();
    let sql = format!("UPDATE enrollments SET token_parked_at = 1 WHERE id = {parked}");
    bench.meddle(&sql, &sql).await;
    let sql = "DELETE FROM push_outbox";
    bench.meddle(sql, sql).await;
    let due = async |seconds| {
        let jobs = store.push_claim(10, at(seconds + 60), at(seconds)).await.unwrap();
        jobs.into_iter().map(|job| job.enrollment).collect::<Vec<_>>()
    };

    assert_eq!(store.push_missed(at(10)).await.unwrap(), 1);
    assert_eq!(store.push_missed(at(10)).await.unwrap(), 0, "it is going to be woken");
    assert_eq!(due(10).await, [lost]);
    assert_eq!(store.push_missed(at(600)).await.unwrap(), 1, "now it may be delivered");
    assert!(due(600).await.contains(&later));
    assert!(!due(700).await.contains(&idle));
}

async fn a_new_push_certificate_ends_the_wait_of_its_pushes(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench.store.push_request(id, at(2)).await.unwrap();
    let job = the_one(&bench, 3).await;
    bench.store.push_retry(&job, at(3_600), at(3_599)).await.unwrap();
    for (topic, seconds, due) in [("com.apple.mgmt.other", 4, 3_600), ("com.apple.mgmt.test", 5, 5)] {
        let certificate = PushCertificate {
            topic: topic.to_owned(),
            certificate: Vec::new(),
            subject: String::new(),
            not_after: at(86_400),
            updated_at: at(seconds),
        };
        bench
            .store
            .put_push_certificate(bench.tenant, certificate, b"key")
            .await
            .unwrap();
        assert_eq!(bench.store.push_next_due().await.unwrap(), Some(at(due)), "{topic}");
    }
    assert_eq!(the_one(&bench, 5).await.attempts, 0);
}

async fn a_push_certificate_is_reminded_of_once_for_each_number_of_days(bench: Bench) {
    let store = &bench.store;
    let certificate = |seconds| PushCertificate {
        topic: "a".to_owned(),
        certificate: Vec::new(),
        subject: String::new(),
        not_after: at(86_400),
        updated_at: at(seconds),
    };
    store
        .put_push_certificate(bench.tenant, certificate(0), b"key")
        .await
        .unwrap();
    let remind = async |topic: &str, days| {
        store
            .remind_of_push_certificate(bench.tenant, topic, days, at(1))
            .await
            .unwrap()
    };
    assert!(remind("a", 60).await);
    assert!(!remind("a", 60).await, "once");
    assert!(remind("a", 7).await);
    assert!(!remind("a", 30).await, "that time is over");
    assert!(!remind("b", 60).await, "there is none");
    store
        .put_push_certificate(bench.tenant, certificate(2), b"key")
        .await
        .unwrap();
    assert!(remind("a", 60).await, "a renewed one has its reminders before it again");
}

async fn push_certificates_keep_their_key_sealed(bench: Bench) {
    let store = &bench.store;
    let certificate = |topic: &str, seconds| PushCertificate {
        topic: topic.to_owned(),
        certificate: b"-----BEGIN CERTIFICATE-----".to_vec(),
        subject: "UID=com.apple.mgmt".to_owned(),
        not_after: at(86_400),
        updated_at: at(seconds),
    };
    store
        .put_push_certificate(bench.tenant, certificate("b", 0), b"key b")
        .await
        .unwrap();
    store
        .put_push_certificate(bench.tenant, certificate("a", 0), b"key a")
        .await
        .unwrap();
    store
        .put_push_certificate(bench.tenant, certificate("a", 1), b"renewed")
        .await
        .unwrap();
    let listed = store.push_certificates(bench.tenant).await.unwrap();
    assert_eq!(listed, [certificate("a", 1), certificate("b", 0)]);
    let identity = store.push_identity(bench.tenant, "a").await.unwrap().unwrap();
    assert_eq!(
        (identity.certificate, identity.private_key.as_slice()),
        (certificate("a", 1), &b"renewed"[..])
    );
    assert_eq!(
        store.push_certificate_updated_at(bench.tenant, "a").await.unwrap(),
        Some(at(1))
    );
    assert_eq!(
        store.push_certificate_updated_at(bench.tenant, "c").await.unwrap(),
        None
    );
    assert!(store.push_identity(bench.tenant, "c").await.unwrap().is_none());

    let swap = "UPDATE push_certificates SET sealed_key = (SELECT sealed_key FROM push_certificates WHERE topic = 'a') \
                WHERE topic = 'b'";
    bench.meddle(swap, swap).await;
    assert!(matches!(
        store.push_identity(bench.tenant, "b").await,
        Err(StoreError::Sealed("push-key"))
    ));
}
