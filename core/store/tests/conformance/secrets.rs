//! Opening, tenants, API tokens, sealed secrets.

use russet_store::{OpenError, SecretKind, StoreError};

use crate::behaviours;
use crate::bench::{Bench, at, master, sha256};

behaviours![
    a_second_server_sees_the_same_data,
    another_master_key_is_refused,
    tenants_have_unique_names,
    api_tokens_are_found_until_they_are_revoked,
    secrets_come_back_as_they_were,
    a_changed_or_moved_secret_does_not_open,
    a_closed_store_refuses_work,
];

async fn a_second_server_sees_the_same_data(bench: Bench) {
    bench
        .store
        .put_secret(bench.tenant, SecretKind::CaKey, "ca", b"key", at(0))
        .await
        .unwrap();
    let second = bench.reopen(&master()).await.unwrap();
    assert_eq!(second.default_tenant(), bench.tenant);
    let secret = second
        .secret(bench.tenant, SecretKind::CaKey, "ca")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(secret.as_slice(), b"key");
    second.ping().await.unwrap();
    second.close().await.unwrap();
}

async fn another_master_key_is_refused(bench: Bench) {
    let other = russet_store::MasterKey::from_bytes([1; 32]);
    let error = bench.reopen(&other).await.unwrap_err();
    assert!(matches!(error, OpenError::WrongMasterKey), "{error:?}");
    assert!(error.to_string().contains("master key"));
}

async fn tenants_have_unique_names(bench: Bench) {
    let acme = bench.store.create_tenant("acme", at(0)).await.unwrap();
    assert!(matches!(
        bench.store.create_tenant("acme", at(1)).await,
        Err(StoreError::Exists("tenant"))
    ));
    assert_eq!(bench.store.tenant_by_name("acme").await.unwrap().unwrap().id, acme);
    assert!(bench.store.tenant_by_name("nobody").await.unwrap().is_none());
    let names: Vec<_> = bench
        .store
        .tenants()
        .await
        .unwrap()
        .into_iter()
        .map(|tenant| tenant.name)
        .collect();
    assert_eq!(names, ["acme", "default"]);
}

async fn api_tokens_are_found_until_they_are_revoked(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let id = store
        .create_api_token(Some(bench.tenant), "ci", sha256(1), "admin", at(0))
        .await
        .unwrap();
    store
        .create_api_token(None, "root", sha256(2), "admin", at(0))
        .await
        .unwrap();
    let again = store.create_api_token(None, "again", sha256(1), "admin", at(0)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))));

    let found = store.find_api_token(&sha256(1)).await.unwrap().unwrap();
    assert_eq!(
        (found.id, found.tenant, found.role.as_str()),
        (id, Some(bench.tenant), "admin")
    );
    assert_eq!(store.find_api_token(&sha256(2)).await.unwrap().unwrap().tenant, None);
    assert_eq!(store.api_tokens(Some(bench.tenant)).await.unwrap().len(), 1);
    assert_eq!(store.api_tokens(None).await.unwrap().len(), 2);

    let foreign = store.revoke_api_token(Some(other), id, at(1)).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))));
    store.revoke_api_token(Some(bench.tenant), id, at(1)).await.unwrap();
    store.revoke_api_token(None, id, at(9)).await.unwrap();
    assert!(store.find_api_token(&sha256(1)).await.unwrap().is_none());
    assert_eq!(
        store.api_tokens(Some(bench.tenant)).await.unwrap()[0].revoked_at,
        Some(at(1))
    );
}

async fn secrets_come_back_as_they_were(bench: Bench) {
    let store = &bench.store;
    let other = store.create_tenant("other", at(0)).await.unwrap();
    let kind = SecretKind::PluginSecret;
    assert!(store.secret(bench.tenant, kind, "ldap").await.unwrap().is_none());
    store
        .put_secret(bench.tenant, kind, "ldap", b"one", at(0))
        .await
        .unwrap();
    store
        .put_secret(bench.tenant, kind, "ldap", b"two", at(1))
        .await
        .unwrap();
    assert_eq!(
        store
            .secret(bench.tenant, kind, "ldap")
            .await
            .unwrap()
            .unwrap()
            .as_slice(),
        b"two"
    );
    let kept = store
        .put_secret_if_absent(bench.tenant, kind, "ldap", b"three", at(2))
        .await
        .unwrap();
    assert_eq!(kept.as_slice(), b"two");
    let fresh = store
        .put_secret_if_absent(other, kind, "ldap", b"theirs", at(2))
        .await
        .unwrap();
    assert_eq!(fresh.as_slice(), b"theirs");
    assert!(
        store
            .secret(bench.tenant, SecretKind::Server, "ldap")
            .await
            .unwrap()
            .is_none()
    );
    assert!(store.delete_secret(bench.tenant, kind, "ldap").await.unwrap());
    assert!(!store.delete_secret(bench.tenant, kind, "ldap").await.unwrap());
    assert!(store.secret(bench.tenant, kind, "ldap").await.unwrap().is_none());
    assert!(store.secret(other, kind, "ldap").await.unwrap().is_some());
}

async fn a_changed_or_moved_secret_does_not_open(bench: Bench) {
    let store = &bench.store;
    let kind = SecretKind::Server;
    for name in ["changed", "moved", "whole"] {
        store
            .put_secret(bench.tenant, kind, name, name.as_bytes(), at(0))
            .await
            .unwrap();
    }
    bench
        .meddle(
            "UPDATE secrets SET sealed = substr(sealed, 1, length(sealed) - 1) || x'00' WHERE name = 'changed'",
            "UPDATE secrets SET sealed = set_byte(sealed, 20, 255 - get_byte(sealed, 20)) WHERE name = 'changed'",
        )
        .await;
    let copy = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'whole') WHERE name = 'moved'";
    bench.meddle(copy, copy).await;
    for name in ["changed", "moved"] {
        let error = store.secret(bench.tenant, kind, name).await.unwrap_err();
        assert!(matches!(error, StoreError::Sealed("server")), "{name}: {error:?}");
    }
    assert!(store.secret(bench.tenant, kind, "whole").await.unwrap().is_some());
}

async fn a_closed_store_refuses_work(bench: Bench) {
    let second = bench.reopen(&master()).await.unwrap();
    second.close().await.unwrap();
    assert!(second.ping().await.is_err());
    assert!(second.create_tenant("late", at(0)).await.is_err());
    assert!(bench.store.tenant_by_name("late").await.unwrap().is_none());
}
