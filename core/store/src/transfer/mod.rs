//! Moving a whole server to another database: every table, row by row, from SQLite to PostgreSQL or back.
//!
//! The source is read in one snapshot and the target is written in one transaction, so that there is a whole copy or none.
//! What is sealed is copied as it is: the master key stays the same. It deliberately knows of no table but those that are
//! named here as exceptions; everything else is as the two databases describe themselves.

pub(crate) mod order;
pub(crate) mod rows;
pub(crate) mod schema;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sea_orm::{AccessMode, ConnectionTrait, DatabaseConnection, DbBackend, IsolationLevel, TransactionTrait};

use crate::backend::{postgres, sqlite};
use crate::db::{Db, ms, values};
use crate::error::{OpenError, StoreError};
use crate::migration::{migrate, names};
use crate::store::{Scheme, scheme};
use rows::{Reader, Tally, insert};
use schema::Table;

/// What is about servers that run, and means nothing elsewhere.
const NOT_COPIED: &[&str] = &["nodes", "leases"];

/// What triggers of the target make of other tables.
const DERIVED: &[&str] = &["enrollment_lookup"];

/// What the steps of the schema put in themselves; it gives way to what the source has.
const SEEDED: &[&str] = &["schema_floor"];

/// How long after its last report a server is taken for stopped.
const RUNNING: SignedDuration = SignedDuration::from_secs(35);

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A database could not be copied. Nothing is left in the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// One of the databases can not be opened.
    #[error("cannot open the {which} database")]
    Open {
        /// `source` or `target`.
        which: &'static str,
        /// Why not.
        source: OpenError,
    },
    /// Both are the same.
    #[error("source and target are the same database")]
    Same,
    /// The source is no database of this program's version.
    #[error(
        "the source has the tables of {found} and this program those of {known}; start a server of this version on the \
         source once, stop it, and copy then"
    )]
    OtherVersion {
        /// The last step of the source; `no version` if it has none.
        found: String,
        /// The last step of this program.
        known: String,
    },
    /// A server reported a moment ago.
    #[error(
        "a server runs on the source ({node}, seen {seconds} s ago); stop it, or wait a minute or use --force if it was \
         killed"
    )]
    Running {
        /// What it is called.
        node: String,
        /// How long ago it reported.
        seconds: i64,
    },
    /// The target has rows already.
    #[error(
        "the target is not empty (its table {table} has rows); name an empty database or a file that does not exist"
    )]
    NotEmpty {
        /// The first table that has rows.
        table: String,
    },
    /// The tables of the two do not have the same columns.
    #[error("the table {table} is not the same in source and target; was one of them changed by hand?")]
    Different {
        /// Which.
        table: String,
    },
    /// What was written does not read back as it was read.
    #[error("the table {table} does not read back as it was written; nothing was kept")]
    NotVerified {
        /// Which.
        table: String,
    },
    /// The database failed.
    #[error("the table {table} cannot be copied")]
    Table {
        /// Which.
        table: String,
        /// Why not.
        source: StoreError,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// The table that is being copied or compared.
    pub table: String,
    /// How many of its rows are done.
    pub rows: u64,
    /// Whether they are being compared.
    pub comparing: bool,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The back end of the source: `sqlite` or `postgres`.
    pub from: &'static str,
    /// The back end of the target.
    pub to: &'static str,
    /// The last step of the schema.
    pub schema: String,
    /// The tables in the order in which they were copied, each with its rows.
    pub tables: Vec<(String, u64)>,
}

