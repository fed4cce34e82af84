//! `russet plugin shadow`, `canary`, `promote` and `rollback`: how a revision takes another one's place.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use russet_plugin_host::Gates;
use serde_json::{Value, json};

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::file;
use super::super::output::{self, Output, cell, field};
use super::super::progress::Progress;
use super::changes;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ShadowCommand {
    /// Ask a kept revision what the active one is asked; its answers go nowhere.
    Start(StartArgs),
    /// Compare it no longer; or watch a promoted revision no longer.
    Stop(NamedArgs),
    /// Show what it would change, and which gates it does not keep.
    Report(NamedArgs),
}

/// What a candidate has to keep to.
#[derive(Debug, Default, Args)]
pub(super) struct GateArgs {
    /// A file with the gates, JSON or (by the ending `.toml`) TOML; what is left out is as by default.
    #[arg(long, value_name = "FILE")]
    gates: Option<PathBuf>,
    /// How many calls have to be compared before it can be promoted.
    #[arg(long, value_name = "CALLS")]
    min_samples: Option<u64>,
    /// The share of calls that it may refuse where the active revision does not, such as 5%.
    #[arg(long, value_name = "SHARE")]
    max_new_denies: Option<Share>,
    /// The share of calls that it may let through where the active revision does not, such as 0.5%.
    #[arg(long, value_name = "SHARE")]
    max_new_allows: Option<Share>,
    /// The share of its calls that may fail by its own fault, or where the active revision does not fail.
    #[arg(long, value_name = "SHARE")]
    max_faults: Option<Share>,
    /// Promote it by itself once it keeps to its gates.
    #[arg(long)]
    auto: bool,
}

impl GateArgs {
    /// The gates to send; `None` keeps those that it has.
    pub(super) fn compose(&self) -> miette::Result<Option<Gates>> {
        let given = [self.max_new_denies, self.max_new_allows, self.max_faults];
        if self.gates.is_none() && self.min_samples.is_none() && given.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut gates = match &self.gates {
            Some(path) => serde_json::from_value(file::read_json_or_toml(path)?)
                .map_err(|error| miette::miette!("the gates in {} can not be read: {error}", path.display()))?,
            None => Gates::default(),
        };
        let set = |gate: &mut u32, share: Option<Share>| {
            if let Some(share) = share {
                *gate = u32::from(share.0);
            }
        };
        set(&mut gates.max_new_denies_permille, self.max_new_denies);
        set(&mut gates.max_new_allows_permille, self.max_new_allows);
        set(&mut gates.max_faults_permille, self.max_faults);
        gates.min_samples = self.min_samples.unwrap_or(gates.min_samples);
        Ok(Some(gates))
    }

