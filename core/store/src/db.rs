//! Statements and rows: the thin layer that the aggregates write SQL against.
//!
//! A statement is one text with `$1` placeholders, which both back ends accept. Where they differ, a [`Sql::per`] holds
//! the two texts side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    TryGetable, Value,
};
use tokio::sync::Mutex;

use crate::backend::connections::{Connections, Taken};
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::signals::{Asked, Signal, Signals, Wanted};

/// Connections, or an open transaction.
enum Conn {
    Pool(DatabaseConnection),
    Tx(DatabaseTransaction),
    /// Those to PostgreSQL that the server has: everything is bounded there.
    Shared(Arc<Connections>),
    Taken(Box<Mutex<Taken>>),
}

/// What a query runs on.
pub(crate) struct Db {
    conn: Conn,
    /// What this transaction asked for: whoever does it is woken after the commit.
    asked: Asked,
    /// Who knows what observers want; nobody does for a pool, which writes nothing.
    signals: Option<Arc<Signals>>,
    /// How many plugins caused one another until what is written now.
    depth: AtomicU8,
}

impl Db {
    pub(crate) fn pool(pool: DatabaseConnection) -> Self {
        Self::on(Conn::Pool(pool), None)
    }

    pub(crate) fn tx(tx: DatabaseTransaction, signals: Arc<Signals>) -> Self {
        Self::on(Conn::Tx(tx), Some(signals))
    }

    pub(crate) fn shared(connections: Arc<Connections>) -> Self {
        Self::on(Conn::Shared(connections), None)
    }

    /// A connection with an open transaction.
    pub(crate) fn taken(taken: Taken, signals: Arc<Signals>) -> Self {
        Self::on(Conn::Taken(Box::new(Mutex::new(taken))), Some(signals))
    }

    fn on(conn: Conn, signals: Option<Arc<Signals>>) -> Self {
        Self {
            conn,
            asked: Asked::default(),
            signals,
            depth: AtomicU8::new(0),
        }
    }

    pub(crate) fn into_tx(self) -> Option<DatabaseTransaction> {
        match self.conn {
            Conn::Tx(tx) => Some(tx),
            Conn::Pool(_) | Conn::Shared(_) | Conn::Taken(_) => None,
        }
    }

    pub(crate) fn into_taken(self) -> Option<Taken> {
        match self.conn {
            Conn::Taken(taken) => Some(taken.into_inner()),
            Conn::Pool(_) | Conn::Shared(_) | Conn::Tx(_) => None,
        }
    }

    /// Closes a pool; later statements fail.
    pub(crate) async fn close_pool(&self) {
        match &self.conn {
            Conn::Pool(pool) => {
                if let Err(error) = pool.close_by_ref().await {
                    tracing::warn!(error = %error, "store.close failed");
                }
            }
            Conn::Shared(connections) => connections.close().await,
            Conn::Tx(_) | Conn::Taken(_) => {}
        }
    }

    /// Whether it is SQLite: one server and one writer; and a text may hold several statements, with one set of values.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.get_database_backend() == DbBackend::Sqlite
    }

    pub(crate) fn request_push(&self) {
        self.ask(Signal::Push);
    }

    /// Has somebody woken after the commit.
    pub(crate) fn ask(&self, signal: Signal) {
        self.asked.ask(signal);
    }

    /// Whether any observer of the tenant wants events of this kind.
    pub(crate) fn wanted(&self, tenant: TenantId, kind: &str) -> Option<Wanted> {
        self.signals.as_ref()?.wanted(tenant, kind)
    }

    /// Whether any observer of any tenant may want events of this kind.
    pub(crate) fn wanted_anywhere(&self, kind: &str) -> bool {
        self.signals
            .as_ref()
            .is_some_and(|signals| signals.wanted_anywhere(kind))
    }

    /// Until this is dropped, commands and events that are written have this depth.
    pub(crate) fn at_depth(&self, depth: u8) -> AtDepth<'_> {
        AtDepth {
            db: self,
            before: self.depth.swap(depth, Ordering::Relaxed),
        }
    }

    pub(crate) fn depth(&self) -> u8 {
        self.depth.load(Ordering::Relaxed)
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    fn statement(&self, sql: impl IntoSql, values: Vec<Value>) -> Statement {
        #[cfg(feature = "testing")]
        crate::testing::STATEMENTS.fetch_add(1, Ordering::Relaxed);
        let backend = self.get_database_backend();
        Statement::from_sql_and_values(backend, sql.text(backend), values)
    }

    /// Runs a statement; the number of rows that it changed.
    pub(crate) async fn exec(&self, sql: impl IntoSql, values: Vec<Value>) -> Result<u64, StoreError> {
        Ok(self.execute_raw(self.statement(sql, values)).await?.rows_affected())
    }

    /// The first row, if there is one.
    pub(crate) async fn one(&self, sql: impl IntoSql, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.query_one_raw(self.statement(sql, values)).await?.map(Row))
    }

    /// The row that the statement always has.
    pub(crate) async fn row(&self, sql: impl IntoSql, values: Vec<Value>) -> Result<Row, StoreError> {
        self.one(sql, values).await?.ok_or(StoreError::Corrupt("row"))
    }

    pub(crate) async fn all(&self, sql: impl IntoSql, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        Ok(self
            .query_all_raw(self.statement(sql, values))
            .await?
            .into_iter()
            .map(Row)
            .collect())
    }
}

/// See [`Db::at_depth`].
#[must_use = "the depth holds until this is dropped"]
pub(crate) struct AtDepth<'a> {
    db: &'a Db,
    before: u8,
}

