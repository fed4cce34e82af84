//! `russet plugin replay` and `russet plugin diff`: recorded decisions, asked again without a server. What the host
//! answered then it answers again, so that only the plugin can make a difference.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_plugin_test::replay::{Recorded, RecordingError, Replayed};
use russet_plugin_test::{CallError, Plugin, Running};
use serde::Serialize;
use serde_json::json;

use super::scripted::{HostArgs, NotRun};
use crate::cli::context;
use crate::cli::file::FileError;
use crate::cli::output::Output;
use crate::cli::progress::{self, Progress};

/// The most differences that are listed.
const MOST_LISTED: usize = 20;
/// The most subjects that stand for a kind of difference.
const SAMPLES: usize = 3;

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    /// The component, as `russet plugin build` made it.
    file: PathBuf,
    /// The decisions, as `russet decision export` wrote them: one JSON object on each line.
    decisions: PathBuf,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum ReplayError {
    #[error("{}: {source}", path.display())]
    #[diagnostic(code("file"), help("`russet decision export` writes such a file"))]
    Recording { path: PathBuf, source: RecordingError },
    #[error("{} holds no decision that this plugin could be asked again", .0.display())]
    #[diagnostic(help(
        "decisions are asked again by the plugin of the same name, as long as their questions are kept \
         (`plugins.recorded_input_hours` in the server's configuration)"
    ))]
    Nothing(PathBuf),
    #[error("{differing} of {asked} decisions are not as they were")]
    #[diagnostic(
        code("differs"),
        help(
            "the same revision has to decide the same: is it the same component, with the same settings? A plugin that \
         keeps to its input and to what the host answers can be replayed"
        )
    )]
    Differs { differing: usize, asked: usize },
}

/// A decision that another revision would make otherwise.
#[derive(Debug, Serialize)]
struct Difference {
    hook: String,
    subject: String,
    from: String,
    to: String,
    reason: Option<String>,
    /// The recorded verdict, as canonical JSON.
    before: Option<String>,
    /// The new one.
    now: String,
}

/// What came of all of them.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    not_kept: usize,
    others: usize,
    other_revisions: usize,
    differences: Vec<Difference>,
}

/// The same revision: its verdicts have to be the same, byte for byte.
pub(super) fn replay(args: &ReplayArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let tally = tally(args, true)?;
    let differing = tally.differences.len();
    if tally.other_revisions > 0 {
        progress::line(&format!(
            "warning: {} of the decisions were made by another revision (component, settings or grants)",
            tally.other_revisions
        ));
    }
    let answer = json!({
        "asked": tally.asked,
        "same": tally.asked - differing,
        "not_kept": tally.not_kept,
        "of_other_plugins": tally.others,
        "of_other_revisions": tally.other_revisions,
        "differences": tally.differences,
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.line(format!(
            "{} of {} decisions are the same, byte for byte{}",
            count(tally.asked - differing),
            count(tally.asked),
            left_out(&tally)
        ))?;
        if differing == 0 {
            return Ok(());
        }
        let rows: Vec<Vec<String>> = tally
            .differences
            .iter()
            .take(MOST_LISTED)
            .map(|d| vec![d.subject.clone(), d.before.clone().unwrap_or_default(), d.now.clone()])
            .collect();
        output.table(&["subject", "then", "now"], &rows, "")?;
        if differing > rows.len() {
            output.line(format!("and {} more; --json lists all", count(differing - rows.len())))?;
        }
        Ok(())
    })?;
    match differing {
        0 => Ok(()),
        _ => Err(ReplayError::Differs {
            differing,
            asked: tally.asked,
        }
        .into()),
    }
}

/// Another revision: what it would change.
pub(super) fn diff(args: &ReplayArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let tally = tally(args, false)?;
    let mut kinds: BTreeMap<(&str, &str, &str), Vec<&Difference>> = BTreeMap::new();
    for difference in &tally.differences {
        kinds
            .entry((&difference.hook, &difference.from, &difference.to))
            .or_default()
            .push(difference);
    }
    let refused = tally
        .differences
        .iter()
        .filter(|d| refuses(&d.to) && !refuses(&d.from))
        .count();
    let allowed = tally
        .differences
        .iter()
        .filter(|d| !refuses(&d.to) && refuses(&d.from))
        .count();
    let samples = |differences: &[&Difference]| -> Vec<String> {
        differences.iter().take(SAMPLES).map(|d| d.subject.clone()).collect()
    };
    let answer = json!({
        "asked": tally.asked,
        "different": tally.differences.len(),
        "newly_refused": refused,
        "no_longer_refused": allowed,
        "not_kept": tally.not_kept,
        "of_other_plugins": tally.others,
        "changes": kinds.iter().map(|((hook, from, to), differences)| json!({
            "hook": hook, "from": from, "to": to, "count": differences.len(), "samples": samples(differences),
        })).collect::<Vec<_>>(),
        "differences": tally.differences,
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        let asked = count(tally.asked);
        output.line(format!("{} of {asked} would be refused", count(refused)))?;
        if allowed > 0 {
            output.line(format!("{} of {asked} would no longer be refused", count(allowed)))?;
        }
        output.line(format!(
            "{} of {asked} would be decided differently{}",
            count(tally.differences.len()),
            left_out(&tally)
        ))?;
        if kinds.is_empty() {
            return Ok(());
        }
        output.line("")?;
        let rows: Vec<Vec<String>> = kinds
            .iter()
            .map(|((hook, from, to), differences)| {
                let reasons = differences.iter().find_map(|d| d.reason.clone()).unwrap_or_default();
                vec![
                    (*hook).to_owned(),
                    (*from).to_owned(),
                    (*to).to_owned(),
                    count(differences.len()),
                    reasons,
                    samples(differences).join(", "),
                ]
            })
            .collect();
        output.table(&["hook", "from", "to", "decisions", "reason", "such as"], &rows, "")
    })
}

