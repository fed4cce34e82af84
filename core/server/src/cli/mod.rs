//! The command line: one file for each noun, over the admin API of a running server.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line could not be understood. What a command found goes to the standard
//! output; progress, warnings and errors go to the standard error output. With `--json` the last line of that is the error,
//! as JSON (`failure.rs`).

mod certificate;
mod client;
mod command;
mod config;
mod context;
mod db;
mod decision;
mod declaration;
mod demo;
mod device;
mod error;
mod failure;
mod file;
mod group;
mod import;
mod node;
mod oci;
mod output;
mod plugin;
mod progress;
mod publisher;
mod push_cert;
mod serve;
mod simulate;
mod tenant;
mod token;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use client::ClientArgs;
use context::Context;
use output::Output;

/// Russet, a device management server for Apple devices.
#[derive(Debug, Parser)]
#[command(name = "russet", version)]
struct Cli {
    #[command(flatten)]
    context: context::ContextArgs,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Show a server, a stand-in of APNs and three simulated devices at work.
    Demo(demo::DemoArgs),
    /// Let simulated devices enroll with a server and answer it.
    Simulate(simulate::SimulateArgs),
    /// Make, build, look into, install and list plugins.
    Plugin {
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// List and show devices.
    Device {
        #[command(subcommand)]
        command: device::DeviceCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make groups of devices, and change who is in them.
    Group {
        #[command(subcommand)]
        command: group::GroupCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take devices over from another server, and show which have come.
    Import {
        #[command(subcommand)]
        command: import::ImportCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Send commands to devices and show what came back.
    Command {
        #[command(subcommand)]
        command: command::CommandCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Store sets of declarations, give them to devices, and show what devices say of them.
    Declaration {
        #[command(subcommand)]
        command: declaration::DeclarationCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List, export and verify what hooks decided.
    Decision {
        #[command(subcommand)]
        command: decision::DecisionCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Upload and show push certificates.
    PushCert {
        #[command(subcommand)]
        command: push_cert::PushCertCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Trust publishers of plugins, list and remove them.
    Publisher {
        #[command(subcommand)]
        command: publisher::PublisherCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the identities that devices have, and revoke them.
    Certificate {
        #[command(subcommand)]
        command: certificate::CertificateCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Create and list tenants.
    Tenant {
        #[command(subcommand)]
        command: tenant::TenantCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the servers that share a database.
    Node {
        #[command(subcommand)]
        command: node::NodeCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Create, list and revoke API tokens.
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Copy, back up, restore, clean and measure the database, and change its keys.
    Db {
        #[command(subcommand)]
        command: db::DbCommand,
        /// Print JSON.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Print an example of the configuration file, or check one.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
}

/// Parses the arguments, runs the command, and says on the standard error output what went wrong.
pub(crate) fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
        Ok((cli, failure::wants_json(&matches)))
    });
    let (cli, as_json) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let Some(told) = failure::usage(&error, std::env::args_os()) else {
                error.exit()
            };
            let _ = writeln!(io::stderr(), "{told}");
            return ExitCode::from(2);
        }
    };
    let mut stdout = io::stdout().lock();
    let result = run(cli, &mut stdout).and_then(|()| stdout.flush().map_err(output::failed));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough, as `head` does.
        Err(report) if output::reader_left(&report) => ExitCode::SUCCESS,
        Err(report) => {
            // Nothing is left to tell it to if even this fails.
            let _ = writeln!(io::stderr(), "{}", failure::told(&report, as_json));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, stdout: &mut dyn Write) -> miette::Result<()> {
    let context = Context::new(cli.context);
    match cli.noun {
        Noun::Serve(args) => serve::run(&args, &context, stdout),
        Noun::Demo(args) => demo::run(&args, stdout),
        Noun::Simulate(args) => simulate::run(&args, stdout),
        Noun::Plugin { command } => plugin::run(command, &context, stdout),
        Noun::Device { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(device::run(command, &client, &context, &mut output))
        }
        Noun::Group { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(group::run(command, &client, &context, &mut output))
        }
        Noun::Import { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(import::run(command, &client, &context, &mut output))
        }
        Noun::Command { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(command::run(command, &client, &context, &mut output))
        }
        Noun::Declaration { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(declaration::run(command, &client, &context, &mut output))
        }
        Noun::Decision { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(decision::run(command, &client, &context, &mut output))
        }
        Noun::PushCert { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(push_cert::run(command, &client, &context, &mut output))
        }
        Noun::Publisher { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(publisher::run(command, &client, &context, &mut output))
        }
        Noun::Certificate { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(certificate::run(command, &client, &context, &mut output))
        }
        Noun::Tenant { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(tenant::run(command, &client, &context, &mut output))
        }
        Noun::Node { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(node::run(command, &client, &context, &mut output))
        }
        Noun::Token { command, client } => {
            let mut output = Output::new(stdout, client.json);
            context::block_on(token::run(command, &client, &context, &mut output))
        }
        Noun::Db { command, json } => {
            let mut output = Output::new(stdout, json);
            context::block_on(db::run(command, &context, &mut output))
        }
        Noun::Config { command } => config::run(command, &context, stdout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
