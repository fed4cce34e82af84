//! `russet plugin show`, `history`, `disable` and `explain`: one plugin, what happened to it, and why it decided.

use std::io::Write;

use clap::Args;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::items;
use super::super::output::{self, Output, cell, field};
use super::changes;
use super::rollout::NamedArgs;

pub(super) fn show(args: &NamedArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let answer = client.get(client.of_tenant(&["plugins", &args.name])).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.facts(&output::facts(&answer))?;
            let waiting = field(&answer, "pending.changes");
            if !waiting.is_null() {
                output.line("what waits would change:")?;
                changes::show(waiting, output)?;
            }
            Ok(())
        })
    })
}

pub(super) fn history(args: &NamedArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let url = client.of_tenant(&["plugins", &args.name, "history"]);
        let answer = client.get(url).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            let columns = ["at", "id", "version", "from", "to", "by", "reason"];
            output.table(
                &columns,
                &output::rows(items(&answer), &columns),
                "nothing happened to it",
            )
        })
    })
}

pub(super) fn disable(args: &NamedArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let answer = client.delete(client.of_tenant(&["plugins", &args.name])).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.line(format!(
                "{} is out of use since generation {}; `russet plugin install` brings it back",
                args.name,
                cell(field(&answer, "generation"))
            ))
        })
    })
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The number of the decision, as `russet decision list` shows it.
    decision: u64,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn explain(args: &ExplainArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let url = client.of_tenant(&["decisions", &args.decision.to_string()]);
        let answer = client.get(url).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            let of = |name: &str| cell(field(&answer, name));
            output.line(format!(
                "{}: {} of plugin {} (revision {}) about {}",
                of("verdict"),
                of("hook"),
                of("plugin"),
                of("revision"),
                of("subject")
            ))?;
            for (name, title) in [
                ("reason", "reason"),
                ("fault", "fault"),
                ("failure_rule", "what that means"),
            ] {
                let value = field(&answer, name);
                if !value.is_null() {
                    output.line(format!("{title}: {}", cell(value)))?;
                }
            }
            output.facts(&output::facts(&answer))
        })
    })
}
