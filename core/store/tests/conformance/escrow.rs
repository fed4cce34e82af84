//! Escrowed secrets.

use russet_store::{EnrollmentId, EscrowInfo, EscrowKind, StoreError, TokenTarget};

use crate::behaviours;
use crate::bench::{Bench, at};

behaviours![
    a_token_update_keeps_the_unlock_token,
    escrow_is_sealed_to_its_enrollment
];

async fn a_token_update_keeps_the_unlock_token(bench: Bench) {
    let store = &bench.store;
    let id = bench.enrolled("U1").await;
    store
        .escrow_put(
            id,
            EscrowKind::UnlockToken,
            b"unlock".to_vec().into(),
            None,
            vec![],
            at(2),
        )
        .await
        .unwrap();
    store
        .token_update(bench.token(TokenTarget::Enrollment(id)), at(3))
        .await
        .unwrap();
    let secret = store
        .escrow_get(id, EscrowKind::UnlockToken, vec![], at(4))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(secret.as_slice(), b"unlock");
}

async fn escrow_is_sealed_to_its_enrollment(bench: Bench) {
    let store = &bench.store;
    let kind = EscrowKind::BootstrapToken;
    let first = bench.enrolled("U1").await;
    let second = bench.enrolled("U2").await;
    assert!(store.escrow_get(first, kind, vec![], at(0)).await.unwrap().is_none());
    let decision = || vec![bench.decision("allow")];
    store
        .escrow_put(first, kind, b"one".to_vec().into(), None, decision(), at(1))
        .await
        .unwrap();
    store
        .escrow_put(first, kind, b"two".to_vec().into(), None, decision(), at(2))
        .await
        .unwrap();
    store
        .escrow_put(second, kind, b"three".to_vec().into(), None, vec![], at(2))
        .await
        .unwrap();
    let info = store.escrow_info(first, kind).await.unwrap();
    assert_eq!(
        info,
        Some(EscrowInfo {
            deposited_at: at(2),
            held: None
        })
    );
    let released = store.escrow_get(first, kind, decision(), at(3)).await.unwrap().unwrap();
    assert_eq!(released.as_slice(), b"two");
    // Two deposits and one release.
    assert_eq!(
        store
            .decisions(bench.tenant, Some(first), None, 10)
            .await
            .unwrap()
            .items
            .len(),
        3
    );

    let copy = format!(
        "UPDATE escrow SET sealed = (SELECT sealed FROM escrow WHERE enrollment_id = {second}) \
         WHERE enrollment_id = {first}"
    );
    bench.meddle(&copy, &copy).await;
    let error = store.escrow_get(first, kind, vec![], at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::Sealed("bootstrap-token")));

    // A mark on a deposit that nobody could decide about goes with the next deposit.
    for held in [Some("the policy failed".to_owned()), None] {
        store
            .escrow_put(second, kind, b"four".to_vec().into(), held.clone(), vec![], at(4))
            .await
            .unwrap();
        assert_eq!(store.escrow_info(second, kind).await.unwrap().unwrap().held, held);
    }

    assert!(store.escrow_clear(first, kind, decision(), at(4)).await.unwrap());
    assert!(!store.escrow_clear(first, kind, vec![], at(4)).await.unwrap());
    assert!(store.escrow_get(first, kind, vec![], at(5)).await.unwrap().is_none());
    let unknown = store
        .escrow_put(EnrollmentId(4711), kind, b"x".to_vec().into(), None, vec![], at(5))
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound("enrollment"))));
}
