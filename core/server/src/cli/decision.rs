//! `russet decision`: what hooks decided, whether the records are as they were written, and what is kept to ask again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use reqwest::Url;
use serde_json::Value;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::{items, more};
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(super) enum DecisionCommand {
    /// List decisions, newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// The most decisions to list.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one decision with its effects, and with its question and answer if these are still kept.
    Show {
        /// Its number.
        id: i64,
    },
    /// Write decisions for `russet plugin replay` and `russet plugin diff`: one JSON object on each line, oldest first.
    /// Treat the file with care: questions hold what devices and directories say of people, and commands.
    Export {
        #[command(flatten)]
        which: Which,
        /// Only decisions whose questions are still kept.
        #[arg(long)]
        with_call: bool,
        /// The file to write; the standard output if left out.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Find out whether any record was changed, taken out or put in since it was written.
    Verify {
        /// A head that an earlier verification named, kept elsewhere: it has to be in the chain.
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only this plugin's.
    #[arg(long)]
    plugin: Option<String>,
    /// Only this hook's, such as `enrollment-gate`.
    #[arg(long)]
    hook: Option<String>,
    /// Only those with this verdict, such as `deny` or `fault`.
    #[arg(long)]
    verdict: Option<String>,
    /// Only those about this device: its serial number, UDID or enrollment identifier.
    #[arg(long)]
    device: Option<String>,
    /// Only those from this time on, such as `2026-12-01T08:00:00Z`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Which {
    fn add_to(&self, url: &mut Url) {
        for (name, value) in [
            ("plugin", &self.plugin),
            ("hook", &self.hook),
            ("verdict", &self.verdict),
            ("device", &self.device),
            ("since", &self.since),
        ] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
    }
}

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the records are not as they were written: {0}")]
#[diagnostic(
    code("chain-broken"),
    help("compare with a backup of the database; what is before that record is in order")
)]
struct Broken(String);

pub(super) async fn run(
    command: DecisionCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        DecisionCommand::List { which, limit } => {
            let mut url = client.of_tenant(&["decisions"]);
            which.add_to(&mut url);
            let answer = client.list(url, limit).await?;
            let columns = ["id", "created_at", "hook", "plugin", "subject", "verdict", "reason"];
            let rows = output::rows(items(&answer), &columns);
            output.answer(&answer, |output| {
                let heading = ["id", "time", "hook", "plugin", "subject", "verdict", "reason"];
                output.table(&heading, &rows, "no decisions")?;
                more(&answer, output)
            })
        }
        DecisionCommand::Show { id } => {
            let answer = client.get(client.of_tenant(&["decisions", &id.to_string()])).await?;
            output.answer(&answer, |output| output.facts(&output::facts(&answer)))
        }
        DecisionCommand::Export {
            which,
            with_call,
            output: file,
        } => {
            let mut url = client.of_tenant(&["decisions", "export"]);
            which.add_to(&mut url);
            if with_call {
                url.query_pairs_mut().append_pair("with_call", "true");
            }
            export(&client, url, file, output).await
        }
        DecisionCommand::Verify { head } => {
            let mut url = client.of_tenant(&["decisions", "verify"]);
            if let Some(head) = head {
                url.query_pairs_mut().append_pair("head", &head);
            }
            let answer = client.get(url).await?;
            output.answer(&answer, |output| verified(&answer, output))?;
            match broken(&answer) {
                None => Ok(()),
                Some(broken) => Err(broken.into()),
            }
        }
    }
}

fn verified(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let text = |path: &str| output::cell(output::field(answer, path));
    if broken(answer).is_none() {
        output.line(format!("{} decisions are as they were written", text("verified")))?;
    }
    if text("waiting") != "0" {
        output.line(format!("{} are not in the chain yet", text("waiting")))?;
    }
    if text("anchor.seq") != "0" {
        output.line(format!("the first {} are gone with their time", text("anchor.seq")))?;
    }
    output.line(format!("head {}:{}", text("head.seq"), text("head.hash")))?;
    output.line("note the head elsewhere, and give it with --head the next time")
}

fn broken(answer: &Value) -> Option<Broken> {
    let broken = answer.get("broken").filter(|broken| !broken.is_null())?;
    let text = |path: &str| output::cell(output::field(broken, path));
    Some(Broken(match text("what").as_str() {
        "changed" => format!(
            "decision {} of {}, number {} in the chain, was changed",
            text("id"),
            text("created_at"),
            text("seq")
        ),
        "missing" => format!("number {} in the chain is missing", text("seq")),
        "head-gone" => format!(
            "number {} is older than the records that are kept: give a newer head",
            text("seq")
        ),
        _ => format!("the head at number {} is not in the chain", text("seq")),
    }))
}

/// A page at a time, so that an export of any size needs little memory.
async fn export(client: &Client, mut url: Url, file: Option<PathBuf>, output: &mut Output<'_>) -> miette::Result<()> {
    let query: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let mut file = match file {
        None => None,
        Some(path) => {
            let made = private(&path).into_diagnostic();
            let made = made.wrap_err_with(|| format!("{} can not be written", path.display()))?;
            Some((BufWriter::new(made), path))
        }
    };
    let (mut decisions, mut next) = (0_usize, Value::Null);
    loop {
        url.query_pairs_mut()
            .clear()
            .extend_pairs(&query)
            .append_pair("limit", "100");
        if let Some(cursor) = next.as_str() {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let answer = client.get(url.clone()).await?;
        for item in items(&answer) {
            match &mut file {
                None => output.raw_line(&item.to_string())?,
                Some((file, _)) => writeln!(file, "{item}").map_err(output::failed)?,
            }
            decisions += 1;
        }
        next = answer.get("next").cloned().unwrap_or_default();
        if next.is_null() {
            break;
        }
    }
    if let Some((mut file, path)) = file {
        file.flush().map_err(output::failed)?;
        output.line(format!("wrote {decisions} decisions to {}", path.display()))?;
    }
    Ok(())
}

/// A new file that nobody else reads; one that is there stays as it is.
fn private(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}
