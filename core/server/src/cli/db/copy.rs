//! `russet db copy`.

use jiff::Timestamp;
use russet::store::copy_database;
use serde_json::json;

use super::error::DbError;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

pub(super) async fn run(from: &str, to: &str, force: bool, output: &mut Output<'_>) -> miette::Result<()> {
    let mut progress = Progress::start("copying the database");
    let copied = copy_database(from, to, force, Timestamp::now(), |step| {
        // Not each batch: on no terminal, each is a line.
        let what = if step.comparing { "comparing" } else { "copying" };
        if step.rows.is_multiple_of(100_000) || step.rows < 1_000 {
            progress.update(format!("{what} {}", step.table));
        } else {
            progress.update(format!("{what} {}, {},000 rows", step.table, step.rows / 1_000));
        }
    })
    .await
    .map_err(DbError::from)?;
    progress.done(&format!("copied {} rows", copied.rows()));
    let tables: Vec<_> = copied
        .tables
        .iter()
        .map(|(name, rows)| json!({"name": name, "rows": rows}))
        .collect();
    let answer = json!({
        "from": copied.from, "to": copied.to, "schema": copied.schema, "rows": copied.rows(), "tables": tables,
    });
    output.answer(&answer, |output| {
        let rows: Vec<_> = copied
            .tables
            .iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(name, rows)| vec![name.clone(), rows.to_string()])
            .collect();
        output.table(&["table", "rows"], &rows, "the database is empty")?;
        output.line(format!(
            "copied {} rows from {} to {}, and compared each table. Set database.url, keep the master key, and start the server.",
            copied.rows(),
            copied.from,
            copied.to
        ))
    })
}
