//! `russet tenant`: the customers of a server.

use clap::Subcommand;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::output::{self, Output, cell, field};

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Create a tenant. Its devices reach it below `/t/<name>`.
    Create {
        /// Its name, as it stands in addresses.
        name: String,
    },
    /// List the tenants that the token may see.
    List,
}

pub(super) async fn run(
    command: TenantCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    let url = client.url(&["v1", "tenants"]);
    match command {
        TenantCommand::Create { name } => {
            let answer = client.post(url, &json!({ "name": name })).await?;
            output.answer(&answer, |output| {
                output.line(format!("created {}", cell(field(&answer, "name"))))
            })
        }
        TenantCommand::List => {
            let answer = client.get(url).await?;
            let rows = output::rows(items(&answer), &["name", "created_at"]);
            output.answer(&answer, |output| {
                output.table(&["name", "created"], &rows, "no tenants")
            })
        }
    }
}
