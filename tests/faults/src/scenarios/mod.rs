//! What can go wrong, a file each subject. A scenario panics with what was lost.

mod apns;
mod clients;
mod clock;
mod database;
mod devices;
mod disk;
mod growth;
mod kill;

use std::future::Future;
use std::pin::Pin;

use crate::site::{Extent, Outcome};

type Run = fn(Extent) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One kind of fault, again and again.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// What happens, in a line.
    pub what: &'static str,
    /// How often its faults happen in the short form, which the tests run.
    pub few: u64,
    /// How often in full.
    pub many: u64,
    run: Run,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    /// Runs it.
    pub async fn run(&self, extent: Extent) -> Outcome {
        (self.run)(extent).await
    }
}

macro_rules! scenarios {
    ($($name:literal $few:literal $many:literal $function:path, $what:literal;)*) => {
        /// All of them.
        pub const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            what: $what,
            few: $few,
            many: $many,
            run: |extent| Box::pin($function(extent)),
        }),*];
    };
}

scenarios! {
    "kill-sqlite" 4 100 kill::on_sqlite, "kill -9 at random points, SQLite";
    "kill-postgres" 4 100 kill::on_postgres, "kill -9 at random points, PostgreSQL";
    "database-crash" 2 20 database::crash, "PostgreSQL crashes and comes back";
    "network-cut" 3 40 database::cut, "connections to PostgreSQL are cut, at random and at COMMIT";
    "network-silent" 2 12 database::silent, "connections to PostgreSQL stall, or go silent for good";
    "disk-full" 2 20 disk::full, "no room on the disk of SQLite";
    "file-limit" 2 20 disk::limit, "SQLite's files may not grow";
    "clock" 4 30 clock::on_sqlite, "the clock jumps, to and fro, SQLite";
    "clock-postgres" 4 30 clock::on_postgres, "the clock jumps, to and fro, PostgreSQL";
    "expiry" 1 4 clock::expiry, "identities expire, and are renewed before";
    "renewals" 3 40 devices::renewals, "identities are renewed while the server is killed";
    "push-service" 5 40 apns::trouble, "APNs refuses, is slow, half-open, sends GOAWAY, hangs up";
    "disorder" 2 20 devices::disorder, "duplicate, late and damaged messages of devices";
    "growth-sqlite" 9 90 growth::on_sqlite, "days pass, and nothing grows with them, SQLite";
    "growth-postgres" 9 90 growth::on_postgres, "days pass, and nothing grows with them, PostgreSQL";
    "slow-clients" 1 10 clients::slow, "clients that do not go on";
}

/// The scenario of a name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
