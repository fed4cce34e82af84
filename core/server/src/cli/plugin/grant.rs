//! What a plugin may use, on the command line, and `russet plugin grant`: more for a revision that waits for it.

use std::io::Write;
use std::str::FromStr;

use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::{Grants, LimitGrants, Manifest};
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::output::{Output, cell, field};
use super::super::progress::{self, Progress};
use super::changes;

/// What the plugin may use. If none of these is given, what was granted to the running revision stays granted.
#[derive(Debug, Default, Args)]
pub(super) struct GrantArgs {
    /// Let the plugin use this, such as `ldap.search`. Repeat it for several. Replaces all earlier grants.
    #[arg(long = "grant", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Let the plugin use all that it asks for; `russet plugin inspect` shows what that is.
    #[arg(long)]
    grant_asked: bool,
    /// Let the plugin use this connection of the server's configuration, such as `ldap:corp` or `http:hr`. Repeat it for
    /// several.
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
enum Connection {
    Ldap(String),
    Http(String),
}

impl FromStr for Connection {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("ldap", name)) if !name.is_empty() => Ok(Self::Ldap(name.to_owned())),
            Some(("http", name)) if !name.is_empty() => Ok(Self::Http(name.to_owned())),
            _ => Err("write it like ldap:corp or http:hr"),
        }
    }
}

impl GrantArgs {
    /// The grants to send; `None` keeps those of the running revision.
    pub(super) fn compose(&self, manifest: &Manifest) -> Option<Grants> {
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
        add(&mut grants, &self.capabilities, &self.connections);
        grants.limits = limits;
        Some(grants)
    }
}

fn add(grants: &mut Grants, capabilities: &[String], connections: &[Connection]) {
    grants.capabilities.extend(capabilities.iter().cloned());
    for connection in connections {
        match connection {
            Connection::Ldap(name) => grants.connections.ldap.insert(name.clone()),
            Connection::Http(name) => grants.connections.http.insert(name.clone()),
        };
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GrantCommand {
    /// The plugin.
    name: String,
    /// Let it use this as well, such as `ldap.search`. Repeat it for several.
    #[arg(long = "grant", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Let it use all that the revision asks for.
    #[arg(long)]
    grant_asked: bool,
    /// Let it use this connection as well, such as `ldap:corp` or `http:hr`. Repeat it for several.
    #[arg(long = "connection", value_name = "KIND:NAME")]
    connections: Vec<Connection>,
    /// Keep the revision instead of doing with it what was asked for when it was installed.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// A revision that does not run because it asks for more than it was granted.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{name} {version} is stored and does not run: it asks for more than it was granted")]
#[diagnostic(code("pending"))]
struct Pending {
    name: String,
    version: String,
    #[help]
    flags: String,
}

pub(super) fn run(args: &GrantCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut grants = Grants::default();
    add(&mut grants, &args.capabilities, &args.connections);
    let body = json!({
        "capabilities": grants.capabilities,
        "connections": grants.connections,
        "all_asked": args.grant_asked,
        "keep": args.keep,
    });
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let url = client.of_tenant(&["plugins", &args.name, "grants"]);
        let progress = Progress::start(format!("granting: the server compiles {} if it may run now", args.name));
        let answer = client.post(url, &body).await?;
        progress.done("the server has it");
        report(&answer, &mut Output::new(stdout, args.client.json))
    })
}

/// Tells what came of an installation or a grant. One that waits is a failure that names what is missing.
pub(super) fn report(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    for warning in field(answer, "warnings").as_array().into_iter().flatten() {
        progress::line(&format!("warning: {}", cell(warning)));
    }
    let (name, version) = (cell(field(answer, "name")), cell(field(answer, "version")));
    let revision = cell(field(answer, "revision"));
    let generation = cell(field(answer, "generation"));
    let text = match field(answer, "state").as_str() {
        Some("pending") => {
            output.answer(answer, |output| changes::show(field(answer, "changes"), output))?;
            return Err(pending(answer, name, version).into());
        }
        Some("shadow") => format!(
            "{name} {version} is compared as revision {revision}; `russet plugin shadow report {name}` tells what it \
             would change"
        ),
        Some("canary") => format!("{name} {version} answers its share as revision {revision}"),
        Some("ready") => format!("{name} {version} is kept as revision {revision}, and does not run"),
        _ => format!("{name} {version} runs as revision {revision} since generation {generation}"),
    };
    output.answer(answer, |output| output.line(text))
}

fn pending(answer: &Value, name: String, version: String) -> Pending {
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
    let then = match field(answer, "once_granted").as_str() {
        Some("shadow") => "compares the revision with the one before, which goes on",
        Some("canary") => "has the revision answer its share; the one before goes on",
        Some("ready") => "keeps the revision; the one before goes on",
        _ => "puts the revision into use; the one before goes on until then",
    };
    let flags = format!("`russet plugin grant {name} {}` grants it, and {then}", flags.join(" "));
    Pending { name, version, flags }
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

    #[test]
    fn grants_are_kept_unless_some_are_given() {
        assert_eq!(GrantArgs::default().compose(&manifest()), None);
        let one = GrantArgs {
            capabilities: vec!["log.write".to_owned()],
            ..GrantArgs::default()
        };
        let grants = json!(one.compose(&manifest()));
        assert_eq!(grants["capabilities"], json!(["log.write"]));
        let all = GrantArgs {
            grant_asked: true,
            connections: vec!["ldap:corp".parse().unwrap(), "http:hr".parse().unwrap()],
            ..GrantArgs::default()
        };
        let grants = json!(all.compose(&manifest()));
        assert_eq!(grants["capabilities"], json!(["ldap.search", "log.write"]));
        assert_eq!(grants["connections"], json!({"ldap": ["corp"], "http": ["hr"]}));
    }

    #[test]
    fn a_connection_names_its_kind() {
        for text in ["corp", "ldap:", ":corp", "smtp:corp"] {
            assert!(text.parse::<Connection>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_revision_that_waits_for_grants_is_a_failure_that_names_them() {
        let answer = json!({
            "name": "people", "version": "1.2.0", "revision": null, "state": "pending", "generation": 2,
            "missing": [{"what": "ldap.search", "flag": "--grant ldap.search"}],
            "changes": {"from": "1.1.0", "to": "1.2.0", "capabilities": {"added": ["ldap.search"], "removed": []}},
        });
        let mut text = Vec::new();
        let report = report(&answer, &mut Output::new(&mut text, false)).unwrap_err();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("capabilities: + ldap.search"), "{text}");
        assert!(
            report
                .to_string()
                .starts_with("people 1.2.0 is stored and does not run")
        );
        let help = report.help().unwrap().to_string();
        assert!(
            help.contains("russet plugin grant people --grant ldap.search"),
            "{help}"
        );
        assert!(help.contains("puts the revision into use"), "{help}");
    }

    #[test]
    fn what_is_done_once_it_has_its_grants_is_told() {
        for (state, told) in [
            ("active", "puts the revision into use"),
            ("ready", "keeps the revision"),
            ("shadow", "compares the revision"),
            ("canary", "has the revision answer its share"),
        ] {
            let answer = json!({"state": "pending", "once_granted": state, "missing": [{"flag": "--grant log.write"}]});
            let help = pending(&answer, "people".to_owned(), "1.2.0".to_owned()).flags;
            assert!(help.contains(told), "{help}");
        }
    }
}
