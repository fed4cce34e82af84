//! `russet db purge`.

use jiff::Timestamp;
use russet::database::Database;
use serde_json::json;

use super::with;
use crate::cli::output::Output;

pub(super) async fn run(database: &Database, dry_run: bool, output: &mut Output<'_>) -> miette::Result<()> {
    let (now, retention) = (Timestamp::now(), database.retention());
    let purged = with(database, async |store| {
        Ok(if dry_run {
            store.would_purge(now, retention).await?
        } else {
            store.purge(now, retention).await?
        })
    })
    .await?;
    let kinds = [
        ("expired", "queue entries that expired", purged.expired),
        ("results", "results of commands", purged.results),
        ("entries", "finished queue entries", purged.entries),
        ("commands", "commands", purged.commands),
        ("decisions", "decision records", purged.decisions),
        ("recorded_calls", "recorded calls", purged.recorded_calls),
        ("events", "events", purged.events),
        ("challenges", "challenges", purged.challenges),
        ("plugin_values", "values of plugins", purged.plugin_values),
        ("plugin_data", "data of plugins out of use", purged.plugin_data),
        ("certificates", "identity certificates that ended", purged.certificates),
        ("declarations", "unused declarations", purged.declarations),
    ];
    let counts: serde_json::Map<_, _> = kinds
        .iter()
        .map(|(name, _, count)| ((*name).to_owned(), json!(count)))
        .collect();
    let answer = json!({"dry_run": dry_run, "purged": counts});
    output.answer(&answer, |output| {
        let rows: Vec<_> = kinds
            .iter()
            .map(|(_, what, count)| vec![(*what).to_owned(), count.to_string()])
            .collect();
        let column = if dry_run { "would go" } else { "gone" };
        output.table(&["what", column], &rows, "nothing")
    })
}
