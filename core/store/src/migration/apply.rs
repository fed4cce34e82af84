//! Bringing a database to this program's tables when it is opened, or saying why that cannot be.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use super::{Migrator, STEPS, level, level_of};
use crate::error::OpenError;

/// Applies the steps that are missing. A database that a newer program has been at is taken as it is, if that program left
/// word that this one can use it.
pub(crate) async fn migrate(connection: &DatabaseConnection) -> Result<(), OpenError> {
    let applied = applied(connection).await.map_err(failed)?;
    let newer: Vec<&String> = applied
        .iter()
        .filter(|name| STEPS.iter().all(|(step, _)| step != name))
        .collect();
    let Some(newest) = newer.iter().map(|name| level_of(name)).max() else {
        return Migrator::up(connection, None).await.map_err(failed);
    };
    let floor = floor(connection).await.map_err(failed)?;
    // Without word of a floor, nobody promised that a program that lacks steps can go on.
    let needed = floor.unwrap_or(newest);
    if needed > level() {
        return Err(OpenError::TooNew { needed, known: level() });
    }
    if let Some((missing, _)) = STEPS.iter().find(|(step, _)| !applied.contains(*step)) {
        return Err(OpenError::OtherLine { missing });
    }
    tracing::info!(
        database = newest,
        program = level(),
        "the database is from a newer program, and this one can use it"
    );
    Ok(())
}

fn failed(error: DbErr) -> OpenError {
    OpenError::Migrate(error.into())
}

/// The steps that were applied, by any program.
async fn applied(connection: &DatabaseConnection) -> Result<BTreeSet<String>, DbErr> {
    Migrator::install(connection).await?;
    let rows = query(connection, "SELECT version FROM seaql_migrations").await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// The level that the database asks of a program; `None` from before it asked for any.
async fn floor(connection: &DatabaseConnection) -> Result<Option<u32>, DbErr> {
    let known = match connection.get_database_backend() {
        sea_orm::DbBackend::Postgres => {
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = 'schema_floor'"
        }
        _ => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_floor'",
    };
    if query(connection, known).await?.is_empty() {
        return Ok(None);
    }
    let rows = query(connection, "SELECT level FROM schema_floor").await?;
    let level = rows.first().map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
    // A level that is none of ours is above all of ours.
    Ok(level.map(|level| u32::try_from(level.max(0)).unwrap_or(u32::MAX)))
}

async fn query(connection: &DatabaseConnection, sql: &str) -> Result<Vec<sea_orm::QueryResult>, DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_all_raw(statement).await
}
