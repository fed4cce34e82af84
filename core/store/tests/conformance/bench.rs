//! A fresh database for one behaviour, and the things that behaviours are about.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_protocol::Channel;
use russet_store::testing::PostgresCluster;
use russet_store::{
    AuthenticateWrite, CommandOrigin, DeviceFacts, EnrollmentId, MasterKey, NewCertificate, NewCommand, NewDecision,
    PushJob, PushOutcome, Sha256, Store, StoreConfig, StoreError, TenantId, TokenTarget, TokenUpdateWrite,
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use serde_json::json;
use uuid::Uuid;

pub(crate) type Behaviour = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way around the store, to look at it or to damage it.
enum Back {
    Sqlite {
        file: PathBuf,
        watcher: DatabaseConnection,
    },
    Postgres {
        cluster: Arc<PostgresCluster>,
        database: String,
    },
}

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) tenant: TenantId,
    back: Back,
    serial: AtomicU64,
}

/// One push at a time, as few behaviours have many.
pub(crate) trait Settle {
    async fn push_done(&self, job: &PushJob, now: Timestamp) -> Result<(), StoreError>;
    async fn push_retry(&self, job: &PushJob, due_at: Timestamp, now: Timestamp) -> Result<(), StoreError>;
    /// Whether the token was parked.
    async fn push_park(&self, job: &PushJob, now: Timestamp) -> Result<bool, StoreError>;
}

impl Settle for Store {
    async fn push_done(&self, job: &PushJob, now: Timestamp) -> Result<(), StoreError> {
        let pushes = vec![(job.clone(), PushOutcome::Taken)];
        self.push_settle(pushes, now).await.map(|_| ())
    }

    async fn push_retry(&self, job: &PushJob, due_at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let pushes = vec![(job.clone(), PushOutcome::Refused { due_at })];
        self.push_settle(pushes, now).await.map(|_| ())
    }

    async fn push_park(&self, job: &PushJob, now: Timestamp) -> Result<bool, StoreError> {
        let pushes = vec![(job.clone(), PushOutcome::Dead)];
        Ok(self.push_settle(pushes, now).await? > 0)
    }
}

pub(crate) fn master() -> MasterKey {
    MasterKey::from_bytes([42; 32])
}

/// A moment, in seconds after the start of the behaviour.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2026-09-01T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn sha256(number: u64) -> Sha256 {
    let mut digest = [0xA5; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest
}

fn config(url: String) -> StoreConfig {
    // No flush on its own: behaviours say when.
    StoreConfig {
        touch_interval: Duration::from_secs(3600),
        ..StoreConfig::new(url)
    }
}

/// The name of a database with all tables and nothing in them.
pub(crate) const TEMPLATE: &str = "template_russet";

impl Bench {
    pub(crate) async fn sqlite(folder: &Path) -> Self {
        let file = folder.join("russet.db");
        let url = format!("sqlite://{}", file.display());
        let store = Store::open(config(url.clone()), &master()).await.unwrap();
        let watcher = Database::connect(url).await.unwrap();
        Self::new(store, Back::Sqlite { file, watcher })
    }

    pub(crate) async fn postgres(cluster: &Arc<PostgresCluster>, database: &str) -> Self {
        cluster.create_database(database).unwrap();
        Self::on(cluster, database).await
    }

    /// On a copy of the database [`TEMPLATE`].
    pub(crate) async fn copied(cluster: &Arc<PostgresCluster>, database: &str) -> Self {
        let copy = format!("CREATE DATABASE {database} TEMPLATE {TEMPLATE}");
        cluster.query("postgres", &copy).unwrap();
        Self::on(cluster, database).await
    }

    async fn on(cluster: &Arc<PostgresCluster>, database: &str) -> Self {
        let url = cluster.url(database);
        let store = Store::open(config(url), &master()).await.unwrap();
        Self::new(
            store,
            Back::Postgres {
                cluster: cluster.clone(),
                database: database.to_owned(),
            },
        )
    }

    fn new(store: Store, back: Back) -> Self {
        let tenant = store.default_tenant();
        Self {
            store,
            tenant,
            back,
            serial: AtomicU64::new(1),
        }
    }

    /// Another server on the same data.
    pub(crate) async fn reopen(&self, master: &MasterKey) -> Result<Store, russet_store::OpenError> {
        Store::open(config(self.url()), master).await
    }

