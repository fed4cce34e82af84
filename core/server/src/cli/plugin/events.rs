//! `russet plugin observers`, `replay-events`, `parked` and `schedules`: what plugins do after the fact.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::device::{items, more};
use super::super::output::{self, Output};

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    /// The observer: a plugin's name.
    plugin: String,
    /// From where: the number of an event, or a time such as `2026-12-01T08:00:00Z`.
    #[arg(long, value_name = "ID|TIME")]
    from: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ParkedCommand {
    /// List events that an observer failed on as often as it may.
    List {
        /// The observer: a plugin's name.
        plugin: String,
        /// The most events to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Hand parked events over again.
    Retry(ParkedArgs),
    /// Forget parked events.
    Drop(ParkedArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ParkedArgs {
    /// The observer: a plugin's name.
    plugin: String,
    /// One event, by its number.
    #[arg(conflicts_with = "all", required_unless_present = "all")]
    event: Option<i64>,
    /// All of them.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn observers(args: &ClientArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(args, context)?;
        let answer = client.get(client.of_tenant(&["observers"])).await?;
        let columns = [
            "plugin",
            "position",
            "behind",
            "waiting",
            "oldest_waiting",
            "parked",
            "error",
        ];
        let rows = output::rows(items(&answer), &columns);
        Output::new(stdout, args.json).answer(&answer, |output| {
            let heading = ["plugin", "position", "behind", "waiting", "oldest", "parked", "error"];
            output.table(&heading, &rows, "no observers")
        })
    })
}

pub(super) fn schedules(args: &ClientArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(args, context)?;
        let answer = client.get(client.of_tenant(&["schedules"])).await?;
        let columns = [
            "id",
            "plugin",
            "name",
            "origin",
            "rule",
            "next_try_at",
            "attempts",
            "parked_at",
            "error",
        ];
        let rows = output::rows(items(&answer), &columns);
        Output::new(stdout, args.json).answer(&answer, |output| {
            let heading = [
                "id", "plugin", "name", "origin", "rule", "next", "attempts", "parked", "error",
            ];
            output.table(&heading, &rows, "no scheduled work")
        })
    })
}

pub(super) fn replay(args: &ReplayArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let from = match args.from.parse::<i64>() {
            Ok(event) => json!({ "event": event }),
            Err(_) => json!({ "time": args.from }),
        };
        let url = client.of_tenant(&["observers", &args.plugin, "replay"]);
        let answer = client.post(url, &from).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.line(format!("{} events are handed over again", count(&answer)))
        })
    })
}

pub(super) fn parked(command: &ParkedCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    context::block_on(async {
        let (args, verb, done) = match command {
            ParkedCommand::List { plugin, limit, client } => {
                return list(plugin, *limit, client, context, stdout).await;
            }
            ParkedCommand::Retry(args) => (args, "retry", "are handed over again"),
            ParkedCommand::Drop(args) => (args, "drop", "are forgotten"),
        };
        let client = Client::new(&args.client, context)?;
        let event = args.event.map(|event| event.to_string());
        let mut path = vec!["observers", &args.plugin, "parked"];
        path.extend(event.as_deref());
        path.push(verb);
        let answer = client.post(client.of_tenant(&path), &json!({})).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.line(format!("{} events {done}", count(&answer)))
        })
    })
}

async fn list(
    plugin: &str,
    limit: usize,
    args: &ClientArgs,
    context: &Context,
    stdout: &mut dyn Write,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    let answer = client
        .list(client.of_tenant(&["observers", plugin, "parked"]), limit)
        .await?;
    let columns = [
        "event.id",
        "event.kind",
        "event.enrollment",
        "attempts",
        "parked_at",
        "error",
    ];
    let rows = output::rows(items(&answer), &columns);
    Output::new(stdout, args.json).answer(&answer, |output| {
        let heading = ["event", "kind", "device", "attempts", "parked", "error"];
        output.table(&heading, &rows, "no parked events")?;
        more(&answer, output)
    })
}

fn count(answer: &Value) -> String {
    output::cell(output::field(answer, "events"))
}
