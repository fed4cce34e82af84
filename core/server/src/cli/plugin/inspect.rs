//! `russet plugin inspect`: what a component is, asks for and may use, without running it and without a server.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::package::{Package, PackageError, Signature};
use russet_plugin_host::{Contract, Contracts, InspectError, Inspection, Limits, ManifestSchedule, inspect};
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
#[diagnostic(code("not-a-plugin"))]
pub(super) struct NoPlugin {
    path: PathBuf,
    source: InspectError,
}

/// A file whose signatures do not fit it.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}: {source}", path.display())]
#[diagnostic(
    code("bad-signature"),
    help("it was changed after it was signed: get it again from where it came from")
)]
struct BadSignatures {
    path: PathBuf,
    source: PackageError,
}

/// Reads a component and looks into it.
pub(super) fn read(path: &Path) -> miette::Result<(Vec<u8>, Inspection)> {
    let bytes = file::read(path)?;
    let inspection = inspected(&bytes, path)?;
    Ok((bytes, inspection))
}

/// Looks into a component that came from `path`.
pub(super) fn inspected(bytes: &[u8], path: &Path) -> Result<Inspection, NoPlugin> {
    inspect(bytes).map_err(|source| NoPlugin {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn run(args: &InspectArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let (bytes, inspection) = read(&args.file)?;
    let package = Package::read(&bytes).map_err(|source| BadSignatures {
        path: args.file.clone(),
        source,
    })?;
    let limits = Limits::default();
    let contract = Contracts::default().of(&inspection.contract);
    let answer = json!({
        "component": inspection,
        "contract": contract,
        "signatures": package.signatures,
        "default_limits": limits,
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.facts(&facts(&inspection, &contract, &package.signatures, &limits))
    })
}

fn described(schedule: &ManifestSchedule) -> String {
    match (schedule.every_minutes, &schedule.daily_at) {
        (Some(minutes), _) => format!("{}: every {minutes} minutes", schedule.name),
        (None, Some(time)) => format!("{}: daily at {time} UTC", schedule.name),
        (None, None) => schedule.name.clone(),
    }
}

/// Whose signatures fit the file. Whether anybody trusts them is a server's to say.
fn signed_by(signatures: &[Signature]) -> String {
    if signatures.is_empty() {
        return "nobody; `russet plugin sign` signs it".to_owned();
    }
    let signers: Vec<String> = signatures
        .iter()
        .map(|signature| format!("key {} at {}", signature.public_key.id(), signature.signed_at))
        .collect();
    signers.join(", ")
}

/// The version of the contract, and whether the plugin has to be rebuilt.
fn spoken(contract: &Contract) -> String {
    let version = format!("russet:plugin@{}", contract.version);
    match &contract.deprecated {
        None => version,
        Some(deprecated) => format!("{version}, {deprecated}; rebuild it with the current SDK"),
    }
}

fn facts(
    inspection: &Inspection,
    contract: &Contract,
    signatures: &[Signature],
    limits: &Limits,
) -> Vec<(String, String)> {
    let manifest = &inspection.manifest;
    let list = |names: &BTreeSet<String>| match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let mut facts = vec![
        ("plugin", format!("{} {}", manifest.name, manifest.version)),
        ("description", manifest.description.clone()),
        ("contract", spoken(contract)),
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
    facts.push(("reads", list(&inspection.reads)));
    if !manifest.events.is_empty() {
        facts.push(("events", manifest.events.join(", ")));
    }
    for schedule in &manifest.schedules {
        facts.push(("schedule", described(schedule)));
    }
    facts.extend([
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
        ("signed by", signed_by(signatures)),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use russet_plugin_host::{Deprecation, ServedContract};

    use super::*;

    #[test]
    fn a_version_that_was_replaced_is_marked() {
        let table = Contracts::new([ServedContract {
            version: (0, 1),
            deprecated: Some(Deprecation {
                since: "0.9.0".parse().unwrap(),
                removed_in: None,
            }),
        }]);
        let version = "0.1.0".parse().unwrap();
        assert_eq!(
            spoken(&table.of(&version)),
            "russet:plugin@0.1.0, deprecated since russet 0.9.0; rebuild it with the current SDK"
        );
        assert_eq!(spoken(&Contracts::default().of(&version)), "russet:plugin@0.1.0");
    }
}
