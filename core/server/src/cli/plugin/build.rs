//! `russet plugin build`: crates become components.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use miette::Diagnostic;
use russet_plugin_build::{BuildError, BuildOptions, Built};

use super::super::progress::Progress;
use super::super::{output, progress};

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The folders of the plugin crates.
    #[arg(value_name = "DIR", default_value = ".")]
    crates: Vec<PathBuf>,
    /// The folder for the components [default: `plugins` in the target directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder that cargo works in [default: the target directory of the crate's workspace].
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
}

/// A plugin that can not be built. The builder's own text says what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(transparent)]
struct NotBuilt(BuildError);

pub(super) fn run(args: BuildArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut shown = Progress::start("building");
    let mut warnings = Vec::new();
    let mut options = BuildOptions::new(args.crates);
    options.out = args.out;
    options.target_dir = args.target_dir;
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
    built
        .iter()
        .try_for_each(|plugin| write!(stdout, "{}", described(plugin)))
        .map_err(output::failed)
}

fn described(plugin: &Built) -> String {
    let list = |names: Vec<&str>| {
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        }
    };
    format!(
        "{}{}\n  {} KiB; hooks: {}; uses: {}\n",
        plugin.path.display(),
        if plugin.changed { "" } else { " (unchanged)" },
        plugin.size.div_ceil(1024),
        list(plugin.interfaces.hooks.iter().map(String::as_str).collect()),
        list(plugin.interfaces.capabilities.iter().map(String::as_str).collect()),
    )
}