    pub(super) fn automatic(&self) -> bool {
        self.auto
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StartArgs {
    /// The plugin.
    name: String,
    /// Which of its revisions: the beginning of the digest, or the number [default: the one that is kept].
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Even if it is in quarantine.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CanaryArgs {
    /// The share of the enrollments that the candidate answers, such as 5% or 0.5%.
    share: Share,
    #[command(flatten)]
    start: StartArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamedArgs {
    /// The plugin.
    pub(super) name: String,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PromoteArgs {
    /// The plugin.
    name: String,
    /// Which of its revisions: the beginning of the digest, or the number [default: the candidate].
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Even if it does not keep to its gates, or is in quarantine.
    #[arg(long)]
    force: bool,
    /// How long the revision before watches it, and takes its place back if it does worse: such as 30m; 0s for not at all
    /// [default: 1h].
    #[arg(long, value_name = "TIME")]
    watch: Option<SignedDuration>,
    /// Why, for the history.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArgs {
    /// The plugin.
    name: String,
    /// Why, for the history.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// A share, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share(pub(super) u16);

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write it in percent, such as 5% or 0.5%";
        let number = text.strip_suffix('%').ok_or(WRONG)?;
        let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(tenths) || tenths.len() > 1 {
            return Err(WRONG);
        }
        let parse = |text: &str| text.parse::<u16>().map_err(|_| WRONG);
        let permille = parse(whole)?.saturating_mul(10).saturating_add(parse(tenths)?);
        if permille > 1_000 {
            return Err("a share is 100% at most");
        }
        Ok(Self(permille))
    }
}

pub(super) fn shadow(command: &ShadowCommand, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    match command {
        ShadowCommand::Start(args) => start(args, Share(0), context, stdout),
        ShadowCommand::Stop(args) => context::block_on(async {
            let client = Client::new(&args.client, context)?;
            let answer = client
                .delete(client.of_tenant(&["plugins", &args.name, "rollout"]))
                .await?;
            show(&answer, &mut Output::new(stdout, args.client.json))
        }),
        ShadowCommand::Report(args) => context::block_on(async {
            let client = Client::new(&args.client, context)?;
            let answer = client
                .get(client.of_tenant(&["plugins", &args.name, "rollout"]))
                .await?;
            show(&answer, &mut Output::new(stdout, args.client.json))
        }),
    }
}

pub(super) fn canary(args: &CanaryArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    start(&args.start, args.share, context, stdout)
}

fn start(args: &StartArgs, share: Share, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut body = json!({
        "permille": share.0,
        "automatic": args.gates.automatic(),
        "force": args.force,
    });
    if let Some(revision) = &args.revision {
        body["revision"] = json!(revision);
    }
    if let Some(gates) = args.gates.compose()? {
        body["gates"] = json!(gates);
    }
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let url = client.of_tenant(&["plugins", &args.name, "rollout"]);
        let progress = Progress::start(format!("the server loads the other revision of {}", args.name));
        let answer = client.put(url, &body).await?;
        progress.done("they are compared");
        show(&answer, &mut Output::new(stdout, args.client.json))
    })
}

pub(super) fn promote(args: &PromoteArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut body = json!({ "force": args.force });
    if let Some(revision) = &args.revision {
        body["revision"] = json!(revision);
    }
    if let Some(watch) = args.watch {
        let seconds =
            u64::try_from(watch.as_secs()).map_err(|_| miette::miette!("--watch is a time of no less than 0"))?;
        body["watch_seconds"] = json!(seconds);
    }
    if let Some(reason) = &args.reason {
        body["reason"] = json!(reason);
    }
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let progress = Progress::start(format!("the server puts the other revision of {} into use", args.name));
        let answer = client
            .post(client.of_tenant(&["plugins", &args.name, "promote"]), &body)
            .await?;
        progress.done("the server uses it");
        Output::new(stdout, args.client.json).answer(&answer, |output| {
            output.line(active(&answer))?;
            for failure in field(&answer, "overruled").as_array().into_iter().flatten() {
                output.line(format!("overruled: {}", cell(field(failure, "detail"))))?;
            }
            match field(&answer, "watch_until") {
                Value::Null => Ok(()),
                until => output.line(format!(
                    "the revision before watches it until {}, and takes its place back if it does worse",
                    cell(until)
                )),
            }
        })
    })
}

pub(super) fn rollback(args: &RollbackArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    let mut body = json!({});
    if let Some(reason) = &args.reason {
        body["reason"] = json!(reason);
    }
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let url = client.of_tenant(&["plugins", &args.name, "rollback"]);
        let answer = client.post(url, &body).await?;
        Output::new(stdout, args.client.json).answer(&answer, |output| output.line(active(&answer)))
    })
}

fn active(answer: &Value) -> String {
    format!(
        "{} {} runs as revision {} since generation {}",
        cell(field(answer, "plugin")),
        cell(field(answer, "active.version")),
        cell(field(answer, "active.revision")),
        cell(field(answer, "generation"))
    )
}

