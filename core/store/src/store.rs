//! The handle: opening, closing, and the two ways in (`read` and `write`) that every aggregate uses.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jiff::Timestamp;
use sea_orm::{DatabaseConnection, TransactionTrait};
use tokio::sync::Notify;

use crate::backend::connections::Connections;
use crate::backend::lanes::{self, Lanes, Source};
use crate::backend::{Body, postgres, sqlite};
use crate::clock::Clock;
use crate::commands::{Callers, QueueRules, RecentCounts, Settling};
use crate::db::{Db, Sql, ms, values};
use crate::enrollments::Arriving;
use crate::error::{OpenError, StoreError};
use crate::ids::{EnrollmentId, TenantId};
use crate::migration::migrate;
use crate::plugins::PLUGINS_CHANGED;
use crate::signals::{Observed, Signals};
use crate::transfer::order::settle_if_foreign;
use crate::vault::{KeyRow, MasterKey, Vault, key_rows};

/// The name of the tenant that exists from the first start.
pub const DEFAULT_TENANT: &str = "default";

/// Where the data is and how many connections may use it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite://<path of a file>` or `postgres://<user>@<host>/<database>`. May hold a password: never log it.
    pub url: String,
    /// The most connections: readers on SQLite (which has one writer beside them), all of them on PostgreSQL.
    pub max_connections: u32,
    /// How long an operation waits for a free connection before it fails.
    pub acquire_timeout: Duration,
    /// How long one statement may run (PostgreSQL only). Little later, a connection that gives no answer is given up.
    pub statement_timeout: Duration,
    /// How often the last-seen times that polls leave in memory are written.
    pub touch_interval: Duration,
    /// When commands are offered again and devices woken again.
    pub queue: QueueRules,
}

impl StoreConfig {
    /// The defaults, for the database of `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            touch_interval: Duration::from_secs(5),
            queue: QueueRules::default(),
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of a PostgreSQL database may hold a password.
        f.debug_struct("StoreConfig")
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// The server's data. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("backend", &self.backend_name())
            .finish_non_exhaustive()
    }
}

enum Backend {
    Sqlite {
        writer: sqlite::Writer,
    },
    Postgres {
        connections: Arc<Connections>,
        settling: Lanes<Settling>,
        arriving: Lanes<Arriving>,
    },
}

struct Inner {
    backend: Backend,
    reader: Db,
    callers: Lanes<Callers>,
    vault: Vault,
    default_tenant: TenantId,
    queue: QueueRules,
    signals: Arc<Signals>,
    counts: RecentCounts,
    /// Last-seen times that are not written yet, in milliseconds.
    touched: Mutex<HashMap<EnrollmentId, i64>>,
    clock: Clock,
}

impl Store {
    /// Opens the database, brings its tables to this version, and unwraps the data key.
    ///
    /// On a first start this creates the tables, the data key and the tenant `default`. Several servers may start at
    /// the same time on one PostgreSQL database.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left half done.
    pub async fn open(config: StoreConfig, master: &MasterKey) -> Result<Self, OpenError> {
        let signals = Arc::new(Signals::default());
        let (backend, reader, source) = match scheme(&config.url)? {
            Scheme::Sqlite => {
                let timeout = config.acquire_timeout;
                let writer = sqlite::connect(&config.url, 1, timeout, false)
                    .await
                    .map_err(OpenError::Connect)?;
                migrate(&writer).await?;
                let readers = sqlite::connect(&config.url, config.max_connections.max(1), timeout, true)
                    .await
                    .map_err(OpenError::Connect)?;
                let source = Source::Sqlite(readers.get_sqlite_connection_pool().clone());
                (
                    Backend::Sqlite {
                        writer: sqlite::Writer::start(writer, signals.clone()),
                    },
                    Db::pool(readers),
                    source,
                )
            }
            Scheme::Postgres => {
                let connections = Connections::open(
                    &config.url,
                    config.max_connections,
                    config.acquire_timeout,
                    config.statement_timeout,
                )
                .await
                .map_err(|error| OpenError::Connect(error.into()))?;
                migrate_postgres(&config).await?;
                let source = Source::Postgres(connections.clone());
                let settling = Lanes::start(&source, lanes::count());
                let arriving = Lanes::start(&source, lanes::count());
                let backend = Backend::Postgres {
                    connections: connections.clone(),
                    settling,
                    arriving,
                };
                (backend, Db::shared(connections), source)
            }
        };
        let (keys, default_tenant) = prepare(&backend, &signals, master).await.map_err(OpenError::Prepare)?;
        let vault = Vault::unwrap(master, &keys)
            .map_err(OpenError::Prepare)?
            .ok_or(OpenError::WrongMasterKey)?;
        let inner = Arc::new(Inner {
            backend,
            reader,
            callers: Lanes::start(&source, lanes::count()),
            vault,
            default_tenant,
            queue: config.queue,
            signals,
            counts: RecentCounts::default(),
            touched: Mutex::new(HashMap::new()),
            clock: Clock::new(),
        });
        tokio::spawn(flush_now_and_then(Arc::downgrade(&inner), config.touch_interval));
        if let Backend::Postgres { connections, .. } = &inner.backend {
            tokio::spawn(postgres::listen(
                connections.clone(),
                PLUGINS_CHANGED,
                inner.signals.plugins.clone(),
            ));
        }
        Ok(Self { inner })
    }

