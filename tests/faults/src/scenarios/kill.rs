//! `kill -9` under load, and the next start.

use std::time::Duration;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site};

pub(super) async fn on_sqlite(extent: Extent) -> Outcome {
    kill(Backend::Sqlite, extent).await
}

pub(super) async fn on_postgres(extent: Extent) -> Outcome {
    kill(Backend::Postgres, extent).await
}

async fn kill(backend: Backend, extent: Extent) -> Outcome {
    let mut site = Site::start(backend, extent, Habits::default()).await;
    let mut running = site.run().await;
    for _ in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(10, 80)).await;
        // Anywhere between two things that the server says yes to.
        tokio::time::sleep(Duration::from_micros(site.random.below(20_000))).await;
        site.world.server.kill();
        site.resume().await;
        site.after_a_fault("a kill").await;
    }
    site.finish(running).await
}
