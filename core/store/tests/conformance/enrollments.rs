//! From Authenticate to CheckOut.

use russet_protocol::Channel;
use russet_store::{
    Decided, Delivery, DeviceFacts, EnrollmentFilter, EnrollmentId, EnrollmentLookup, EnrollmentRecord,
    EnrollmentState, EntryState, EscrowInfo, EscrowKind, Poll, StoreError, TokenTarget, UserFacts,
};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    a_device_enrolls,
    a_request_is_resolved_in_one_look,
    a_new_enrollment_starts_clean,
    a_renewal_keeps_everything,
    there_must_be_something_to_renew,
    a_certificate_belongs_to_one_enrollment,
    a_person_is_kept_and_forgotten,
    user_channels_live_under_their_device,
    check_out_takes_the_users_along,
    enrollments_are_found_and_listed,
    last_seen_is_written_together,
];

async fn get(bench: &Bench, id: EnrollmentId) -> EnrollmentRecord {
    bench
        .store
        .enrollment(bench.tenant, EnrollmentLookup::Id(id))
        .await
        .unwrap()
        .unwrap()
}

fn user(parent: EnrollmentId, key: &str) -> TokenTarget {
    let user = UserFacts {
        short_name: Some("ada".to_owned()),
        ..UserFacts::default()
    };
    TokenTarget::User {
        parent,
        key: key.to_owned(),
        channel: Channel::User,
        user,
    }
}

async fn next(bench: &Bench, id: EnrollmentId) -> Option<Delivery> {
    bench.store.next(id, at(1000), Poll::Idle).await.unwrap()
}

async fn a_device_enrolls(bench: Bench) {
    let mut write = bench.authenticate_write("U1").await;
    write.decisions = vec![bench.decision("allow")];
    let certificate = write.certificate_sha256;
    let id = bench.store.authenticate(write, at(0)).await.unwrap();
    let record = get(&bench, id).await;
    assert_eq!(
        (record.state, record.channel, record.key.as_str()),
        (EnrollmentState::Pending, Channel::Device, "U1")
    );
    assert_eq!((record.push, record.enrolled_at), (None, None));
    assert_eq!(record.certificate_sha256, Some(certificate));
    assert_eq!(record.person, Some(json!({ "name": "Ada" })));
    assert_eq!(
        bench.store.certificate(&certificate).await.unwrap().unwrap().enrollment,
        Some(id)
    );
    let decisions = bench
        .store
        .decisions(bench.tenant, Some(id), None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(decisions.len(), 1);
    assert_eq!(decisions[0].enrollment, Some(id));

    let mut token = bench.token(TokenTarget::Enrollment(id));
    token.awaiting_configuration = true;
    let updated = bench.store.token_update(token.clone(), at(5)).await.unwrap();
    assert_eq!((updated.id, updated.first), (id, true));
    let record = get(&bench, id).await;
    assert_eq!(
        (record.state, record.enrolled_at),
        (EnrollmentState::Active, Some(at(5)))
    );
    assert!(record.awaiting_configuration);
    assert_eq!(record.facts.os_version.as_deref(), Some("18.0"));
    assert_eq!(record.facts.serial_number.as_deref(), Some("SERIAL-U1"));
    let push = record.push.unwrap();
    assert_eq!(
        (push.topic.as_str(), push.updated_at),
        ("com.apple.mgmt.test", Some(at(5)))
    );

    bench.store.set_awaiting_configuration(id, false).await.unwrap();
    assert!(!get(&bench, id).await.awaiting_configuration);
    token.awaiting_configuration = false;
    assert!(!bench.store.token_update(token, at(9)).await.unwrap().first);
    assert_eq!(get(&bench, id).await.enrolled_at, Some(at(5)));

    let unknown = bench.token(TokenTarget::Enrollment(EnrollmentId(4711)));
    assert!(matches!(
        bench.store.token_update(unknown, at(9)).await,
        Err(StoreError::NotFound(_))
    ));
}

async fn a_request_is_resolved_in_one_look(bench: Bench) {
    let store = &bench.store;
    let write = bench.authenticate_write("U1").await;
    let certificate = write.certificate_sha256;

    let before = store.resolve(&certificate, bench.tenant, "U1").await.unwrap();
    assert_eq!(before.certificate.unwrap().enrollment, None);
    assert_eq!(before.enrollment, None);
    let nothing = store.resolve(&sha256(999_999), bench.tenant, "U9").await.unwrap();
    assert_eq!((nothing.certificate, nothing.enrollment), (None, None));

    let id = store.authenticate(write, at(0)).await.unwrap();
    let resolved = store.resolve(&certificate, bench.tenant, "U1").await.unwrap();
    let enrollment = resolved.enrollment.unwrap();
    assert_eq!((enrollment.id, enrollment.state), (id, EnrollmentState::Pending));
    assert!(enrollment.certificate_matches);
    assert_eq!(resolved.certificate.unwrap().enrollment, Some(id));

    // Another device's certificate under this key.
    let stranger = bench.authenticate_write("U2").await;
    let strange = store
        .resolve(&stranger.certificate_sha256, bench.tenant, "U1")
        .await
        .unwrap();
    assert!(!strange.enrollment.unwrap().certificate_matches);

    // A user channel goes by its device's certificate.
    let token = store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(1))
        .await
        .unwrap();
    let ada = store
        .token_update(bench.token(user(token.id, "U1:ada")), at(2))
        .await
        .unwrap()
        .id;
    let resolved = store
        .resolve(&certificate, bench.tenant, "U1:ada")
        .await
        .unwrap()
        .enrollment
        .unwrap();
    assert_eq!(
        (resolved.id, resolved.parent, resolved.channel),
        (ada, Some(id), Channel::User)
    );
    assert!(resolved.certificate_matches);

    store
        .revoke_certificate(bench.tenant, &certificate, "lost", at(3))
        .await
        .unwrap();
    let resolved = store.resolve(&certificate, bench.tenant, "U1").await.unwrap();
    assert_eq!(resolved.certificate.unwrap().revoked_at, Some(at(3)));

    // Nothing of it shows in another tenant.
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert_eq!(store.resolve(&certificate, other, "U1").await.unwrap().enrollment, None);
}

