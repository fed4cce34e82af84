//! `russet db`: the database itself, without a server: copies, backups, keys, cleaning.

mod backup;
mod copy;
mod error;
mod purge;
mod rotate;
mod stats;

use std::path::PathBuf;

use clap::Subcommand;
use russet::database::Database;
use russet::store::Store;

use super::context::Context;
use super::output::Output;
use error::DbError;

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Show how large the database is, table by table, its version and its data keys.
    Stats,
    /// Delete what is older than the configuration says, as a server does every hour.
    Purge {
        /// Only count what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Move a stopped server to another database: copy all of it, from SQLite to PostgreSQL or back. The master key stays
    /// the same.
    Copy {
        /// The database to copy: `sqlite:///path` or `postgres://…`.
        #[arg(long, value_name = "URL", env = "RUSSET_DB_FROM", hide_env_values = true)]
        from: String,
        /// An empty database, or a file that does not exist.
        #[arg(long, value_name = "URL", env = "RUSSET_DB_TO", hide_env_values = true)]
        to: String,
        /// Copy although a server reported a moment ago: it was killed.
        #[arg(long)]
        force: bool,
    },
    /// Write a checked snapshot of an SQLite database to a file, while the server runs. The master key is not in it.
    Backup {
        /// The file, which must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put a backup in the place of the SQLite database of a stopped server.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Take the place of the database that is there; it is kept beside it.
        #[arg(long)]
        replace: bool,
    },
    /// Change the master key, or the data key with everything that is sealed under it, while servers run.
    RotateKey(rotate::RotateArgs),
}

pub(super) async fn run(command: DbCommand, context: &Context, output: &mut Output<'_>) -> miette::Result<()> {
    match command {
        DbCommand::Stats => stats::run(&database(context)?, output).await,
        DbCommand::Purge { dry_run } => purge::run(&database(context)?, dry_run, output).await,
        DbCommand::Copy { from, to, force } => copy::run(&from, &to, force, output).await,
        DbCommand::Backup { out } => backup::backup(&database(context)?, &out, output).await,
        DbCommand::Restore { file, replace } => {
            let data_dir = context.data_dir()?;
            backup::restore(&database(context)?, &data_dir, &file, replace, output).await
        }
        DbCommand::RotateKey(args) => rotate::run(&database(context)?, args, output).await,
    }
}

fn database(context: &Context) -> miette::Result<Database> {
    Ok(Database::of(&context.checked_config()?))
}

/// Opens the database, does something, and closes it.
async fn with<T>(database: &Database, work: impl AsyncFnOnce(&Store) -> Result<T, DbError>) -> miette::Result<T> {
    let store = database.open().await.map_err(DbError::from)?;
    let done = work(&store).await;
    let closed = store.close().await.map_err(DbError::from);
    let done = done?;
    closed?;
    Ok(done)
}