impl Copied {
    /// How many rows all tables have.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

/// Copies the database of one URL to that of another. `force` copies although a server seems to run on the source: what it
/// writes from now on is not in the copy. `now` decides about that.
///
/// # Errors
/// See [`CopyError`]; the target is empty as before.
pub async fn copy_database(
    from: &str,
    to: &str,
    force: bool,
    now: Timestamp,
    mut tell: impl FnMut(CopyProgress) + Send,
) -> Result<Copied, CopyError> {
    if from == to {
        return Err(CopyError::Same);
    }
    let source = open(from, true).await.map_err(of("source"))?;
    let target = open(to, false).await.map_err(of("target"))?;
    let copied = copy(&source, &target, force, now, &mut tell).await;
    for connection in [source, target] {
        if let Err(error) = connection.close().await {
            tracing::debug!(error = %error, "store.close failed");
        }
    }
    copied
}

fn of(which: &'static str) -> impl Fn(OpenError) -> CopyError {
    move |source| CopyError::Open { which, source }
}

async fn open(url: &str, read_only: bool) -> Result<DatabaseConnection, OpenError> {
    match scheme(url)? {
        Scheme::Sqlite => {
            if !read_only {
                make_private(&file_of(url));
            }
            sqlite::connect(url, 1, CONNECT, read_only).await
        }
        Scheme::Postgres => postgres::connect(url, 2, CONNECT, Duration::ZERO).await,
    }
    .map_err(OpenError::Connect)
}

/// The file of the URL of an SQLite database.
pub(crate) fn file_of(url: &str) -> std::path::PathBuf {
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    path.split_once('?').map_or(path, |(path, _)| path).into()
}

/// Makes a file for its owner only, unless it exists.
fn make_private(path: &std::path::Path) {
    // What is wrong with the path, the database says when it is opened.
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

async fn copy(
    source: &DatabaseConnection,
    target: &DatabaseConnection,
    force: bool,
    now: Timestamp,
    tell: &mut (impl FnMut(CopyProgress) + Send),
) -> Result<Copied, CopyError> {
    let source = snapshot(source).await?;
    let known: Vec<String> = names().iter().map(|&name| name.to_owned()).collect();
    let found = schema::steps(&source).await?;
    if found != known {
        let last = |steps: &[String]| steps.last().cloned();
        return Err(CopyError::OtherVersion {
            found: last(&found).unwrap_or_else(|| "no version".to_owned()),
            known: last(&known).unwrap_or_default(),
        });
    }
    if !force {
        nobody_runs(&source, now).await?;
    }
    let tables = schema::tables(&source).await?;
    not_of_others(&Db::pool(target.clone())).await?;
    migrate(target).await.map_err(of("target"))?;

    let tx = target.begin().await.map_err(StoreError::from)?;
    let target = Db::tx(tx, Arc::default());
    let there = schema::tables(&target).await?;
    let pairs = paired(&tables, &there)?;
    empty(&target, &there).await?;
    let mut copied = Copied {
        from: back_end(&source),
        to: back_end(&target),
        schema: known.last().cloned().unwrap_or_default(),
        tables: Vec::with_capacity(pairs.len()),
    };
    for (here, there) in pairs {
        let table = here.name.clone();
        let failed = |source| CopyError::Table {
            table: table.clone(),
            source,
        };
        let read = copy_table(&source, &target, here, there, tell).await.map_err(failed)?;
        let written = tally(&target, there, tell).await.map_err(failed)?;
        if read != written {
            return Err(CopyError::NotVerified { table });
        }
        copied.tables.push((table, read.rows));
    }
    if source.get_database_backend() == DbBackend::Postgres {
        order::settle(&target).await?;
    }
    if let Some(tx) = target.into_tx() {
        tx.commit().await.map_err(StoreError::from)?;
    }
    Ok(copied)
}

fn back_end(db: &Db) -> &'static str {
    match db.get_database_backend() {
        DbBackend::Postgres => "postgres",
        _ => "sqlite",
    }
}

/// Everything that is read from it is as of one moment.
async fn snapshot(connection: &DatabaseConnection) -> Result<Db, StoreError> {
    let tx = if connection.get_database_backend() == DbBackend::Postgres {
        let isolation = Some(IsolationLevel::RepeatableRead);
        connection
            .begin_with_config(isolation, Some(AccessMode::ReadOnly))
            .await?
    } else {
        connection.begin().await?
    };
    Ok(Db::tx(tx, Arc::default()))
}

async fn nobody_runs(source: &Db, now: Timestamp) -> Result<(), CopyError> {
    let since = now.checked_sub(RUNNING).map_or(i64::MIN, ms);
    let sql = "SELECT name, seen_at FROM nodes WHERE seen_at >= $1 ORDER BY seen_at DESC LIMIT 1";
    let Some(row) = source.one(sql, values![since]).await? else {
        return Ok(());
    };
    Err(CopyError::Running {
        node: row.get(0)?,
        seconds: (ms(now) - row.get::<i64>(1)?).max(0) / 1_000,
    })
}

/// Before anything is made in a database, what is not ours is left alone.
async fn not_of_others(target: &Db) -> Result<(), CopyError> {
    if !schema::steps(target).await?.is_empty() {
        return Ok(());
    }
    match schema::table_names(target).await?.into_iter().next() {
        Some(table) => Err(CopyError::NotEmpty { table }),
        None => Ok(()),
    }
}

async fn empty(db: &Db, tables: &[Table]) -> Result<(), CopyError> {
    for table in tables.iter().filter(|table| !SEEDED.contains(&table.name.as_str())) {
        let sql = format!("SELECT 1 AS one FROM {} LIMIT 1", table.name);
        if db.one(sql, values![]).await?.is_some() {
            return Err(CopyError::NotEmpty {
                table: table.name.clone(),
            });
        }
    }
    Ok(())
}

/// The tables that are copied, each with what it is in the target.
fn paired<'t>(here: &'t [Table], there: &'t [Table]) -> Result<Vec<(&'t Table, &'t Table)>, CopyError> {
    let different = |table: &Table| CopyError::Different {
        table: table.name.clone(),
    };
    let of = |tables: &'t [Table], name: &str| tables.iter().find(|table| table.name == name);
    if let Some(table) = here.iter().find(|table| of(there, &table.name).is_none()) {
        return Err(different(table));
    }
    let mut pairs = Vec::with_capacity(there.len());
    // In the order of the target: its references are what has to be kept.
    for twin in there {
        let table = of(here, &twin.name).ok_or_else(|| different(twin))?;
        let mut names: Vec<_> = table.columns.iter().map(|column| &column.name).collect();
        let mut twins: Vec<_> = twin.columns.iter().map(|column| &column.name).collect();
        names.sort_unstable();
        twins.sort_unstable();
        if names != twins || table.key.is_empty() || twin.key.is_empty() {
            return Err(different(table));
        }
        let name = table.name.as_str();
        if !NOT_COPIED.contains(&name) && !DERIVED.contains(&name) {
            pairs.push((table, twin));
        }
    }
    Ok(pairs)
}