/// A comparison, for people.
fn show(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    output.answer(answer, |output| {
        let version = |of: &str| cell(field(answer, &format!("{of}.version")));
        let plugin = cell(field(answer, "plugin"));
        let share = field(answer, "permille").as_u64().unwrap_or_default();
        output.line(match field(answer, "phase").as_str() {
            Some("canary") => format!(
                "{plugin} {} answers {}.{}% of the enrollments in place of {}",
                version("other"),
                share / 10,
                share % 10,
                version("active")
            ),
            Some("watch") => format!(
                "{plugin} {} is watched by {} until {}",
                version("active"),
                version("other"),
                cell(field(answer, "watch_until"))
            ),
            _ => format!("{plugin} {} is compared with {}", version("other"), version("active")),
        })?;
        if let Some(outcome) = field(answer, "outcome").as_str() {
            output.line(format!("it ended: {outcome}"))?;
        }
        changes::show(field(answer, "changes"), output)?;
        output.line(cell(field(answer, "summary")))?;
        let rows = output::rows(
            field(answer, "comparison.differences")
                .as_array()
                .map_or(&[][..], Vec::as_slice),
            &["active", "candidate", "calls"],
        );
        if !rows.is_empty() {
            output.table(&["active", "candidate", "calls"], &rows, "")?;
        }
        for (name, title) in [
            ("not_comparable", "not comparable"),
            ("shed", "not compared, devices came first"),
        ] {
            let calls = field(answer, &format!("comparison.{name}"));
            if calls.as_u64().is_some_and(|calls| calls > 0) {
                output.line(format!("{title}: {}", cell(calls)))?;
            }
        }
        let samples = field(answer, "samples").as_array().map_or(&[][..], Vec::as_slice);
        let shown = &samples[..samples.len().min(10)];
        if !shown.is_empty() {
            let columns = ["subject", "active", "candidate", "reason"];
            output.table(&columns, &output::rows(shown, &columns), "")?;
        }
        for failure in field(answer, "failures").as_array().into_iter().flatten() {
            let (gate, detail) = (cell(field(failure, "gate")), cell(field(failure, "detail")));
            output.line(format!("gate {gate}: {detail}"))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_share_is_written_in_percent() {
        let shares = ["0%", "0.5%", "5%", "12.5%", "100%"].map(|text| text.parse::<Share>().unwrap().0);
        assert_eq!(shares, [0, 5, 50, 125, 1_000]);
        for text in ["5", "%", "5.%", "-5%", "0.25%", "101%", "99999%", "1e1%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn gates_are_kept_unless_some_are_given() {
        assert_eq!(GateArgs::default().compose().unwrap(), None);
        let given = GateArgs {
            max_new_denies: Some(Share(50)),
            ..GateArgs::default()
        };
        assert_eq!(
            given.compose().unwrap(),
            Some(Gates {
                max_new_denies_permille: 50,
                ..Gates::default()
            })
        );
    }

    #[test]
    fn a_report_says_what_would_be_refused() {
        let answer = json!({
            "plugin": "gate", "phase": "shadow", "permille": 0, "outcome": null,
            "active": {"version": "1.0.0"}, "other": {"version": "1.1.0"},
            "summary": "412 of 9870 would be refused",
            "comparison": {
                "differences": [{"active": "allow", "candidate": "deny", "calls": 412}],
                "not_comparable": 0, "shed": 7,
            },
            "samples": [{"subject": "C02A", "active": "allow", "candidate": "deny", "reason": "not-listed"}],
            "failures": [{"gate": "max_new_denies_permille", "detail": "412 of 9870 calls"}],
        });
        let mut text = Vec::new();
        show(&answer, &mut Output::new(&mut text, false)).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "gate 1.1.0 is compared with 1.0.0",
            "412 of 9870 would be refused",
            "not compared, devices came first: 7",
            "gate max_new_denies_permille: 412 of 9870 calls",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("C02A") && text.contains("not-listed"), "{text}");
    }
}