    /// Writes what is only in memory, finishes the writes that wait, and closes the connections. Operations that
    /// start later fail with [`StoreError::Closed`] or a connection error.
    ///
    /// # Errors
    /// When the last-seen times could not be written; the store is closed all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush_touched().await;
        match &self.inner.backend {
            Backend::Sqlite { writer } => writer.close().await,
            Backend::Postgres { settling, arriving, .. } => {
                settling.close().await;
                arriving.close().await;
            }
        }
        self.inner.callers.close().await;
        self.inner.reader.close_pool().await;
        flushed
    }

    /// Asks the database for an answer, for health checks: on a reader, and in a transaction where writes go, which changes
    /// nothing.
    ///
    /// # Errors
    /// When either gives none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read().one("SELECT 1", values![]).await?;
        self.write((), |db, ()| {
            Box::pin(async move { db.one("SELECT 1", values![]).await.map(|_| ()) })
        })
        .await
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        match self.inner.backend {
            Backend::Sqlite { .. } => "sqlite",
            Backend::Postgres { .. } => "postgres",
        }
    }

    /// The tenant that exists from the first start.
    #[must_use]
    pub fn default_tenant(&self) -> TenantId {
        self.inner.default_tenant
    }

    /// Notified after each commit of this process that asked for a push. Another process's requests are found by
    /// polling.
    #[must_use]
    pub fn push_signal(&self) -> Arc<Notify> {
        self.inner.signals.pushes.clone()
    }

    /// Notified after each commit of this process that left events for observers.
    #[must_use]
    pub fn event_signal(&self) -> Arc<Notify> {
        self.inner.signals.events.clone()
    }

    /// Notified after each commit of this process that scheduled work of a plugin.
    #[must_use]
    pub fn schedule_signal(&self) -> Arc<Notify> {
        self.inner.signals.schedules.clone()
    }

    /// Notified soon after a process on the same PostgreSQL database, this one included, changed what plugins run.
    /// On SQLite, and while the connection is lost, such changes are found by polling.
    #[must_use]
    pub fn plugin_signal(&self) -> Arc<Notify> {
        self.inner.signals.plugins.clone()
    }

    /// Notified after each commit of this process that requested plans of declarations.
    #[must_use]
    pub fn plan_signal(&self) -> Arc<Notify> {
        self.inner.signals.plans.clone()
    }

    /// Says who knows what observers want. Until then, no events are written.
    pub fn set_observed(&self, observed: Arc<dyn Observed>) {
        self.inner.signals.set_observed(observed);
    }

    /// What reads run on: they see every write that was answered before.
    pub(crate) fn read(&self) -> &Db {
        &self.inner.reader
    }

    /// What every message of a device is asked about.
    pub(crate) fn callers(&self) -> &Lanes<Callers> {
        &self.inner.callers
    }

    /// Where reports and deliveries share statements; on SQLite they share the writer.
    pub(crate) fn settling(&self) -> Option<&Lanes<Settling>> {
        match &self.inner.backend {
            Backend::Sqlite { .. } => None,
            Backend::Postgres { settling, .. } => Some(settling),
        }
    }

    /// Where devices that enroll share statements; on SQLite they share the writer.
    pub(crate) fn arriving(&self) -> Option<&Lanes<Arriving>> {
        match &self.inner.backend {
            Backend::Sqlite { .. } => None,
            Backend::Postgres { arriving, .. } => Some(arriving),
        }
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    pub(crate) fn recent_counts(&self) -> &RecentCounts {
        &self.inner.counts
    }

    pub(crate) fn queue_rules(&self) -> QueueRules {
        self.inner.queue
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(crate) fn touched(&self) -> &Mutex<HashMap<EnrollmentId, i64>> {
        &self.inner.touched
    }

    /// Runs `body` in one transaction, and answers after its commit.
    pub(crate) async fn write<I, T, F>(&self, input: I, body: F) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: Body<I, T>,
    {
        write(&self.inner.backend, &self.inner.signals, input, body).await
    }
}

async fn write<I, T, F>(backend: &Backend, signals: &Arc<Signals>, input: I, body: F) -> Result<T, StoreError>
where
    I: Send + Sync + 'static,
    T: Send + 'static,
    F: Body<I, T>,
{
    match backend {
        Backend::Sqlite { writer } => writer.write(input, body).await,
        Backend::Postgres { connections, .. } => postgres::write(connections, signals, input, body).await,
    }
}

pub(crate) enum Scheme {
    Sqlite,
    Postgres,
}

pub(crate) fn scheme(url: &str) -> Result<Scheme, OpenError> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(OpenError::InMemory);
    }
    if url.starts_with("sqlite://") {
        Ok(Scheme::Sqlite)
    } else if ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        Ok(Scheme::Postgres)
    } else {
        Err(OpenError::Url)
    }
}

