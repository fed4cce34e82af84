//! What the store promises, checked the same way on both back ends.
//!
//! Each behaviour is an async function over a fresh database. Add one to the list of its module; it then runs on SQLite
//! and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod assignments;
mod bench;
mod churn;
mod concurrency;
mod decision_chain;
mod declarations;
mod effects;
mod enrollments;
mod escrow;
mod events;
mod fan_out;
mod history;
mod hold;
mod identities;
mod observers;
mod plugin_data;
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
use futures::{StreamExt, stream};
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

/// All behaviours, or those whose name contains what `RUSSET_TEST_BEHAVIOURS` says, for work on one of them.
fn all() -> Vec<(&'static str, Behaviour)> {
    let wanted = std::env::var("RUSSET_TEST_BEHAVIOURS").unwrap_or_default();
    let mut all = [
        secrets::behaviours(),
        identities::behaviours(),
        enrollments::behaviours(),
        escrow::behaviours(),
        declarations::behaviours(),
        assignments::behaviours(),
        queue::behaviours(),
        queue_rules::behaviours(),
        fan_out::behaviours(),
        hold::behaviours(),
        history::behaviours(),
        push::behaviours(),
        plugin_data::behaviours(),
        plugins::behaviours(),
        rollouts::behaviours(),
        publishers::behaviours(),
        records::behaviours(),
        effects::behaviours(),
        decision_chain::behaviours(),
        events::behaviours(),
        observers::behaviours(),
        schedules::behaviours(),
        churn::behaviours(),
        concurrency::behaviours(),
    ]
    .concat();
    all.retain(|(name, _)| name.contains(&wanted));
    all
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

/// How many behaviours run at once, each on its own database. Most of them wait most of the time.
const AT_ONCE: usize = 6;

/// Runs all behaviours; the names of those that do not hold.
async fn run<F: Future<Output = Bench>>(bench: impl Fn(usize) -> F) -> Vec<&'static str> {
    let bench = &bench;
    stream::iter(all().into_iter().enumerate())
        .map(async |(number, (name, behaviour))| {
            let held = holds(name, behaviour, bench(number).await).await;
            (!held).then_some(name)
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |failed| failed)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let failed = run(async |number| {
        let own = path.join(number.to_string());
        std::fs::create_dir(&own).unwrap();
        Bench::sqlite(&own).await
    })
    .await;
    report(&failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    if postgres_is_skipped() {
        return;
    }
    let cluster = Arc::new(PostgresCluster::start().unwrap());
    // The tables are made once, and copied for each behaviour.
    Bench::postgres(&cluster, TEMPLATE).await.store.close().await.unwrap();
    let cluster = &cluster;
    let failed = run(async |number| Bench::copied(cluster, &format!("behaviour_{number}")).await).await;
    report(&failed);
}
