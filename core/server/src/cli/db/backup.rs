//! `russet db backup` and `russet db restore`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use russet::data_dir::DataDir;
use russet::database::Database;
use russet::store::{BackupError, backup_database, inspect_backup, put_in_place, sqlite_file};
use serde_json::json;

use super::error::DbError;
use super::stats::size;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

pub(super) async fn backup(database: &Database, out: &Path, output: &mut Output<'_>) -> miette::Result<()> {
    let line = || {
        format!(
            "pg_dump --format=custom --file={} {}",
            shown(out),
            address(database.url())
        )
    };
    file_of(database, "back up", line)?;
    let progress = Progress::start("making a snapshot");
    let info = backup_database(database.url(), out).await.map_err(DbError::Backup)?;
    progress.done("made a snapshot and checked it");
    let answer = json!({"file": out, "bytes": info.bytes, "schema": info.schema});
    output.answer(&answer, |output| {
        output.line(format!(
            "{} holds the database ({}, schema {}). The master key is not in it: keep a copy of that elsewhere.",
            out.display(),
            size(info.bytes),
            info.schema
        ))
    })
}

pub(super) async fn restore(
    database: &Database,
    data_dir: &DataDir,
    file: &Path,
    replace: bool,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let line = || {
        format!(
            "pg_restore --no-owner --single-transaction --dbname={} {}",
            address(database.url()),
            shown(file)
        )
    };
    let place = file_of(database, "restore", line)?;
    let _lock = data_dir.lock().map_err(DbError::from)?;
    if place.exists() && !replace {
        return Err(DbError::Occupied { path: place }.into());
    }
    let progress = Progress::start("checking the backup");
    let key = database.master_key().map_err(DbError::from)?;
    let info = inspect_backup(file, &key).await.map_err(DbError::Restore)?;
    let mut kept = place.clone().into_os_string();
    kept.push(format!(".before-restore-{}", Timestamp::now().as_millisecond()));
    let kept = put_in_place(file, &place, &PathBuf::from(kept))
        .await
        .map_err(DbError::Restore)?;
    progress.done("restored the backup");
    let answer = json!({
        "file": file, "database": place, "bytes": info.bytes, "schema": info.schema, "kept": kept,
    });
    output.answer(&answer, |output| {
        output.line(format!(
            "{} is {} now (schema {})",
            place.display(),
            file.display(),
            info.schema
        ))?;
        match &kept {
            Some(kept) => output.line(format!("what was there before is {}", kept.display())),
            None => Ok(()),
        }
    })
}

fn file_of(database: &Database, what: &'static str, line: impl FnOnce() -> String) -> miette::Result<PathBuf> {
    Ok(sqlite_file(database.url()).map_err(|error| match error {
        BackupError::Postgres => DbError::OwnTools { what, line: line() },
        other => DbError::Backup(other),
    })?)
}

/// The URL without its password, which the tools take from PGPASSWORD or a password file.
fn address(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "<database>".to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{user}@{host}")
        }
        None => authority.to_owned(),
    };
    // A password can be among the options too.
    let path = match path.split_once('?') {
        Some((path, options)) => {
            let kept: Vec<_> = options
                .split('&')
                .filter(|option| !option.starts_with("password="))
                .collect();
            if kept.is_empty() {
                path.to_owned()
            } else {
                format!("{path}?{}", kept.join("&"))
            }
        }
        None => path.to_owned(),
    };
    format!("'{scheme}://{authority}/{path}'")
}

fn shown(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_line_to_run_has_no_password() {
        for (url, shown) in [
            ("postgres://russet:secret@db/russet", "'postgres://russet@db/russet'"),
            ("postgres://russet@db/russet", "'postgres://russet@db/russet'"),
            (
                "postgres://db/russet?password=secret&sslmode=require",
                "'postgres://db/russet?sslmode=require'",
            ),
            (
                "postgres://u:a@b@db:5432/russet?password=secret",
                "'postgres://u@db:5432/russet'",
            ),
        ] {
            assert_eq!(address(url), shown);
        }
    }
}
