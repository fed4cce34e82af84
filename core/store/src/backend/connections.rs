//! The connections to PostgreSQL that operations share.
//!
//! Whatever is asked over a connection has a bound on this side too: where the network goes silent (a firewall that forgot
//! the connection, a host that is gone), no answer comes and nobody says so. What is not answered in time is reported as
//! failed, never as done, and its connection is closed without another word, so that its place is free at once. The same
//! happens when whoever asked goes away in the middle: nobody can say what is still on its way over that connection.
//!
//! It deliberately does not know what is asked, nor when an operation is tried again: see [`super::postgres`].

use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Executor, query_with};
use sea_orm::{ConnAcquireErr, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// What the network may add to the longest statement. The server ends a statement that runs too long itself, and says so;
/// only what gets no answer at all is ended here.
const MARGIN: Duration = Duration::from_secs(2);

/// The longest that a statement which has nothing to do may take: a test of a connection, the begin of a transaction.
const SHORT: Duration = Duration::from_secs(5);

/// The bound where statements may take as long as they want.
const UNBOUNDED: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection that rested for so long is tested before it is used.
pub(super) const TEST_AFTER: Duration = Duration::from_secs(30);

/// A connection is replaced after so long: a server's process grows, and an address may have moved.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// A connection that nobody needed for so long is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// The first and the longest pause while a database that starts refuses connections.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The connections of one store.
pub(crate) struct Connections {
    options: PgConnectOptions,
    places: Arc<Semaphore>,
    count: u32,
    acquire_timeout: Duration,
    bound: Duration,
    shared: Mutex<Shared>,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct Shared {
    idle: Vec<Live>,
    lost: Option<Instant>,
}

struct Live {
    connection: PgConnection,
    made: Instant,
    used: Instant,
}

impl Connections {
    /// Connects once, to see that it works.
    pub(crate) async fn open(
        url: &str,
        count: u32,
        acquire_timeout: Duration,
        statement_timeout: Duration,
    ) -> Result<Arc<Self>, DbErr> {
        let options = PgConnectOptions::from_str(url).map_err(lost)?;
        let options = super::postgres::with_plans(options)
            .application_name(super::postgres::NAME)
            .options([("statement_timeout", statement_timeout.as_millis().to_string())])
            .disable_statement_logging();
        let bound = match statement_timeout {
            Duration::ZERO => UNBOUNDED,
            longest => longest + MARGIN,
        };
        let count = count.max(1);
        let connections = Arc::new(Self {
            options,
            places: Arc::new(Semaphore::new(count as usize)),
            count,
            acquire_timeout,
            bound,
            shared: Mutex::default(),
            closed: watch::Sender::new(false),
        });
        drop(connections.acquire().await?);
        Ok(connections)
    }

    /// The longest that anything may take over a connection.
    pub(super) fn bound(&self) -> Duration {
        self.bound
    }

    /// The longest that a statement may take which has nothing to do.
    pub(super) fn short(&self) -> Duration {
        self.bound.min(SHORT)
    }

    pub(super) fn acquire_timeout(&self) -> Duration {
        self.acquire_timeout
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Ends when the connections are closed.
    pub(super) async fn closed(&self) {
        // The sender lives as long as this.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Whether a connection was lost after one was used last, so that this one is suspect.
    pub(super) fn lost_since(&self, used: Instant) -> bool {
        self.shared().lost.is_some_and(|lost| lost > used)
    }

    /// A connection was lost. The others have most likely gone with it: those that nobody uses are closed, so that the next
    /// operations do not find out one after the other.
    pub(super) fn lost(&self) {
        let idle = {
            let mut shared = self.shared();
            shared.lost = Some(Instant::now());
            std::mem::take(&mut shared.idle)
        };
        drop(idle);
    }

    /// A connection, one of those that rest if there is one.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Taken, DbErr> {
        match timeout(self.acquire_timeout, self.take()).await {
            Ok(taken) => taken,
            Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        }
    }

    async fn take(self: &Arc<Self>) -> Result<Taken, DbErr> {
        let gone = |_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed);
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(gone)?;
        let mut taken = Taken {
            live: None,
            in_transaction: false,
            home: Arc::clone(self),
            _place: place,
        };
        loop {
            let idle = self.shared().idle.pop();
            let Some(live) = idle else { break };
            if live.made.elapsed() > LIFETIME {
                continue;
            }
            let rested = live.used.elapsed();
            taken.live = Some(live);
            if rested < TEST_AFTER || taken.ping().await.is_ok() {
                return Ok(taken);
            }
        }
        let now = Instant::now();
        taken.live = Some(Live {
            connection: self.connect().await.map_err(lost)?,
            made: now,
            used: now,
        });
        Ok(taken)
    }

    /// A new connection, which has no place among the others. A database that is starting is waited for; the caller has to
    /// bound that.
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        let (mut pause, longest) = PAUSES;
        loop {
            match PgConnection::connect_with(&self.options).await {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                // It starts, or others have all its connections.
                Err(Error::Database(error)) if matches!(error.code().as_deref(), Some("57P03" | "53300")) => {}
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits for what is under way, and closes all.
    pub(crate) async fn close(&self) {
        // Whatever holds a place is bounded itself, so this is a net.
        let all = timeout(self.bound, self.places.acquire_many(self.count)).await;
        self.places.close();
        drop(all);
        self.closed.send_replace(true);
        let idle = std::mem::take(&mut self.shared().idle);
        for live in idle {
            if timeout(self.short(), live.connection.close()).await.is_err() {
                tracing::debug!("store.close got no answer");
            }
        }
    }

    fn put(&self, mut live: Live) {
        if self.places.is_closed() {
            return;
        }
        live.used = Instant::now();
        let mut shared = self.shared();
        // What was asked before others were lost says nothing, but an answer has just come.
        shared.idle.retain(|rests| rests.used.elapsed() < IDLE);
        shared.idle.push(live);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure of the connection itself.
fn lost(error: Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

/// A failed statement.
fn failed(error: Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}

/// No answer came in time: nobody can say what the server did.
pub(super) fn silent() -> Error {
    Error::Io(io::Error::new(
        io::ErrorKind::TimedOut,
        "the database gave no answer; look at the network between it and the server",
    ))
}

/// A connection that somebody has. It goes back when it is dropped, if it is as it was.
pub(crate) struct Taken {
    /// `None` when it was lost.
    live: Option<Live>,
    in_transaction: bool,
    home: Arc<Connections>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // In the middle of a transaction it is closed, and the server rolls back.
        if let Some(live) = self.live.take()
            && !self.in_transaction
        {
            self.home.put(live);
        }
    }
}

impl Taken {
    /// Asks something. The connection is in the future meanwhile: it is closed if that is dropped.
    async fn ask<T>(
        &mut self,
        bound: Duration,
        asks: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let lost = || Error::Io(io::ErrorKind::NotConnected.into());
        let mut live = self.live.take().ok_or_else(lost)?;
        let answer = timeout(bound, asks(&mut live.connection))
            .await
            .unwrap_or_else(|_| Err(silent()));
        match &answer {
            Ok(_) => self.live = Some(live),
            // It is about to close the connection.
            Err(Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("57P")) => self.home.lost(),
            Err(Error::Database(_)) => self.live = Some(live),
            Err(Error::Io(_)) => {
                // Closed before the others, which it may take with it.
                drop(live);
                self.home.lost();
            }
            // Nobody knows what state it is in.
            Err(_) => {}
        }
        answer
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let bound = self.home.short().min(self.home.acquire_timeout / 2);
        self.ask(bound, |connection| Box::pin(connection.ping())).await
    }

    async fn say(&mut self, bound: Duration, words: &'static str) -> Result<(), DbErr> {
        let said = self.ask(bound, move |connection| {
            Box::pin(async move { connection.execute(words).await.map(|_| ()) })
        });
        said.await.map_err(failed)
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&mut self) -> Result<(), DbErr> {
        self.in_transaction = true;
        self.say(self.home.short(), "BEGIN").await
    }

    /// Commits it. When this fails because no answer came, it is open whether the transaction took place.
    pub(crate) async fn commit(mut self) -> Result<(), DbErr> {
        self.say(self.home.bound, "COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Rolls it back.
    pub(crate) async fn rollback(mut self) -> Result<(), DbErr> {
        if self.live.is_none() {
            return Ok(());
        }
        self.say(self.home.bound, "ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let done = self.ask(self.home.bound, move |connection| {
            Box::pin(async move { with_values(statement).execute(connection).await })
        });
        let failed = |error| DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)));
        done.await.map(ExecResult::from).map_err(failed)
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: String) -> Result<ExecResult, DbErr> {
        let done = self.ask(self.home.bound, move |connection| {
            Box::pin(async move { connection.execute(AssertSqlSafe(sql)).await })
        });
        let failed = |error| DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)));
        done.await.map(ExecResult::from).map_err(failed)
    }

    pub(crate) async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let row = self.ask(self.home.bound, move |connection| {
            Box::pin(async move { with_values(statement).fetch_optional(connection).await })
        });
        Ok(row.await.map_err(failed)?.map(QueryResult::from))
    }

    pub(crate) async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.ask(self.home.bound, move |connection| {
            Box::pin(async move { with_values(statement).fetch_all(connection).await })
        });
        let rows = rows.await.map_err(failed)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

fn with_values(statement: Statement) -> sea_orm::sqlx::query::Query<'static, sea_orm::sqlx::Postgres, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}
