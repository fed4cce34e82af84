//! PostgreSQL: each operation in its own transaction on the pool, run again when the database asks for that.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sea_orm::sqlx::{Acquire, Connection, Error};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Body;
use super::connections::{Connections, TEST_AFTER, silent};
use crate::db::Db;
use crate::error::StoreError;
use crate::signals::{Asked, Signals};

/// How often a transaction is tried before its error is reported.
const ATTEMPTS: u32 = 6;

/// How long to wait before a lost listener is started again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A listener that heard nothing for so long asks whether anybody is there.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What the server's connections are called in the database.
pub(super) const NAME: &str = "russet";

/// Passes on what is announced on a channel, until the connections are closed. What is announced while the connection is
/// lost is missed, so whoever is told has to look now and then all the same.
pub(crate) async fn listen(connections: Arc<Connections>, channel: &'static str, signal: Arc<Notify>) {
    let listening = async {
        loop {
            if let Err(error) = listen_once(&connections, channel, &signal).await {
                tracing::debug!(error = %error, channel, "store.listen lost, trying again");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    tokio::select! {
        () = connections.closed() => {}
        () = listening => {}
    }
}

async fn listen_once(connections: &Connections, channel: &str, signal: &Notify) -> Result<(), Error> {
    // A place of its own, which its connection keeps.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(connections.acquire_timeout())
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(connections.options());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    let heard = hear(connections, &mut listener, channel, signal).await;
    if matches!(&heard, Err(Error::Io(error)) if error.kind() == ErrorKind::TimedOut) {
        connections.lost();
        // The listener takes its leave of the server when it is dropped, and would wait for the answer for ever. It gets a
        // connection that answers instead, and the silent one is closed.
        let fresh = loop {
            match timeout(connections.acquire_timeout(), connections.connect()).await {
                Ok(Ok(fresh)) => break fresh,
                _ => tokio::time::sleep(LISTEN_AGAIN).await,
            }
        };
        *listener.acquire().await? = fresh;
    }
    heard
}

async fn hear(
    connections: &Connections,
    listener: &mut PgListener,
    channel: &str,
    signal: &Notify,
) -> Result<(), Error> {
    let unanswered = |_| silent();
    timeout(connections.short(), listener.listen(channel))
        .await
        .map_err(unanswered)??;
    // Something may have changed before.
    signal.notify_one();
    loop {
        match timeout(HEARTBEAT.min(connections.bound()), listener.try_recv()).await {
            Ok(Ok(Some(_))) => signal.notify_one(),
            Ok(Ok(None)) => return Err(Error::Io(ErrorKind::ConnectionReset.into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let connection = listener.acquire().await?;
                timeout(connections.short(), connection.ping())
                    .await
                    .map_err(unanswered)??;
            }
        }
    }
}

/// A plan is kept as long as its connection. One that was made while a table was small reads all of it, which is right then
/// and ruinous when it has grown, until somebody analyzes the table. Every statement has an index. Without them, what no
/// index helps looks so dear that it would be compiled first.
pub(super) fn with_plans(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("enable_seqscan", "off"), ("jit", "off")])
}

/// Connections for what is no operation of a server: migrations, copies, looking.
pub(crate) async fn connect(
    url: &str,
    connections: u32,
    acquire_timeout: Duration,
    statement_timeout: Duration,
) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(url);
    options
        // Migrations hold a lock on one connection while they run on another.
        .max_connections(connections.max(2))
        .acquire_timeout(acquire_timeout)
        .statement_timeout(statement_timeout)
        .set_application_name(NAME)
        .sqlx_logging(false)
        .map_sqlx_postgres_opts(with_plans)
        // A ping before each use costs a fifth of the throughput; one after a pause finds what a firewall dropped.
        .test_before_acquire_if_idle_for(TEST_AFTER);
    Ok(Database::connect(options).await?)
}

pub(crate) async fn write<I, T, F>(
    connections: &Arc<Connections>,
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
        match once(connections, signals, &input, &body).await {
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
    connections: &Arc<Connections>,
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
    let mut taken = connections
        .acquire()
        .await
        .map_err(|error| before_commit(error.into()))?;
    taken.begin().await.map_err(|error| before_commit(error.into()))?;
    let db = Db::taken(taken, signals.clone());
    let result = body(&db, input).await;
    let asked = Asked::default();
    asked.merge(db.asked());
    let taken = db.into_taken().ok_or(Failed {
        error: StoreError::Closed,
        again: false,
    })?;
    match result {
        Ok(value) => {
            taken.commit().await.map_err(|error| {
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
            if let Err(error) = taken.rollback().await {
                tracing::debug!(error = %error, "store.rollback failed");
            }
            Err(before_commit(error))
        }
    }
}
