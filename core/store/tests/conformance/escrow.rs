//! Escrowed secrets.

use std::sync::Arc;

use russet_store::{
    Decided, EnrollmentId, EscrowInfo, EscrowKind, HeldDeposit, NewEvent, Observed, StoreError, TenantId, TokenTarget,
    Wanted,
};
use serde_json::json;

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![
    a_token_update_keeps_the_unlock_token,
    escrow_is_sealed_to_its_enrollment,
    what_is_decided_is_on_record,
    a_held_deposit_is_shown_and_taken_as_decided,
    held_deposits_are_listed_in_pages,
];

async fn put(bench: &Bench, id: EnrollmentId, kind: EscrowKind, secret: &[u8], held: Option<&str>, seconds: i64) {
    let held = held.map(str::to_owned);
    let secret = secret.to_vec().into();
    bench
        .store
        .escrow_put(id, kind, secret, held, Decided::default(), at(seconds))
        .await
        .unwrap();
}

async fn get(bench: &Bench, id: EnrollmentId, kind: EscrowKind) -> Option<Vec<u8>> {
    let found = bench.store.escrow_get(id, kind).await.unwrap();
    found.map(|(secret, _)| secret.to_vec())
}

async fn a_token_update_keeps_the_unlock_token(bench: Bench) {
    let id = bench.enrolled("U1").await;
    put(&bench, id, EscrowKind::UnlockToken, b"unlock", None, 2).await;
    let update = bench.token(TokenTarget::Enrollment(id));
    bench.store.token_update(update, at(3)).await.unwrap();
    assert_eq!(get(&bench, id, EscrowKind::UnlockToken).await.unwrap(), b"unlock");
}

async fn escrow_is_sealed_to_its_enrollment(bench: Bench) {
    let store = &bench.store;
    let kind = EscrowKind::BootstrapToken;
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    assert_eq!(get(&bench, first, kind).await, None);
    put(&bench, first, kind, b"one", None, 1).await;
    put(&bench, first, kind, b"two", None, 2).await;
    put(&bench, second, kind, b"three", None, 2).await;
    let info = EscrowInfo {
        deposited_at: at(2),
        held: None,
    };
    assert_eq!(store.escrow_info(first, kind).await.unwrap(), Some(info.clone()));
    assert_eq!(store.escrow_list(first).await.unwrap(), [(kind, info)]);
    assert_eq!(get(&bench, first, kind).await.unwrap(), b"two");

    let copy = format!(
        "UPDATE escrow SET sealed = (SELECT sealed FROM escrow WHERE enrollment_id = {second}) \
         WHERE enrollment_id = {first}"
    );
    bench.meddle(&copy, &copy).await;
    let error = store.escrow_get(first, kind).await.unwrap_err();
    assert!(matches!(error, StoreError::Sealed("bootstrap-token")));

    assert!(
        store
            .escrow_clear(first, kind, Decided::default(), at(4))
            .await
            .unwrap()
    );
    assert!(
        !store
            .escrow_clear(first, kind, Decided::default(), at(4))
            .await
            .unwrap()
    );
    assert_eq!(get(&bench, first, kind).await, None);
    let unknown = store
        .escrow_put(
            EnrollmentId(4711),
            kind,
            b"x".to_vec().into(),
            None,
            Decided::default(),
            at(5),
        )
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound("enrollment"))));
}

/// One decision, and one event that somebody wants.
fn decided(bench: &Bench) -> Decided {
    Decided {
        decisions: vec![bench.decision("allow")],
        events: vec![NewEvent {
            kind: "escrow.released".to_owned(),
            enrollment: None,
            detail: json!({ "kind": "bootstrap-token" }),
            depth: 0,
        }],
    }
}

/// Somebody wants to know everything.
#[derive(Debug)]
struct Curious;

