//! Devices taken over from another server: what is stored of them, what never goes over what a device said here, and the
//! certificate that they are bound to.

use russet_protocol::Channel;
use russet_store::{
    Adopted, DeviceFacts, EnrollmentId, EnrollmentLookup, EnrollmentRecord, EnrollmentState, Imported, ImportedDevice,
    ImportedToken, NewIdentityAuthority, Sha256, StoreError, TokenTarget, UserFacts,
};

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    an_imported_device_is_stored_once,
    a_token_of_the_device_itself_stays,
    a_user_comes_after_its_device,
    the_first_certificate_is_bound_and_no_other,
    a_named_certificate_is_the_only_one,
    nobody_is_adopted_who_was_not_imported,
    two_certificates_at_once_are_one,
    what_waits_for_an_imported_device_wakes_it,
    removed_here_stays_removed,
    authorities_are_a_tenants_own,
];

fn device(bench: &Bench, key: &str) -> ImportedDevice {
    ImportedDevice {
        tenant: bench.tenant,
        key: key.to_owned(),
        channel: Channel::Device,
        facts: DeviceFacts {
            udid: Some(key.to_owned()),
            serial_number: Some(format!("SERIAL-{key}")),
            os_version: Some("18.0".to_owned()),
            ..DeviceFacts::default()
        },
        topic: "com.apple.mgmt.test".to_owned(),
        certificate_sha256: None,
        tell: false,
    }
}

fn token(bench: &Bench, key: &str, token: u8) -> ImportedToken {
    ImportedToken {
        tenant: bench.tenant,
        key: key.to_owned(),
        channel: Channel::Device,
        parent: None,
        user: UserFacts::default(),
        topic: "com.apple.mgmt.test".to_owned(),
        token: vec![token; 32],
        magic: "magic".to_owned(),
        tell: false,
    }
}

async fn record(bench: &Bench, key: &str) -> EnrollmentRecord {
    let lookup = EnrollmentLookup::Key(key);
    bench.store.enrollment(bench.tenant, lookup).await.unwrap().unwrap()
}

/// The push token that a push to the device would carry.
async fn pushed_to(bench: &Bench, id: EnrollmentId, now: i64) -> Vec<u8> {
    bench.store.push_request(id, at(now)).await.unwrap();
    let jobs = bench.store.push_claim(10, at(now + 60), at(now)).await.unwrap();
    jobs.into_iter().find(|job| job.enrollment == id).unwrap().token
}

async fn imported(bench: &Bench, key: &str) -> EnrollmentId {
    let (id, outcome) = bench.store.import_device(device(bench, key), at(0)).await.unwrap();
    assert_eq!(outcome, Imported::Created);
    bench.store.import_token(token(bench, key, 1), at(0)).await.unwrap();
    id
}

async fn adopt(bench: &Bench, key: &str, number: u64) -> Result<Adopted, StoreError> {
    let certificate = russet_store::NewCertificate {
        sha256: sha256(number),
        ..bench.certificate()
    };
    bench.store.adopt(key, certificate, at(10)).await
}

