//! Moving a server to another back end and back, and bringing a database to another cluster.

use std::collections::BTreeMap;
use std::path::Path;

use russet_store::testing::steps;
use russet_store::{CopyError, MasterKey, NodeRecord, OpenError, Schema, Store, StoreConfig, copy_database, schema_of};

use crate::behaviours;
use crate::bench::{Bench, at, master};
use crate::events::{UPDATED, WATCH, observe, watched};
use crate::everything::everything;

behaviours![
    a_server_moves_to_sqlite_and_back,
    a_copy_is_of_one_moment_and_all_or_nothing,
    a_copy_refuses_what_it_would_damage,
    observers_miss_nothing_in_another_cluster,
    a_purge_does_what_it_said_it_would,
    sizes_are_of_all_tables,
];

fn file(folder: &Path, name: &str) -> String {
    format!("sqlite://{}", folder.join(name).display())
}

async fn open(url: &str) -> Store {
    Store::open(StoreConfig::new(url), &master()).await.unwrap()
}

async fn a_server_moves_to_sqlite_and_back(bench: Bench) {
    let all = everything(&bench).await;
    let group = bench.store.group(bench.tenant, "all").await.unwrap().unwrap().id;
    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (file(folder.path(), "there"), bench.empty_sister(folder.path()));
    let mut told = Vec::new();
    let copied = copy_database(&bench.url(), &there, false, at(50), |step| told.push(step.table)).await;
    let copied = copied.unwrap();
    assert_eq!((copied.from, copied.to), (bench.store.backend_name(), "sqlite"));
    assert!(told.iter().any(|table| table == "enrollments"));
    let rows = |name: &str| {
        copied
            .tables
            .iter()
            .find(|(table, _)| table == name)
            .map(|(_, rows)| *rows)
    };
    assert_eq!(rows("enrollments"), Some(2));
    assert_eq!(rows("schema_floor"), Some(1));
    // Every table of the schema, but what is about running servers, and what triggers make anew.
    let names = bench.store.database_stats().await.unwrap().tables;
    let mut left_out: Vec<_> = names
        .iter()
        .map(|table| table.name.as_str())
        .filter(|name| rows(name).is_none())
        .collect();
    left_out.sort_unstable();
    assert_eq!(left_out, ["enrollment_lookup", "leases", "nodes"]);

    let moved = open(&there).await;
    all.opens(&moved).await;
    all.goes_on(&moved, at(100)).await;
    let (here, looked_up) = (bench.count("enrollment_lookup").await, lookups(&moved).await);
    assert!(here > 0);
    assert_eq!(looked_up, u64::try_from(here).unwrap());
    moved.close().await.unwrap();

    copy_database(&there, &back, false, at(50), |_| {}).await.unwrap();
    let returned = open(&back).await;
    assert_eq!(returned.backend_name(), bench.store.backend_name());
    all.opens(&returned).await;
    returned
        .put_group(bench.tenant, "more", vec![all.device], false, at(60))
        .await
        .unwrap();
    // Numbers go on after those that were given.
    let more = returned.group(bench.tenant, "more").await.unwrap().unwrap().id;
    assert!(more > group, "{more:?} {group:?}");
    assert!(lookups(&returned).await > 0);
    returned.close().await.unwrap();
}

async fn lookups(store: &Store) -> u64 {
    let stats = store.database_stats().await.unwrap();
    let table = stats.tables.iter().find(|table| table.name == "enrollment_lookup");
    table.unwrap().rows
}

async fn a_copy_is_of_one_moment_and_all_or_nothing(bench: Bench) {
    let all = everything(&bench).await;
    let folder = tempfile::tempdir().unwrap();
    let (there, elsewhere) = (file(folder.path(), "there"), file(folder.path(), "elsewhere"));
    // Interrupted half way, by whoever is told of it.
    let url = bench.url();
    let interrupted = tokio::spawn({
        let (url, there) = (url.clone(), there.clone());
        async move {
            copy_database(&url, &there, false, at(50), |step| {
                assert!(step.table != "queue_entries", "on purpose");
            })
            .await
        }
    });
    assert!(interrupted.await.unwrap_err().is_panic());
    let copied = copy_database(&url, &there, false, at(50), |_| {}).await.unwrap();
    assert!(copied.rows() > 10);
    // While a server writes, what is copied is what was there when it began.
    let store = bench.store.clone();
    let (device, writing) = (all.device, bench.command("DeviceLock"));
    let late = tokio::spawn(async move { store.enqueue(writing, vec![device], at(51)).await });
    copy_database(&url, &elsewhere, true, at(50), |_| {}).await.unwrap();
    late.await.unwrap().unwrap();
    let moved = open(&elsewhere).await;
    all.opens(&moved).await;
    moved.close().await.unwrap();
}

