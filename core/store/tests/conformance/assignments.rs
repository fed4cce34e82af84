//! Stored profiles that enrollments have for good.

use russet_store::{EnrollmentId, EntryState, Poll, Profile, ReportStatus, StoreError};
use serde_json::json;
use uuid::Uuid;

use crate::behaviours;
use crate::bench::{Bench, at};
use crate::queue::report;

behaviours![
    an_assigned_profile_is_installed_once,
    a_profile_that_is_to_be_delivered_stays,
    a_profile_that_changed_is_installed_again,
    a_profile_is_removed_by_what_was_delivered,
    a_profile_is_given_within_its_tenant,
    an_assignment_goes_with_the_enrollment,
];

fn profile(name: &str, content: &str) -> Profile {
    Profile {
        name: name.to_owned(),
        content: content.as_bytes().to_vec(),
        template: None,
        settings: json!({}),
        updated_at: at(5),
    }
}

async fn waiting(bench: &Bench, id: EnrollmentId) -> Vec<(String, Option<EntryState>)> {
    let queue = bench.store.queue(id).await.unwrap();
    queue
        .into_iter()
        .map(|entry| (entry.request_type, Some(entry.state)))
        .collect()
}

async fn acknowledge(bench: &Bench, id: EnrollmentId, uuid: Uuid, seconds: i64) {
    let report = report(uuid, ReportStatus::Acknowledged);
    bench.store.report(id, report, at(seconds)).await.unwrap();
}

fn pending(request_type: &str) -> (String, Option<EntryState>) {
    (request_type.to_owned(), Some(EntryState::Pending))
}

async fn an_assigned_profile_is_installed_once(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let written = store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    assert_eq!((written.created, written.reinstalled), (true, 0));
    assert!(
        store
            .assign_profile(bench.tenant, id, "wifi", "ada", at(10))
            .await
            .unwrap()
    );
    assert!(
        !store
            .assign_profile(bench.tenant, id, "wifi", "ada", at(11))
            .await
            .unwrap()
    );
    assert_eq!(waiting(&bench, id).await, [pending("InstallProfile")]);
    let delivery = store.next(id, at(12), Poll::Idle).await.unwrap().unwrap();
    assert_eq!(delivery.profile_name.as_deref(), Some("wifi"));
    let assigned = store.assigned_profiles(id).await.unwrap();
    assert_eq!(
        (assigned[0].profile.as_str(), assigned[0].assigned_by.as_str()),
        ("wifi", "ada")
    );
    let having = store
        .enrollments_with_profile(bench.tenant, "wifi", None, 10)
        .await
        .unwrap();
    assert_eq!(having.items, ["U1"]);
    let refused = store.delete_profile(bench.tenant, "wifi").await;
    assert!(matches!(refused, Err(StoreError::InUse("profile"))));
}

async fn a_profile_that_is_to_be_delivered_stays(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    let command = russet_store::NewCommand {
        profile_name: Some("wifi".to_owned()),
        ..bench.command("InstallProfile")
    };
    let uuid = command.uuid;
    store.enqueue(command, vec![id], at(2)).await.unwrap();
    let refused = store.delete_profile(bench.tenant, "wifi").await;
    assert!(matches!(refused, Err(StoreError::InUse("profile"))));
    store.cancel(bench.tenant, uuid, None, at(3)).await.unwrap();
    assert!(store.delete_profile(bench.tenant, "wifi").await.unwrap());
}

async fn a_profile_that_changed_is_installed_again(bench: Bench) {
    let store = &bench.store;
    let (one, two) = (bench.enrolled("U1").await, bench.enrolled("U2").await);
    bench.enrolled("U3").await;
    store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    for id in [one, two] {
        store
            .assign_profile(bench.tenant, id, "wifi", "ada", at(10))
            .await
            .unwrap();
    }
    // The first one has it already, the second one still waits for it.
    let delivery = store.next(one, at(11), Poll::Idle).await.unwrap().unwrap();
    acknowledge(&bench, one, delivery.uuid, 12).await;
    let same = store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    assert_eq!((same.created, same.reinstalled), (false, 0));
    let changed = store.put_profile(bench.tenant, profile("wifi", "two")).await.unwrap();
    assert_eq!(
        changed.reinstalled, 1,
        "what waits is made at delivery, and is the newest then"
    );
    for id in [one, two] {
        assert_eq!(waiting(&bench, id).await, [pending("InstallProfile")]);
    }

    // One that a device has and did not answer yet is not the newest.
    store.next(two, at(13), Poll::Idle).await.unwrap().unwrap();
    let changed = store.put_profile(bench.tenant, profile("wifi", "three")).await.unwrap();
    assert_eq!(changed.reinstalled, 1);
    let sent = ("InstallProfile".to_owned(), Some(EntryState::Sent));
    assert_eq!(waiting(&bench, two).await, [sent, pending("InstallProfile")]);
}

