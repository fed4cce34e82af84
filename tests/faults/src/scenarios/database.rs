//! PostgreSQL goes away, or the network to it does.

use std::time::Duration;

use crate::fleet::Habits;
use crate::proxy::Cut;
use crate::site::{Backend, Extent, Outcome, Site};

/// The database crashes and recovers, again and again.
pub(super) async fn crash(extent: Extent) -> Outcome {
    let mut site = Site::start(Backend::Postgres, extent, Habits::default()).await;
    let mut running = site.run().await;
    for _ in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(10, 60)).await;
        let restarted = tokio::task::block_in_place(|| site.cluster().crash_and_restart());
        restarted.expect("the database comes back");
        site.fleet.advances(5).await;
        site.look_again().await;
        site.after_a_fault("a crash of the database").await;
    }
    site.finish(running).await
}

/// Connections end at random, and transactions lose theirs right before and right after their `COMMIT`.
pub(super) async fn cut(extent: Extent) -> Outcome {
    let mut site = Site::start(Backend::Proxied, extent, Habits::default()).await;
    let mut running = site.run().await;
    for run in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(5, 40)).await;
        match run % 3 {
            0 => site.proxy().cut_a_commit(Cut::AfterCommit).await,
            1 => site.proxy().cut(),
            _ => site.proxy().cut_a_commit(Cut::BeforeCommit).await,
        }
        site.fleet.advances(5).await;
        site.after_a_fault("a cut").await;
    }
    site.finish(running).await
}

/// Nothing moves for a while, or never again over the connections that there are: neither side is told.
pub(super) async fn silent(extent: Extent) -> Outcome {
    let mut site = Site::start(Backend::Proxied, extent, Habits::default()).await;
    let running = site.run().await;
    for run in 0..extent.runs {
        site.fleet.advances(site.random.between(10, 40)).await;
        if run % 2 == 0 {
            site.proxy().forsake();
        } else {
            site.proxy().stall(true);
            // Shorter and longer than what a device, a statement and a connection are given.
            tokio::time::sleep(Duration::from_millis(site.random.between(200, 8_000))).await;
            site.proxy().stall(false);
        }
        site.fleet.advances(5).await;
        site.after_a_fault("silence").await;
    }
    site.finish(running).await
}
