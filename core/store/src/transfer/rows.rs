//! Rows on their way from one back end to another, and the digest by which both sides are compared.

use aws_lc_rs::digest::{Context, SHA256};
use sea_orm::Value;
use uuid::Uuid;

use super::schema::{Column, Kind, Table};
use crate::db::Row;
use crate::error::StoreError;

/// A value of a column, whichever back end it is of: a UUID is its sixteen bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
}

impl Cell {
    pub(crate) fn read(row: &Row, at: usize, kind: Kind) -> Result<Self, StoreError> {
        Ok(match kind {
            Kind::Int => row.get::<Option<i64>>(at)?.map(Self::Int),
            Kind::Text => row.get::<Option<String>>(at)?.map(Self::Text),
            Kind::Bytes => row.get::<Option<Vec<u8>>>(at)?.map(Self::Bytes),
            Kind::Bool => row.get::<Option<bool>>(at)?.map(Self::Bool),
            Kind::Uuid => row
                .get::<Option<Uuid>>(at)?
                .map(|uuid| Self::Bytes(uuid.into_bytes().to_vec())),
        }
        .unwrap_or(Self::Null))
    }

    /// As it is bound for a column of this type.
    pub(crate) fn bind(self, kind: Kind) -> Result<Value, StoreError> {
        Ok(match (self, kind) {
            (Self::Null, Kind::Int) => None::<i64>.into(),
            (Self::Null, Kind::Text) => None::<String>.into(),
            (Self::Null, Kind::Bytes) => None::<Vec<u8>>.into(),
            (Self::Null, Kind::Bool) => None::<bool>.into(),
            (Self::Null, Kind::Uuid) => None::<Uuid>.into(),
            (Self::Int(value), Kind::Int) => value.into(),
            (Self::Text(value), Kind::Text) => value.into(),
            (Self::Bytes(value), Kind::Bytes) => value.into(),
            (Self::Bool(value), Kind::Bool) => value.into(),
            (Self::Bytes(value), Kind::Uuid) => Uuid::from_slice(&value)
                .map_err(|_| StoreError::Corrupt("UUID"))?
                .into(),
            _ => return Err(StoreError::Corrupt("column type")),
        })
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) | Self::Bool(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn digest(&self, context: &mut Context) {
        let (tag, length) = match self {
            Self::Null => (0_u8, 0),
            Self::Int(_) => (1, 8),
            Self::Text(text) => (2, text.len()),
            Self::Bytes(bytes) => (3, bytes.len()),
            Self::Bool(_) => (4, 1),
        };
        context.update(&[tag]);
        context.update(&(length as u64).to_be_bytes());
        match self {
            Self::Null => {}
            Self::Int(value) => context.update(&value.to_be_bytes()),
            Self::Text(text) => context.update(text.as_bytes()),
            Self::Bytes(bytes) => context.update(bytes),
            Self::Bool(value) => context.update(&[u8::from(*value)]),
        }
    }
}

/// How many rows, and the sum of their digests: the same on both sides whatever order they are read in, because back ends
/// sort texts differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    sum: [u64; 4],
}

impl Tally {
    pub(crate) fn add(&mut self, cells: &[Cell]) {
        let mut context = Context::new(&SHA256);
        for cell in cells {
            cell.digest(&mut context);
        }
        let digest = context.finish();
        for (sum, part) in self.sum.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
            let part = part.iter().fold(0_u64, |part, byte| part << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
        self.rows += 1;
    }
}

/// How many bytes are read at once, about.
const BATCH_BYTES: usize = 4 << 20;

/// The most values of one statement: the lesser of what the back ends take.
const MOST_VALUES: usize = 30_000;

/// Reads the rows of a table in the order of its key, some at a time.
pub(crate) struct Reader<'a> {
    table: &'a Table,
    condition: Option<String>,
    last: Option<Vec<Cell>>,
    batch: usize,
    done: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(table: &'a Table, condition: Option<String>) -> Self {
        Self {
            table,
            condition,
            last: None,
            batch: 64,
            done: false,
        }
    }

