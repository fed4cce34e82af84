//! Test cases in a file: what `russet plugin test` runs, for plugins of any language.
//!
//! ```toml
//! [settings]                       # for all cases; a case may have its own
//! prefixes = ["C02"]
//!
//! [host]                           # what the host answers; see [`ScriptFile`](crate::ScriptFile)
//! clock = "2026-01-31T08:00:00Z"
//!
//! [[case]]
//! name = "any other device is refused"
//! hook = "enrollment-gate"         # may be left out if the plugin has one hook
//! input = { stage = "authenticate", device = { serial_number = "F4K9Z2" } }
//! expect = { verdict = "deny", reason = "serial-not-listed", effects = [], log = ["F4K9Z2"] }
//! ```
//!
//! What is expected is compared as far as it goes: keys of objects that are not named do not matter, lists have to be whole,
//! and each text of `log` has to be in some line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use russet_hooks::HookKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Called, Error, Plugin, Question, ScriptFile};

/// The file that `russet plugin test` looks for, below the folder of the plugin.
pub const FILE: &str = "tests/host.toml";

/// A file with cases.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// The settings of cases that have none of their own; the plugin's defaults if absent.
    pub settings: Option<Value>,
    /// What the host answers in all cases.
    #[serde(default)]
    pub host: ScriptFile,
    /// The cases.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows.
    pub name: String,
    /// The hook; may be absent if the plugin has one.
    pub hook: Option<HookKind>,
    /// The settings.
    pub settings: Option<Value>,
    /// What the host answers, beside what it answers in all cases.
    #[serde(default)]
    pub host: ScriptFile,
    /// The input; what is left out is that of a plain one.
    #[serde(default = "no_input")]
    pub input: Value,
    /// What is expected.
    pub expect: Expectation,
}

fn no_input() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What a case expects. What is absent does not matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expectation {
    /// The verdict's name, such as `deny`.
    pub verdict: Option<String>,
    /// The short reason in the verdict.
    pub reason: Option<String>,
    /// The verdict as JSON.
    pub answer: Option<Value>,
    /// The kind of the fault, such as `could-not-decide`.
    pub fault: Option<String>,
    /// The effects, in order.
    pub effects: Option<Vec<Value>>,
    /// Texts that are in some line of the log.
    pub log: Vec<String>,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// What the case shows.
    pub name: String,
    /// Why it failed; nothing if it passed.
    pub problems: Vec<String>,
}

/// A file that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum CaseFileError {
    /// The file can not be read.
    #[error("{} can not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} holds no cases: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it can not be read, holds no case, or something that no case has.
    pub fn read(path: &Path) -> Result<Self, CaseFileError> {
        let text = fs::read_to_string(path).map_err(|source| CaseFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let failed = |reason: String| CaseFileError::Format {
            path: path.to_owned(),
            reason,
        };
        let file: Self = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let mut names = BTreeSet::new();
        if let Some(twice) = file.cases.iter().find(|case| !names.insert(&case.name)) {
            return Err(failed(format!("two cases are named `{}`", twice.name)));
        }
        if file.cases.is_empty() {
            return Err(failed("write one with `[[case]]`".to_owned()));
        }
        Ok(file)
    }

    /// Runs one of the cases.
    pub async fn run(&self, plugin: &Plugin, case: &Case) -> CaseResult {
        let problems = match self.ask(plugin, case).await {
            Ok(called) => case.expect.problems(&called),
            Err(error) => vec![error.to_string()],
        };
        CaseResult {
            name: case.name.clone(),
            problems,
        }
    }

    async fn ask(&self, plugin: &Plugin, case: &Case) -> Result<Called<Value>, Error> {
        let hooks = &plugin.inspection().hooks;
        let hook = match case.hook {
            Some(hook) => hook,
            None => hooks.first().copied().unwrap_or(HookKind::EnrollmentGate),
        };
        let question = Question::from_json(hook, &case.input)?;
        let mut plugin = plugin
            .clone()
            .script(self.host.clone().with(case.host.clone()).script());
        if let Some(settings) = case.settings.as_ref().or(self.settings.as_ref()) {
            plugin = plugin.settings(settings.clone());
        }
        plugin.start().await?.ask(question).await
    }
}

impl Expectation {
    fn problems(&self, called: &Called<Value>) -> Vec<String> {
        let mut problems = Vec::new();
        let verdict = called.name();
        match (&called.verdict, &self.fault) {
            (Err(fault), None) => problems.push(format!("the call failed: {fault}")),
            (Err(fault), Some(expected)) if fault.kind.as_str() != expected => {
                problems.push(format!("expected the fault {expected}, got {fault}"));
            }
            (Ok(_), Some(expected)) => problems.push(format!("expected the fault {expected}, got {verdict}")),
            _ => {}
        }
        if let Some(expected) = &self.verdict
            && expected != verdict
            && called.verdict.is_ok()
        {
            problems.push(format!("expected {expected}, got {verdict}: {}", called.shown));
        }
        if let Some(expected) = &self.reason
            && called.reason() != Some(expected)
        {
            let reason = called.reason().unwrap_or("none");
            problems.push(format!("expected the reason {expected}, got {reason}"));
        }
        if let Some(expected) = &self.answer {
            problems.extend(difference(expected, &called.shown, "the answer"));
        }
        if let Some(expected) = &self.effects {
            let effects = serde_json::to_value(called.effects()).unwrap_or_default();
            problems.extend(difference(&Value::Array(expected.clone()), &effects, "effects"));
        }
        for expected in &self.log {
            if !called.log.iter().any(|line| line.message.contains(expected)) {
                let lines: Vec<&str> = called.log.iter().map(|line| line.message.as_str()).collect();
                problems.push(format!("no line of the log has {expected:?}; there are {lines:?}"));
            }
        }
        problems
    }
}

/// Where the actual value is not what is expected, as far as that goes.
fn difference(expected: &Value, actual: &Value, place: &str) -> Vec<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected
            .iter()
            .flat_map(|(name, value)| {
                let found = actual.get(name).unwrap_or(&Value::Null);
                difference(value, found, &format!("{place}.{name}"))
            })
            .collect(),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => expected
            .iter()
            .zip(actual)
            .enumerate()
            .flat_map(|(index, (value, found))| difference(value, found, &format!("{place}[{index}]")))
            .collect(),
        (expected, actual) if expected == actual => Vec::new(),
        (expected, actual) => vec![format!("expected {place} to be {expected}, got {actual}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn objects_are_compared_as_far_as_they_are_named_and_lists_whole() {
        assert!(difference(&json!({"a": 1}), &json!({"a": 1, "b": 2}), "x").is_empty());
        assert_eq!(
            difference(&json!({"a": {"c": 1}}), &json!({"a": {"c": 2}}), "x"),
            ["expected x.a.c to be 1, got 2"]
        );
        assert_eq!(
            difference(&json!([{"a": 1}]), &json!([{"a": 1}, {"a": 2}]), "x"),
            [r#"expected x to be [{"a":1}], got [{"a":1},{"a":2}]"#]
        );
        assert!(difference(&json!([]), &json!([]), "x").is_empty());
        assert_eq!(difference(&json!([]), &json!(null), "x").len(), 1);
    }
}
