//! Databases of older versions: the steps of the schema, applied one at a time.

use std::time::Duration;

use sea_orm_migration::MigratorTrait;

use crate::backend::{postgres, sqlite};
use crate::migration::{Migrator, names};

/// The names of the schema's steps, in their order.
#[must_use]
pub fn steps() -> Vec<&'static str> {
    names()
}

/// Brings a database to the tables that a program had whose last step is this one. Steps that were applied stay.
///
/// # Errors
/// When there is no such step, or the database refuses; the text is what it said.
pub async fn migrate_to(url: &str, last: &str) -> Result<(), String> {
    let target = names().iter().position(|name| *name == last).ok_or("no such step")? + 1;
    let wait = Duration::from_secs(10);
    let pool = if url.starts_with("sqlite://") {
        sqlite::connect(url, 1, wait, false).await
    } else {
        postgres::connect(url, 2, wait, Duration::ZERO).await
    };
    let pool = pool.map_err(|error| said(&error))?;
    let applied = Migrator::get_applied_migrations(&pool)
        .await
        .map_err(|error| said(&error))?;
    let missing = u32::try_from(target.saturating_sub(applied.len())).map_err(|error| said(&error))?;
    if missing > 0 {
        Migrator::up(&pool, Some(missing)).await.map_err(|error| said(&error))?;
    }
    pool.close().await.map_err(|error| said(&error))
}

fn said(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