async fn copy_table(
    source: &Db,
    target: &Db,
    here: &Table,
    there: &Table,
    tell: &mut (impl FnMut(CopyProgress) + Send),
) -> Result<Tally, StoreError> {
    if SEEDED.contains(&there.name.as_str()) {
        target.exec(format!("DELETE FROM {}", there.name), values![]).await?;
    }
    // Both are read in the order of the target's columns.
    let here = in_order_of(here, there);
    let mut tally = Tally::default();
    let passes = match &there.own_parent {
        // Rows that refer to others of the table come after them.
        Some(parent) => vec![Some(format!("{parent} IS NULL")), Some(format!("{parent} IS NOT NULL"))],
        None => vec![None],
    };
    for condition in passes {
        let mut reader = Reader::new(&here, condition);
        loop {
            let rows = reader.next(source).await?;
            if rows.is_empty() {
                break;
            }
            let sql = insert(there, rows.len());
            let mut values = Vec::with_capacity(rows.len() * there.columns.len());
            for row in rows {
                tally.add(&row);
                for (cell, column) in row.into_iter().zip(&there.columns) {
                    values.push(cell.bind(column.kind)?);
                }
            }
            target.exec(sql, values).await?;
            tell(CopyProgress {
                table: there.name.clone(),
                rows: tally.rows,
                comparing: false,
            });
        }
    }
    if let Some(column) = &there.identity {
        let last = schema::last_number(source, &here, column).await?;
        schema::continue_numbers(target, there, column, last).await?;
    }
    Ok(tally)
}

fn in_order_of(here: &Table, there: &Table) -> Table {
    let mut table = here.clone();
    let place = |name: &str| there.columns.iter().position(|column| column.name == name);
    table.columns.sort_by_key(|column| place(&column.name));
    let key = here.key.iter().filter_map(|at| here.columns.get(*at));
    table.key = key
        .filter_map(|part| table.columns.iter().position(|column| column.name == part.name))
        .collect();
    table
}

async fn tally(db: &Db, table: &Table, tell: &mut (impl FnMut(CopyProgress) + Send)) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    let mut reader = Reader::new(table, None);
    loop {
        let rows = reader.next(db).await?;
        if rows.is_empty() {
            return Ok(tally);
        }
        for row in &rows {
            tally.add(row);
        }
        tell(CopyProgress {
            table: table.name.clone(),
            rows: tally.rows,
            comparing: true,
        });
    }
}
