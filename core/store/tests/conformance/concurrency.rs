//! Many at once: nothing is done twice, and nothing gets lost.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use russet_protocol::Channel;
use russet_store::{
    Consumed, EnrollmentId, EntryState, NewChallenge, NewCommand, Poll, ReportStatus, ReportWrite, Reported,
    SecretKind, StoreError, TokenTarget,
};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, Settle, at, sha256};

behaviours![
    polls_at_once_deliver_each_command_once,
    workers_at_once_lose_nothing,
    duplicates_at_once_are_queued_once,
    a_report_that_comes_twice_at_once_is_recorded_once,
    a_challenge_at_once_is_good_once,
    a_certificate_at_once_binds_once,
    devices_at_once_enroll_each_for_itself,
    servers_at_once_agree_on_a_secret,
    dispatchers_at_once_share_the_pushes,
    a_user_at_once_is_made_once,
    activations_at_once_follow_one_another,
    a_failing_write_does_not_fail_its_neighbours,
];

/// Runs `count` tasks at once and collects what they return.
async fn at_once<T, F>(count: u64, task: impl Fn(u64) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..count {
        tasks.spawn(task(number));
    }
    tasks.join_all().await
}

fn acknowledged(uuid: Uuid) -> ReportWrite {
    ReportWrite {
        uuid,
        status: ReportStatus::Acknowledged,
        error_chain: None,
        result: b"<plist/>".to_vec(),
    }
}

async fn queue_many(bench: &Bench, id: EnrollmentId, count: usize) -> HashSet<Uuid> {
    let mut uuids = HashSet::new();
    for _ in 0..count {
        uuids.insert(bench.queued(id, "DeviceInformation").await);
    }
    uuids
}

async fn polls_at_once_deliver_each_command_once(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuids = queue_many(&bench, id, 60).await;
    let delivered = at_once(100, |_| {
        let store = bench.store.clone();
        async move { store.next(id, at(10), Poll::Idle).await.unwrap() }
    })
    .await;
    let delivered: Vec<_> = delivered.into_iter().flatten().collect();
    assert_eq!(delivered.len(), 60);
    assert!(delivered.iter().all(|delivery| delivery.attempts == 1));
    assert_eq!(
        delivered
            .into_iter()
            .map(|delivery| delivery.uuid)
            .collect::<HashSet<_>>(),
        uuids
    );
}

async fn workers_at_once_lose_nothing(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuids = queue_many(&bench, id, 200).await;
    let delivered = at_once(100, |_| {
        let store = bench.store.clone();
        async move {
            let mut done = Vec::new();
            let mut current = store.next(id, at(10), Poll::AfterReport).await.unwrap();
            while let Some(delivery) = current {
                done.push(delivery.uuid);
                // At the same moment: later, what others work on would be offered again, as a device works on one at a time.
                let (reported, next) = store
                    .report_and_next(id, acknowledged(delivery.uuid), at(10))
                    .await
                    .unwrap();
                assert_eq!(reported, Reported::Recorded);
                current = next;
            }
            done
        }
    })
    .await;
    let delivered = delivered.concat();
    assert_eq!(delivered.len(), 200);
    assert_eq!(delivered.into_iter().collect::<HashSet<_>>(), uuids);
    assert_eq!(bench.store.queue(id).await.unwrap(), []);
    for uuid in uuids {
        let entry = bench.store.command_entry(id, uuid).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.attempts), (EntryState::Acknowledged, 1));
    }
}

async fn duplicates_at_once_are_queued_once(bench: Bench) {
    let ids = Arc::new(vec![
        bench.enrolled("U1").await,
        bench.enrolled("U2").await,
        bench.enrolled("U3").await,
    ]);
    let outcomes = at_once(50, |number| {
        let store = bench.store.clone();
        let command = NewCommand {
            dedupe_key: Some("inventory".to_owned()),
            ..bench.command("DeviceInformation")
        };
        // In different orders, as two fan-outs would come.
        let mut targets = ids.to_vec();
        targets.rotate_left(usize::try_from(number).unwrap() % 3);
        async move { store.enqueue(command, targets, at(2)).await.unwrap() }
    })
    .await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.queued).sum::<u64>(), 3);
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.deduplicated.len()).sum::<usize>(),
        50 * 3 - 3
    );
    for id in ids.iter() {
        assert_eq!(bench.store.queue(*id).await.unwrap().len(), 1);
    }
    assert_eq!(bench.store.push_claim(10, at(60), at(3)).await.unwrap().len(), 3);
}