async fn an_imported_device_is_stored_once(bench: Bench) {
    let store = &bench.store;
    let (id, outcome) = store.import_device(device(&bench, "A"), at(0)).await.unwrap();
    assert_eq!(outcome, Imported::Created);
    assert_eq!(
        record(&bench, "A").await.state,
        EnrollmentState::Pending,
        "it has no token"
    );
    let (_, outcome) = store.import_token(token(&bench, "A", 1), at(1)).await.unwrap();
    assert_eq!(outcome, Imported::Created);
    let first = record(&bench, "A").await;
    assert_eq!((first.id, first.state), (id, EnrollmentState::Active));
    assert_eq!(
        first.push.as_ref().unwrap().updated_at,
        None,
        "nobody knows when the device said it"
    );
    assert_eq!(first.last_seen_at, None);

    for _ in 0..2 {
        let (again, outcome) = store.import_device(device(&bench, "A"), at(5)).await.unwrap();
        assert_eq!((again, outcome), (id, Imported::Unchanged));
        let (again, outcome) = store.import_token(token(&bench, "A", 1), at(5)).await.unwrap();
        assert_eq!((again, outcome), (id, Imported::Unchanged));
    }
    assert_eq!(record(&bench, "A").await, first);

    // A later run with what has changed there since.
    let mut newer = device(&bench, "A");
    newer.facts.os_version = Some("18.1".to_owned());
    assert_eq!(store.import_device(newer, at(6)).await.unwrap().1, Imported::Updated);
    assert_eq!(
        store.import_token(token(&bench, "A", 2), at(6)).await.unwrap().1,
        Imported::Updated
    );
    let updated = record(&bench, "A").await;
    assert_eq!(updated.facts.os_version.as_deref(), Some("18.1"));
    assert_eq!(updated.enrolled_at, first.enrolled_at);
    assert_eq!(pushed_to(&bench, id, 7).await, vec![2; 32]);
    let status = store.import_status(bench.tenant).await.unwrap();
    assert_eq!((status.devices, status.arrived, status.without_token), (1, 0, 0));
    assert_eq!(status.waiting, [("A".to_owned(), Some("SERIAL-A".to_owned()))]);
}

async fn a_token_of_the_device_itself_stays(bench: Bench) {
    let store = &bench.store;
    let id = imported(&bench, "A").await;
    assert!(matches!(adopt(&bench, "A", 500).await.unwrap(), Adopted::Bound(bound) if bound == id));
    // It has come, and has not told a token here: what it told the other server last is the newest.
    assert_eq!(
        store.import_token(token(&bench, "A", 2), at(11)).await.unwrap().1,
        Imported::Updated
    );
    let own = bench.token(TokenTarget::Enrollment(id));
    store.token_update(own.clone(), at(12)).await.unwrap();
    let before = record(&bench, "A").await;
    let (_, outcome) = store.import_token(token(&bench, "A", 3), at(13)).await.unwrap();
    assert_eq!(outcome, Imported::HasComeItself);
    let (_, outcome) = store.import_device(device(&bench, "A"), at(13)).await.unwrap();
    assert_eq!(outcome, Imported::HasComeItself);
    assert_eq!(record(&bench, "A").await, before);
    assert_eq!(pushed_to(&bench, id, 14).await, own.token);

    // Nor is one touched that enrolled here.
    let own = bench.enrolled("B").await;
    let before = record(&bench, "B").await;
    assert_eq!(
        store.import_device(device(&bench, "B"), at(15)).await.unwrap(),
        (own, Imported::HasComeItself)
    );
    assert_eq!(
        store.import_token(token(&bench, "B", 3), at(15)).await.unwrap().1,
        Imported::HasComeItself
    );
    assert_eq!(record(&bench, "B").await, before);
    // Also where it has sent no token yet: the one of the other server is of its last enrollment.
    let pending = store
        .authenticate(bench.authenticate_write("C").await, at(16))
        .await
        .unwrap();
    let (_, outcome) = store.import_token(token(&bench, "C", 3), at(17)).await.unwrap();
    assert_eq!(outcome, Imported::HasComeItself);
    assert_eq!(record(&bench, "C").await.state, EnrollmentState::Pending, "{pending}");
}

async fn a_user_comes_after_its_device(bench: Bench) {
    let store = &bench.store;
    let user = ImportedToken {
        channel: Channel::User,
        parent: Some("A".to_owned()),
        user: UserFacts {
            user_id: Some("U".to_owned()),
            short_name: Some("ada".to_owned()),
            long_name: None,
        },
        ..token(&bench, "A:U", 7)
    };
    let early = store.import_token(user.clone(), at(0)).await;
    assert!(matches!(early, Err(StoreError::NotFound("device"))), "{early:?}");
    let early = store.import_token(token(&bench, "A", 1), at(0)).await;
    assert!(matches!(early, Err(StoreError::NotFound("device"))), "{early:?}");
    let device = imported(&bench, "A").await;
    let (id, outcome) = store.import_token(user.clone(), at(1)).await.unwrap();
    assert_eq!(outcome, Imported::Created);
    let stored = record(&bench, "A:U").await;
    assert_eq!((stored.parent, stored.state), (Some(device), EnrollmentState::Active));
    assert_eq!(stored.user.short_name.as_deref(), Some("ada"));
    assert_eq!(
        store.import_token(user, at(2)).await.unwrap(),
        (id, Imported::Unchanged)
    );
    assert_eq!(
        store.import_status(bench.tenant).await.unwrap().devices,
        1,
        "users are not counted"
    );
}

