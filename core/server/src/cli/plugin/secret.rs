//! `russet plugin secret`: what a plugin has to know and nobody else, such as the key that its webhooks are signed with.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::items;
use super::super::file;
use super::super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SecretCommand {
    /// Give a plugin a secret, in place of the one that has this name. Nobody but the plugin can read it afterwards.
    Put {
        /// The name of the plugin. It need not be installed yet.
        plugin: String,
        /// The name of the secret, as the plugin's documentation has it.
        name: String,
        /// The file that holds it, `-` for the standard input. A line break at its end is left out.
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the names of a plugin's secrets.
    List {
        /// The name of the plugin.
        plugin: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take a secret away from a plugin.
    Remove {
        /// The name of the plugin.
        plugin: String,
        /// The name of the secret.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) fn run(command: &SecretCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        match command {
            SecretCommand::Put {
                plugin,
                name,
                file,
                client: args,
            } => {
                let secret = Zeroizing::new(file::read(file)?);
                let body = json!({ "value_base64": STANDARD.encode(without_line_break(&secret)) });
                let client = Client::new(args, context)?;
                let url = client.of_tenant(&["plugins", plugin, "secrets", name]);
                let answer = client.put(url, &body).await?;
                Output::new(stdout, args.json)
                    .answer(&answer, |output| output.line(format!("{plugin} has the secret {name}")))
            }
            SecretCommand::List { plugin, client: args } => {
                let client = Client::new(args, context)?;
                let url = client.of_tenant(&["plugins", plugin, "secrets"]);
                let answer = client.list(url, usize::MAX).await?;
                let rows = output::rows(items(&answer), &["name", "updated_at"]);
                Output::new(stdout, args.json).answer(&answer, |output| {
                    output.table(
                        &["name", "changed"],
                        &rows,
                        "no secrets; `russet plugin secret put` gives the plugin one",
                    )
                })
            }
            SecretCommand::Remove {
                plugin,
                name,
                client: args,
            } => {
                let client = Client::new(args, context)?;
                let answer = client
                    .delete(client.of_tenant(&["plugins", plugin, "secrets", name]))
                    .await?;
                Output::new(stdout, args.json).answer(&answer, |output| {
                    output.line(format!("{plugin} has no secret {name} any more"))
                })
            }
        }
    })
}

/// Editors and `echo` end a file with a line break that is not meant.
fn without_line_break(secret: &[u8]) -> &[u8] {
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}
