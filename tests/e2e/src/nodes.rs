//! Several servers on one PostgreSQL database, which are one server to devices and administrators.

use std::ops::{Deref, DerefMut};

use russet_store::testing::PostgresCluster;
use tempfile::TempDir;

use crate::front::Front;
use crate::world::{World, WorldBuilder};

/// Several servers on one database; the push service, the maker of devices and the token are the same for all. Indexing
/// gives one of them.
#[derive(Debug)]
pub struct Nodes {
    worlds: Vec<World>,
    front: Option<Front>,
    url: String,
    key: String,
    /// Kept as long as the servers.
    cluster: PostgresCluster,
    _folder: TempDir,
}

/// The name of the database.
const DATABASE: &str = "nodes";

/// Where nodes start from.
#[derive(Debug)]
pub struct Database {
    /// The database's cluster.
    pub cluster: PostgresCluster,
    /// The URL of an empty database.
    pub url: String,
}

impl Database {
    /// An empty database.
    pub fn empty() -> Self {
        let cluster = PostgresCluster::start().expect("a cluster of PostgreSQL");
        let url = cluster.create_database(DATABASE).expect("a database");
        Self { cluster, url }
    }
}

impl Nodes {
    /// So many nodes, each at its own address, where devices that it enrolls find it. `change` sets up each of them.
    pub async fn start(count: usize, change: impl Fn(WorldBuilder) -> WorldBuilder) -> Self {
        let mut nodes = Self::on(Database::empty(), None);
        for _ in 0..count {
            nodes.add(&change).await;
        }
        nodes
    }

    /// So many nodes behind one address: each connection of a device goes to the next one.
    pub async fn behind_one_address(count: usize, change: impl Fn(WorldBuilder) -> WorldBuilder) -> Self {
        let mut nodes = Self::on(Database::empty(), Some(Front::start().await));
        for _ in 0..count {
            nodes.add(&change).await;
        }
        nodes
    }

    /// No node yet, on a database that a test has put something into.
    pub fn on(database: Database, front: Option<Front>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            worlds: Vec::new(),
            front,
            url: database.url,
            key: folder.path().join("master.key").display().to_string(),
            cluster: database.cluster,
            _folder: folder,
        }
    }

    /// Sets up one more node, without starting it: for several that start at the same time.
    pub fn builder(&self) -> WorldBuilder {
        let mut builder = World::builder()
            .set("database.url", self.url.clone())
            .set("secrets.master_key_file", self.key.clone())
            // What a node that dies has in its hands is free again soon.
            .set("push.lease_seconds", 10);
        if let Some(front) = &self.front {
            builder = builder.set("server.public_url", format!("https://{}", front.address()));
        }
        match self.worlds.first() {
            None => builder,
            // It makes no token and no push service of its own.
            Some(first) => builder.beside(first),
        }
    }

    /// Starts one more node.
    pub async fn add(&mut self, change: impl Fn(WorldBuilder) -> WorldBuilder) {
        let world = change(self.builder()).start().await;
        self.take(world);
    }

    /// Takes in a node that was started from [`builder`](Self::builder).
    pub fn take(&mut self, world: World) {
        self.worlds.push(world);
        self.lead();
    }

    /// Ends a node as a loss of power would. Its place stays: the others keep their numbers.
    pub fn kill(&mut self, number: usize) {
        self.worlds[number].server.kill();
        self.lead();
    }

    /// Runs a statement on the database, past the servers; its rows, one a line.
    pub fn query(&self, sql: &str) -> String {
        self.cluster.query(DATABASE, sql).expect("a statement of the test")
    }

    /// The URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connections go to the nodes that run.
    fn lead(&mut self) {
        let running = self.worlds.iter_mut().filter(|world| world.server.has_process());
        let addresses = running.map(|world| world.server.address()).collect();
        if let Some(front) = &self.front {
            front.lead_to(addresses);
        }
    }
}

impl Deref for Nodes {
    type Target = [World];

    fn deref(&self) -> &[World] {
        &self.worlds
    }
}

impl DerefMut for Nodes {
    fn deref_mut(&mut self) -> &mut [World] {
        &mut self.worlds
    }
}