async fn the_first_certificate_is_bound_and_no_other(bench: Bench) {
    let store = &bench.store;
    let id = imported(&bench, "A").await;
    let other = imported(&bench, "B").await;
    assert_eq!(
        store.has_come_itself(bench.tenant, "A").await.unwrap(),
        Some((id, false))
    );
    assert_eq!(adopt(&bench, "A", 500).await.unwrap(), Adopted::Bound(id));
    assert_eq!(
        store.has_come_itself(bench.tenant, "A").await.unwrap(),
        Some((id, true))
    );
    assert_eq!(
        adopt(&bench, "A", 500).await.unwrap(),
        Adopted::Bound(id),
        "again, the same"
    );
    assert_eq!(adopt(&bench, "A", 501).await.unwrap(), Adopted::HasAnother);
    let stolen = adopt(&bench, "B", 500).await;
    assert!(matches!(stolen, Err(StoreError::CertificateBound)), "{stolen:?}");
    assert_eq!(
        store.has_come_itself(bench.tenant, "B").await.unwrap(),
        Some((other, false))
    );

    let resolved = store.resolve(&sha256(500), bench.tenant, "A").await.unwrap();
    assert_eq!(resolved.certificate.unwrap().enrollment, Some(id));
    assert!(resolved.enrollment.unwrap().certificate_matches);
    assert_eq!(
        store.certificate(&sha256(501)).await.unwrap(),
        None,
        "a refused one is not kept"
    );
    let status = store.import_status(bench.tenant).await.unwrap();
    assert_eq!((status.devices, status.arrived), (2, 1));
    assert_eq!(status.waiting[0].0, "B");
}

async fn a_named_certificate_is_the_only_one(bench: Bench) {
    let store = &bench.store;
    let named = |key: &str, number| ImportedDevice {
        certificate_sha256: Some(sha256(number)),
        ..device(&bench, key)
    };
    let (id, _) = store.import_device(named("A", 500), at(0)).await.unwrap();
    let twice = store.import_device(named("B", 500), at(0)).await;
    assert!(matches!(twice, Err(StoreError::CertificateBound)), "{twice:?}");
    assert_eq!(adopt(&bench, "A", 501).await.unwrap(), Adopted::HasAnother);
    // Without naming one, an import leaves the one that was named; a run with a better list corrects it.
    assert_eq!(
        store.import_device(device(&bench, "A"), at(1)).await.unwrap().1,
        Imported::Unchanged
    );
    assert_eq!(adopt(&bench, "A", 501).await.unwrap(), Adopted::HasAnother);
    assert_eq!(
        store.import_device(named("A", 502), at(2)).await.unwrap().1,
        Imported::Updated
    );
    assert_eq!(adopt(&bench, "A", 500).await.unwrap(), Adopted::HasAnother);
    assert_eq!(adopt(&bench, "A", 502).await.unwrap(), Adopted::Bound(id));
}

async fn nobody_is_adopted_who_was_not_imported(bench: Bench) {
    bench.enrolled("A").await;
    assert_eq!(adopt(&bench, "A", 500).await.unwrap(), Adopted::NotImported);
    assert_eq!(adopt(&bench, "never", 500).await.unwrap(), Adopted::NotImported);
    assert_eq!(bench.store.certificate(&sha256(500)).await.unwrap(), None);
    // Nor in another tenant.
    let other = bench.store.create_tenant("other", at(0)).await.unwrap();
    imported(&bench, "B").await;
    let certificate = russet_store::NewCertificate {
        tenant: other,
        ..bench.certificate()
    };
    let adopted = bench.store.adopt("B", certificate, at(1)).await.unwrap();
    assert_eq!(adopted, Adopted::NotImported);
}

