//! `russet plugin remove`: out of use, and what the plugin keeps deleted.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::error::ClientError;
use super::super::output::{Output, cell, field};

#[derive(Debug, Args)]
pub(in crate::cli) struct RemoveArgs {
    /// The plugin.
    name: String,
    /// Delete its store, its secrets and its keys now. Without this they are kept for `plugins.removed_data_days`, in case
    /// it comes back.
    #[arg(long)]
    purge_data: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(args: &RemoveArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let removed = match client.delete(client.of_tenant(&["plugins", &args.name])).await {
            Ok(answer) => field(&answer, "generation").clone(),
            // Out of use already: what it keeps can still go.
            Err(ClientError::NotFound { .. }) if args.purge_data => Value::Null,
            Err(error) => return Err(error.into()),
        };
        let purged = if args.purge_data {
            client
                .delete(client.of_tenant(&["plugins", &args.name, "data"]))
                .await?
        } else {
            Value::Null
        };
        let answer = json!({"name": args.name, "generation": removed, "purged": purged});
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.line(match &removed {
                Value::Null => format!("{} was out of use already", args.name),
                generation => format!("{} is out of use since generation {}", args.name, cell(generation)),
            })?;
            output.line(match purged.is_null() {
                true => "what it keeps stays for a while, in case it comes back; --purge-data deletes it".to_owned(),
                false => format!(
                    "deleted: {} values, {} secrets, {} keys",
                    cell(field(&purged, "values")),
                    cell(field(&purged, "secrets")),
                    cell(field(&purged, "keys"))
                ),
            })
        })
    })
}
