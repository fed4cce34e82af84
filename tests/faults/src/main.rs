//! `russet-faults` runs the scenarios in full and prints what came of each.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use russet_faults::scenarios::{ALL, Scenario, named};
use russet_faults::site::{Extent, Outcome};

/// Lets things fail around a server under load, and looks for what it lost.
#[derive(Debug, Parser)]
#[command(name = "russet-faults")]
struct Arguments {
    /// Makes the choices of an earlier run again. Left out, the time makes it; it is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How often the faults of each scenario happen. Left out, as often as the list says.
    #[arg(long)]
    runs: Option<u64>,
    /// As few faults as the tests have.
    #[arg(long)]
    short: bool,
    /// These scenarios alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Prints the scenarios and ends.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    if arguments.list {
        for scenario in ALL {
            writeln!(out, "{:<16} {:>4}  {}", scenario.name, scenario.many, scenario.what)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut chosen = Vec::new();
    for name in &arguments.only {
        let Some(scenario) = named(name) else {
            writeln!(out, "there is no scenario {name}; see --list")?;
            return Ok(ExitCode::FAILURE);
        };
        chosen.push(scenario);
    }
    if chosen.is_empty() {
        chosen.extend(ALL);
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(since_epoch.as_secs());
    writeln!(out, "seed {seed}")?;
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for scenario in chosen {
        let few = if arguments.short { scenario.few } else { scenario.many };
        let runs = arguments.runs.unwrap_or(few);
        writeln!(out, "{}: {} ({runs} times)", scenario.name, scenario.what)?;
        let started = Instant::now();
        // A scenario that panics says why on the standard error output, and the others go on.
        let ended = tokio::spawn(scenario.run(Extent { seed, runs })).await;
        let took = started.elapsed().as_secs();
        if ended.is_err() {
            failed.push(scenario.name);
        }
        let ended = ended.ok();
        rows.push(row(scenario, ended.as_ref(), took));
        let table = ended.map(|ended| ended.table).unwrap_or_default();
        writeln!(out, "{}", rows.last().map_or("", String::as_str))?;
        for line in table {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out, "\n{HEAD}")?;
    for row in rows {
        writeln!(out, "{row}")?;
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let only = failed.join(",");
    writeln!(
        out,
        "\nfailed: {only}; again: russet-faults --seed {seed} --only {only}"
    )?;
    Ok(ExitCode::FAILURE)
}

const HEAD: &str = "scenario           faults  commands   answers  compared  seconds  result";

fn row(scenario: &Scenario, outcome: Option<&Outcome>, took: u64) -> String {
    let name = scenario.name;
    match outcome {
        None => format!("{name:<18} {:>6} {:>9} {:>9} {:>9} {took:>8}  FAILED", "", "", "", ""),
        Some(Outcome {
            left_out: Some(why), ..
        }) => format!(
            "{name:<18} {:>6} {:>9} {:>9} {:>9} {took:>8}  LEFT OUT: {why}",
            "", "", "", ""
        ),
        Some(outcome) => format!(
            "{name:<18} {:>6} {:>9} {:>9} {:>9} {took:>8}  nothing lost {}",
            outcome.faults,
            outcome.accepted,
            outcome.answered,
            outcome.compared,
            outcome.notes.join("; ")
        ),
    }
}
