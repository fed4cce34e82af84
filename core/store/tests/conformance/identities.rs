//! SCEP challenges and certificates.

use std::time::Duration;

use russet_store::{Consumed, Issued, NewCertificate, NewChallenge, Retention, StoreError, TokenTarget};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at, sha256};

behaviours![
    a_challenge_is_good_once,
    a_challenge_is_its_tenants,
    a_challenge_expires,
    the_same_key_gets_the_same_certificate,
    a_certificate_takes_over_what_its_challenge_said,
    certificates_are_listed_and_revoked,
    ended_certificates_go_but_the_last_of_a_device_stays,
    of_many_certificates_all_that_ended_go,
];

fn challenge(bench: &Bench, number: u64) -> NewChallenge {
    NewChallenge {
        challenge_sha256: sha256(number),
        tenant: bench.tenant,
        person: Some(json!({ "name": "Ada" })),
        attributes: json!({ "group": "staff" }),
        bound_serial: Some("C02".to_owned()),
        bound_udid: None,
        renews: None,
        expires_at: at(60),
    }
}

async fn a_challenge_is_good_once(bench: Bench) {
    let store = &bench.store;
    let id = store
        .create_challenge(challenge(&bench, 1000), vec![bench.decision("allow")], at(0))
        .await
        .unwrap();
    let twice = store
        .create_challenge(challenge(&bench, 1000), vec![bench.decision("allow")], at(0))
        .await;
    assert!(matches!(twice, Err(StoreError::Exists("challenge"))));
    // The decision of the refused second one was not kept either.
    assert_eq!(
        store.decisions(bench.tenant, None, None, 10).await.unwrap().items.len(),
        1
    );

    let Consumed::Consumed(record) = store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(1))
        .await
        .unwrap()
    else {
        panic!("not consumed");
    };
    assert_eq!((record.id, record.tenant), (id, bench.tenant));
    assert_eq!(record.attributes, json!({ "group": "staff" }));
    assert_eq!(record.bound_serial.as_deref(), Some("C02"));
    assert_eq!(
        store
            .consume_challenge(bench.tenant, &sha256(1000), &sha256(2), at(2))
            .await
            .unwrap(),
        Consumed::AlreadyUsed
    );
    assert_eq!(
        store
            .consume_challenge(bench.tenant, &sha256(1001), &sha256(1), at(2))
            .await
            .unwrap(),
        Consumed::Unknown
    );
}

async fn a_challenge_is_its_tenants(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    store
        .create_challenge(challenge(&bench, 1000), vec![], at(0))
        .await
        .unwrap();
    let foreign = store
        .consume_challenge(other, &sha256(1000), &sha256(1), at(1))
        .await
        .unwrap();
    assert_eq!(foreign, Consumed::Unknown);
    let own = store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(2), at(2))
        .await
        .unwrap();
    assert!(matches!(own, Consumed::Consumed(_)));
    let foreign = store
        .consume_challenge(other, &sha256(1000), &sha256(2), at(3))
        .await
        .unwrap();
    assert_eq!(foreign, Consumed::Unknown);
}

async fn a_challenge_expires(bench: Bench) {
    bench
        .store
        .create_challenge(challenge(&bench, 1000), vec![], at(0))
        .await
        .unwrap();
    for _ in 0..2 {
        let outcome = bench
            .store
            .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(60))
            .await
            .unwrap();
        assert_eq!(outcome, Consumed::Expired);
    }
    // Expiry is judged by the time that the request came with, and changes nothing.
    let outcome = bench
        .store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(59))
        .await
        .unwrap();
    assert!(matches!(outcome, Consumed::Consumed(_)));
}

async fn the_same_key_gets_the_same_certificate(bench: Bench) {
    let store = &bench.store;
    let id = store
        .create_challenge(challenge(&bench, 1000), vec![], at(0))
        .await
        .unwrap();
    store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(1))
        .await
        .unwrap();
    let again = store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(2))
        .await
        .unwrap();
    assert!(matches!(again, Consumed::SameKeyAgain(record, None) if record.id == id));

    let certificate = bench.certificate();
    assert_eq!(
        store.issue(id, certificate.clone(), vec![], at(3)).await.unwrap(),
        Issued::Stored
    );
    // Also after the challenge's own time: the device may have been asleep.
    let again = store
        .consume_challenge(bench.tenant, &sha256(1000), &sha256(1), at(100))
        .await
        .unwrap();
    assert!(matches!(again, Consumed::SameKeyAgain(_, Some(sha256)) if sha256 == certificate.sha256));

    let second = bench.certificate();
    let outcome = store
        .issue(id, second.clone(), vec![bench.decision("allow")], at(4))
        .await
        .unwrap();
    assert_eq!(outcome, Issued::AlreadyIssued(certificate.sha256));
    assert!(store.certificate(&second.sha256).await.unwrap().is_none());
    assert!(
        store
            .decisions(bench.tenant, None, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn a_certificate_takes_over_what_its_challenge_said(bench: Bench) {
    let store = &bench.store;
    let id = store
        .create_challenge(challenge(&bench, 1000), vec![], at(0))
        .await
        .unwrap();
    let certificate = bench.certificate();
    store
        .issue(id, certificate.clone(), vec![bench.decision("allow")], at(3))
        .await
        .unwrap();
    let stored = store.certificate(&certificate.sha256).await.unwrap().unwrap();
    assert_eq!(stored.certificate.person, Some(json!({ "name": "Ada" })));
    assert_eq!(stored.certificate.attributes, json!({ "group": "staff" }));
    assert_eq!(stored.certificate.bound_serial.as_deref(), Some("C02"));
    assert_eq!(stored.certificate.der, certificate.der);
    assert_eq!(stored.enrollment, None);
    assert_eq!(
        store.decisions(bench.tenant, None, None, 10).await.unwrap().items.len(),
        1
    );

    let error = store
        .issue(russet_store::ChallengeId(4711), bench.certificate(), vec![], at(3))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NotFound("challenge")));

    // A certificate that is known already takes the link to the challenge back with it.
    let other = store
        .create_challenge(challenge(&bench, 1001), vec![], at(0))
        .await
        .unwrap();
    let error = store.issue(other, certificate, vec![], at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists("certificate")));
    assert_eq!(
        store.issue(other, bench.certificate(), vec![], at(3)).await.unwrap(),
        Issued::Stored
    );
}

