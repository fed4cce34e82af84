//! A server with its database, its fleet and its checker: what every scenario begins with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use russet_simulator::device::{DeviceBuilder, ServerTrust};
use russet_store::testing::PostgresCluster;
use russet_tests::{PATIENCE, World, WorldBuilder};
use serde_json::json;
use tempfile::TempDir;

use crate::check::Checker;
use crate::fleet::{Fleet, Habits, Running};
use crate::proxy::Proxy;
use crate::random::Random;

/// Where the server keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In a file.
    Sqlite,
    /// In PostgreSQL.
    Postgres,
    /// In PostgreSQL, behind a [`Proxy`].
    Proxied,
}

/// How much of a scenario to do.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Makes the scenario again.
    pub seed: u64,
    /// How often each fault happens.
    pub runs: u64,
}

/// What a scenario came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many faults there were.
    pub faults: u64,
    /// How many commands the administrators were told were queued.
    pub accepted: u64,
    /// How many answers the devices were told were taken.
    pub answered: u64,
    /// How many single things were compared.
    pub compared: u64,
    /// Why it was left out, if it was.
    pub left_out: Option<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// Lines below the row.
    pub table: Vec<String>,
}

impl Outcome {
    /// It could not be done on this machine.
    pub fn left_out(why: impl Into<String>) -> Self {
        Self {
            left_out: Some(why.into()),
            ..Self::default()
        }
    }
}

/// Everything around one server.
#[derive(Debug)]
pub struct Site {
    /// The server, its push service and its administrator.
    pub world: World,
    /// The devices.
    pub fleet: Arc<Fleet>,
    /// Looks into the database, past the proxy.
    pub checker: Checker,
    /// The proxy, if there is one.
    pub proxy: Option<Proxy>,
    /// The database, if it is PostgreSQL.
    pub cluster: Option<PostgresCluster>,
    /// Where chance comes from.
    pub random: Random,
    outcome: Outcome,
    devices: u64,
    /// Of the database, past the proxy.
    url: String,
    /// What devices trust, if it is not the server's own authority.
    trust: Option<ServerTrust>,
}

/// How many devices there are at first.
const DEVICES: u64 = 6;

/// How many there are at most.
const MOST_DEVICES: u64 = 14;

impl Site {
    /// Starts a server and everything around it.
    pub async fn start(backend: Backend, extent: Extent, habits: Habits) -> Self {
        Self::start_with(backend, extent, habits, |builder| builder).await
    }

    /// The same, with other settings.
    pub async fn start_with(
        backend: Backend,
        extent: Extent,
        habits: Habits,
        change: impl FnOnce(WorldBuilder) -> WorldBuilder,
    ) -> Self {
        Self::start_in(backend, extent, habits, folder(), change).await
    }

    /// The same, in a folder that was prepared.
    ///
    /// # Panics
    /// When anything does not start; the message says what.
    pub async fn start_in(
        backend: Backend,
        extent: Extent,
        habits: Habits,
        folder: Arc<TempDir>,
        change: impl FnOnce(WorldBuilder) -> WorldBuilder,
    ) -> Self {
        let mut builder = settings(World::builder().at_a_lasting_address());
        let (mut cluster, mut proxy) = (None, None);
        let mut url = format!("sqlite://{}", folder.path().join("data/russet.sqlite").display());
        if backend != Backend::Sqlite {
            let own = PostgresCluster::start().expect("a PostgreSQL cluster");
            url = own.create_database("faults").expect("a database");
            let mut of_server = url.clone();
            if backend == Backend::Proxied {
                let between = Proxy::start(own.folder().join(".s.PGSQL.5432")).await;
                of_server = format!("postgres://russet@{}/faults", between.address());
                proxy = Some(between);
            }
            builder = builder.set("database.url", of_server);
            cluster = Some(own);
        }
        let started = change(builder).start_in(folder).await;
        let world = started.unwrap_or_else(|ended| panic!("the server did not start: {}", ended.said));
        world
            .admin
            .install("hostile", json!({"mode": "label", "label": "kept"}))
            .await;
        let checker = Checker::open(&url, world.admin.clone()).await;
        Self {
            fleet: Fleet::new(&world, habits),
            world,
            checker,
            proxy,
            cluster,
            random: Random::new(extent.seed),
            outcome: Outcome::default(),
            devices: 0,
            url,
            trust: None,
        }
    }

    /// Sets the devices and the administrator to work, and waits until all of it is going.
    pub async fn run(&mut self) -> Running {
        let mut running = self.fleet.run(&self.random);
        for _ in 0..DEVICES {
            self.one_more(&mut running);
        }
        self.fleet.advances(40).await;
        running
    }

