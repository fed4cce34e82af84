//! SQLite: one writer connection with group commit, and a pool of readers beside it.
//!
//! A commit that survives a power cut costs a sync of the disk, which takes longer than the statements. So the writer
//! task runs the jobs that wait in one transaction, commits once, and only then answers them all. A job that fails takes
//! only itself back.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sea_orm::sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Body, BoxFuture, lanes};
use crate::db::Db;
use crate::error::StoreError;
use crate::signals::{Asked, Signals};

/// The most jobs that share one commit.
const GROUP: usize = 256;

/// How many pages of the log are written to the tables together: 16 MiB. A page that changed many times meanwhile is written
/// there once, and what changes with each device (the indexes) is few pages.
const CHECKPOINT: &str = "4000";

/// How many jobs may wait before callers do.
const QUEUE: usize = 4096;

/// Connects to the file of `url`; the readers are told to refuse writes.
pub(crate) async fn connect(
    url: &str,
    connections: u32,
    acquire_timeout: Duration,
    read_only: bool,
) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(if read_only {
            connections.saturating_add(lanes::connections())
        } else {
            connections
        })
        .min_connections(1)
        .acquire_timeout(acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options: SqliteConnectOptions| {
            let options = options
                .create_if_missing(!read_only)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(10))
                .statement_cache_capacity(256);
            if read_only {
                options.pragma("query_only", "ON")
            } else {
                // For a new file only; an older one keeps its size and fills it again. Setting it writes, also when it is
                // set already: not for readers.
                options
                    .auto_vacuum(SqliteAutoVacuum::Incremental)
                    .pragma("wal_autocheckpoint", CHECKPOINT)
            }
        });
    Ok(Database::connect(options).await?)
}

/// One waiting operation.
trait Job: Send {
    /// Nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
    /// Runs inside the transaction; with `false`, what it did is taken back. It may run a second time after that.
    fn run<'a>(&'a mut self, db: &'a Db) -> BoxFuture<'a, bool>;
    /// Answers the caller, after the commit or its failure.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Waiting<I, T, F> {
    input: I,
    body: F,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<I, T, F> Job for Waiting<I, T, F>
where
    I: Send + Sync,
    T: Send,
    F: Body<I, T>,
{
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run<'a>(&'a mut self, db: &'a Db) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            // A bug in one operation must not end the only writer: what the job did goes back, its neighbours stay.
            let body = AssertUnwindSafe(async { (self.body)(db, &self.input).await });
            let result = body.catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!("store.write panicked; nothing of it was kept");
                Err(StoreError::Panicked)
            });
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            // A body that failed is answered with its own error, whatever became of its neighbours.
            (Some(Err(error)), _) | (Some(Ok(_)) | None, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // The caller may have gone away: the write stands all the same.
        let _ = self.reply.send(result);
    }
}

/// The handle of the writer task.
pub(crate) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
    stop: Arc<Notify>,
}

impl Writer {
    /// Starts the writer task on its connection. What a transaction asked for is signalled after its commit.
    pub(crate) fn start(connection: DatabaseConnection, signals: Arc<Signals>) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(run(connection, waiting, signals, stop.clone()));
        Self {
            jobs,
            task: std::sync::Mutex::new(Some(task)),
            stop,
        }
    }

    pub(crate) async fn write<I, T, F>(&self, input: I, body: F) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: Body<I, T>,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Waiting {
            input,
            body,
            result: None,
            reply,
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Finishes what waits, then closes the connection.
    pub(crate) async fn close(&self) {
        self.stop.notify_one();
        let task = self.task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("store.writer ended by a panic");
        }
    }
}

async fn run(
    connection: DatabaseConnection,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    signals: Arc<Signals>,
    stop: Arc<Notify>,
) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        let received = tokio::select! {
            received = waiting.recv_many(&mut group, GROUP) => received,
            () = stop.notified() => {
                // From here on senders are refused; what waits already is still written.
                waiting.close();
                continue;
            }
        };
        if received == 0 {
            break;
        }
        group.retain(|job| !job.abandoned());
        if group.is_empty() {
            continue;
        }
        let asked = Asked::default();
        let committed = commit(&connection, &mut group, &signals, &asked).await;
        if let Err(error) = &committed {
            tracing::error!(store.jobs = group.len(), error = %error, "store.commit failed");
            renew(&connection).await;
        } else {
            signals.send(&asked);
        }
        for job in group.drain(..) {
            job.answer(committed.clone());
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(error = %error, "store.close failed");
    }
}

