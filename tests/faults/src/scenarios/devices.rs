//! Devices repeat themselves, come out of order, send what was damaged on the way, and renew their identities while the
//! server is killed.

use std::time::Duration;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site};

/// Repeated, late and damaged messages, more of them than of the others.
pub(super) async fn disorder(extent: Extent) -> Outcome {
    let habits = Habits {
        repeat_report: 30,
        damaged_body: 20,
        not_now: 10,
        new_push_token: 10,
        ..Habits::default()
    };
    let mut site = Site::start(Backend::Postgres, extent, habits).await;
    let mut running = site.run().await;
    for _ in 0..extent.runs {
        site.one_more(&mut running);
        site.fleet.advances(site.random.between(40, 80)).await;
        site.after_a_fault("disorder").await;
    }
    site.finish(running).await
}

/// Renewals of identities, each of which may be cut short anywhere.
pub(super) async fn renewals(extent: Extent) -> Outcome {
    let habits = Habits {
        renew: 40,
        ..Habits::default()
    };
    let mut site = Site::start(Backend::Sqlite, extent, habits).await;
    let running = site.run().await;
    for _ in 0..extent.runs {
        site.fleet.advances(site.random.between(5, 40)).await;
        tokio::time::sleep(Duration::from_micros(site.random.below(30_000))).await;
        site.world.server.kill();
        site.resume().await;
        site.after_a_fault("a kill among renewals").await;
    }
    site.finish(running).await
}