    /// As [`reopen`](Self::reopen), by a server that looks often what others changed.
    pub(crate) async fn reopen_looking(&self, master: &MasterKey) -> Store {
        let config = StoreConfig {
            touch_interval: Duration::from_millis(20),
            ..StoreConfig::new(self.url())
        };
        Store::open(config, master).await.unwrap()
    }

    /// The same data, by another server.
    pub(crate) fn with(self, store: Store) -> Self {
        Self { store, ..self }
    }

    pub(crate) fn url(&self) -> String {
        match &self.back {
            Back::Sqlite { file, .. } => format!("sqlite://{}", file.display()),
            Back::Postgres { cluster, database } => cluster.url(database),
        }
    }

    /// The URL of a database of the same back end with nothing in it.
    pub(crate) fn empty_sister(&self, folder: &Path) -> String {
        match &self.back {
            Back::Sqlite { .. } => format!("sqlite://{}", folder.join("sister").display()),
            Back::Postgres { cluster, database } => cluster.create_database(&format!("{database}_sister")).unwrap(),
        }
    }

    /// What the back end calls something.
    pub(crate) fn per<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        match &self.back {
            Back::Sqlite { .. } => sqlite,
            Back::Postgres { .. } => postgres,
        }
    }

    /// The columns whose type is bytes, where that is a type of its own.
    pub(crate) async fn columns_of_bytes(&self) -> Option<Vec<(String, String)>> {
        let Back::Postgres { cluster, database } = &self.back else {
            return None;
        };
        let sql = "SELECT table_name || ' ' || column_name FROM information_schema.columns \
                   WHERE table_schema = current_schema() AND data_type = 'bytea'";
        let columns = cluster.query(database, sql).unwrap();
        let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        Some(columns.lines().filter_map(pair).collect())
    }

    /// Runs a statement behind the store's back.
    pub(crate) async fn meddle(&self, sqlite: &str, postgres: &str) {
        match &self.back {
            Back::Sqlite { watcher, .. } => {
                watcher.execute_unprepared(sqlite).await.unwrap();
            }
            Back::Postgres { cluster, database } => {
                cluster.query(database, postgres).unwrap();
            }
        }
    }

    /// So many enrolled devices at once, without what else an enrollment leaves.
    pub(crate) async fn enrolled_many(&self, count: u32) {
        let rows = |name: &str, numbers: &str| {
            format!(
                "INSERT INTO enrollments (tenant_id, enrollment_key, channel, state, udid, serial_number, attributes, \
                 push_topic, push_token, push_magic, awaiting_configuration, created_at) \
                 SELECT {}, 'M' || n, 'device', 'active', 'M' || n, 'SERIAL-M' || n, '{{}}', 'com.apple.mgmt.test', \
                 {name}, 'magic', FALSE, 0 FROM {numbers}",
                self.tenant
            )
        };
        let sqlite = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) {}",
            rows("x'01020304'", "numbers")
        );
        let postgres = rows("'\\x01020304'", &format!("generate_series(1, {count}) AS numbers(n)"));
        self.meddle(&sqlite, &postgres).await;
    }

    /// How many rows a table has, perhaps with a condition.
    pub(crate) async fn count(&self, rows: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {rows}");
        match &self.back {
            Back::Sqlite { watcher, .. } => watcher
                .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
                .await
                .unwrap()
                .unwrap()
                .try_get_by_index(0)
                .unwrap(),
            Back::Postgres { cluster, database } => cluster.query(database, &sql).unwrap().parse().unwrap(),
        }
    }

    /// The size of the file of an SQLite database, in bytes, with everything in it that was committed.
    pub(crate) async fn file_size(&self) -> Option<u64> {
        let Back::Sqlite { file, watcher } = &self.back else {
            return None;
        };
        watcher
            .execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)")
            .await
            .unwrap();
        Some(std::fs::metadata(file).unwrap().len())
    }

    /// Grows with every transaction of the store that changes something, and with nothing else.
    pub(crate) async fn writes(&self) -> i64 {
        match &self.back {
            Back::Sqlite { watcher, .. } => {
                // Changes when another connection has committed a change.
                let statement = Statement::from_string(DbBackend::Sqlite, "PRAGMA data_version");
                watcher
                    .query_one_raw(statement)
                    .await
                    .unwrap()
                    .unwrap()
                    .try_get_by_index(0)
                    .unwrap()
            }
            Back::Postgres { cluster, database } => {
                // The next transaction id: only transactions that write take one.
                let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
                cluster.query(database, sql).unwrap().parse().unwrap()
            }
        }
    }

    /// Lets decisions join the chain until none waits: on PostgreSQL, another database's transaction may hold some up.
    pub(crate) async fn chained(&self) {
        loop {
            self.store.chain_decisions().await.unwrap();
            if self.store.verify_decisions(self.tenant, None).await.unwrap().waiting == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn certificate(&self) -> NewCertificate {
        let number = self.number();
        NewCertificate {
            sha256: sha256(number),
            tenant: self.tenant,
            serial_number: format!("{number:04x}"),
            subject: format!("CN=device {number}"),
            der: vec![0x30, 0x82],
            not_before: at(-60),
            not_after: at(86_400 * 365),
            person: None,
            attributes: json!({}),
            bound_serial: None,
            bound_udid: None,
            renews: None,
        }
    }

    /// An Authenticate with a fresh certificate that the store knows.
    pub(crate) async fn authenticate_write(&self, key: &str) -> AuthenticateWrite {
        let certificate = self.certificate();
        let certificate_sha256 = certificate.sha256;
        self.store.insert_certificate(certificate, vec![], at(0)).await.unwrap();
        AuthenticateWrite {
            tenant: self.tenant,
            key: key.to_owned(),
            channel: Channel::Device,
            facts: DeviceFacts {
                udid: Some(key.to_owned()),
                serial_number: Some(format!("SERIAL-{key}")),
                os_version: Some("18.0".to_owned()),
                ..DeviceFacts::default()
            },
            certificate_sha256,
            person: Some(json!({ "name": "Ada" })),
            attributes: json!({ "group": "staff" }),
            topic: Some("com.apple.mgmt.test".to_owned()),
            renewal: false,
            decisions: vec![],
        }
    }

    pub(crate) fn token(&self, target: TokenTarget) -> TokenUpdateWrite {
        TokenUpdateWrite {
            certificate_sha256: None,
            commands_at_first: Vec::new(),
            commands: Vec::new(),
            target,
            topic: "com.apple.mgmt.test".to_owned(),
            token: self.number().to_be_bytes().to_vec(),
            magic: "magic".to_owned(),
            awaiting_configuration: false,
        }
    }

    /// A device that went through Authenticate and TokenUpdate.
    pub(crate) async fn enrolled(&self, key: &str) -> EnrollmentId {
        let id = self
            .store
            .authenticate(self.authenticate_write(key).await, at(0))
            .await
            .unwrap();
        self.store
            .token_update(self.token(TokenTarget::Enrollment(id)), at(1))
            .await
            .unwrap();
        id
    }

    pub(crate) fn command(&self, request_type: &str) -> NewCommand {
        NewCommand {
            uuid: Uuid::now_v7(),
            tenant: self.tenant,
            request_type: request_type.to_owned(),
            payload: b"<plist/>".to_vec(),
            profile_name: None,
            priority: 100,
            not_before: None,
            expires_at: None,
            dedupe_key: None,
            origin: CommandOrigin::Administrator,
            created_by: "test".to_owned(),
            creator_token: None,
            pace: None,
            hold: None,
            warnings: vec![],
        }
    }

    /// Queues a plain command for one enrollment.
    pub(crate) async fn queued(&self, enrollment: EnrollmentId, request_type: &str) -> Uuid {
        let command = self.command(request_type);
        let uuid = command.uuid;
        assert_eq!(
            self.store
                .enqueue(command, vec![enrollment], at(2))
                .await
                .unwrap()
                .queued,
            1
        );
        uuid
    }

    pub(crate) fn decision(&self, verdict: &str) -> NewDecision {
        NewDecision {
            enrollment: None,
            hook: "enrollment-gate".to_owned(),
            plugin: Some("gate".to_owned()),
            revision: Some("ab12".to_owned()),
            subject: "SERIAL".to_owned(),
            verdict: verdict.to_owned(),
            reason: Some("on the list".to_owned()),
            fault: None,
            failure_rule: None,
            duration_us: 17,
            effects: vec![],
            depth: 0,
            input_sha256: None,
            journal_sha256: None,
            verdict_sha256: None,
            host_calls: 0,
            cpu_ticks: 0,
            memory_bytes: 0,
            call: None,
        }
    }
}
