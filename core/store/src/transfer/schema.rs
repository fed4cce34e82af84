//! The tables of a database as the database itself describes them: so that a new table cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DbBackend};

use crate::db::{Db, Sql, values};
use crate::error::StoreError;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
    Bool,
    Uuid,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The positions of the primary key's columns.
    pub(crate) key: Vec<usize>,
    /// Other tables that its rows refer to.
    pub(crate) parents: BTreeSet<String>,
    /// A column by which its rows refer to rows of its own.
    pub(crate) own_parent: Option<String>,
    /// The column whose numbers the database gives, and never gives again.
    pub(crate) identity: Option<String>,
}

/// The log of the steps, which has its own check.
const STEPS: &str = "seaql_migrations";

const TABLES: Sql = Sql::per(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') ORDER BY 1",
);

/// Name, type, place in the primary key (0: none), whether the database gives its numbers.
const COLUMNS: Sql = Sql::per(
    "SELECT c.name, lower(c.type), c.pk, CASE WHEN c.pk = 1 AND c.type = 'INTEGER' AND instr(m.sql, 'AUTOINCREMENT') > 0 \
     THEN 1 ELSE 0 END FROM pragma_table_info($1) c JOIN sqlite_master m ON m.type = 'table' AND m.name = $1 ORDER BY c.cid",
    "SELECT a.attname::text, format_type(a.atttypid, NULL), COALESCE(array_position(k.conkey, a.attnum), 0)::bigint, \
     (CASE WHEN a.attidentity = '' THEN 0 ELSE 1 END)::bigint FROM pg_attribute a \
     LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p' \
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
);

/// The table that is referred to, and the column that does.
const REFERENCES: Sql = Sql::per(
    "SELECT \"table\", \"from\" FROM pragma_foreign_key_list($1)",
    "SELECT f.relname::text, a.attname::text FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid \
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] \
     WHERE k.contype = 'f' AND k.conrelid = to_regclass($1)",
);

/// The names of all tables but the log of the steps.
pub(crate) async fn table_names(db: &Db) -> Result<Vec<String>, StoreError> {
    let mut names = all_names(db).await?;
    names.retain(|name| name != STEPS);
    Ok(names)
}

async fn all_names(db: &Db) -> Result<Vec<String>, StoreError> {
    let rows = db.all(TABLES, values![]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// The names of the steps that were applied, in order. None for a database that is not ours.
pub(crate) async fn steps(db: &Db) -> Result<Vec<String>, StoreError> {
    if !all_names(db).await?.iter().any(|name| name == STEPS) {
        return Ok(Vec::new());
    }
    let rows = db
        .all("SELECT version FROM seaql_migrations ORDER BY version", values![])
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// The table that every row with a tenant refers to.
const TENANTS: &str = "tenants";

/// All tables, each behind those that it refers to.
pub(crate) async fn tables(db: &Db) -> Result<Vec<Table>, StoreError> {
    let mut tables = BTreeMap::new();
    for name in table_names(db).await? {
        tables.insert(name.clone(), table(db, name).await?);
    }
    in_order(tables)
}

async fn table(db: &Db, name: String) -> Result<Table, StoreError> {
    let mut table = Table {
        name: name.clone(),
        columns: Vec::new(),
        key: Vec::new(),
        parents: BTreeSet::new(),
        own_parent: None,
        identity: None,
    };
    let mut key = BTreeMap::new();
    for (at, row) in db.all(COLUMNS, values![name.clone()]).await?.iter().enumerate() {
        let column: String = row.get(0)?;
        if row.get::<i64>(2)? > 0 {
            key.insert(row.get::<i64>(2)?, at);
        }
        if row.get::<i64>(3)? == 1 {
            table.identity = Some(column.clone());
        }
        let kind = kind(&row.get::<String>(1)?).ok_or(StoreError::Corrupt("column type"))?;
        table.columns.push(Column { name: column, kind });
    }
    table.key = key.into_values().collect();
    for row in db.all(REFERENCES, values![name.clone()]).await? {
        let parent: String = row.get(0)?;
        if parent == name {
            table.own_parent = Some(row.get(1)?);
        } else {
            table.parents.insert(parent);
        }
    }
    // Also where the reference is not a constraint: what a trigger derives from the row has one.
    if name != TENANTS && table.columns.iter().any(|column| column.name == "tenant_id") {
        table.parents.insert(TENANTS.to_owned());
    }
    Ok(table)
}

fn kind(type_name: &str) -> Option<Kind> {
    match type_name {
        "integer" | "bigint" => Some(Kind::Int),
        "text" => Some(Kind::Text),
        "blob" | "bytea" => Some(Kind::Bytes),
        "boolean" => Some(Kind::Bool),
        "uuid" => Some(Kind::Uuid),
        _ => None,
    }
}

fn in_order(mut tables: BTreeMap<String, Table>) -> Result<Vec<Table>, StoreError> {
    let mut ordered: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let ready = tables
            .values()
            .find(|table| table.parents.iter().all(|parent| !tables.contains_key(parent)))
            .map(|table| table.name.clone());
        let table = ready.and_then(|name| tables.remove(&name));
        ordered.push(table.ok_or(StoreError::Corrupt("order of tables"))?);
    }
    Ok(ordered)
}

/// Sets what the database gives next as a number, so that a number that was seen outside is never given again.
pub(crate) async fn continue_numbers(db: &Db, table: &Table, column: &str, last: i64) -> Result<(), StoreError> {
    if last < 1 {
        return Ok(());
    }
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT setval(pg_get_serial_sequence($1, $2), $3)::bigint";
        return db.one(sql, values![table.name.clone(), column, last]).await.map(|_| ());
    }
    let sql = "UPDATE sqlite_sequence SET seq = $1 WHERE name = $2";
    if db.exec(sql, values![last, table.name.clone()]).await? == 0 {
        let sql = "INSERT INTO sqlite_sequence (seq, name) VALUES ($1, $2)";
        db.exec(sql, values![last, table.name.clone()]).await?;
    }
    Ok(())
}

/// The last number that the database gave.
pub(crate) async fn last_number(db: &Db, table: &Table, column: &str) -> Result<i64, StoreError> {
    let highest = format!("SELECT COALESCE(MAX({column}), 0) FROM {}", table.name);
    let highest: i64 = db.row(highest, values![]).await?.get(0)?;
    let given = if db.get_database_backend() == DbBackend::Postgres {
        // Of a sequence of the own role, what was given is to be read without taking one.
        let sql = "SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 0)";
        db.one(sql, values![table.name.clone(), column]).await?
    } else {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = $1";
        db.one(sql, values![table.name.clone()]).await?
    };
    let given: i64 = given.map(|row| row.get(0)).transpose()?.unwrap_or(0);
    Ok(highest.max(given))
}
