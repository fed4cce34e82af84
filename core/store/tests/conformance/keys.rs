//! Changing the master key and the data key, with servers on the database.

use std::collections::BTreeMap;
use std::time::Duration;

use russet_store::{
    DataKeyState, MasterKey, MasterKeyChange, NodeRecord, OpenError, RotateError, RotationStep, SecretKind, Store,
    StoreError,
};

use crate::behaviours;
use crate::bench::{Bench, at, master};
use crate::everything::everything;

behaviours![
    another_master_key_takes_over_in_two_steps,
    a_change_of_the_master_key_is_not_mistaken,
    everything_is_sealed_anew_under_a_fresh_data_key,
    a_rotation_goes_on_where_it_was_interrupted,
    nodes_that_have_not_followed_are_waited_for,
    what_changes_meanwhile_stays,
    what_does_not_open_is_told_and_stays,
    every_column_of_bytes_is_known_to_be_sealed_or_not,
];

const PATIENCE: Duration = Duration::from_secs(20);

fn new_master() -> MasterKey {
    MasterKey::from_bytes([43; 32])
}

async fn rotated(store: &Store) -> russet_store::Resealed {
    store.rotate_data_key(|| at(10), PATIENCE, |_| {}).await.unwrap()
}

/// How many sealed values are under the first data key.
async fn under_the_first(bench: &Bench) -> i64 {
    let mut count = 0;
    for (table, column) in SEALED {
        let first = bench.per("x'01'", "'\\x01'::bytea");
        count += bench
            .count(&format!(
                "{table} WHERE {column} IS NOT NULL AND substr({column}, 1, 1) = {first}"
            ))
            .await;
    }
    count
}

const SEALED: [(&str, &str); 8] = [
    ("commands", "payload"),
    ("decisions", "sealed"),
    ("escrow", "sealed"),
    ("plugin_keys", "sealed"),
    ("plugin_secrets", "sealed"),
    ("push_certificates", "sealed_key"),
    ("queue_entries", "result"),
    ("secrets", "sealed"),
];

async fn another_master_key_takes_over_in_two_steps(bench: Bench) {
    let all = everything(&bench).await;
    assert!(matches!(
        bench.reopen(&new_master()).await,
        Err(OpenError::WrongMasterKey)
    ));
    let begun = bench.store.begin_master_key(&new_master()).await.unwrap();
    assert_eq!(begun, MasterKeyChange::Begun);
    // A crash may have kept the answer back: it is asked for again.
    let again = bench.store.begin_master_key(&new_master()).await.unwrap();
    assert_eq!(again, MasterKeyChange::UnderWay);
    // In between, whichever of the two a server has, it opens.
    for key in [master(), new_master()] {
        let store = bench.reopen(&key).await.unwrap();
        all.opens(&store).await;
        store.close().await.unwrap();
    }
    let new = bench.reopen(&new_master()).await.unwrap();
    assert_eq!(new.finish_master_key().await.unwrap(), MasterKeyChange::Finished);
    assert_eq!(new.finish_master_key().await.unwrap(), MasterKeyChange::Nothing);
    assert!(matches!(bench.reopen(&master()).await, Err(OpenError::WrongMasterKey)));
    // A server that runs since before goes on.
    all.opens(&bench.store).await;
    all.opens(&new).await;
    new.close().await.unwrap();
}

async fn a_change_of_the_master_key_is_not_mistaken(bench: Bench) {
    let store = &bench.store;
    assert_eq!(store.finish_master_key().await.unwrap(), MasterKeyChange::Nothing);
    assert!(matches!(
        store.begin_master_key(&master()).await,
        Err(RotateError::SameMasterKey)
    ));
    store.begin_master_key(&new_master()).await.unwrap();
    let third = MasterKey::from_bytes([44; 32]);
    assert!(matches!(
        store.begin_master_key(&third).await,
        Err(RotateError::OtherMasterKey)
    ));
    // With the old key, there is nothing to be finished; a data key would be wrapped by one of the two only.
    assert!(matches!(
        store.finish_master_key().await,
        Err(RotateError::StillOldMasterKey)
    ));
    let refused = store.rotate_data_key(|| at(10), PATIENCE, |_| {}).await;
    assert!(matches!(refused, Err(RotateError::MasterKeyChanging)));
    assert!(bench.reopen(&master()).await.is_ok());
}