async fn certificates_are_listed_and_revoked(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let mut digests = Vec::new();
    for _ in 0..5 {
        let certificate = bench.certificate();
        digests.push(certificate.sha256);
        store.insert_certificate(certificate, vec![], at(0)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.certificates(bench.tenant, None, after, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|record| record.certificate.sha256));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    digests.reverse();
    assert_eq!(seen, digests);

    let foreign = store.revoke_certificate(other, &digests[0], "lost", at(5)).await;
    assert!(matches!(foreign, Err(StoreError::NotFound("certificate"))));
    store
        .revoke_certificate(bench.tenant, &digests[0], "lost", at(5))
        .await
        .unwrap();
    store
        .revoke_certificate(bench.tenant, &digests[0], "again", at(9))
        .await
        .unwrap();
    let record = store.certificate(&digests[0]).await.unwrap().unwrap();
    assert_eq!(
        (record.revoked_at, record.revoke_reason.as_deref()),
        (Some(at(5)), Some("lost"))
    );
}

const YEAR: i64 = 365 * 86_400;

/// Certificates go ten seconds after they ended.
fn retention() -> Retention {
    Retention {
        commands: Duration::from_secs(10),
        ..Retention::default()
    }
}

async fn ended_certificates_go_but_the_last_of_a_device_stays(bench: Bench) {
    let store = &bench.store;
    // Each certificate of the bench ends after a year. This device has its second one.
    let mut own = Vec::new();
    for _ in 0..2 {
        let write = bench.authenticate_write("D1").await;
        own.push(write.certificate_sha256);
        let id = store.authenticate(write, at(0)).await.unwrap();
        let token = bench.token(TokenTarget::Enrollment(id));
        store.token_update(token, at(1)).await.unwrap();
    }
    let (unused, lasting) = (bench.certificate(), bench.certificate());
    let lasting = NewCertificate {
        not_after: at(2 * YEAR),
        ..lasting
    };
    let digests = [own[0], unused.sha256, own[1], lasting.sha256];
    for certificate in [unused, lasting] {
        store.insert_certificate(certificate, vec![], at(0)).await.unwrap();
    }
    let kept = async || {
        let mut kept = Vec::new();
        for digest in &digests {
            kept.push(store.certificate(digest).await.unwrap().is_some());
        }
        kept
    };

    assert_eq!(store.purge(at(YEAR + 9), &retention()).await.unwrap().certificates, 0);
    assert_eq!(kept().await, [true; 4]);
    let now = at(YEAR + 10);
    assert_eq!(store.would_purge(now, &retention()).await.unwrap().certificates, 2);
    assert_eq!(store.purge(now, &retention()).await.unwrap().certificates, 2);
    assert_eq!(kept().await, [false, false, true, true]);
    assert_eq!(store.would_purge(now, &retention()).await.unwrap().certificates, 0);
}

async fn of_many_certificates_all_that_ended_go(bench: Bench) {
    let (store, tenant) = (&bench.store, bench.tenant);
    let many = |digest: &str, numbers: &str| {
        format!(
            "INSERT INTO certificates (tenant_id, sha256, serial_number, subject, der, not_before, not_after, attributes, \
             created_at) SELECT {tenant}, {digest}, '01', 'CN=device', {digest}, 0, \
             CASE WHEN n % 3 = 0 THEN 9999999999999 ELSE 1 END, '{{}}', 0 FROM {numbers}"
        )
    };
    let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 12000)";
    let sqlite = format!("{numbers} {}", many("randomblob(32)", "numbers"));
    let postgres = many("decode(md5(n::text), 'hex')", "generate_series(1, 12000) AS numbers(n)");
    bench.meddle(&sqlite, &postgres).await;
    assert_eq!(store.purge(at(0), &retention()).await.unwrap().certificates, 8_000);
    assert_eq!(bench.count("certificates").await, 4_000);
    assert_eq!(store.purge(at(0), &retention()).await.unwrap().certificates, 0);
}
