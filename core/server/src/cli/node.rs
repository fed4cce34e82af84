//! `russet node`: the servers that share a database.

use clap::Subcommand;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List the servers on this database, and how many changes of the tenant's plugins each has still to follow.
    List,
}

pub(super) async fn run(
    command: NodeCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        NodeCommand::List => {
            let answer = client.get(client.of_tenant(&["nodes"])).await?;
            let rows = output::rows(
                items(&answer),
                &["name", "here", "generation", "behind", "seen_at", "id"],
            );
            output.answer(&answer, |output| {
                output.table(
                    &["name", "answers", "generation", "behind", "seen", "id"],
                    &rows,
                    "no server has reported yet",
                )
            })
        }
    }
}
