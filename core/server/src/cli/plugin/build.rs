//! `russet plugin build`: crates become components.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use miette::Diagnostic;
use russet_plugin_build::{BuildError, BuildOptions, Built};
use serde_json::{Value, json};

use super::super::progress::Progress;
use super::super::{output::Output, progress};

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The folders of the plugins.
    #[arg(value_name = "DIR", default_value = ".")]
    crates: Vec<PathBuf>,
    #[command(flatten)]
    folders: Folders,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where a build works, and what it makes goes.
#[derive(Debug, Args)]
pub(super) struct Folders {
    /// The folder for the components [default: `plugins` in the target directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder that cargo works in [default: the target directory of the crate's workspace].
    #[arg(long, value_name = "DIR")]
    pub(super) target_dir: Option<PathBuf>,
}

/// A plugin that can not be built. The builder's own text says what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(code("not-built"))]
struct NotBuilt(BuildError);

pub(super) fn run(args: &BuildArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let built = build(args.crates.clone(), &args.folders)?;
    let answer: Vec<Value> = built.iter().map(facts).collect();
    Output::new(stdout, args.json).answer(&json!(answer), |output| {
        built.iter().try_for_each(|plugin| output.line(described(plugin)))
    })
}

/// Builds plugins, and shows how it goes.
pub(super) fn build(crates: Vec<PathBuf>, folders: &Folders) -> miette::Result<Vec<Built>> {
    let mut shown = Progress::start("building");
    let mut warnings = Vec::new();
    let mut options = BuildOptions::new(crates);
    options.out.clone_from(&folders.out);
    options.target_dir.clone_from(&folders.target_dir);
    options.progress = Box::new(|line| {
        // A spinner has one line; what the author should read must stay.
        if line.starts_with("warning") {
            warnings.push(line.to_owned());
        }
        shown.update(line.trim());
    });
    let built = russet_plugin_build::build(options).map_err(NotBuilt)?;
    shown.done("built");
    for warning in &warnings {
        progress::line(warning);
    }
    Ok(built)
}

fn facts(plugin: &Built) -> Value {
    json!({
        "name": plugin.name,
        "path": plugin.path,
        "size": plugin.size,
        "hooks": plugin.interfaces.hooks,
        "uses": plugin.interfaces.capabilities,
        "changed": plugin.changed,
    })
}

fn described(plugin: &Built) -> String {
    let list = |names: &BTreeSet<String>| match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    format!(
        "{}{}\n  {} KiB; hooks: {}; uses: {}",
        plugin.path.display(),
        if plugin.changed { "" } else { " (unchanged)" },
        plugin.size.div_ceil(1024),
        list(&plugin.interfaces.hooks),
        list(&plugin.interfaces.capabilities),
    )
}
