//! `russet plugin`: from an empty folder to a running revision.

mod build;
mod inspect;
mod install;
mod list;
mod new;

use std::io::Write;

use clap::Subcommand;

use super::client::ClientArgs;
use super::context::Context;

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Write a plugin that builds, with a test, to begin with.
    New(new::NewArgs),
    /// Build plugin crates to components: one file each, with the manifest inside.
    Build(build::BuildArgs),
    /// Show what a component is, asks for and may use. Needs no server.
    Inspect(inspect::InspectArgs),
    /// Install a component on a server, or swap the revision that runs there.
    Install(Box<install::InstallArgs>),
    /// List the plugins of a server.
    List(ClientArgs),
}

pub(super) fn run(command: PluginCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    match command {
        PluginCommand::New(args) => new::run(&args, stdout),
        PluginCommand::Build(args) => build::run(args, stdout),
        PluginCommand::Inspect(args) => inspect::run(&args, stdout),
        PluginCommand::Install(args) => install::run(&args, context, stdout),
        PluginCommand::List(args) => list::run(&args, context, stdout),
    }
}