impl Observed for Curious {
    fn wanted(&self, _: TenantId, _: &str) -> Option<Wanted> {
        Some(Wanted { first_of: vec![] })
    }

    fn anywhere(&self, _: &str) -> bool {
        true
    }
}

async fn what_is_decided_is_on_record(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store.set_observed(Arc::new(Curious));
    let kind = EscrowKind::BootstrapToken;
    let secret = || b"one".to_vec().into();
    store
        .escrow_put(id, kind, secret(), None, decided(&bench), at(2))
        .await
        .unwrap();
    store.escrow_decided(id, decided(&bench), at(3)).await.unwrap();
    store.escrow_clear(id, kind, decided(&bench), at(4)).await.unwrap();
    let before = bench.writes().await;
    store.escrow_decided(id, Decided::default(), at(5)).await.unwrap();
    assert_eq!(bench.writes().await, before, "nothing was decided");
    let events = store.events(bench.tenant, &Default::default(), None, 10).await.unwrap();
    assert_eq!(events.items.len(), 3);
    assert!(events.items.iter().all(|event| event.enrollment == Some(id)));
    let recorded = store.decisions(bench.tenant, Some(id), None, 10).await.unwrap();
    assert_eq!(recorded.items.len(), 3);
}

async fn a_held_deposit_is_shown_and_taken_as_decided(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    let kind = EscrowKind::UnlockToken;
    let accept = |deposited: i64, other: Option<&[u8]>| {
        let other = other.map(|other| other.to_vec().into());
        store.escrow_accept(id, kind, at(deposited), other, Decided::default(), at(90))
    };
    put(&bench, id, kind, b"plain", None, 10).await;
    assert!(!accept(10, None).await.unwrap(), "it is not held");

    put(&bench, id, kind, b"plain", Some("the policy failed"), 20).await;
    let held = store.escrow_held(bench.tenant, None, 10).await.unwrap();
    assert_eq!(
        held.items,
        [HeldDeposit {
            enrollment_key: "U1".to_owned(),
            kind,
            deposited_at: at(20),
            reason: "the policy failed".to_owned(),
        }]
    );
    assert!(
        !accept(10, Some(b"old")).await.unwrap(),
        "the device deposited another one since"
    );
    assert_eq!(get(&bench, id, kind).await.unwrap(), b"plain");

    assert!(accept(20, Some(b"wrapped")).await.unwrap());
    let (secret, info) = store.escrow_get(id, kind).await.unwrap().unwrap();
    assert_eq!(
        (secret.as_slice(), info.held, info.deposited_at),
        (&b"wrapped"[..], None, at(20))
    );
    assert!(
        store
            .escrow_held(bench.tenant, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );

    put(&bench, id, kind, b"again", Some("the policy failed"), 30).await;
    assert!(accept(30, None).await.unwrap());
    assert_eq!(get(&bench, id, kind).await.unwrap(), b"again");
}

async fn held_deposits_are_listed_in_pages(bench: Bench) {
    let store = &bench.store;
    for key in ["U1", "U2", "U3"] {
        let id = bench.enrolled(key).await;
        for kind in [EscrowKind::UnlockToken, EscrowKind::BootstrapToken] {
            put(&bench, id, kind, b"secret", Some("nobody could decide"), 10).await;
        }
    }
    let keys = |items: &[HeldDeposit]| items.iter().map(|held| held.enrollment_key.clone()).collect::<Vec<_>>();
    let first = store.escrow_held(bench.tenant, None, 2).await.unwrap();
    assert_eq!(keys(&first.items), ["U1", "U1", "U2", "U2"]);
    let rest = store.escrow_held(bench.tenant, first.next, 2).await.unwrap();
    assert_eq!(keys(&rest.items), ["U3", "U3"]);
    assert!(rest.next.is_none());
    let other = store.create_tenant("other", at(0)).await.unwrap();
    assert!(store.escrow_held(other, None, 10).await.unwrap().items.is_empty());
}
