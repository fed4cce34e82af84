//! `russet-bench` prints how fast Russet is on this machine: what was measured, in which unit, how often, and how.
//!
//! No figure is asserted anywhere: a machine that is slow today fails nothing. A request that is answered wrongly does,
//! because a figure for wrong answers means nothing.
//!
//! What it deliberately does not know: how the server works. It calls hooks as the engine does, and everything else it
//! sees from outside, over TLS and from `/proc`.

mod compile;
mod cpu;
mod fleet;
mod hooks;
mod load;
mod machine;
mod many;
mod million;
mod neighbours;
mod page;
mod plugins;
mod process;
mod push;
mod report;
mod scale;
mod serving;
mod shadow;
mod start;
mod stats;
mod storm;
mod swap;
mod tenfold;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::report::{Report, Section};
use crate::scale::Scale;

/// Any failure: a bench stops at the first one and says what it was.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints how fast Russet is on this machine.
#[derive(Debug, Parser)]
#[command(name = "russet-bench")]
struct Arguments {
    /// Small sizes: seconds instead of minutes, and figures that are good for nothing but to see that all of it runs.
    #[arg(long)]
    quick: bool,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Puts the table into tests/bench/README.md.
    #[arg(long)]
    write: bool,
    /// Measures these alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
}

/// What is measured, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Calls of a plugin, of the same policy in Rust, and of getters.
    Hooks,
    /// Replacing a plugin, quietly and under load.
    Swap,
    /// What a shadow costs the calls and the requests beside it.
    Shadow,
    /// Loading a plugin, compiled afresh and from the cache.
    Compile,
    /// Many different plugins in one process.
    Many,
    /// Pushes to a stand-in of APNs.
    Push,
    /// Start-up time and memory of the server.
    Start,
    /// Enrollments, polls, commands and swaps over TLS on SQLite.
    Sqlite,
    /// The same on PostgreSQL.
    Postgres,
    /// A thousand devices and a million on SQLite: polls, memory, one command for many.
    ManySqlite,
    /// The same on PostgreSQL.
    ManyPostgres,
    /// What one of everything costs in statements, pages and bytes, and tenants over several databases: the figures of
    /// core/docs/scale.md. Only if it is named.
    Tenfold,
}

impl Subject {
    /// All but the counts of another page, which say nothing of speed.
    fn of_a_whole_run() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|&subject| subject != Self::Tenfold).collect()
    }

    async fn measure(self, scale: Scale) -> Result<Section, Failure> {
        match self {
            Self::Hooks => hooks::section(scale).await,
            Self::Swap => swap::section(scale).await,
            Self::Shadow => shadow::section(scale).await,
            Self::Compile => compile::section(scale).await,
            Self::Many => many::section(scale).await,
            Self::Push => push::section(scale).await,
            Self::Start => start::section(scale).await,
            Self::Sqlite => serving::sqlite(scale).await,
            Self::Postgres => serving::postgres(scale).await,
            Self::ManySqlite => million::sqlite(scale).await,
            Self::ManyPostgres => million::postgres(scale).await,
            Self::Tenfold => tenfold::section(scale).await,
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = format!("russet-bench: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                line.push_str(&format!(": {error}"));
                cause = error.source();
            }
            say(&line);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let scale = Scale::new(arguments.quick);
    let subjects = match arguments.only.as_slice() {
        [] => Subject::of_a_whole_run(),
        chosen => chosen.to_vec(),
    };
    if arguments.write && (arguments.quick || !arguments.only.is_empty()) {
        return Err("--write is for a whole run: leave --quick and --only out".into());
    }
    let mut report = Report::new(machine::describe()?);
    for subject in subjects {
        say(&format!("measuring: {subject:?}").to_lowercase());
        // On a task, so that it shares the two threads instead of having one of its own.
        report.add(tokio::spawn(subject.measure(scale)).await??);
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{}", report.to_markdown())?;
    }
    if arguments.write {
        let path = page::write(&report.to_markdown())?;
        say(&format!("written to {}", path.display()));
    }
    Ok(())
}

/// Progress and failures go to the standard error output: the standard output is the figures alone.
#[expect(
    clippy::print_stderr,
    reason = "the bench's own progress, for the person who waits for it"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