async fn a_new_enrollment_starts_clean(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let ada = store
        .token_update(bench.token(user(id, "U1:ada")), at(2))
        .await
        .unwrap()
        .id;
    let old = bench.queued(id, "DeviceInformation").await;
    let theirs = bench.queued(ada, "ProfileList").await;
    for kind in [
        EscrowKind::BootstrapToken,
        EscrowKind::UnlockToken,
        EscrowKind::FileVaultKey,
    ] {
        store
            .escrow_put(id, kind, b"secret".to_vec().into(), None, Decided::default(), at(3))
            .await
            .unwrap();
    }

    let write = bench.authenticate_write("U1").await;
    let certificate = write.certificate_sha256;
    assert_eq!(store.authenticate(write, at(10)).await.unwrap(), id);

    let record = get(&bench, id).await;
    assert_eq!(
        (record.state, record.push, record.enrolled_at),
        (EnrollmentState::Pending, None, None)
    );
    assert_eq!(record.certificate_sha256, Some(certificate));
    assert_eq!(get(&bench, ada).await.state, EnrollmentState::Removed);
    for (enrollment, uuid) in [(id, old), (ada, theirs)] {
        let entry = store.command_entry(enrollment, uuid).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.finished_at), (EntryState::Cancelled, Some(at(10))));
        assert_eq!(next(&bench, enrollment).await, None);
    }
    assert_eq!(store.escrow_info(id, EscrowKind::BootstrapToken).await.unwrap(), None);
    assert_eq!(store.escrow_info(id, EscrowKind::UnlockToken).await.unwrap(), None);
    assert_eq!(
        store.escrow_info(id, EscrowKind::FileVaultKey).await.unwrap(),
        Some(EscrowInfo {
            deposited_at: at(3),
            held: None
        })
    );
    assert_eq!(store.push_next_due().await.unwrap(), None);

    // The next TokenUpdate is the first of the new enrollment.
    let updated = store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(11))
        .await
        .unwrap();
    assert!(updated.first);
    // And the user comes back as a new user.
    let updated = store
        .token_update(bench.token(user(id, "U1:ada")), at(12))
        .await
        .unwrap();
    assert_eq!((updated.id, updated.first), (ada, true));
}

async fn a_renewal_keeps_everything(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let before = get(&bench, id).await;
    let ada = store
        .token_update(bench.token(user(id, "U1:ada")), at(2))
        .await
        .unwrap()
        .id;
    let uuid = bench.queued(id, "DeviceInformation").await;
    store
        .escrow_put(
            id,
            EscrowKind::BootstrapToken,
            b"secret".to_vec().into(),
            None,
            Decided::default(),
            at(3),
        )
        .await
        .unwrap();

    let mut write = bench.authenticate_write("U1").await;
    write.renewal = true;
    write.person = None;
    write.facts = DeviceFacts {
        os_version: Some("26.0".to_owned()),
        ..DeviceFacts::default()
    };
    let certificate = write.certificate_sha256;
    assert_eq!(store.authenticate(write, at(10)).await.unwrap(), id);

    let after = get(&bench, id).await;
    assert_eq!(
        (after.state, after.push, after.enrolled_at),
        (before.state, before.push, before.enrolled_at)
    );
    assert_eq!(
        (after.person, after.certificate_sha256),
        (before.person, Some(certificate))
    );
    assert_eq!(after.facts.os_version.as_deref(), Some("26.0"));
    assert_eq!(after.facts.udid, before.facts.udid);
    assert_eq!(get(&bench, ada).await.state, EnrollmentState::Active);
    assert_eq!(next(&bench, id).await.unwrap().uuid, uuid);
    assert!(
        store
            .escrow_info(id, EscrowKind::BootstrapToken)
            .await
            .unwrap()
            .is_some()
    );
    // The old certificate still says whose it was: a device may roll back to it.
    let old = before.certificate_sha256.unwrap();
    assert_eq!(store.certificate(&old).await.unwrap().unwrap().enrollment, Some(id));
    assert!(
        !store
            .resolve(&old, bench.tenant, "U1")
            .await
            .unwrap()
            .enrollment
            .unwrap()
            .certificate_matches
    );
    assert!(
        !store
            .token_update(bench.token(TokenTarget::Enrollment(id)), at(11))
            .await
            .unwrap()
            .first
    );
}

