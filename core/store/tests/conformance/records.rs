//! Profiles, decisions, retention.

use std::time::Duration;

use russet_store::{
    Consumed, EntryState, NewChallenge, NewDecision, Poll, Profile, Purged, ReportStatus, ReportWrite, Retention,
};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    profiles_are_kept_by_name,
    decisions_are_listed,
    words_of_others_are_kept_as_far_as_they_can_be,
    old_things_go,
];

async fn profiles_are_kept_by_name(bench: Bench) {
    let store = &bench.store;
    let profile = |name: &str, seconds| Profile {
        name: name.to_owned(),
        content: b"<plist/>".to_vec(),
        template: Some("profile-template".to_owned()),
        settings: json!({ "ssid": "office" }),
        updated_at: at(seconds),
    };
    store.put_profile(bench.tenant, profile("wifi", 0)).await.unwrap();
    store.put_profile(bench.tenant, profile("vpn", 0)).await.unwrap();
    store.put_profile(bench.tenant, profile("wifi", 1)).await.unwrap();
    assert_eq!(
        store.profile(bench.tenant, "wifi").await.unwrap(),
        Some(profile("wifi", 1))
    );
    assert_eq!(
        store.profiles(bench.tenant).await.unwrap(),
        [profile("vpn", 0), profile("wifi", 1)]
    );
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.profile(other, "wifi").await.unwrap(), None);
    assert!(!store.delete_profile(other, "wifi").await.unwrap());
    assert!(store.delete_profile(bench.tenant, "wifi").await.unwrap());
    assert_eq!(store.profile(bench.tenant, "wifi").await.unwrap(), None);
}

async fn words_of_others_are_kept_as_far_as_they_can_be(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    bench.queued(id, "InstallProfile").await;
    let entry = store.next(id, at(3), Poll::Idle).await.unwrap().unwrap().entry;
    store.defer(entry, "no\0value", at(60)).await.unwrap();
    let reason = store.queue(id).await.unwrap().remove(0).defer_reason;
    assert_eq!(reason.as_deref(), Some("no\u{fffd}value"));

    let strange = NewDecision {
        subject: "S\0".to_owned(),
        reason: Some("because\0".to_owned()),
        fault: Some("x".repeat(1 << 20)),
        ..bench.decision("deny")
    };
    store
        .record_decisions(bench.tenant, vec![strange], at(3))
        .await
        .unwrap();
    let kept = store
        .decisions(bench.tenant, None, None, 1)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(kept.reason.as_deref(), Some("because\u{fffd}"));
    assert_eq!(kept.fault.unwrap().len(), 4 << 10);
}

async fn decisions_are_listed(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let faulty = NewDecision {
        enrollment: Some(id),
        fault: Some("guest trapped".to_owned()),
        failure_rule: Some("deny".to_owned()),
        ..bench.decision("deny")
    };
    let about = |subject: &str| NewDecision {
        subject: subject.to_owned(),
        ..bench.decision("allow")
    };
    store
        .record_decisions(bench.tenant, vec![about("a"), about("b"), faulty.clone()], at(3))
        .await
        .unwrap();
    let first = store.decisions(bench.tenant, None, None, 2).await.unwrap();
    let shown = &first.items[0];
    assert_eq!(shown.enrollment, Some(id));
    assert_eq!(shown.enrollment_key.as_deref(), Some("U1"));
    assert_eq!(shown.fault, faulty.fault);
    assert_eq!(shown.failure_rule, faulty.failure_rule);
    assert_eq!((shown.duration_us, shown.created_at), (faulty.duration_us, at(3)));
    let rest = store.decisions(bench.tenant, None, first.next, 2).await.unwrap();
    assert_eq!(
        rest.items
            .iter()
            .map(|record| record.subject.as_str())
            .collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(
        store
            .decisions(bench.tenant, Some(id), None, 10)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(
        store
            .decisions(other, Some(id), None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    // A decision about an enrollment that does not exist takes its whole list back.
    let nobody = NewDecision {
        enrollment: Some(russet_store::EnrollmentId(4711)),
        ..bench.decision("allow")
    };
    assert!(
        store
            .record_decisions(bench.tenant, vec![about("c"), nobody], at(4))
            .await
            .is_err()
    );
    assert_eq!(
        store.decisions(bench.tenant, None, None, 10).await.unwrap().items.len(),
        3
    );
}

async fn old_things_go(bench: Bench) {
    let store = &bench.store;
    let retention = Retention {
        commands: Duration::from_secs(100),
        results: Duration::from_secs(100),
        decisions: Duration::from_secs(200),
        recorded_calls: Duration::from_secs(150),
        events: Duration::from_secs(100),
        challenges: Duration::from_secs(50),
        plugin_data: Duration::from_secs(100),
    };
    let id = bench.enrolled("U1").await;
    let done = bench.queued(id, "DeviceInformation").await;
    store.next(id, at(3), Poll::Idle).await.unwrap().unwrap();
    let answer = ReportWrite {
        uuid: done,
        status: ReportStatus::Acknowledged,
        error_chain: None,
        result: b"x".to_vec(),
    };
    store.report(id, answer, at(10)).await.unwrap();
    let open = bench.queued(id, "ProfileList").await;
    let mut short = bench.command("DeviceLock");
    short.expires_at = Some(at(90));
    let short_uuid = short.uuid;
    store.enqueue(short, vec![id], at(2)).await.unwrap();
    store
        .record_decisions(bench.tenant, vec![bench.decision("allow")], at(5))
        .await
        .unwrap();
    let challenge = NewChallenge {
        renews: None,
        challenge_sha256: sha256(1000),
        tenant: bench.tenant,
        person: None,
        attributes: json!({}),
        bound_serial: None,
        bound_udid: None,
        expires_at: at(60),
    };
    store.create_challenge(challenge, vec![], at(0)).await.unwrap();

    // A decision goes from the old end of its chain, so it has to be in it.
    bench.chained().await;
    assert_eq!(store.purge(at(89), &retention).await.unwrap(), Purged::default());
    let purged = store.purge(at(110), &retention).await.unwrap();
    assert_eq!(
        purged,
        Purged {
            expired: 1,
            results: 1,
            entries: 1,
            commands: 1,
            challenges: 1,
            ..Purged::default()
        }
    );
    assert!(store.command(bench.tenant, done).await.unwrap().is_none());
    assert_eq!(
        store.command_entry(id, short_uuid).await.unwrap().unwrap().state,
        EntryState::Expired
    );
    let outcome = store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(10))
        .await
        .unwrap();
    assert_eq!(outcome, Consumed::Unknown);

    let purged = store.purge(at(1000), &retention).await.unwrap();
    assert_eq!(
        purged,
        Purged {
            entries: 1,
            commands: 1,
            decisions: 1,
            ..Purged::default()
        }
    );
    // What is still open stays, however old it is.
    assert_eq!(store.next(id, at(1001), Poll::Idle).await.unwrap().unwrap().uuid, open);
}
