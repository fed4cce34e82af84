//! How a failure is told on the standard error output: framed text for people, or, with `--json`, one line of JSON that is
//! the last of the output. Both say what to do. What the failure is, the errors themselves say: the code of a diagnostic
//! is its `kind` here, and not shown to people.

use std::ffi::OsStr;
use std::fmt;

use clap::ArgMatches;
use clap::error::ErrorKind;
use miette::{Diagnostic, MietteHandler, Report, ReportHandler, Severity};
use serde_json::{Value, json};

use super::error::ClientError;

/// The kind of an error that has no code.
const OTHER: &str = "failed";

/// Whether `--json` was given, to whichever verb.
pub(super) fn wants_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied();
    here.unwrap_or(false) || matches.subcommand().is_some_and(|(_, of_verb)| wants_json(of_verb))
}

/// A failure, ready to be written with a line break behind it.
pub(super) fn told(report: &Report, as_json: bool) -> String {
    if as_json {
        return as_line(&of_report(report));
    }
    format!("{:?}", ForPeople(report.as_ref()))
}

/// A command line that can not be understood, if the arguments ask for JSON and it is none that asks for help.
pub(super) fn usage(error: &clap::Error, mut arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> Option<String> {
    let asks_for_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if asks_for_help || !arguments.any(|argument| argument.as_ref() == "--json") {
        return None;
    }
    let text = error.render().to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = what.split_whitespace().collect();
    let message = words.join(" ");
    Some(as_line(&json!({
        "kind": "usage",
        "message": message.strip_prefix("error: ").unwrap_or(&message),
        "help": "`--help` behind the verb shows what it takes",
        "causes": [],
    })))
}

fn as_line(error: &Value) -> String {
    // A text in JSON has no line breaks of its own.
    json!({ "error": error }).to_string()
}

fn of_report(report: &Report) -> Value {
    let message = report.to_string();
    let mut causes: Vec<String> = Vec::new();
    for cause in report.chain().skip(1).map(ToString::to_string) {
        // Transparent errors repeat what they carry.
        if causes.last().unwrap_or(&message) != &cause {
            causes.push(cause);
        }
    }
    let mut error = json!({
        "kind": report.code().map_or_else(|| OTHER.to_owned(), |code| code.to_string()),
        "message": message,
        "help": report.help().map(|help| help.to_string()),
        "causes": causes,
    });
    if let Some(ClientError::Refused { said, .. }) = report.downcast_ref() {
        error["server"] = json!({"status": said.status, "code": said.code, "details": said.details});
    }
    error
}

/// A diagnostic as people see it.
struct ForPeople<'a>(&'a dyn Diagnostic);

impl fmt::Debug for ForPeople<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MietteHandler::default().debug(&WithoutCode(self.0), f)
    }
}

/// A diagnostic without its code, which is for programs.
#[derive(Debug)]
struct WithoutCode<'a>(&'a dyn Diagnostic);

impl fmt::Display for WithoutCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

impl std::error::Error for WithoutCode<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Diagnostic for WithoutCode<'_> {
    fn severity(&self) -> Option<Severity> {
        self.0.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Arg, ArgAction, Command};
    use miette::IntoDiagnostic;

    use super::*;
    use crate::cli::file::FileError;

    fn error_in(line: &str) -> Value {
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str::<Value>(line).unwrap()["error"].clone()
    }

    fn missing() -> FileError {
        FileError::Read {
            path: "gate.wasm".into(),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        }
    }

    #[test]
    fn json_says_what_it_is_and_what_to_do() {
        let error = error_in(&told(&missing().into(), true));
        assert_eq!(error["kind"], "file");
        assert_eq!(error["message"], "gate.wasm can not be read: entity not found");
        assert_eq!(error["help"], "check the path and the permissions");
        // Whatever has no code is still told.
        let other: miette::Result<()> = Err(std::io::Error::other("no\nroom")).into_diagnostic();
        let error = error_in(&told(&other.unwrap_err(), true));
        assert_eq!(
            (&error["kind"], &error["message"]),
            (&json!("failed"), &json!("no\nroom"))
        );
    }

    #[test]
    fn people_do_not_see_the_code() {
        let text = told(&missing().into(), false);
        assert!(text.contains("gate.wasm can not be read"), "{text}");
        assert!(text.contains("check the path"), "{text}");
        assert!(!text.lines().any(|line| line.trim() == "file"), "{text}");
    }

    #[test]
    fn the_flag_of_any_verb_counts() {
        let verb = || Command::new("verb").arg(Arg::new("json").long("json").action(ArgAction::SetTrue));
        let command = || {
            Command::new("program").subcommand(
                Command::new("noun")
                    .subcommand(verb())
                    .subcommand(Command::new("plain")),
            )
        };
        for (arguments, expected) in [
            (&["program", "noun", "verb", "--json"][..], true),
            (&["program", "noun", "verb"], false),
            (&["program", "noun", "plain"], false),
            (&["program"], false),
        ] {
            let matches = command().try_get_matches_from(arguments).unwrap();
            assert_eq!(wants_json(&matches), expected, "{arguments:?}");
        }
        let wrong = ["program", "noun", "verb", "--json", "--other"];
        let error = command().try_get_matches_from(wrong).unwrap_err();
        let told = error_in(&usage(&error, wrong.iter()).unwrap());
        assert_eq!(told["kind"], "usage");
        assert_eq!(told["message"], "unexpected argument '--other' found");
        assert_eq!(usage(&error, ["noun", "verb", "--other"].iter()), None);
        let help = command().try_get_matches_from(["program", "--help"]).unwrap_err();
        assert_eq!(usage(&help, ["--help", "--json"].iter()), None);
    }
}
