//! What the store promises, checked the same way on both back ends.
//!
//! Each behaviour is an async function over a fresh database. Add one to the list of its module; it then runs on SQLite
//! and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod assignments;
mod bench;
mod callers;
mod churn;
mod clock;
mod concurrency;
mod decision_chain;
mod declarations;
mod effects;
mod enrollments;
mod escrow;
mod events;
mod everything;
mod fan_out;
mod figures;
mod history;
mod hold;
mod identities;
mod imports;
mod keys;
mod locked;
mod moving;
mod observers;
mod plugin_data;
mod plugin_leftovers;
mod plugins;
mod publishers;
mod push;
mod queue;
mod queue_rules;
mod records;
mod rollouts;
mod schedules;
mod secrets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Behaviour, Bench, TEMPLATE};
use russet_store::testing::{PostgresCluster, postgres_is_skipped};

/// Lists behaviours with their names.
macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn behaviours() -> Vec<(&'static str, crate::bench::Behaviour)> {
            vec![$((
                concat!(module_path!(), "::", stringify!($name)),
                (|bench| Box::pin($name(bench))) as crate::bench::Behaviour,
            )),+]
        }
    };
}
pub(crate) use behaviours;

type Behaviours = Vec<(&'static str, Behaviour)>;

/// All behaviours, in groups that run in processes of their own.
fn groups() -> [Behaviours; 6] {
    [
        [
            secrets::behaviours(),
            identities::behaviours(),
            imports::behaviours(),
            enrollments::behaviours(),
            escrow::behaviours(),
        ]
        .concat(),
        [
            declarations::behaviours(),
            assignments::behaviours(),
            publishers::behaviours(),
            records::behaviours(),
            keys::behaviours(),
            moving::behaviours(),
        ]
        .concat(),
        [
            queue::behaviours(),
            callers::behaviours(),
            locked::behaviours(),
            queue_rules::behaviours(),
            clock::behaviours(),
            hold::behaviours(),
            history::behaviours(),
            push::behaviours(),
            figures::behaviours(),
        ]
        .concat(),
        [
            plugin_data::behaviours(),
            plugin_leftovers::behaviours(),
            plugins::behaviours(),
            rollouts::behaviours(),
        ]
        .concat(),
        [
            effects::behaviours(),
            decision_chain::behaviours(),
            events::behaviours(),
            observers::behaviours(),
            schedules::behaviours(),
        ]
        .concat(),
        [fan_out::behaviours(), churn::behaviours(), concurrency::behaviours()].concat(),
    ]
}

/// Those whose name contains what `RUSSET_TEST_BEHAVIOURS` says, for work on one of them.
fn wanted(mut behaviours: Behaviours) -> Behaviours {
    let wanted = std::env::var("RUSSET_TEST_BEHAVIOURS").unwrap_or_default();
    behaviours.retain(|(name, _)| name.contains(&wanted));
    behaviours
}

/// What takes longer is named, so that whoever waits for the suite knows for what.
const SLOW: Duration = Duration::from_secs(5);

/// Runs one behaviour; whether it held.
async fn holds(name: &str, behaviour: Behaviour, bench: Bench) -> bool {
    let store = bench.store.clone();
    let started = Instant::now();
    let outcome = tokio::spawn(behaviour(bench)).await;
    let took = started.elapsed();
    if took > SLOW {
        eprintln!("---- {name} on {} took {took:?}", store.backend_name());
    }
    store.close().await.unwrap();
    if let Err(error) = &outcome {
        eprintln!("==== {name} on {}: {error}", store.backend_name());
    }
    outcome.is_ok()
}

fn report(failed: &[&str]) {
    assert!(
        failed.is_empty(),
        "{} behaviours do not hold: {failed:#?}",
        failed.len()
    );
}

/// Some behaviours count statements and transactions, which are those of the whole process and the whole cluster: one after
/// the other, also where one process runs several groups.
static ONE_GROUP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let _one = ONE_GROUP.lock().await;
    let mut failed = Vec::new();
    for (name, behaviour) in wanted(groups().concat()) {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::sqlite(folder.path()).await;
        if !holds(name, behaviour, bench).await {
            failed.push(name);
        }
    }
    report(&failed);
}

async fn postgres(group: usize) {
    if postgres_is_skipped() {
        return;
    }
    let _one = ONE_GROUP.lock().await;
    let behaviours = wanted(groups()[group].clone());
    let cluster = Arc::new(PostgresCluster::start().unwrap());
    // The tables are made once, and copied for each behaviour.
    Bench::postgres(&cluster, TEMPLATE).await.store.close().await.unwrap();
    let mut failed = Vec::new();
    for (number, (name, behaviour)) in behaviours.into_iter().enumerate() {
        let bench = Bench::copied(&cluster, &format!("behaviour_{number}")).await;
        if !holds(name, behaviour, bench).await {
            failed.push(name);
        }
    }
    report(&failed);
}

/// A test for each group.
macro_rules! postgres {
    ($($name:ident = $group:literal),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            postgres($group).await;
        })+

        #[test]
        fn every_group_runs_on_postgres() {
            assert_eq!([$($group),+], std::array::from_fn::<_, 6, _>(|group| group));
        }
    };
}

postgres! {
    postgres_identities = 0,
    postgres_declarations = 1,
    postgres_queue = 2,
    postgres_plugins = 3,
    postgres_events = 4,
    postgres_crowds = 5,
}
