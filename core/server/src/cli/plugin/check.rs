//! `russet plugin check`: whether a server would run a component, found out here. Needs no server.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::{Inspection, check_settings};
use serde_json::{Value, json};

use super::inspect;
use super::scripted::{HostArgs, NotRun};
use crate::cli::context;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// The component, as `russet plugin build` made it.
    file: PathBuf,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum CheckError {
    #[error("the component is good as far as it was checked; to start it, it needs settings")]
    #[diagnostic(help("give some with --settings FILE: {0}"))]
    SettingsNeeded(String),
}

pub(super) fn run(args: &CheckArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    // Manifest, imports, exports and size.
    let (_, inspection) = inspect::read(&args.file)?;
    let mut plugin = args.host.plugin(&args.file)?;
    let settings = match args.host.has_settings() {
        true => "those given fit its schema",
        false => {
            let (settings, what) = settings_to_try(&inspection)?;
            plugin = plugin.settings(settings);
            what
        }
    };
    let began = Instant::now();
    context::block_on(async {
        let shown = Progress::start(format!("compiling {}", inspection.manifest.name));
        plugin.start().await.map_err(NotRun)?;
        shown.done("it compiles and starts");
        Ok(())
    })?;
    let start_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);

    let flags = install_flags(&inspection);
    let answer = json!({
        "name": inspection.manifest.name,
        "version": inspection.manifest.version,
        "hooks": inspection.hooks,
        "asks_for": inspection.manifest.capabilities,
        "without_using": inspection.unused,
        "size": inspection.size,
        "settings": settings,
        "start_ms": start_ms,
        "install_flags": flags,
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        let manifest = &inspection.manifest;
        output.line(format!("{} {}: a server runs it", manifest.name, manifest.version))?;
        let list = |names: Vec<&str>| match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        };
        let mut facts = vec![
            (
                "  hooks",
                list(inspection.hooks.iter().map(|hook| hook.as_str()).collect()),
            ),
            (
                "  asks for",
                list(manifest.capabilities.iter().map(String::as_str).collect()),
            ),
        ];
        if !inspection.unused.is_empty() {
            let unused = list(inspection.unused.iter().map(String::as_str).collect());
            facts.push(("  without using", unused));
        }
        facts.extend([
            ("  settings", settings.to_owned()),
            ("  size", format!("{} KiB", inspection.size.div_ceil(1024))),
            ("  compile and start", format!("{start_ms} ms")),
            (
                "  install it with",
                format!("russet plugin install {} {}", args.file.display(), flags.join(" ")),
            ),
        ]);
        let facts: Vec<(String, String)> = facts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        output.facts(&facts)
    })
}

/// What an operator has to add to install it.
fn install_flags(inspection: &Inspection) -> Vec<String> {
    let manifest = &inspection.manifest;
    let mut flags = Vec::new();
    if !manifest.capabilities.is_empty() {
        flags.push("--grant-asked".to_owned());
    }
    for kind in ["ldap", "http"] {
        let prefix = format!("{kind}.");
        if manifest.capabilities.iter().any(|name| name.starts_with(&prefix)) {
            flags.push(format!("--connection {kind}:NAME"));
        }
    }
    if manifest.settings_schema.is_some() && manifest.defaults.is_none() {
        flags.push("--settings FILE".to_owned());
    }
    flags
}

/// Settings that a start can be tried with: the plugin's own, or the least that its schema lets through.
fn settings_to_try(inspection: &Inspection) -> miette::Result<(Value, &'static str)> {
    let manifest = &inspection.manifest;
    let own = manifest.defaults.clone().unwrap_or_else(|| json!({}));
    let Some(schema) = &manifest.settings_schema else {
        return Ok((own, "it has none"));
    };
    let problem = match check_settings(manifest, &own) {
        Ok(()) => return Ok((own, "its defaults fit its schema")),
        Err(problem) => problem,
    };
    let least = least(schema);
    match check_settings(manifest, &least) {
        Ok(()) => Ok((
            least,
            "it needs some; tried with the least that its schema lets through",
        )),
        Err(_) => Err(CheckError::SettingsNeeded(problem.to_string()).into()),
    }
}

/// A small value that fits a schema, if the schema is a plain one.
fn least(schema: &Value) -> Value {
    for key in ["const", "default"] {
        if let Some(value) = schema.get(key) {
            return value.clone();
        }
    }
    for key in ["examples", "enum"] {
        if let Some(value) = schema.get(key).and_then(|values| values.get(0)) {
            return value.clone();
        }
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_u64);
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => "x".repeat(number("minLength").unwrap_or(1) as usize).into(),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(false),
        Some("array") => {
            let items = number("minItems").unwrap_or(0).min(100);
            (0..items)
                .map(|_| schema.get("items").map_or(Value::Null, least))
                .collect()
        }
        Some("object") => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let names = required.filter_map(Value::as_str);
            let value = |name: &str| schema["properties"].get(name).map_or(Value::Null, least);
            names.map(|name| (name.to_owned(), value(name))).collect()
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_fits_a_plain_schema() {
        let schema = json!({
            "type": "object",
            "required": ["name", "days", "kinds", "mode"],
            "properties": {
                "name": {"type": "string", "minLength": 2},
                "days": {"type": "integer", "minimum": 4},
                "kinds": {"type": "array", "minItems": 1, "items": {"type": "boolean"}},
                "mode": {"enum": ["on", "off"]},
                "extra": {"type": "string"},
            },
        });
        assert_eq!(
            least(&schema),
            json!({"name": "xx", "days": 4, "kinds": [false], "mode": "on"})
        );
    }
}