/// Any number of servers may start at once: the first migrates, the others wait and find it done. On connections of its
/// own, whose statements may take their time: an index over many rows does, and so does the wait for it.
async fn migrate_postgres(config: &StoreConfig) -> Result<(), OpenError> {
    let pool = postgres::connect(&config.url, 2, config.acquire_timeout, Duration::ZERO)
        .await
        .map_err(OpenError::Connect)?;
    let migrated = migrate_alone(&pool).await;
    if let Err(error) = pool.close().await {
        tracing::debug!(error = %error, "store.close failed");
    }
    migrated
}

async fn migrate_alone(pool: &DatabaseConnection) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Migrate(error);
    let lock = Db::tx(
        pool.begin().await.map_err(|error| failed(error.into()))?,
        Arc::default(),
    );
    // The number has no meaning but to be the same in every server.
    lock.one("SELECT pg_advisory_xact_lock(7246100515)::text", values![])
        .await
        .map_err(failed)?;
    migrate(pool).await?;
    if let Some(tx) = lock.into_tx() {
        tx.commit().await.map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// The wrapped data keys and the default tenant, made on the first start.
async fn prepare(
    backend: &Backend,
    signals: &Arc<Signals>,
    master: &MasterKey,
) -> Result<(Vec<KeyRow>, TenantId), StoreError> {
    let input = (Vault::new_wrapped_key(master)?, ms(Timestamp::now()));
    write(backend, signals, input, |db, (fresh, now)| {
        Box::pin(async move {
            db.exec(
                "INSERT INTO vault_keys (name, wrapped) SELECT 'data', $1 \
                 WHERE NOT EXISTS (SELECT 1 FROM vault_keys) ON CONFLICT DO NOTHING",
                values![fresh.clone()],
            )
            .await?;
            let keys = key_rows(db).await?;
            settle_if_foreign(db).await?;
            db.exec(
                "INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                values![DEFAULT_TENANT, *now],
            )
            .await?;
            let tenant = db
                .row("SELECT id FROM tenants WHERE name = $1", values![DEFAULT_TENANT])
                .await?
                .get(0)?;
            Ok((keys, TenantId(tenant)))
        })
    })
    .await
}

/// Writes the last-seen times, and looks whether the data keys changed. Ends with the store: it holds no reference that
/// would keep it alive.
async fn flush_now_and_then(inner: Weak<Inner>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first comes at once, and there is nothing to do yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let store = Store { inner };
        if let Err(error) = store.flush_touched().await {
            if matches!(error, StoreError::Closed) {
                return;
            }
            tracing::warn!(error = %error, "store.touch not written, trying again");
        }
        if let Err(error) = store.refresh_keys().await {
            tracing::debug!(error = %error, "store.keys not read, trying again");
        }
    }
}

/// `(id, time)` pairs, bound as one JSON value.
pub(crate) const TOUCH: Sql = Sql::per(
    "UPDATE enrollments SET last_seen_at = v.seen \
     FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS seen FROM json_each($1)) AS v \
     WHERE enrollments.id = v.id AND COALESCE(enrollments.last_seen_at, 0) < v.seen",
    "UPDATE enrollments SET last_seen_at = v.seen \
     FROM (SELECT (value ->> 0)::bigint AS id, (value ->> 1)::bigint AS seen \
           FROM json_array_elements($1::json) AS pairs(value)) AS v \
     WHERE enrollments.id = v.id AND COALESCE(enrollments.last_seen_at, 0) < v.seen",
);
