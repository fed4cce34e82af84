//! `russet config`: the configuration file.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use serde_json::json;

use super::context::Context;
use super::output::Output;
use super::{file, output, progress};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print an example of the configuration file: every key with its meaning and default.
    Example {
        /// Write it to this file instead.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// Check the configuration file and the environment as `serve` does, without starting anything.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: ConfigCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    match command {
        ConfigCommand::Example { write: Some(path) } => {
            file::write(&path, russet::config::example())?;
            progress::line(&format!("wrote {}", path.display()));
            Ok(())
        }
        ConfigCommand::Example { write: None } => stdout
            .write_all(russet::config::example().as_bytes())
            .map_err(output::failed),
        ConfigCommand::Check { json } => {
            context.checked_config()?;
            let what = match context.file() {
                Some(path) => format!("{} can be used", path.display()),
                None => "there is no configuration file; the defaults and the environment can be used".to_owned(),
            };
            let answer = json!({"file": context.file(), "usable": true});
            Output::new(stdout, json).answer(&answer, |output| output.line(what))
        }
    }
}
