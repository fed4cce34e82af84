//! `russet db stats`.

use russet::database::Database;
use serde_json::json;

use super::with;
use crate::cli::output::Output;

pub(super) async fn run(database: &Database, output: &mut Output<'_>) -> miette::Result<()> {
    let (back_end, stats, keys) = with(database, async |store| {
        let (stats, keys) = (store.database_stats().await?, store.data_keys().await?);
        Ok((store.backend_name(), stats, keys))
    })
    .await?;
    let tables: Vec<_> = stats
        .tables
        .iter()
        .map(|table| json!({"name": table.name, "rows": table.rows, "bytes": table.bytes}))
        .collect();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({"number": key.number, "state": key.state.as_str(), "master_key_changing": key.master_changing})
        })
        .collect();
    let answer = json!({
        "database": back_end,
        "schema": stats.schema,
        "bytes": stats.bytes,
        "rows": stats.tables.iter().map(|table| table.rows).sum::<u64>(),
        "data_keys": keys,
        "tables": tables,
    });
    output.answer(&answer, |output| {
        output.line(format!("{back_end}, schema {}, {}", stats.schema, size(stats.bytes)))?;
        for key in &keys {
            let changing = if key["master_key_changing"] == true {
                "; the master key is being changed"
            } else {
                ""
            };
            let state = key["state"].as_str().unwrap_or_default();
            output.line(format!("data key {} ({state}){changing}", key["number"]))?;
        }
        let rows: Vec<_> = stats
            .tables
            .iter()
            .map(|table| vec![table.name.clone(), table.rows.to_string(), size(table.bytes)])
            .collect();
        output.table(&["table", "rows", "size"], &rows, "no tables")
    })
}

/// For people.
pub(super) fn size(bytes: u64) -> String {
    let mut left = bytes;
    let mut rest = 0;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if left < 1024 {
            return match unit {
                "B" => format!("{left} B"),
                unit => format!("{left}.{} {unit}", rest * 10 / 1024),
            };
        }
        (left, rest) = (left / 1024, left % 1024);
    }
    format!("{left}.{} TiB", rest * 10 / 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_short() {
        let told = [0, 1023, 1024, 1536, 5 << 20, 3 << 40].map(super::size);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 TiB"]);
    }
}
