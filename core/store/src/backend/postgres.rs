//! PostgreSQL: each operation in its own transaction on the pool, run again when the database asks for that.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::Error;
use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{ConnectOptions, Database, DatabaseConnection, TransactionTrait};
use tokio::sync::Notify;

use super::{Body, lanes};
use crate::db::Db;
use crate::error::StoreError;
use crate::signals::{Asked, Signals};

/// How often a transaction is tried before its error is reported.
const ATTEMPTS: u32 = 6;

/// Connections beside those that were asked for and those of the lanes: one listens for changes of other nodes.
const LISTENERS: u32 = 1;

/// How long to wait before a lost listener is started again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Passes on what is announced on a channel, until the pool is closed. What is announced while the connection is lost is
/// missed, so whoever is told has to look now and then all the same.
pub(crate) async fn listen(pool: DatabaseConnection, channel: &'static str, signal: Arc<Notify>) {
    let pool = pool.get_postgres_connection_pool().clone();
    while !pool.is_closed() {
        match listen_once(&pool, channel, &signal).await {
            Err(Error::PoolClosed) => return,
            Err(error) => tracing::debug!(error = %error, channel, "store.listen lost, trying again"),
            Ok(()) => {}
        }
        tokio::select! {
            () = pool.close_event() => return,
            () = tokio::time::sleep(LISTEN_AGAIN) => {}
        }
    }
}

async fn listen_once(pool: &sea_orm::sqlx::PgPool, channel: &str, signal: &Notify) -> Result<(), Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Something may have changed before.
    signal.notify_one();
    loop {
        listener.recv().await?;
        signal.notify_one();
    }
}

pub(crate) async fn connect(
    url: &str,
    connections: u32,
    acquire_timeout: Duration,
    statement_timeout: Duration,
) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(url);
    options
        // Migrations hold a lock on one connection while they run on another.
        .max_connections(connections.max(2).saturating_add(LISTENERS + 2 * lanes::connections()))
        .acquire_timeout(acquire_timeout)
        .statement_timeout(statement_timeout)
        .set_application_name("russet")
        .sqlx_logging(false)
        // A plan is kept as long as its connection. One that was made while a table was small reads all of it, which is
        // right then and ruinous when it has grown, until somebody analyzes the table. Every statement has an index.
        // Without them, what no index helps looks so dear that it would be compiled first.
        .map_sqlx_postgres_opts(|options| options.options([("enable_seqscan", "off"), ("jit", "off")]))
        // A ping before each use costs a fifth of the throughput; one after a pause finds what a firewall dropped.
        .test_before_acquire_if_idle_for(Duration::from_secs(30));
    Ok(Database::connect(options).await?)
}

pub(crate) async fn write<I, T, F>(
    pool: &DatabaseConnection,
    signals: &Arc<Signals>,
    input: I,
    body: F,
) -> Result<T, StoreError>
where
    I: Send + Sync,
    F: Body<I, T>,
{
    let mut attempt = 1;
    loop {
        match once(pool, signals, &input, &body).await {
            Ok((value, asked)) => {
                signals.send(&asked);
                return Ok(value);
            }
            Err(Failed { error, again }) => {
                if !again || attempt == ATTEMPTS {
                    return Err(error);
                }
                // Growing and uneven, so that those that collided do not collide again.
                let uneven = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) % 8;
                tokio::time::sleep(Duration::from_millis((1 << attempt) + uneven)).await;
                attempt += 1;
            }
        }
    }
}

struct Failed {
    error: StoreError,
    again: bool,
}

async fn once<I, T, F>(
    pool: &DatabaseConnection,
    signals: &Arc<Signals>,
    input: &I,
    body: &F,
) -> Result<(T, Asked), Failed>
where
    I: Send + Sync,
    F: Body<I, T>,
{
    let before_commit = |error: StoreError| Failed {
        again: error.is_transient(),
        error,
    };
    let tx = pool.begin().await.map_err(|error| before_commit(error.into()))?;
    let db = Db::tx(tx, signals.clone());
    let result = body(&db, input).await;
    let asked = Asked::default();
    asked.merge(db.asked());
    let tx = db.into_tx().ok_or(Failed {
        error: StoreError::Closed,
        again: false,
    })?;
    match result {
        Ok(value) => {
            tx.commit().await.map_err(|error| {
                let error = StoreError::from(error);
                // A connection lost during COMMIT leaves it open whether it took place: only what the server itself
                // refused may run again.
                Failed {
                    again: error.is_transient() && !error.is_connection_loss(),
                    error,
                }
            })?;
            Ok((value, asked))
        }
        Err(error) => {
            if let Err(error) = tx.rollback().await {
                tracing::debug!(error = %error, "store.rollback failed");
            }
            Err(before_commit(error))
        }
    }
}
