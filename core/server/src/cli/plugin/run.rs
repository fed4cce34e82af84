//! `russet plugin run`: one call of a component in the real host, with scripted capabilities. Needs no server.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_plugin_test::replay::Recorded;
use russet_plugin_test::{Called, DecisionRecord, PluginFault, Question};
use serde_json::{Value, json};

use super::scripted::{HostArgs, InputArgs, NotRun, readable};
use crate::cli::context;
use crate::cli::file::FileError;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The component, as `russet plugin build` made it.
    #[arg(required_unless_present = "sample")]
    file: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print a whole input of the hook, to begin with, and run nothing.
    #[arg(long, requires = "hook")]
    sample: bool,
    /// Append the decision to this file, which `replay` and `diff` read.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A call that failed. What was found out about it was printed.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the call failed: {0}")]
#[diagnostic(
    code("call-failed"),
    help("what a server does with such a failure depends on the hook: core/docs/failures.md has the table")
)]
struct CallFailed(PluginFault);

#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("a sign-in, which has a password, and a call that reads an escrowed secret are not recorded")]
#[diagnostic(help("leave --record out, or ask the directory to `find` the person"))]
struct NotRecorded;

pub(super) fn run(args: &RunArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut output = Output::new(stdout, args.json);
    if let (true, Some(hook)) = (args.sample, args.input.hook) {
        let sample = Question::sample(hook.kind());
        return output.answer(&sample, |output| output.line(format!("{sample:#}")));
    }
    // Clap asks for the file unless there is `--sample`, which has returned.
    let path = args.file.clone().unwrap_or_default();
    let plugin = args.host.plugin(&path)?;
    let question = args.input.question(&plugin)?;
    let called = context::block_on(async {
        let running = plugin.start().await.map_err(NotRun)?;
        Ok(running.ask(question).await.map_err(NotRun)?)
    })?;
    report(&called, &mut output)?;
    if let Some(path) = &args.record {
        record(path, &called.record)?;
    }
    match called.verdict {
        Ok(_) => Ok(()),
        Err(fault) => Err(CallFailed(fault).into()),
    }
}

/// Appends a decision to a file.
fn record(path: &Path, decision: &DecisionRecord) -> miette::Result<()> {
    let line = Recorded::line(decision).ok_or(NotRecorded)?;
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"));
    Ok(appended.map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })?)
}

fn report(called: &Called<Value>, output: &mut Output<'_>) -> miette::Result<()> {
    let usage = called.usage();
    let answer = json!({
        "hook": called.record.hook,
        "verdict": called.name(),
        "reason": called.reason(),
        "answer": called.shown,
        "fault": called.record.fault.as_ref().map(|fault| json!({"kind": fault.kind, "detail": fault.detail})),
        "effects": called.effects(),
        "log": called.log,
        "usage": usage,
        "duration_us": u64::try_from(called.duration().as_micros()).unwrap_or(u64::MAX),
    });
    output.answer(&answer, |output| {
        let mut facts = vec![("verdict".to_owned(), called.name().to_owned())];
        if let Some(reason) = called.reason() {
            facts.push(("reason".to_owned(), reason.to_owned()));
        }
        if called.verdict.is_ok() {
            facts.push(("answer".to_owned(), readable(&called.shown)));
        }
        for effect in called.effects() {
            let effect = serde_json::to_value(effect).unwrap_or_default();
            facts.push(("effect".to_owned(), readable(&effect)));
        }
        for line in &called.log {
            facts.push(("log".to_owned(), format!("{}: {}", line.level, line.message)));
        }
        facts.push((
            "used".to_owned(),
            format!(
                "{} µs, {} KiB of memory, {} calls of the host",
                called.duration().as_micros(),
                usage.memory_bytes.div_ceil(1024),
                usage.host_calls
            ),
        ));
        output.facts(&facts)
    })
}