async fn a_report_that_comes_twice_at_once_is_recorded_once(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let uuid = bench.queued(id, "DeviceInformation").await;
    bench.store.next(id, at(3), Poll::Idle).await.unwrap().unwrap();
    let outcomes = at_once(30, |_| {
        let store = bench.store.clone();
        async move { store.report(id, acknowledged(uuid), at(4)).await.unwrap() }
    })
    .await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Reported::Recorded)
            .count(),
        1
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Reported::Duplicate)
            .count(),
        29
    );
}

async fn a_challenge_at_once_is_good_once(bench: Bench) {
    let challenge = NewChallenge {
        challenge_sha256: sha256(1000),
        tenant: bench.tenant,
        person: None,
        attributes: json!({}),
        bound_serial: None,
        bound_udid: None,
        renews: None,
        expires_at: at(60),
    };
    bench.store.create_challenge(challenge, vec![], at(0)).await.unwrap();
    let outcomes = at_once(50, |number| {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        async move {
            store
                .consume_challenge(tenant, &sha256(1000), &sha256(number), at(1))
                .await
                .unwrap()
        }
    })
    .await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Consumed::Consumed(_)))
            .count(),
        1
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Consumed::AlreadyUsed)
            .count(),
        49
    );
}

async fn a_certificate_at_once_binds_once(bench: Bench) {
    let write = bench.authenticate_write("U1").await;
    let outcomes = at_once(20, |number| {
        let store = bench.store.clone();
        let mut write = write.clone();
        write.key = format!("U{number}");
        async move { store.authenticate(write, at(0)).await }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(StoreError::CertificateBound)))
        .count();
    assert_eq!(refused, 19);
}

async fn devices_at_once_enroll_each_for_itself(bench: Bench) {
    let store = &bench.store;
    let mut writes = Vec::new();
    for number in 0..40 {
        let mut write = bench.authenticate_write(&format!("U{number}")).await;
        write.decisions = vec![bench.decision("allow"), bench.decision("allow")];
        write.decisions[0].subject = write.key.clone();
        writes.push(write);
    }
    // Each second one comes twice, as from a device that did not wait for the answer.
    let again = writes.iter().step_by(2).cloned().collect::<Vec<_>>();
    writes.extend(again);
    let enrolled = at_once(writes.len() as u64, |number| {
        let store = bench.store.clone();
        let write = writes[usize::try_from(number).unwrap()].clone();
        async move { (write.key.clone(), store.authenticate(write, at(0)).await.unwrap()) }
    });
    let enrolled: HashSet<(String, EnrollmentId)> = enrolled.await.into_iter().collect();
    assert_eq!(enrolled.len(), 40, "one enrollment each: {enrolled:?}");
    let pending = "enrollments e JOIN certificates c ON c.enrollment_id = e.id \
                   WHERE e.state = 'pending' AND c.sha256 = e.certificate_sha256";
    assert_eq!(bench.count(pending).await, 40);
    assert_eq!(bench.count("decisions").await, 2 * 60);
    let mixed_up = "decisions d JOIN enrollments e ON e.id = d.enrollment_id \
                    WHERE d.subject NOT IN ('SERIAL', e.enrollment_key)";
    assert_eq!(bench.count(mixed_up).await, 0);
    bench.chained().await;
    let report = store.verify_decisions(bench.tenant, None).await.unwrap();
    assert_eq!((report.verified, report.broken), (120, None));

    // For some there is something to fetch once they can be woken.
    let mut waited_for = HashSet::new();
    for (_, id) in enrolled.iter().take(7) {
        bench.queued(*id, "DeviceInformation").await;
        waited_for.insert(*id);
    }
    assert_eq!(bench.count("push_outbox").await, 0, "nobody can be woken yet");
    let ids: Vec<EnrollmentId> = enrolled.iter().map(|(_, id)| *id).collect();
    let first = at_once(80, |number| {
        let store = bench.store.clone();
        let id = ids[usize::try_from(number % 40).unwrap()];
        let token = bench.token(TokenTarget::Enrollment(id));
        async move { store.token_update(token, at(3)).await.unwrap() }
    })
    .await;
    let first: Vec<EnrollmentId> = first
        .into_iter()
        .filter(|updated| updated.first)
        .map(|of| of.id)
        .collect();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 40);
    assert_eq!(first.len(), 40, "each becomes active once");
    assert_eq!(
        bench
            .count("enrollments WHERE state = 'active' AND enrolled_at > 0")
            .await,
        40
    );
    assert_eq!(bench.count("push_outbox").await, 7);
    let woken = store.push_claim(40, at(60), at(5)).await.unwrap();
    let woken: HashSet<EnrollmentId> = woken.into_iter().map(|job| job.enrollment).collect();
    assert_eq!(woken, waited_for);
}