async fn there_must_be_something_to_renew(bench: Bench) {
    let mut write = bench.authenticate_write("U1").await;
    write.renewal = true;
    write.decisions = vec![bench.decision("allow")];
    let error = bench.store.authenticate(write.clone(), at(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound("enrollment")));
    assert!(
        bench
            .store
            .decisions(bench.tenant, None, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );

    let id = bench.enrolled("U1").await;
    bench.store.check_out(id, at(5)).await.unwrap();
    assert!(matches!(
        bench.store.authenticate(write, at(6)).await,
        Err(StoreError::Removed)
    ));
    let token = bench.token(TokenTarget::Enrollment(id));
    assert!(matches!(
        bench.store.token_update(token, at(7)).await,
        Err(StoreError::Removed)
    ));
}

async fn a_certificate_belongs_to_one_enrollment(bench: Bench) {
    let write = bench.authenticate_write("U1").await;
    bench.store.authenticate(write.clone(), at(0)).await.unwrap();
    let mut thief = write.clone();
    thief.key = "U2".to_owned();
    let error = bench.store.authenticate(thief.clone(), at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::CertificateBound), "{error:?}");
    assert!(
        bench
            .store
            .enrollment(bench.tenant, EnrollmentLookup::Key("U2"))
            .await
            .unwrap()
            .is_none()
    );

    // Also when the first has moved on to another certificate.
    let mut renewal = bench.authenticate_write("U1").await;
    renewal.renewal = true;
    bench.store.authenticate(renewal, at(2)).await.unwrap();
    let error = bench.store.authenticate(thief, at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::CertificateBound), "{error:?}");

    // One of another authority has no row here; the enrollment itself holds it.
    let mut foreign = bench.authenticate_write("U3").await;
    foreign.certificate_sha256 = sha256(999_999);
    bench.store.authenticate(foreign.clone(), at(4)).await.unwrap();
    foreign.key = "U4".to_owned();
    assert!(matches!(
        bench.store.authenticate(foreign, at(5)).await,
        Err(StoreError::CertificateBound)
    ));
}

async fn a_person_is_kept_and_forgotten(bench: Bench) {
    let id = bench.enrolled("U1").await;
    bench
        .store
        .set_person(id, Some(json!({ "name": "Grace" })), at(3))
        .await
        .unwrap();
    assert_eq!(get(&bench, id).await.person, Some(json!({ "name": "Grace" })));
    bench.store.set_person(id, None, at(4)).await.unwrap();
    assert_eq!(get(&bench, id).await.person, None);
    let unknown = bench.store.set_person(EnrollmentId(4711), None, at(4)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("enrollment"))));
}

async fn user_channels_live_under_their_device(bench: Bench) {
    let id = bench.enrolled("U1").await;
    let first = bench
        .store
        .token_update(bench.token(user(id, "U1:ada")), at(2))
        .await
        .unwrap();
    assert!(first.first);
    let again = bench
        .store
        .token_update(bench.token(user(id, "U1:ada")), at(3))
        .await
        .unwrap();
    assert_eq!((again.id, again.first), (first.id, false));
    let record = get(&bench, first.id).await;
    assert_eq!((record.channel, record.parent), (Channel::User, Some(id)));
    assert_eq!(record.user.short_name.as_deref(), Some("ada"));
    assert_eq!(record.certificate_sha256, None);
    let orphan = bench.token(user(EnrollmentId(4711), "X:ada"));
    assert!(matches!(
        bench.store.token_update(orphan, at(4)).await,
        Err(StoreError::NotFound(_))
    ));
}

