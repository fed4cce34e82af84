//! Sealing anew, under the present data key, what is under an earlier one: a batch of rows at a time, while servers run.
//!
//! A value that somebody changes meanwhile is left to them: it is replaced only if it is still what was read. What is done
//! already is known by what values begin with, so that a pass that was interrupted is simply begun again.

use super::columns::{Column, Part};
use super::kind::Binding;
use super::{NUMBERED_LEN, header};
use crate::db::{Row, values};
use crate::error::StoreError;
use crate::store::Store;

/// How many rows are read at once. Payloads can be large.
const BATCH: usize = 200;

/// What a pass over a column did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) resealed: u64,
    /// Values that do not open: they stay as they are.
    pub(super) unreadable: u64,
}

/// A part of a primary key.
#[derive(Clone, Debug)]
enum KeyValue {
    Int(i64),
    Text(String),
}

impl From<KeyValue> for sea_orm::Value {
    fn from(value: KeyValue) -> Self {
        match value {
            KeyValue::Int(value) => value.into(),
            KeyValue::Text(value) => value.into(),
        }
    }
}

/// A value that takes the place of another.
struct Replacement {
    key: Vec<KeyValue>,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// Reads the next rows after a key. The value is null where it is under the key `$1` already.
fn select(column: &Column, after: bool) -> String {
    let Column {
        table,
        column: name,
        join,
        facts,
        key,
        ..
    } = column;
    let keys: Vec<_> = key.iter().map(|part| format!("t.{}", part.name())).collect();
    let keys = keys.join(", ");
    let after = if after {
        let places: Vec<_> = (0..key.len()).map(|at| format!("${}", at + 2)).collect();
        format!("WHERE ({keys}) > ({})", places.join(", "))
    } else {
        String::new()
    };
    format!(
        "SELECT {keys}, CASE WHEN substr(t.{name}, 1, {NUMBERED_LEN}) = $1 THEN NULL ELSE t.{name} END, {facts} \
         FROM {table} t {join} {after} ORDER BY {keys} LIMIT {BATCH}"
    )
}

fn update(column: &Column) -> String {
    let keys: Vec<_> = column
        .key
        .iter()
        .enumerate()
        .map(|(at, part)| format!("{} = ${}", part.name(), at + 3))
        .collect();
    format!(
        "UPDATE {} SET {name} = $1 WHERE {name} = $2 AND {}",
        column.table,
        keys.join(" AND "),
        name = column.column
    )
}

fn key_of(column: &Column, row: &Row) -> Result<Vec<KeyValue>, StoreError> {
    let read = |(at, part): (usize, &Part)| {
        Ok(match part {
            Part::Int(_) => KeyValue::Int(row.get(at)?),
            Part::Text(_) => KeyValue::Text(row.get(at)?),
        })
    };
    column.key.iter().enumerate().map(read).collect()
}

impl Store {
    /// One pass over a column. `tell` hears after each batch how many rows were looked at.
    pub(super) async fn reseal(
        &self,
        column: &'static Column,
        number: u32,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Pass, StoreError> {
        let mut pass = Pass::default();
        let mut looked_at = 0;
        let mut last: Option<Vec<KeyValue>> = None;
        loop {
            let mut values = values![header(number)];
            values.extend(last.iter().flatten().cloned().map(Into::into));
            let rows = self.read().all(select(column, last.is_some()), values).await?;
            let mut replacements = Vec::new();
            for row in &rows {
                let key = key_of(column, row)?;
                let Some(old) = row.get::<Option<Vec<u8>>>(key.len())? else {
                    continue;
                };
                match self.resealed(column, row, key.len() + 1, &old)? {
                    Some(new) => replacements.push(Replacement { key, old, new }),
                    None => pass.unreadable += 1,
                }
            }
            pass.resealed += self.replace(column, replacements).await?;
            looked_at += rows.len() as u64;
            tell(looked_at);
            match rows.last() {
                Some(row) if rows.len() == BATCH => last = Some(key_of(column, row)?),
                _ => return Ok(pass),
            }
        }
    }

    fn resealed(&self, column: &Column, row: &Row, at: usize, old: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bound) = (column.bound)(row, at)? else {
            return Ok(None);
        };
        let binding = Binding {
            tenant: bound.tenant,
            kind: bound.kind,
            row: &bound.row,
        };
        match self.vault().open(binding, old) {
            Ok(secret) => self.vault().seal(binding, &secret).map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn replace(&self, column: &'static Column, replacements: Vec<Replacement>) -> Result<u64, StoreError> {
        if replacements.is_empty() {
            return Ok(0);
        }
        self.write((column, replacements), |db, (column, replacements)| {
            Box::pin(async move {
                let sql = update(column);
                let mut changed = 0;
                for replacement in replacements {
                    let mut values = values![replacement.new.clone(), replacement.old.clone()];
                    values.extend(replacement.key.iter().cloned().map(Into::into));
                    changed += db.exec(sql.clone(), values).await?;
                }
                Ok(changed)
            })
        })
        .await
    }

    /// How many values of a column are not under this key.
    pub(super) async fn not_under(&self, column: &Column, number: u32) -> Result<u64, StoreError> {
        let header = header(number);
        let sql = format!(
            "SELECT COUNT(*) FROM {} WHERE {name} IS NOT NULL AND substr({name}, 1, {}) <> $1",
            column.table,
            header.len(),
            name = column.column
        );
        let count: i64 = self.read().row(sql, values![header]).await?.get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
