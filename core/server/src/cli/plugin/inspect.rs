//! `russet plugin inspect`: what a component is, asks for and may use, without running it and without a server.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::{InspectError, Inspection, Limits, inspect};
use serde_json::json;

use super::super::{file, output::Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    /// The component, as `russet plugin build` made it.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A file that is no plugin for this server. The host's own text says what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}: {source}", path.display())]
pub(super) struct NoPlugin {
    path: PathBuf,
    source: InspectError,
}

/// Reads a component and looks into it.
pub(super) fn read(path: &Path) -> miette::Result<(Vec<u8>, Inspection)> {
    let bytes = file::read(path)?;
    let inspection = inspect(&bytes).map_err(|source| NoPlugin {
        path: path.to_owned(),
        source,
    })?;
    Ok((bytes, inspection))
}

pub(super) fn run(args: &InspectArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let (_, inspection) = read(&args.file)?;
    let limits = Limits::default();
    let answer = json!({"component": inspection, "default_limits": limits});
    Output::new(stdout, args.json).answer(&answer, |output| output.facts(&facts(&inspection, &limits)))
}

fn facts(inspection: &Inspection, limits: &Limits) -> Vec<(String, String)> {
    let manifest = &inspection.manifest;
    let list = |names: &BTreeSet<String>| match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let mut facts = vec![
        ("plugin", format!("{} {}", manifest.name, manifest.version)),
        ("description", manifest.description.clone()),
        (
            "hooks",
            inspection
                .hooks
                .iter()
                .map(|hook| hook.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("asks for", list(&manifest.capabilities)),
    ];
    if !inspection.unused.is_empty() {
        facts.push(("  without using", list(&inspection.unused)));
    }
    facts.extend([
        ("reads", list(&inspection.reads)),
        (
            "settings",
            if manifest.settings_schema.is_some() {
                "checked by its schema"
            } else {
                "none"
            }
            .to_owned(),
        ),
        ("size", format!("{} KiB", inspection.size.div_ceil(1024))),
        ("sha-256", inspection.digest.clone()),
        (
            "limits of a call",
            format!(
                "{} MiB of memory, {} ms of computing, {} ms in all, {} calls of the host, {} lines of log \
                 (the server's configuration can change them)",
                limits.memory_bytes >> 20,
                limits.cpu_ms,
                limits.wall_ms,
                limits.host_calls,
                limits.log_lines
            ),
        ),
    ]);
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