async fn everything_is_sealed_anew_under_a_fresh_data_key(bench: Bench) {
    let all = everything(&bench).await;
    let beside = bench.reopen(&master()).await.unwrap();
    let before = under_the_first(&bench).await;
    assert!(before >= 10, "{before}");
    for (table, column) in SEALED {
        assert!(
            bench.count(&format!("{table} WHERE {column} IS NOT NULL")).await > 0,
            "nothing is sealed in {table}"
        );
    }
    let resealed = rotated(&bench.store).await;
    assert_eq!((resealed.number, resealed.resumed, resealed.unreadable), (2, false, 0));
    assert_eq!(i64::try_from(resealed.values).unwrap(), before);
    assert_eq!(under_the_first(&bench).await, 0);
    let keys = bench.store.data_keys().await.unwrap();
    let states: Vec<_> = keys.iter().map(|key| (key.number, key.state)).collect();
    assert_eq!(states, [(1, DataKeyState::Retired), (2, DataKeyState::Sealing)]);
    all.opens(&bench.store).await;
    let fresh = bench.reopen(&master()).await.unwrap();
    all.opens(&fresh).await;
    // A server that has not looked since says that it has to, and calls nothing broken.
    let read = beside.secret(bench.tenant, SecretKind::CaKey, "one").await;
    assert!(matches!(read, Err(StoreError::DataKeyUnknown)), "{read:?}");

    // Only what plugins keep themselves needs the first key.
    assert_eq!(bench.store.forget_retired_keys().await.unwrap(), [1]);
    let fresh = bench.reopen(&master()).await.unwrap();
    all.tables_open(&fresh).await;
    assert_eq!(rotated(&fresh).await.number, 3);
    all.tables_open(&fresh).await;
}

async fn a_rotation_goes_on_where_it_was_interrupted(bench: Bench) {
    let all = everything(&bench).await;
    // Whoever rotates is gone after the first table.
    let steps = std::sync::Mutex::new(0);
    let interrupted = {
        let store = bench.store.clone();
        tokio::spawn(async move {
            store
                .rotate_data_key(
                    || at(10),
                    PATIENCE,
                    |step| {
                        if matches!(step, RotationStep::Sealing { .. }) {
                            *steps.lock().unwrap() += 1;
                            assert!(*steps.lock().unwrap() < 3, "on purpose");
                        }
                    },
                )
                .await
        })
    };
    assert!(interrupted.await.unwrap_err().is_panic());
    assert!(under_the_first(&bench).await > 0);
    assert!(matches!(
        bench.store.forget_retired_keys().await,
        Err(RotateError::Unfinished)
    ));
    let fresh = bench.reopen(&master()).await.unwrap();
    all.opens(&fresh).await;
    let resealed = rotated(&fresh).await;
    assert_eq!((resealed.number, resealed.resumed), (2, true));
    assert_eq!(under_the_first(&bench).await, 0);
    all.opens(&fresh).await;
}

async fn nodes_that_have_not_followed_are_waited_for(bench: Bench) {
    let all = everything(&bench).await;
    let other = bench.reopen(&master()).await.unwrap();
    let node = |id: &str, seconds: i64| NodeRecord {
        id: id.to_owned(),
        name: id.to_owned(),
        generations: BTreeMap::new(),
        started_at: at(0),
        seen_at: at(seconds),
    };
    other.report_node(node("slow", 10)).await.unwrap();
    let impatient = bench.store.rotate_data_key(|| at(10), Duration::ZERO, |_| {}).await;
    let Err(RotateError::NodesBehind { nodes }) = impatient else {
        panic!("{impatient:?}");
    };
    assert_eq!(nodes, ["slow"]);
    // It is known by now, and nothing is under it: the node would not open that.
    assert_eq!(bench.store.data_keys().await.unwrap()[1].state, DataKeyState::Readable);
    bench
        .store
        .put_secret(bench.tenant, SecretKind::TlsKey, "tls", b"tls", at(11))
        .await
        .unwrap();
    assert!(
        other
            .secret(bench.tenant, SecretKind::TlsKey, "tls")
            .await
            .unwrap()
            .is_some()
    );
    // One that is gone for long is not waited for.
    let resealed = bench.store.rotate_data_key(|| at(100), Duration::ZERO, |_| {}).await;
    assert_eq!(resealed.unwrap().number, 2);
    all.opens(&bench.store).await;

    // One that follows is: it looks by itself.
    let follower = bench.reopen_looking(&master()).await;
    follower.report_node(node("following", 200)).await.unwrap();
    let resealed = bench.store.rotate_data_key(|| at(200), PATIENCE, |_| {}).await;
    assert_eq!(resealed.unwrap().number, 3);
    all.opens(&follower).await;
    follower.close().await.unwrap();
}