async fn servers_at_once_agree_on_a_secret(bench: Bench) {
    let secrets = at_once(30, |number| {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        async move {
            let candidate = number.to_be_bytes();
            store
                .put_secret_if_absent(tenant, SecretKind::CaKey, "ca", &candidate, at(0))
                .await
                .unwrap()
                .to_vec()
        }
    })
    .await;
    assert_eq!(secrets.into_iter().collect::<HashSet<_>>().len(), 1);
}

async fn dispatchers_at_once_share_the_pushes(bench: Bench) {
    let mut ids = HashSet::new();
    for number in 0..40 {
        let id = bench.enrolled(&format!("U{number}")).await;
        bench.store.push_request(id, at(2)).await.unwrap();
        ids.insert(id);
    }
    let claimed = at_once(8, |_| {
        let store = bench.store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let jobs = store.push_claim(3, at(60), at(3)).await.unwrap();
                if jobs.is_empty() {
                    return mine;
                }
                for job in jobs {
                    store.push_done(&job, at(4)).await.unwrap();
                    mine.push(job.enrollment);
                }
            }
        }
    })
    .await
    .concat();
    assert_eq!(claimed.len(), 40);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), ids);
    assert_eq!(bench.store.push_next_due().await.unwrap(), None);
}

async fn a_user_at_once_is_made_once(bench: Bench) {
    let parent = bench.enrolled("U1").await;
    let outcomes = at_once(20, |_| {
        let store = bench.store.clone();
        let target = TokenTarget::User {
            parent,
            key: "U1:ada".to_owned(),
            channel: Channel::User,
            user: Default::default(),
        };
        let update = bench.token(target);
        async move { store.token_update(update, at(2)).await.unwrap() }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.first).count(), 1);
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.id).collect::<HashSet<_>>().len(),
        1
    );
}

fn activation(revision: russet_store::RevisionId) -> russet_store::Activation {
    russet_store::Activation {
        revision,
        actor: russet_store::Actor::new("anna"),
        force: false,
        watch: None,
    }
}

async fn activations_at_once_follow_one_another(bench: Bench) {
    let mut ids = Vec::new();
    for number in 0..5 {
        let revision = russet_store::NewRevision {
            tenant: bench.tenant,
            plugin: "gate".to_owned(),
            version: format!("1.0.{number}"),
            digest: sha256(number),
            component: Some(vec![]),
            manifest: json!({}),
            settings: json!({}),
            grants: json!([]),
            signature: None,
            staging: None,
            revision: None,
            steps: vec![russet_store::RevisionState::Probed],
            actor: russet_store::Actor::new("anna"),
        };
        let id = bench.store.insert_revision(revision, at(0)).await.unwrap();
        // In use once: the next upload leaves it alone.
        let used = bench.store.activate_revision(bench.tenant, activation(id), at(1)).await;
        assert_eq!(used.unwrap(), i64::try_from(number).unwrap() + 1);
        ids.push(id);
    }
    let ids = Arc::new(ids);
    let generations = at_once(5, |number| {
        let (store, tenant, ids) = (bench.store.clone(), bench.tenant, ids.clone());
        async move {
            let id = ids[usize::try_from(number).unwrap()];
            store.activate_revision(tenant, activation(id), at(1)).await.unwrap()
        }
    })
    .await;
    assert_eq!(generations.into_iter().collect::<HashSet<_>>(), (6..=10).collect());
    let set = bench.store.active_plugins(bench.tenant).await.unwrap();
    assert_eq!((set.generation, set.revisions.len()), (10, 1));
}

async fn a_failing_write_does_not_fail_its_neighbours(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let taken = bench.queued(id, "DeviceInformation").await;
    // Every third fails after it has written something: the generation is counted before the revision is missed.
    let outcomes = at_once(90, |number| {
        let (store, tenant) = (bench.store.clone(), bench.tenant);
        let mut command = bench.command("DeviceInformation");
        if number % 3 == 1 {
            command.uuid = taken;
        }
        async move {
            if number % 3 == 0 {
                store
                    .activate_revision(tenant, activation(russet_store::RevisionId(4711)), at(3))
                    .await
                    .map(|_| None)
            } else {
                let uuid = command.uuid;
                store.enqueue(command, vec![id], at(3)).await.map(|_| Some(uuid))
            }
        }
    })
    .await;
    let stored: HashSet<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().ok().copied().flatten())
        .collect();
    assert_eq!(stored.len(), 30);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StoreError::Exists("command"))))
            .count(),
        30
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StoreError::NotFound(_))))
            .count(),
        30
    );
    let queued: HashSet<_> = bench
        .store
        .queue(id)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.uuid)
        .collect();
    assert_eq!(queued, stored.into_iter().chain([taken]).collect());
    assert_eq!(bench.store.plugin_generation(bench.tenant).await.unwrap(), 0);
}
