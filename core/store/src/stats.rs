//! How large a database is, table by table, and which version's tables it has.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::{postgres, sqlite};
use crate::db::{Db, Sql, values};
use crate::error::{OpenError, StoreError};
use crate::migration::names;
use crate::store::{Scheme, Store, scheme};
use crate::transfer::{file_of, schema};

/// How the tables of a database relate to this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// There is no database, or nothing in it.
    Absent,
    /// They are this program's; its last step.
    Same(String),
    /// A server of this version would bring them up to date; their last step.
    Older(String),
    /// They have a step that this program does not know.
    Newer(String),
}

/// A table's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// How many bytes it takes, with its indexes.
    pub bytes: u64,
}

/// A database's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseStats {
    /// The last step of its schema.
    pub schema: String,
    /// How many bytes it takes. On SQLite, this includes pages that are free.
    pub bytes: u64,
    /// Its tables, the largest first.
    pub tables: Vec<TableStats>,
}

/// Looks which version's tables a database has, and changes nothing.
///
/// # Errors
/// When the URL is none, or the database can not be reached.
pub async fn schema_of(url: &str) -> Result<Schema, OpenError> {
    let timeout = Duration::from_secs(10);
    let connection = match scheme(url)? {
        Scheme::Sqlite => {
            if std::fs::metadata(file_of(url)).map_or(0, |file| file.len()) == 0 {
                return Ok(Schema::Absent);
            }
            sqlite::connect(url, 1, timeout, true).await
        }
        Scheme::Postgres => postgres::connect(url, 2, timeout, timeout).await,
    }
    .map_err(OpenError::Connect)?;
    let steps = schema::steps(&Db::pool(connection.clone())).await;
    if let Err(error) = connection.close().await {
        tracing::debug!(error = %error, "store.close failed");
    }
    let (steps, known) = (steps.map_err(OpenError::Prepare)?, names());
    let Some(last) = steps.last() else {
        return Ok(Schema::Absent);
    };
    if let Some(step) = steps.iter().find(|step| !known.contains(&step.as_str())) {
        return Ok(Schema::Newer(step.clone()));
    }
    Ok(if steps.len() == known.len() {
        Schema::Same(last.clone())
    } else {
        Schema::Older(last.clone())
    })
}

const SIZE: Sql = Sql::per(
    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "SELECT pg_database_size(current_database())",
);

/// Indexes go with their tables.
const SIZES: Sql = Sql::per(
    "SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name WHERE s.aggregate = TRUE \
     GROUP BY m.tbl_name",
    "SELECT c.relname::text, pg_total_relation_size(c.oid)::bigint FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')",
);

impl Store {
    /// Counts the rows of every table, which reads them all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn database_stats(&self) -> Result<DatabaseStats, StoreError> {
        let db = self.read();
        let mut sizes = BTreeMap::new();
        for row in db.all(SIZES, values![]).await? {
            sizes.insert(row.get::<String>(0)?, row.get::<i64>(1)?);
        }
        let mut tables = Vec::new();
        for name in schema::table_names(db).await? {
            let rows: i64 = db
                .row(format!("SELECT COUNT(*) FROM {name}"), values![])
                .await?
                .get(0)?;
            tables.push(TableStats {
                rows: u64::try_from(rows).unwrap_or(0),
                bytes: sizes.get(&name).map_or(0, |bytes| u64::try_from(*bytes).unwrap_or(0)),
                name,
            });
        }
        tables.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        let bytes: i64 = db.row(SIZE, values![]).await?.get(0)?;
        let steps = schema::steps(db).await?;
        Ok(DatabaseStats {
            schema: steps.last().cloned().unwrap_or_default(),
            bytes: u64::try_from(bytes).unwrap_or(0),
            tables,
        })
    }
}