async fn what_changes_meanwhile_stays(bench: Bench) {
    let all = everything(&bench).await;
    let store = bench.store.clone();
    // A server that seals while everything is sealed anew.
    let writing = tokio::spawn(async move {
        let mut last = 0_u32;
        for number in 0..200_u32 {
            let secret = number.to_be_bytes();
            store
                .put_secret(store.default_tenant(), SecretKind::TlsKey, "tls", &secret, at(20))
                .await
                .unwrap();
            last = number;
        }
        last
    });
    rotated(&bench.store).await;
    let last = writing.await.unwrap();
    let read = bench.store.secret(bench.tenant, SecretKind::TlsKey, "tls").await;
    assert_eq!(read.unwrap().unwrap().as_slice(), last.to_be_bytes());
    all.opens(&bench.store).await;
}

async fn what_does_not_open_is_told_and_stays(bench: Bench) {
    let all = everything(&bench).await;
    bench
        .store
        .put_secret(bench.tenant, SecretKind::TlsKey, "moved", b"moved", at(7))
        .await
        .unwrap();
    let moved = "UPDATE secrets SET name = 'elsewhere' WHERE name = 'moved'";
    bench.meddle(moved, moved).await;
    let resealed = rotated(&bench.store).await;
    assert_eq!(resealed.unreadable, 1);
    all.opens(&bench.store).await;
    let Err(RotateError::StillUsed { table, count }) = bench.store.forget_retired_keys().await else {
        panic!("the key of a value that is there was forgotten");
    };
    assert_eq!((table, count), ("secrets", 1));
    let put_back = "UPDATE secrets SET name = 'moved' WHERE name = 'elsewhere'";
    bench.meddle(put_back, put_back).await;
    let read = bench.store.secret(bench.tenant, SecretKind::TlsKey, "moved").await;
    assert_eq!(read.unwrap().unwrap().as_slice(), b"moved");
}

/// Whoever adds a column of bytes says here whether what is in it is sealed: then it has to be in the list of
/// `vault::columns` too.
async fn every_column_of_bytes_is_known_to_be_sealed_or_not(bench: Bench) {
    const PLAIN: &[(&str, &str)] = &[
        ("api_tokens", "token_sha256"),
        ("certificates", "der"),
        ("certificates", "renews_sha256"),
        ("certificates", "sha256"),
        ("decision_chains", "anchor_hash"),
        ("decision_chains", "hash"),
        ("decisions", "chain_hash"),
        ("decisions", "input_sha256"),
        ("decisions", "journal_sha256"),
        ("decisions", "verdict_sha256"),
        ("declaration_status_problems", "excerpt"),
        ("enrollments", "certificate_sha256"),
        ("enrollments", "push_token"),
        ("identity_authorities", "der"),
        ("identity_authorities", "sha256"),
        ("plugin_components", "component"),
        ("plugin_components", "digest"),
        ("plugin_kv", "key"),
        ("plugin_kv", "value"),
        ("plugin_publishers", "public_key"),
        ("plugin_revision_events", "digest"),
        ("plugin_revisions", "digest"),
        ("profiles", "content"),
        ("push_certificates", "certificate"),
        ("scep_challenges", "certificate_sha256"),
        ("scep_challenges", "challenge_sha256"),
        ("scep_challenges", "public_key_sha256"),
        // By the master key.
        ("vault_keys", "next_wrapped"),
        ("vault_keys", "wrapped"),
    ];
    let Some(mut found) = bench.columns_of_bytes().await else {
        // SQLite calls UUIDs bytes too.
        return;
    };
    let mut known: Vec<(String, String)> = SEALED
        .iter()
        .chain(PLAIN)
        .map(|(table, column)| ((*table).to_owned(), (*column).to_owned()))
        .collect();
    known.sort();
    found.sort();
    assert_eq!(found, known);
}