impl Drop for AtDepth<'_> {
    fn drop(&mut self) {
        self.db.depth.store(self.before, Ordering::Relaxed);
    }
}

/// Entity queries run on the same thing.
#[async_trait]
impl ConnectionTrait for Db {
    fn get_database_backend(&self) -> DbBackend {
        match &self.conn {
            Conn::Pool(conn) => conn.get_database_backend(),
            Conn::Tx(conn) => conn.get_database_backend(),
            Conn::Shared(_) | Conn::Taken(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.conn {
            Conn::Pool(conn) => conn.execute_raw(statement).await,
            Conn::Tx(conn) => conn.execute_raw(statement).await,
            Conn::Shared(all) => all.acquire().await?.execute(statement).await,
            Conn::Taken(taken) => taken.lock().await.execute(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match &self.conn {
            Conn::Pool(conn) => conn.execute_unprepared(sql).await,
            Conn::Tx(conn) => conn.execute_unprepared(sql).await,
            Conn::Shared(all) => all.acquire().await?.execute_unprepared(sql.to_owned()).await,
            Conn::Taken(taken) => taken.lock().await.execute_unprepared(sql.to_owned()).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match &self.conn {
            Conn::Pool(conn) => conn.query_one_raw(statement).await,
            Conn::Tx(conn) => conn.query_one_raw(statement).await,
            Conn::Shared(all) => all.acquire().await?.query_one(statement).await,
            Conn::Taken(taken) => taken.lock().await.query_one(statement).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.conn {
            Conn::Pool(conn) => conn.query_all_raw(statement).await,
            Conn::Tx(conn) => conn.query_all_raw(statement).await,
            Conn::Shared(all) => all.acquire().await?.query_all(statement).await,
            Conn::Taken(taken) => taken.lock().await.query_all(statement).await,
        }
    }
}

/// A statement's text where the two back ends need different words.
#[derive(Clone, Copy)]
pub(crate) struct Sql {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Sql {
    pub(crate) const fn per(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

/// Rows that carry `tx` and belong to a transaction before this number are all visible, and no more of them can come. On
/// SQLite, where one transaction writes at a time, `tx` is always 0 and ids alone are the order.
pub(crate) const HORIZON: Sql = Sql::per(
    "SELECT 9223372036854775807",
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
);

/// The text of a statement for a back end.
pub(crate) trait IntoSql: Send {
    fn text(self, backend: DbBackend) -> String;
}

impl IntoSql for &'static str {
    fn text(self, _: DbBackend) -> String {
        self.to_owned()
    }
}

impl IntoSql for String {
    fn text(self, _: DbBackend) -> String {
        self
    }
}

impl IntoSql for Sql {
    fn text(self, backend: DbBackend) -> String {
        match backend {
            DbBackend::Postgres => self.postgres,
            _ => self.sqlite,
        }
        .to_owned()
    }
}

/// Binds values in the order of their placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        vec![$(sea_orm::Value::from($value)),*]
    };
}
pub(crate) use values;

/// A row, read by column position.
pub(crate) struct Row(QueryResult);

impl From<QueryResult> for Row {
    fn from(row: QueryResult) -> Self {
        Self(row)
    }
}

impl Row {
    pub(crate) fn get<T: TryGetable>(&self, index: usize) -> Result<T, StoreError> {
        Ok(self.0.try_get_by_index(index)?)
    }

    pub(crate) fn time(&self, index: usize) -> Result<Timestamp, StoreError> {
        from_ms(self.get(index)?)
    }

    pub(crate) fn time_opt(&self, index: usize) -> Result<Option<Timestamp>, StoreError> {
        self.get::<Option<i64>>(index)?.map(from_ms).transpose()
    }

    pub(crate) fn json(&self, index: usize) -> Result<serde_json::Value, StoreError> {
        from_json(&self.get::<String>(index)?)
    }

    pub(crate) fn json_opt(&self, index: usize) -> Result<Option<serde_json::Value>, StoreError> {
        self.get::<Option<String>>(index)?.as_deref().map(from_json).transpose()
    }

    pub(crate) fn sha256(&self, index: usize) -> Result<[u8; 32], StoreError> {
        digest(self.get(index)?)
    }

    pub(crate) fn sha256_opt(&self, index: usize) -> Result<Option<[u8; 32]>, StoreError> {
        self.get::<Option<Vec<u8>>>(index)?.map(digest).transpose()
    }

    /// A word of a closed list; `what` names the column in the error.
    pub(crate) fn word<T>(
        &self,
        index: usize,
        parse: fn(&str) -> Option<T>,
        what: &'static str,
    ) -> Result<T, StoreError> {
        parse(&self.get::<String>(index)?).ok_or(StoreError::Corrupt(what))
    }
}

pub(crate) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt("digest"))
}

pub(crate) fn from_json(text: &str) -> Result<serde_json::Value, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("JSON value"))
}

/// The longest text of a decision or a reason that is kept, in bytes.
const MAX_WORDS: usize = 4 << 10;

/// Somebody else's words, as far as they can be kept: PostgreSQL refuses a text with a NUL, and with it the transaction.
pub(crate) fn words(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_WORDS)].replace('\0', "\u{fffd}")
}

/// Milliseconds since the epoch, as the tables hold time.
pub(crate) fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(crate) fn ms_opt(time: Option<Timestamp>) -> Option<i64> {
    time.map(ms)
}

pub(crate) fn from_ms(ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|_| StoreError::Corrupt("time"))
}

/// A list of ids as one bound value, whatever its length: see [`IDS`].
pub(crate) fn id_list(ids: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for (at, id) in ids.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&id.to_string());
    }
    text.push(']');
    text
}