/// Closes the writer's connection; the pool makes another. After some errors (a full disk) SQLite has ended the transaction
/// by itself, and the library still counts it as open: what came next would be inside of one that nobody ever commits.
async fn renew(connection: &DatabaseConnection) {
    let closed = match connection.get_sqlite_connection_pool().acquire().await {
        Ok(writer) => writer.close().await,
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        tracing::warn!(error = %error, "store.renew failed; the next write tries again");
    }
}

/// Runs the jobs in one transaction. An error means that nothing of any of them was kept.
///
/// A savepoint costs as much as a statement of the job, and few jobs fail: so they run without, and all of them once more,
/// each in a savepoint of its own, when one of them does.
async fn commit(
    connection: &DatabaseConnection,
    group: &mut [Box<dyn Job>],
    signals: &Arc<Signals>,
    asked: &Asked,
) -> Result<(), StoreError> {
    let db = Db::tx(begin(connection).await?, signals.clone());
    let mut keep = true;
    for job in &mut *group {
        keep = job.run(&db).await;
        if !keep {
            break;
        }
    }
    if keep {
        asked.merge(db.asked());
    }
    finish(db, keep).await?;
    if keep || group.len() == 1 {
        return Ok(());
    }
    let tx = begin(connection).await?;
    for job in group {
        let db = Db::tx(tx.begin().await?, signals.clone());
        let keep = job.run(&db).await;
        if keep {
            asked.merge(db.asked());
        }
        finish(db, keep).await?;
    }
    Ok(tx.commit().await?)
}

async fn begin(connection: &DatabaseConnection) -> Result<DatabaseTransaction, StoreError> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    Ok(connection.begin_with_options(immediate).await?)
}

async fn finish(db: Db, keep: bool) -> Result<(), StoreError> {
    let tx: DatabaseTransaction = db.into_tx().ok_or(StoreError::Closed)?;
    if keep {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::db::values;

    #[tokio::test]
    async fn a_write_that_panics_takes_back_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.sqlite").display());
        let connection = connect(&url, 1, Duration::from_secs(5), false).await.unwrap();
        let writer = Writer::start(connection, Arc::default());
        let insert = |number: i64, panics: bool| {
            writer.write((number, panics), |db, (number, panics)| {
                Box::pin(async move {
                    db.exec("CREATE TABLE IF NOT EXISTS t (number INTEGER)", values![])
                        .await?;
                    db.exec("INSERT INTO t VALUES ($1)", values![*number]).await?;
                    assert!(!*panics, "a bug");
                    db.row("SELECT SUM(number) FROM t", values![]).await?.get::<i64>(0)
                })
            })
        };
        let (one, two, three) = tokio::join!(insert(1, false), insert(2, true), insert(4, false));
        assert_eq!(one.unwrap(), 1);
        assert!(matches!(two, Err(StoreError::Panicked)), "{two:?}");
        assert_eq!(three.unwrap(), 5, "the panicked write left nothing behind");
        assert_eq!(insert(8, false).await.unwrap(), 13, "the writer goes on");
    }

    #[tokio::test]
    async fn what_is_written_after_a_full_database_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.sqlite").display());
        let connection = connect(&url, 1, Duration::from_secs(5), false).await.unwrap();
        let writer = Writer::start(connection, Arc::default());
        let insert = |bytes: i64, full: bool| {
            writer.write((bytes, full), |db, (bytes, full)| {
                Box::pin(async move {
                    db.exec("CREATE TABLE IF NOT EXISTS t (content BLOB)", values![])
                        .await?;
                    if *full {
                        // No more than it has; a new connection knows nothing of it.
                        db.all("PRAGMA max_page_count = 1", values![]).await?;
                    }
                    db.exec("INSERT INTO t VALUES (zeroblob($1))", values![*bytes]).await
                })
            })
        };
        insert(1, false).await.unwrap();
        // SQLite ends the transaction by itself.
        assert!(insert(1_000_000, true).await.is_err());
        for _ in 0..2 {
            insert(1, false).await.unwrap();
        }
        let fresh = Db::pool(connect(&url, 1, Duration::from_secs(5), true).await.unwrap());
        let kept = fresh.row("SELECT COUNT(*) FROM t", values![]).await.unwrap();
        assert_eq!(kept.get::<i64>(0).unwrap(), 3, "everybody sees what was answered");
    }
}