    fn sql(&self) -> String {
        let columns = names(self.table.columns.iter());
        let key = names(self.table.key.iter().filter_map(|at| self.table.columns.get(*at)));
        let mut conditions: Vec<String> = self.condition.iter().cloned().collect();
        if self.last.is_some() {
            let places: Vec<_> = (1..=self.table.key.len()).map(|place| format!("${place}")).collect();
            conditions.push(format!("({key}) > ({})", places.join(", ")));
        }
        let conditions = match conditions.len() {
            0 => String::new(),
            _ => format!("WHERE {}", conditions.join(" AND ")),
        };
        format!(
            "SELECT {columns} FROM {} {conditions} ORDER BY {key} LIMIT {}",
            self.table.name, self.batch
        )
    }

    /// The next rows; none at the end.
    pub(crate) async fn next(&mut self, db: &crate::db::Db) -> Result<Vec<Vec<Cell>>, StoreError> {
        if self.done {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        if let Some(last) = &self.last {
            for (cell, at) in last.iter().zip(&self.table.key) {
                let column = self.table.columns.get(*at).ok_or(StoreError::Corrupt("column type"))?;
                values.push(cell.clone().bind(column.kind)?);
            }
        }
        let found = db.all(self.sql(), values).await?;
        self.done = found.len() < self.batch;
        let mut rows = Vec::with_capacity(found.len());
        let mut bytes = 0;
        for row in &found {
            let cells: Vec<Cell> = (self.table.columns.iter().enumerate())
                .map(|(at, column)| Cell::read(row, at, column.kind))
                .collect::<Result<_, _>>()?;
            bytes += cells.iter().map(Cell::size).sum::<usize>();
            rows.push(cells);
        }
        if let Some(last) = rows.last() {
            let key = self.table.key.iter().filter_map(|at| last.get(*at).cloned());
            self.last = Some(key.collect());
            let each = (bytes / rows.len()).max(1);
            let most = (MOST_VALUES / self.table.columns.len().max(1)).clamp(1, 1_000);
            // Rows that follow may be larger than those before.
            self.batch = (BATCH_BYTES / each).clamp(1, most).min(self.batch.saturating_mul(4));
        }
        Ok(rows)
    }
}

pub(crate) fn names<'c>(columns: impl Iterator<Item = &'c Column>) -> String {
    let names: Vec<_> = columns.map(|column| column.name.as_str()).collect();
    names.join(", ")
}

/// The statement that inserts so many rows.
pub(crate) fn insert(table: &Table, rows: usize) -> String {
    let width = table.columns.len();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ", table.name, names(table.columns.iter()));
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            sql.push_str(&format!("{comma}${}", row * width + column + 1));
        }
        sql.push(')');
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: &[&[Cell]]) -> Tally {
        let mut tally = Tally::default();
        for row in rows {
            tally.add(row);
        }
        tally
    }

    #[test]
    fn a_tally_is_of_the_rows_and_not_of_their_order() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (a, b) = ([text("a"), Cell::Null], [text("b"), Cell::Int(1)]);
        assert_eq!(tally(&[&a, &b]), tally(&[&b, &a]));
        for other in [
            tally(&[&a]),
            tally(&[&a, &a]),
            tally(&[&a, &b, &b]),
            tally(&[&a, &[text("b"), Cell::Int(2)]]),
            tally(&[&a, &[text("b"), Cell::Bool(true)]]),
            tally(&[&[text("ab"), Cell::Null], &b]),
        ] {
            assert_ne!(tally(&[&a, &b]), other);
        }
        // What is split differently over the columns is another row.
        assert_ne!(tally(&[&[text("ab"), text("c")]]), tally(&[&[text("a"), text("bc")]]));
    }
}