async fn a_profile_is_removed_by_what_was_delivered(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    let assign = |now| store.assign_profile(bench.tenant, id, "wifi", "ada", at(now));
    let unassign = |now| store.unassign_profile(bench.tenant, id, "wifi", "ada", at(now));
    assign(10).await.unwrap();
    assert!(unassign(11).await.unwrap());
    assert!(!unassign(11).await.unwrap());
    assert_eq!(
        waiting(&bench, id).await,
        [],
        "what was never delivered needs no removal"
    );

    assert!(assign(12).await.unwrap());
    let delivery = store.next(id, at(13), Poll::Idle).await.unwrap().unwrap();
    assert_eq!(
        store
            .note_delivered_profile(id, "wifi", "com.example.wifi")
            .await
            .unwrap(),
        None
    );
    acknowledge(&bench, id, delivery.uuid, 14).await;
    let before = bench.writes().await;
    assert_eq!(
        store
            .note_delivered_profile(id, "wifi", "com.example.wifi")
            .await
            .unwrap(),
        None
    );
    assert_eq!(bench.writes().await, before);
    let renamed = store
        .note_delivered_profile(id, "wifi", "com.example.other")
        .await
        .unwrap();
    assert_eq!(renamed.as_deref(), Some("com.example.wifi"));

    assert!(unassign(15).await.unwrap());
    assert_eq!(waiting(&bench, id).await, [pending("RemoveProfile")]);
    let identifier = store.delivered_profile(id, "wifi").await.unwrap();
    assert_eq!(identifier.as_deref(), Some("com.example.other"));
    assert!(store.assigned_profiles(id).await.unwrap().is_empty());

    assert!(assign(16).await.unwrap());
    assert_eq!(
        waiting(&bench, id).await,
        [pending("InstallProfile")],
        "the removal is taken back"
    );
}

async fn a_profile_is_given_within_its_tenant(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let id = bench.enrolled("U1").await;
    store.put_profile(other, profile("theirs", "one")).await.unwrap();
    let foreign_profile = store.assign_profile(bench.tenant, id, "theirs", "ada", at(1)).await;
    assert!(matches!(foreign_profile, Err(StoreError::NotFound("profile"))));
    let foreign_device = store.assign_profile(other, id, "theirs", "eve", at(1)).await;
    assert!(matches!(foreign_device, Err(StoreError::NotFound("enrollment"))));
    store.put_profile(bench.tenant, profile("ours", "one")).await.unwrap();
    store
        .assign_profile(bench.tenant, id, "ours", "ada", at(2))
        .await
        .unwrap();
    assert!(!store.unassign_profile(other, id, "ours", "eve", at(3)).await.unwrap());
    assert_eq!(
        store
            .put_profile(other, profile("ours", "x"))
            .await
            .unwrap()
            .reinstalled,
        0
    );
}

async fn an_assignment_goes_with_the_enrollment(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.put_profile(bench.tenant, profile("wifi", "one")).await.unwrap();
    store
        .assign_profile(bench.tenant, id, "wifi", "ada", at(10))
        .await
        .unwrap();
    store
        .authenticate(bench.authenticate_write("U1").await, at(20))
        .await
        .unwrap();
    assert!(store.assigned_profiles(id).await.unwrap().is_empty());
    store.check_out(id, at(21)).await.unwrap();
    let refused = store.assign_profile(bench.tenant, id, "wifi", "ada", at(22)).await;
    assert!(matches!(refused, Err(StoreError::Removed)));
}