async fn a_copy_refuses_what_it_would_damage(bench: Bench) {
    let folder = tempfile::tempdir().unwrap();
    let there = file(folder.path(), "there");
    let copy = async |from: &str, to: &str, force| copy_database(from, to, force, at(100), |_| {}).await;
    let url = bench.url();
    assert!(matches!(copy(&url, &url, false).await, Err(CopyError::Same)));
    let missing = file(folder.path(), "missing");
    assert!(matches!(
        copy(&missing, &there, false).await,
        Err(CopyError::Open { which: "source", .. })
    ));
    assert!(!folder.path().join("missing").exists());
    assert_eq!(schema_of(&missing).await.unwrap(), Schema::Absent);

    let node = NodeRecord {
        id: "a".to_owned(),
        name: "mdm-1".to_owned(),
        generations: BTreeMap::new(),
        started_at: at(0),
        seen_at: at(90),
    };
    bench.store.report_node(node).await.unwrap();
    let Err(CopyError::Running { node, seconds }) = copy(&url, &there, false).await else {
        panic!("a database was copied that a server uses");
    };
    assert_eq!((node.as_str(), seconds), ("mdm-1", 10));
    copy(&url, &there, true).await.unwrap();
    let Err(CopyError::NotEmpty { table }) = copy(&url, &there, true).await else {
        panic!("a database was copied into another one");
    };
    assert_eq!(table, "tenants");

    // A database of something else.
    let theirs = bench.empty_sister(folder.path());
    let store = open(&theirs).await;
    store.close().await.unwrap();
    let steps = steps();
    let [.., before, last] = steps.as_slice() else {
        panic!("there are not two steps");
    };
    let other = format!("DELETE FROM seaql_migrations WHERE version = '{last}'");
    bench.meddle(&other, &other).await;
    let Err(CopyError::OtherVersion { found, .. }) = copy(&url, &theirs, true).await else {
        panic!("a database of another version was copied");
    };
    assert_eq!(found, *before);
    assert_eq!(schema_of(&url).await.unwrap(), Schema::Older((*before).to_owned()));
    let newer = format!("UPDATE seaql_migrations SET version = 'm9999_later' WHERE version = '{before}'");
    bench.meddle(&newer, &newer).await;
    assert_eq!(schema_of(&url).await.unwrap(), Schema::Newer("m9999_later".to_owned()));
    let wrong = Store::open(StoreConfig::new(theirs), &MasterKey::from_bytes([1; 32])).await;
    assert!(matches!(wrong, Err(OpenError::WrongMasterKey)));
}

async fn observers_miss_nothing_in_another_cluster(bench: Bench) {
    let _wants = observe(&bench, &[UPDATED]);
    watched(&bench).await;
    bench.enrolled("before").await;
    while bench
        .store
        .observer_take(bench.tenant, WATCH, |_| true, 10, at(3))
        .await
        .unwrap()
        == 0
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    bench.enrolled("between").await;
    bench
        .store
        .record_decisions(bench.tenant, vec![bench.decision("allow")], at(3))
        .await
        .unwrap();
    // As in a cluster that had many more transactions than this one.
    bench
        .meddle(
            "SELECT 1",
            "UPDATE events SET tx = tx + 1000000000; UPDATE event_cursors SET tx = tx + 1000000000; \
             UPDATE decisions SET tx = tx + 1000000000",
        )
        .await;
    let moved = bench.reopen(&master()).await.unwrap();
    let bench = bench.with(moved);
    let _wants = observe(&bench, &[UPDATED]);
    bench.enrolled("after").await;
    let mut keys = Vec::new();
    while keys.len() < 3 {
        bench
            .store
            .observer_take(bench.tenant, WATCH, |_| true, 10, at(4))
            .await
            .unwrap();
        for delivery in bench.store.observer_next(bench.tenant, WATCH, 10, at(4)).await.unwrap() {
            let event = delivery.event;
            keys.push(event.enrollment_key.clone().unwrap());
            bench
                .store
                .observer_done(bench.tenant, WATCH, event.id, vec![], at(5))
                .await
                .unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(keys, ["before", "between", "after"]);
    bench.chained().await;
}

async fn a_purge_does_what_it_said_it_would(bench: Bench) {
    let all = everything(&bench).await;
    let mut expiring = bench.command("DeviceLock");
    expiring.expires_at = Some(at(20));
    bench.store.enqueue(expiring, vec![all.device], at(6)).await.unwrap();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let retention = russet_store::Retention {
        commands: 2 * day,
        results: day,
        decisions: 2 * day,
        recorded_calls: day,
        ..russet_store::Retention::default()
    };
    let days = |days: i64| at(days * 24 * 60 * 60 + 60);
    let mut went = 0;
    for now in [at(10), days(1), days(2), days(30), days(30), days(33)] {
        let would = bench.store.would_purge(now, &retention).await.unwrap();
        let writes = bench.writes().await;
        assert_eq!(would, bench.store.would_purge(now, &retention).await.unwrap());
        assert_eq!(writes, bench.writes().await, "counting changed something");
        let done = bench.store.purge(now, &retention).await.unwrap();
        assert_eq!(would, done, "{now}");
        went += done.expired + done.results + done.entries + done.commands + done.decisions + done.recorded_calls;
    }
    // The answered command with its result, the expired one, the decision with its call.
    assert_eq!(went, 1 + 1 + 2 + 2 + 1 + 1);
    all.goes_on(&bench.store, days(33)).await;
}

async fn sizes_are_of_all_tables(bench: Bench) {
    everything(&bench).await;
    let stats = bench.store.database_stats().await.unwrap();
    assert!(matches!(schema_of(&bench.url()).await.unwrap(), Schema::Same(step) if step == stats.schema));
    let sum: u64 = stats.tables.iter().map(|table| table.bytes).sum();
    assert!(sum > 0 && sum <= stats.bytes, "{sum} of {}", stats.bytes);
    for name in ["enrollments", "vault_keys"] {
        let table = stats.tables.iter().find(|table| table.name == name).unwrap();
        assert_eq!(i64::try_from(table.rows).unwrap(), bench.count(name).await);
        assert!(table.bytes > 0);
    }
}
