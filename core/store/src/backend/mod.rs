//! The two back ends behind one `write`: an operation is always one transaction, and none of them shows here how.

pub(crate) mod connections;
pub(crate) mod lanes;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::future::Future;
use std::pin::Pin;

use sea_orm::{ConnectionTrait, DbBackend};

use crate::db::{Db, values};
use crate::error::StoreError;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The body of an operation. It may run more than once (PostgreSQL, after a deadlock), so it borrows its input.
pub(crate) trait Body<I, T>:
    for<'a> Fn(&'a crate::db::Db, &'a I) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync + 'static
{
}

impl<I, T, F> Body<I, T> for F where
    F: for<'a> Fn(&'a crate::db::Db, &'a I) -> BoxFuture<'a, Result<T, StoreError>> + Send + Sync + 'static
{
}

/// Tells other nodes that something changed, when this transaction is committed. On SQLite there are none.
pub(crate) async fn announce(db: &Db, channel: &'static str) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        db.one("SELECT pg_notify($1, '')::text", values![channel]).await?;
    }
    Ok(())
}
