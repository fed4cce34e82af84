//! `russet db rotate-key`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use russet::database::Database;
use russet::store::{MasterKey, MasterKeyChange, RotationStep};
use serde_json::json;

use super::with;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

/// How long the servers are waited for, twice in a rotation. Each looks every few seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct RotateArgs {
    /// Begin to change the master key: from now on, the one in this file opens the database too. A file that does not exist is
    /// made, with a fresh key.
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// End the change of the master key, once it is configured and the servers run with it: the old one opens nothing any
    /// more.
    #[arg(long)]
    finish: bool,
    /// Make a fresh data key and seal everything anew under it. Goes on where it was interrupted.
    #[arg(long)]
    data_key: bool,
    /// Delete earlier data keys. What plugins sealed with them and keep themselves does not open any more.
    #[arg(long)]
    forget_retired: bool,
}

pub(super) async fn run(database: &Database, args: RotateArgs, output: &mut Output<'_>) -> miette::Result<()> {
    match args {
        RotateArgs {
            new_key_file: Some(file),
            ..
        } => begin(database, file, output).await,
        RotateArgs { finish: true, .. } => finish(database, output).await,
        RotateArgs { data_key: true, .. } => data_key(database, output).await,
        RotateArgs { .. } => forget(database, output).await,
    }
}

async fn begin(database: &Database, file: PathBuf, output: &mut Output<'_>) -> miette::Result<()> {
    let change = with(database, async |store| {
        // Only when the database is there and opens, a file is made.
        let new = MasterKey::load_or_create(&file)?;
        Ok(store.begin_master_key(&new).await?)
    })
    .await?;
    let answer = json!({"changed": change == MasterKeyChange::Begun, "new_key_file": file});
    output.answer(&answer, |output| {
        output.line(format!(
            "the key in {} opens the database too. Set secrets.master_key_file to it, restart each server, then run: \
             russet db rotate-key --finish",
            file.display()
        ))
    })
}

async fn finish(database: &Database, output: &mut Output<'_>) -> miette::Result<()> {
    let change = with(database, async |store| Ok(store.finish_master_key().await?)).await?;
    let changed = change == MasterKeyChange::Finished;
    output.answer(&json!({"changed": changed}), |output| {
        output.line(if changed {
            "only the configured master key opens the database now. Keep the old one as long as backups from before."
        } else {
            "no change of the master key is under way"
        })
    })
}

async fn data_key(database: &Database, output: &mut Output<'_>) -> miette::Result<()> {
    let mut progress = Progress::start("changing the data key");
    let resealed = with(database, async |store| {
        let told = store.rotate_data_key(Timestamp::now, PATIENCE, |step| match step {
            RotationStep::Waiting { nodes } => progress.update(format!("waiting for {}", nodes.join(", "))),
            RotationStep::Sealing { table, .. } => progress.update(format!("sealing {table} anew")),
        });
        Ok(told.await?)
    })
    .await?;
    progress.done(&format!("data key {} seals now", resealed.number));
    let answer = json!({
        "number": resealed.number,
        "resumed": resealed.resumed,
        "values": resealed.values,
        "unreadable": resealed.unreadable,
    });
    output.answer(&answer, |output| {
        output.line(format!(
            "{} values were sealed anew under data key {}",
            resealed.values, resealed.number
        ))?;
        match resealed.unreadable {
            0 => Ok(()),
            count => output.line(format!("{count} values do not open and stay as they are")),
        }
    })
}

async fn forget(database: &Database, output: &mut Output<'_>) -> miette::Result<()> {
    let forgotten = with(database, async |store| Ok(store.forget_retired_keys().await?)).await?;
    output.answer(&json!({"forgotten": forgotten}), |output| {
        output.line(match forgotten.len() {
            0 => "there are no retired data keys".to_owned(),
            count => format!("{count} retired data keys are gone"),
        })
    })
}