/// Whether a verdict keeps from happening what was asked for.
fn refuses(verdict: &str) -> bool {
    !matches!(
        verdict,
        "allow" | "allow-as" | "person" | "rendered" | "planned" | "observed" | "ran" | "replace"
    )
}

fn left_out(tally: &Tally) -> String {
    let mut parts = Vec::new();
    if tally.not_kept > 0 {
        parts.push(format!("{} are not kept any more", count(tally.not_kept)));
    }
    if tally.others > 0 {
        parts.push(format!("{} are of other plugins", count(tally.others)));
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", parts.join("; ")),
    }
}

/// A number with its thousands apart.
fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn tally(args: &ReplayArgs, strict: bool) -> miette::Result<Tally> {
    let plugin = args.host.plugin(&args.file)?;
    let plugin = with_connections(plugin, args)?;
    context::block_on(async {
        let mut shown = Progress::start(format!("compiling {}", plugin.inspection().manifest.name));
        let running = plugin.start().await.map_err(NotRun)?;
        let tally = ask_all(args, &running, strict, &mut shown).await?;
        shown.done(&format!("asked {} decisions again", count(tally.asked)));
        if tally.asked == 0 {
            return Err(ReplayError::Nothing(args.decisions.clone()).into());
        }
        Ok(tally)
    })
}

async fn ask_all(args: &ReplayArgs, running: &Running, strict: bool, shown: &mut Progress) -> miette::Result<Tally> {
    let mut tally = Tally::default();
    for recorded in recordings(&args.decisions)? {
        let recorded = recorded?;
        if recorded.plugin.as_deref() != Some(running.loaded().name()) {
            tally.others += 1;
            continue;
        }
        let called = match running.replay(&recorded, strict).await.map_err(NotRun)? {
            Replayed::NotKept => {
                tally.not_kept += 1;
                continue;
            }
            Replayed::Same => None,
            Replayed::Differs(called) => Some(called),
        };
        tally.asked += 1;
        if recorded
            .revision
            .as_deref()
            .is_some_and(|revision| revision != running.loaded().revision())
        {
            tally.other_revisions += 1;
        }
        if tally.asked.is_multiple_of(1000) {
            shown.update(format!("{} decisions", count(tally.asked)));
        }
        if let Some(called) = called {
            tally.differences.push(Difference {
                hook: recorded.hook.to_string(),
                subject: recorded.subject,
                from: recorded.verdict,
                to: called.name().to_owned(),
                reason: called
                    .reason()
                    .map(str::to_owned)
                    .or_else(|| called.record.fault.as_ref().map(|fault| fault.kind.to_string())),
                before: recorded.verdict_json,
                now: called.record.verdict_json.clone(),
            });
        }
    }
    Ok(tally)
}

fn recordings(path: &Path) -> miette::Result<impl Iterator<Item = Result<Recorded, ReplayError>>> {
    let file = File::open(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let path = path.to_owned();
    Ok(Recorded::read(BufReader::new(file)).map(move |line| {
        line.map_err(|source| ReplayError::Recording {
            path: path.clone(),
            source,
        })
    }))
}

/// The plugin with the connections that it spoke over. They are there to be granted: what came over them is recorded.
fn with_connections(mut plugin: Plugin, args: &ReplayArgs) -> miette::Result<Plugin> {
    let not_here = || CallError::Unavailable("this was not recorded".to_owned());
    let mut script = args.host.script()?;
    let mut known = std::collections::BTreeSet::new();
    for recorded in recordings(&args.decisions)? {
        for (kind, name) in recorded?.connections() {
            if !known.insert((kind.clone(), name.clone())) {
                continue;
            }
            script = match kind.as_str() {
                "http" => script.http(name, move |_| Err(not_here())),
                "ldap" => script.ldap_search(name, move |_| Err(not_here())),
                _ => script,
            };
        }
    }
    plugin = plugin.script(script);
    Ok(plugin)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 412, 9_870, 1_234_567].map(count),
            ["0", "412", "9,870", "1,234,567"]
        );
    }
}
