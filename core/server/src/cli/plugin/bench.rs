//! `russet plugin bench`: how fast one component answers one question, in the real host.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use miette::Diagnostic;
use russet_hooks::{Answers, Scope};
use russet_plugin_test::{HookInput, PluginFault, Running};
use serde_json::json;

use super::scripted::{HostArgs, InputArgs, NotRun};
use crate::cli::context;
use crate::cli::output::Output;
use crate::cli::progress::{self, Progress};

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchArgs {
    /// The component, as `russet plugin build` made it.
    file: PathBuf,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    host: HostArgs,
    /// How long to measure, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// There is nothing to measure.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the call failed, so there is nothing to measure: {0}")]
#[diagnostic(code("call-failed"), help("`russet plugin run` shows more about it"))]
struct CallFailed(PluginFault);

/// What was measured.
#[derive(Debug)]
struct Figures {
    calls: usize,
    elapsed: Duration,
    /// Sorted.
    durations: Vec<Duration>,
    memory_bytes: u64,
}

impl Figures {
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.durations.len().saturating_sub(1) * percent) / 100;
        let duration = self.durations.get(index).copied().unwrap_or_default();
        duration.as_secs_f64() * 1e6
    }

    fn per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

pub(super) fn run(args: &BenchArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let plugin = args.host.plugin(&args.file)?;
    let question = args.input.question(&plugin)?;
    let compiling = Instant::now();
    let (compiled, figures, verdict) = context::block_on(async {
        let running = plugin.start().await.map_err(NotRun)?;
        let compiled = compiling.elapsed();
        // The first call, looked at: a fault would be measured as if it were an answer.
        let first = running.ask(question.clone()).await.map_err(NotRun)?;
        if let Err(fault) = first.verdict {
            return Err(CallFailed(fault).into());
        }
        let shown = Progress::start(format!("measuring for {} s", args.seconds));
        let input = HookInput::from(question);
        let figures = measure(&running, &input, Duration::from_secs(args.seconds)).await;
        shown.done("measured");
        Ok((compiled, figures, first.record.verdict))
    })?;
    if cfg!(debug_assertions) {
        progress::line("warning: this russet is a debug build; a release build is several times faster");
    }
    let answer = json!({
        "verdict": verdict,
        "calls": figures.calls,
        "calls_per_second": figures.per_second(),
        "p50_us": figures.percentile(50),
        "p99_us": figures.percentile(99),
        "memory_bytes": figures.memory_bytes,
        "start_ms": compiled.as_secs_f64() * 1e3,
        "debug_build": cfg!(debug_assertions),
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.facts(&[
            ("verdict".to_owned(), verdict.clone()),
            ("calls".to_owned(), figures.calls.to_string()),
            ("calls per second".to_owned(), format!("{:.0}", figures.per_second())),
            ("p50".to_owned(), format!("{:.1} µs", figures.percentile(50))),
            ("p99".to_owned(), format!("{:.1} µs", figures.percentile(99))),
            (
                "memory of a call".to_owned(),
                format!("{} KiB", figures.memory_bytes.div_ceil(1024)),
            ),
            (
                "compile and start".to_owned(),
                format!("{:.0} ms", compiled.as_secs_f64() * 1e3),
            ),
        ])
    })
}

/// Calls one after the other, as long as there is time.
async fn measure(running: &Running, input: &HookInput, time: Duration) -> Figures {
    let plugin = running.loaded();
    let tenant: Arc<str> = "bench".into();
    let wall = Duration::from_millis(plugin.limits().wall_ms);
    let mut durations = Vec::new();
    let mut memory_bytes = 0;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let scope = Scope::new(Arc::clone(&tenant), "bench", wall);
        if let Some(record) = plugin.answer(scope, input.clone(), Answers::Live).await {
            durations.push(record.duration);
            memory_bytes = memory_bytes.max(record.usage.memory_bytes);
        }
    }
    let elapsed = begun.elapsed();
    durations.sort_unstable();
    Figures {
        calls: durations.len(),
        elapsed,
        durations,
        memory_bytes,
    }
}
