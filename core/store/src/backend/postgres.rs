//! PostgreSQL: each operation in its own transaction on the pool, run again when the database asks for that.

use std::time::Duration;

use sea_orm::{ConnectOptions, Database, DatabaseConnection, TransactionTrait};

use super::Body;
use crate::db::Db;
use crate::error::StoreError;
use crate::signals::{Asked, Signals};

/// How often a transaction is tried before its error is reported.
const ATTEMPTS: u32 = 6;

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
        .set_application_name("russet")
        .sqlx_logging(false)
        // A ping before each use costs a fifth of the throughput; one after a pause finds what a firewall dropped.
        .test_before_acquire_if_idle_for(Duration::from_secs(30));
    Ok(Database::connect(options).await?)
}

pub(crate) async fn write<I, T, F>(
    pool: &DatabaseConnection,
    signals: &Signals,
    input: I,
    body: F,
) -> Result<T, StoreError>
where
    I: Send + Sync,
    F: Body<I, T>,
{
    let mut attempt = 1;
    loop {
        match once(pool, &input, &body).await {
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

async fn once<I, T, F>(pool: &DatabaseConnection, input: &I, body: &F) -> Result<(T, Asked), Failed>
where
    I: Send + Sync,
    F: Body<I, T>,
{
    let before_commit = |error: StoreError| Failed {
        again: error.is_transient(),
        error,
    };
    let tx = pool.begin().await.map_err(|error| before_commit(error.into()))?;
    let db = Db::tx(tx);
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
