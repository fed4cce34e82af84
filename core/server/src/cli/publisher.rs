//! `russet publisher`: whose plugins a tenant installs.

use clap::Subcommand;
use russet_plugin_host::package::PublicKey;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::output::{self, Output, cell, field};

#[derive(Debug, Subcommand)]
pub(super) enum PublisherCommand {
    /// Trust a publisher: plugins that are signed with its key can be installed from now on.
    Add {
        /// What to call it in lists.
        name: String,
        /// Its public key, `ed25519:` and 44 characters, as `russet plugin keys show` prints it.
        public_key: PublicKey,
        /// Trust it for this plugin only. Repeat it for several.
        #[arg(long = "plugin", value_name = "NAME")]
        plugins: Vec<String>,
    },
    /// List the trusted publishers.
    List,
    /// Trust a publisher no longer. What is installed goes on.
    Remove {
        /// Its name, as `list` shows it.
        name: String,
    },
}

pub(super) async fn run(
    command: PublisherCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        PublisherCommand::Add {
            name,
            public_key,
            plugins,
        } => {
            let body = json!({"name": name, "public_key": public_key, "plugins": plugins});
            let answer = client.post(client.of_tenant(&["publishers"]), &body).await?;
            output.answer(&answer, |output| {
                let whose = match plugins.is_empty() {
                    true => "any plugin".to_owned(),
                    false => plugins.join(", "),
                };
                output.line(format!(
                    "{name} (key {}) is trusted for {whose}",
                    cell(field(&answer, "key_id"))
                ))
            })
        }
        PublisherCommand::List => {
            let answer = client.list(client.of_tenant(&["publishers"]), usize::MAX).await?;
            let columns = ["name", "key_id", "plugins", "added_by", "added_at"];
            let rows = output::rows(items(&answer), &columns);
            output.answer(&answer, |output| {
                output.table(
                    &["name", "key", "only", "added by", "added"],
                    &rows,
                    "no publishers; `russet publisher add` trusts one",
                )
            })
        }
        PublisherCommand::Remove { name } => {
            let answer = client.delete(client.of_tenant(&["publishers", &name])).await?;
            output.answer(&answer, |output| output.line(format!("{name} is trusted no longer")))
        }
    }
}