async fn two_certificates_at_once_are_one(bench: Bench) {
    for round in 0..5_u64 {
        let key = format!("A{round}");
        let id = imported(&bench, &key).await;
        let numbers = [600 + round * 10, 601 + round * 10];
        let (one, two) = tokio::join!(adopt(&bench, &key, numbers[0]), adopt(&bench, &key, numbers[1]));
        let mut outcomes = [one.unwrap(), two.unwrap()];
        outcomes.sort_by_key(|outcome| *outcome == Adopted::HasAnother);
        assert_eq!(outcomes, [Adopted::Bound(id), Adopted::HasAnother]);
        let bound: Option<Sha256> = record(&bench, &key).await.certificate_sha256;
        assert!(bound == Some(sha256(numbers[0])) || bound == Some(sha256(numbers[1])));
    }
}

async fn what_waits_for_an_imported_device_wakes_it(bench: Bench) {
    let store = &bench.store;
    let (id, _) = store.import_device(device(&bench, "A"), at(0)).await.unwrap();
    bench.queued(id, "SecurityInfo").await;
    assert_eq!(bench.count("push_outbox").await, 0, "there is no token");
    store.import_token(token(&bench, "A", 1), at(3)).await.unwrap();
    let jobs = store.push_claim(10, at(60), at(3)).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].token, vec![1; 32]);
}

async fn removed_here_stays_removed(bench: Bench) {
    let store = &bench.store;
    let id = imported(&bench, "A").await;
    store.check_out(id, at(5)).await.unwrap();
    assert_eq!(
        store.import_device(device(&bench, "A"), at(6)).await.unwrap(),
        (id, Imported::Removed)
    );
    assert_eq!(
        store.import_token(token(&bench, "A", 2), at(6)).await.unwrap(),
        (id, Imported::Removed)
    );
    assert_eq!(record(&bench, "A").await.state, EnrollmentState::Removed);
    assert_eq!(adopt(&bench, "A", 500).await.unwrap(), Adopted::NotImported);
    assert_eq!(store.import_status(bench.tenant).await.unwrap().devices, 0);
}

async fn authorities_are_a_tenants_own(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let authority = |number, tenant| NewIdentityAuthority {
        tenant,
        sha256: sha256(number),
        subject: format!("CN=CA {number}"),
        der: vec![0x30, 1],
        not_after: at(1000),
        added_by: "ada".to_owned(),
    };
    assert!(
        store
            .add_identity_authority(authority(1, bench.tenant), 2, at(0))
            .await
            .unwrap()
    );
    assert!(
        !store
            .add_identity_authority(authority(1, bench.tenant), 2, at(1))
            .await
            .unwrap()
    );
    assert!(
        store
            .add_identity_authority(authority(1, other), 2, at(1))
            .await
            .unwrap()
    );
    assert!(
        store
            .add_identity_authority(authority(2, bench.tenant), 2, at(1))
            .await
            .unwrap()
    );
    let full = store.add_identity_authority(authority(3, bench.tenant), 2, at(1)).await;
    assert!(matches!(full, Err(StoreError::Exists(_))), "{full:?}");
    let of = |tenant| async move { store.identity_authorities(tenant).await.unwrap().len() };
    assert_eq!(
        (of(Some(bench.tenant)).await, of(Some(other)).await, of(None).await),
        (2, 1, 3)
    );
    store.remove_identity_authority(bench.tenant, &sha256(1)).await.unwrap();
    assert_eq!((of(Some(bench.tenant)).await, of(Some(other)).await), (1, 1));
    let gone = store.remove_identity_authority(bench.tenant, &sha256(1)).await;
    assert!(matches!(gone, Err(StoreError::NotFound("authority"))), "{gone:?}");
}