async fn check_out_takes_the_users_along(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let ada = store
        .token_update(bench.token(user(id, "U1:ada")), at(2))
        .await
        .unwrap()
        .id;
    let bob = store
        .token_update(bench.token(user(id, "U1:bob")), at(2))
        .await
        .unwrap()
        .id;
    bench.queued(bob, "ProfileList").await;

    store.check_out(ada, at(5)).await.unwrap();
    assert_eq!(get(&bench, ada).await.state, EnrollmentState::Removed);
    assert_eq!(get(&bench, id).await.state, EnrollmentState::Active);

    store.check_out(id, at(6)).await.unwrap();
    for (enrollment, removed_at) in [(id, at(6)), (ada, at(5)), (bob, at(6))] {
        let record = get(&bench, enrollment).await;
        assert_eq!(
            (record.state, record.removed_at),
            (EnrollmentState::Removed, Some(removed_at))
        );
        assert_eq!(record.push, None);
    }
    assert_eq!(store.queue(bob).await.unwrap(), []);
    assert_eq!(store.push_next_due().await.unwrap(), None);
    // A device sends CheckOut once, an administrator may click twice.
    store.check_out(id, at(7)).await.unwrap();
    assert_eq!(get(&bench, id).await.removed_at, Some(at(6)));
    assert!(matches!(
        store.check_out(EnrollmentId(4711), at(7)).await,
        Err(StoreError::NotFound(_))
    ));
}

async fn enrollments_are_found_and_listed(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let mut ids = Vec::new();
    for key in ["U1", "U2", "U_3"] {
        ids.push(bench.enrolled(key).await);
    }
    let ada = store
        .token_update(bench.token(user(ids[0], "U1:ada")), at(2))
        .await
        .unwrap()
        .id;
    store.check_out(ids[1], at(5)).await.unwrap();

    for lookup in [
        EnrollmentLookup::Id(ids[0]),
        EnrollmentLookup::Key("U1"),
        EnrollmentLookup::Serial("SERIAL-U1"),
        EnrollmentLookup::Udid("U1"),
    ] {
        assert_eq!(
            store.enrollment(bench.tenant, lookup).await.unwrap().unwrap().id,
            ids[0],
            "{lookup:?}"
        );
        assert!(store.enrollment(other, lookup).await.unwrap().is_none(), "{lookup:?}");
    }

    let list = async |filter: EnrollmentFilter| -> Vec<EnrollmentId> {
        let page = store.enrollments(bench.tenant, &filter, None, 100).await.unwrap();
        assert_eq!(page.next, None);
        page.items.into_iter().map(|record| record.id).collect()
    };
    assert_eq!(list(EnrollmentFilter::default()).await, [ids[0], ids[1], ids[2], ada]);
    let active = EnrollmentFilter {
        state: Some(EnrollmentState::Active),
        ..EnrollmentFilter::default()
    };
    assert_eq!(list(active).await, [ids[0], ids[2], ada]);
    let users = EnrollmentFilter {
        channel: Some(Channel::User),
        ..EnrollmentFilter::default()
    };
    assert_eq!(list(users).await, [ada]);
    let under = EnrollmentFilter {
        parent: Some(ids[0]),
        ..EnrollmentFilter::default()
    };
    assert_eq!(list(under).await, [ada]);
    let search = |text: &str| EnrollmentFilter {
        search: Some(text.to_owned()),
        ..EnrollmentFilter::default()
    };
    assert_eq!(list(search("serial-u2")).await, [ids[1]]);
    // What a pattern would mean is taken as it is written.
    assert_eq!(list(search("u_3")).await, [ids[2]]);
    assert_eq!(list(search("%")).await, []);

    let page = store
        .enrollments(bench.tenant, &EnrollmentFilter::default(), None, 3)
        .await
        .unwrap();
    let rest = store
        .enrollments(bench.tenant, &EnrollmentFilter::default(), page.next, 3)
        .await
        .unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next), (3, 1, None));
}

async fn last_seen_is_written_together(bench: Bench) {
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    let before = bench.writes().await;
    bench.store.touch(first, at(100));
    bench.store.touch(first, at(90));
    bench.store.touch(second, at(101));
    // Seen at once by this server, written later.
    assert_eq!(get(&bench, first).await.last_seen_at, Some(at(100)));
    assert_eq!(bench.writes().await, before);
    bench.store.flush_touched().await.unwrap();
    let written = bench.writes().await;
    assert_ne!(written, before);
    bench.store.flush_touched().await.unwrap();
    assert_eq!(bench.writes().await, written);

    // Another server sees them, and an older time does not win.
    bench.store.touch(second, at(50));
    bench.store.flush_touched().await.unwrap();
    let other = bench.reopen(&crate::bench::master()).await.unwrap();
    for (id, seen) in [(first, at(100)), (second, at(101))] {
        let record = other
            .enrollment(bench.tenant, EnrollmentLookup::Id(id))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(record.last_seen_at, Some(seen));
    }
    other.touch(first, at(200));
    other.close().await.unwrap();
    assert_eq!(get(&bench, first).await.last_seen_at, Some(at(200)));
}
