//! `russet plugin install`: a component, with settings and grants, becomes a revision on a server.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::{Grants, Inspection, LimitGrants, Manifest};
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::file;
use super::super::oci::{self, RegistryArgs};
use super::super::output::{Output, cell, field};
use super::super::progress::{self, Progress};
use super::{inspect, pull};

#[derive(Debug, Args)]
pub(in crate::cli) struct InstallArgs {
    /// The component, as `russet plugin build` made it and `russet plugin sign` signed it, or where it is in a registry,
    /// as `oci://registry.example.com/plugins/my-gate:1.0.0`.
    file: PathBuf,
    /// A file with the settings, JSON or (by the ending `.toml`) TOML [default: those of the running revision, or the
    /// plugin's own].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    grants: GrantArgs,
    /// The place among the plugins, beginning with 0: who is asked first.
    #[arg(long)]
    position: Option<u32>,
    /// Install it even if its version is lower than one that was in use, or its content is not that of the same version.
    #[arg(long)]
    allow_downgrade: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// What the plugin may use. If none of these is given, what was granted to the running revision stays granted.
#[derive(Debug, Default, Args)]
struct GrantArgs {
    /// Let the plugin use this, such as `ldap.search`. Repeat it for several. Replaces all earlier grants.
    #[arg(long = "grant", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Let the plugin use all that it asks for; `russet plugin inspect` shows what that is.
    #[arg(long)]
    grant_asked: bool,
    /// Let the plugin use this connection of the server's configuration, such as `ldap:corp`. Repeat it for several.
    #[arg(long = "connection", value_name = "KIND:NAME")]
    connections: Vec<Connection>,
    /// The memory of one call, in MiB, instead of the server's usual limit: JavaScript wants 32, Python 64.
    #[arg(long = "memory", value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..))]
    memory_mib: Option<u16>,
    /// The computing time of one call, in milliseconds, instead of the server's usual limit.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    cpu_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    ldap: String,
}

impl FromStr for Connection {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("ldap", name)) if !name.is_empty() => Ok(Self { ldap: name.to_owned() }),
            _ => Err("write it like ldap:corp; ldap is the only kind of connection"),
        }
    }
}

/// A revision that does not run because it asks for more than it was granted.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{name} {version} is stored and does not run: it asks for more than it was granted")]
struct Pending {
    name: String,
    version: String,
    #[help]
    flags: String,
}

impl GrantArgs {
    /// The grants to send; `None` keeps those of the running revision.
    fn compose(&self, manifest: &Manifest) -> Option<Grants> {
        let limits = LimitGrants {
            memory_bytes: self.memory_mib.map(|mib| usize::from(mib) << 20),
            cpu_ms: self.cpu_ms,
        };
        if self.capabilities.is_empty() && self.connections.is_empty() && !self.grant_asked && limits.is_empty() {
            return None;
        }
        let mut grants = if self.grant_asked {
            Grants::all_asked(manifest)
        } else {
            Grants::default()
        };
        grants.capabilities.extend(self.capabilities.iter().cloned());
        grants
            .connections
            .ldap
            .extend(self.connections.iter().map(|connection| connection.ldap.clone()));
        grants.limits = limits;
        Some(grants)
    }
}

/// The component, from a file or a registry.
fn read(args: &InstallArgs) -> miette::Result<(Vec<u8>, Inspection)> {
    let Some(reference) = oci::of_argument(&args.file) else {
        return inspect::read(&args.file);
    };
    let component = context::block_on(pull::fetch(reference, &args.registry))?;
    let inspection = inspect::inspected(&component, &args.file)?;
    Ok((component, inspection))
}

pub(super) fn run(args: &InstallArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    // What is wrong with the file is told before a server is asked for.
    let (component, inspection) = read(args)?;
    let manifest = inspection.manifest;
    let mut body = json!({"component": STANDARD.encode(&component)});
    if let Some(path) = &args.settings {
        body["settings"] = file::read_json_or_toml(path)?;
    }
    if let Some(grants) = args.grants.compose(&manifest) {
        body["grants"] = json!(grants);
    }
    if let Some(position) = args.position {
        body["position"] = json!(position);
    }
    if args.allow_downgrade {
        body["allow_downgrade"] = json!(true);
    }
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let progress = Progress::start(format!(
            "installing {} {} ({} KiB): the server checks and compiles it",
            manifest.name,
            manifest.version,
            component.len().div_ceil(1024)
        ));
        let answer = client
            .put(client.of_tenant(&["plugins", &manifest.name]), &body)
            .await?;
        progress.done("the server has it");
        report(&answer, &manifest, &mut Output::new(stdout, args.client.json))
    })
}

fn report(answer: &Value, manifest: &Manifest, output: &mut Output<'_>) -> miette::Result<()> {
    for warning in field(answer, "warnings").as_array().into_iter().flatten() {
        progress::line(&format!("warning: {}", cell(warning)));
    }
    let (name, version) = (manifest.name.clone(), manifest.version.to_string());
    let revision = cell(field(answer, "revision"));
    if field(answer, "state") != "pending" {
        return output.answer(answer, |output| {
            output.line(format!(
                "{name} {version} runs as revision {revision} since generation {}",
                cell(field(answer, "generation"))
            ))
        });
    }
    output.answer(answer, |_| Ok(()))?;
    let missing = field(answer, "missing").as_array().map_or(&[][..], Vec::as_slice);
    let flags: Vec<String> = missing
        .iter()
        .map(|missing| {
            missing
                .get("flag")
                .and_then(Value::as_str)
                .map_or_else(|| cell(missing), str::to_owned)
        })
        .collect();
    let flags = format!(
        "install it again with {} to grant it; the revision before goes on until then",
        flags.join(" ")
    );
    Err(Pending { name, version, flags }.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        let text = br#"{"name": "people", "version": "1.2.0", "hooks": ["directory"],
            "capabilities": ["log.write", "ldap.search"]}"#;
        Manifest::parse(text).unwrap()
    }

    fn grants(args: &GrantArgs) -> Value {
        json!(args.compose(&manifest()))
    }

    #[test]
    fn grants_are_kept_unless_some_are_given() {
        assert_eq!(grants(&GrantArgs::default()), Value::Null);
        assert_eq!(
            grants(&GrantArgs {
                capabilities: vec!["log.write".to_owned()],
                ..GrantArgs::default()
            }),
            json!({"capabilities": ["log.write"], "connections": {"ldap": []}})
        );
        assert_eq!(
            grants(&GrantArgs {
                grant_asked: true,
                connections: vec!["ldap:corp".parse().unwrap()],
                ..GrantArgs::default()
            }),
            json!({"capabilities": ["ldap.search", "log.write"], "connections": {"ldap": ["corp"]}})
        );
    }

    #[test]
    fn a_connection_names_its_kind() {
        for text in ["corp", "ldap:", ":corp", "http:corp"] {
            assert!(text.parse::<Connection>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_revision_that_waits_for_grants_is_a_failure_that_names_them() {
        let answer = json!({
            "revision": 3, "state": "pending", "generation": 2,
            "missing": [{"what": "ldap.search", "flag": "--grant ldap.search"}],
        });
        let report = report(&answer, &manifest(), &mut Output::new(&mut Vec::new(), false)).unwrap_err();
        assert!(
            report
                .to_string()
                .starts_with("people 1.2.0 is stored and does not run")
        );
        assert!(
            report
                .help()
                .unwrap()
                .to_string()
                .contains("again with --grant ldap.search to grant it")
        );
    }
}