    /// Lets one more device enroll, unless there are many.
    pub fn one_more(&mut self, running: &mut Running) {
        if self.devices < MOST_DEVICES {
            self.devices += 1;
            let builder = self.mac(&format!("C02FAULT{:04}", self.devices));
            running.join(builder, self.devices.is_multiple_of(2));
        }
    }

    /// A device of this site.
    pub fn mac(&self, serial_number: &str) -> DeviceBuilder {
        let builder = self.world.mac(serial_number);
        match &self.trust {
            Some(trust) => builder.trust(trust.clone()),
            None => builder,
        }
    }

    /// The devices trust these authorities from now on.
    ///
    /// # Panics
    /// When they are none.
    pub fn trust(&mut self, roots_pem: &str) {
        self.trust = Some(ServerTrust::from_pem(roots_pem).expect("authorities"));
    }

    /// The database's file.
    pub fn sqlite_file(&self) -> PathBuf {
        self.world.server.data_dir().join("russet.sqlite")
    }

    /// The proxy of a site that has one.
    ///
    /// # Panics
    /// When it has none.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("this site has a proxy")
    }

    /// The database of a site on PostgreSQL.
    ///
    /// # Panics
    /// When it is not on PostgreSQL.
    pub fn cluster(&self) -> &PostgresCluster {
        self.cluster.as_ref().expect("this site is on PostgreSQL")
    }

    /// Notes a fault, and looks whether everything that is true at any time is true after it.
    ///
    /// # Panics
    /// With what is not.
    pub async fn after_a_fault(&mut self, what: &str) {
        self.outcome.faults += 1;
        let findings = self.checker.any_time(&self.fleet).await;
        self.outcome.compared += findings.assert_none(&format!("after {what} ({})", self.outcome.faults));
    }

    /// Starts the server again that was killed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn resume(&mut self) {
        if let Err(ended) = self.world.server.resume().await {
            panic!("the server did not start again: {}", ended.said);
        }
    }

    /// Looks through a new connection: the old one went with the database.
    pub async fn look_again(&mut self) {
        self.checker = Checker::open(&self.url, self.world.admin.clone()).await;
    }

    /// Something to say of the run.
    pub fn note(&mut self, note: impl Into<String>) {
        self.outcome.notes.push(note.into());
    }

    /// Lines that are shown below the row of the scenario.
    pub fn show(&mut self, table: Vec<String>) {
        self.outcome.table = table;
    }

    /// Ends the load, lets everything arrive, and looks whether all is well at last.
    ///
    /// # Panics
    /// With what is not.
    pub async fn finish(mut self, running: Running) -> Outcome {
        // What is missing is found again by the checker, which says more of it.
        let arrived = running.settle().await.is_empty();
        let deadline = Instant::now() + PATIENCE;
        let findings = loop {
            let findings = self.checker.at_last(&self.fleet).await;
            if !arrived || findings.wrong.is_empty() || Instant::now() > deadline {
                break findings;
            }
            // What nobody was told is queued may wait for its device to come of itself, or for a push that is much later.
            self.fleet.come().await;
        };
        self.outcome.compared += findings.assert_none("at the end");
        let log = self.world.server.log();
        let panicked = log.lines().find(|line| line.contains("panicked at"));
        assert!(panicked.is_none(), "the server panicked: {panicked:?}");
        let answered: usize = self
            .fleet
            .members()
            .iter()
            .map(|member| member.device.answered().len())
            .sum();
        self.outcome.accepted = u64::try_from(self.fleet.books.accepted_count()).expect("a count");
        self.outcome.answered = u64::try_from(answered).expect("a count");
        self.outcome
    }
}

/// A folder for a server.
///
/// # Panics
/// When there can be none.
pub fn folder() -> Arc<TempDir> {
    Arc::new(
        tempfile::Builder::new()
            .prefix("russet-faults-")
            .tempdir()
            .expect("a temporary folder"),
    )
}

/// Where libfaketime is, if it is installed.
pub fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let file = |folder: &Path| folder.join("faketime/libfaketimeMT.so.1");
    folders
        .chain([PathBuf::from("/usr/lib")])
        .map(|folder| file(&folder))
        .find(|file| file.is_file())
}

/// What is short here and long in real life, so that a scenario takes seconds.
fn settings(builder: WorldBuilder) -> WorldBuilder {
    builder
        .set("queue.offer_again_first_seconds", 1)
        .set("queue.offer_again_longest_seconds", 1)
        .set("queue.stuck_after_offers", 1_000)
        .set("push.lease_seconds", 10)
        .set("database.acquire_timeout_seconds", 2)
        .set("database.statement_timeout_seconds", 3)
        .set("database.last_seen_interval_seconds", 1)
        .set("server.limits.enrollment_requests_per_minute", 0)
        .set("log.filter", "info")
}
