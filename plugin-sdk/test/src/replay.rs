//! Recorded decisions, asked again: what `russet decision export` wrote, one JSON object on each line.
//!
//! The calls of the host get the answers that they got then, so that nothing but the plugin can make a difference. The same
//! revision has to give the same verdict, byte for byte; another one shows what it would change.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::sync::Arc;

use russet_hooks::{Answers, DecisionRecord, HookInput, HookKind, JournalEntry};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Called, Error, Question, Running};

/// A recorded decision.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The tenant whose plugin answered; absent where the line does not say.
    pub tenant: Option<Arc<str>>,
    /// The hook.
    pub hook: HookKind,
    /// The plugin that answered.
    pub plugin: Option<String>,
    /// The digest of its revision.
    pub revision: Option<String>,
    /// What was decided about.
    pub subject: String,
    /// The verdict's name.
    pub verdict: String,
    /// The verdict as canonical JSON; absent if it is not kept any more.
    pub verdict_json: Option<String>,
    /// The question; absent if it is not kept any more, or never was, because of a secret in it.
    pub input: Option<HookInput>,
    /// What the plugin asked the host, with the answers.
    pub journal: Arc<[JournalEntry]>,
}

/// What came of asking again.
#[derive(Clone, Debug)]
pub enum Replayed {
    /// The same verdict, byte for byte.
    Same,
    /// Another one.
    Differs(Box<Called<Value>>),
    /// The decision can not be asked again.
    NotKept,
}

/// A line that is no decision.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file can not be read.
    #[error("line {line} can not be read: {source}")]
    Read {
        /// The line, counted from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// The line is not a decision.
    #[error("line {line} is no decision: {reason}")]
    Format {
        /// The line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

/// A line as it is written. Parts that are JSON may stand as that, or as text.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    tenant: Option<String>,
    hook: HookKind,
    #[serde(default)]
    plugin: Option<String>,
    #[serde(default)]
    revision: Option<String>,
    subject: String,
    verdict: String,
    /// The part that is kept for a shorter time.
    #[serde(default)]
    call: Option<Call>,
}

#[derive(Deserialize)]
struct Call {
    input: Value,
    #[serde(default)]
    journal: Value,
    verdict: Value,
}

/// The text of a value that is JSON itself, or holds it as text.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

impl Recorded {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// If it is no decision.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        let line: Line = serde_json::from_str(line)?;
        let (input, journal, verdict_json) = match line.call {
            None => (None, Vec::new(), None),
            Some(call) => {
                let input = HookInput::from_json(line.hook, &text(call.input))?;
                let journal = match call.journal {
                    Value::Null => Vec::new(),
                    other => serde_json::from_str(&text(other))?,
                };
                (Some(input), journal, Some(text(call.verdict)))
            }
        };
        Ok(Self {
            tenant: line.tenant.map(Arc::from),
            hook: line.hook,
            plugin: line.plugin,
            revision: line.revision,
            subject: line.subject,
            verdict: line.verdict,
            verdict_json,
            input,
            journal: journal.into(),
        })
    }

    /// Writes the line of a call that was made here, as a server writes it; nothing for a sign-in, whose password is kept
    /// nowhere, and for a call that read an escrowed secret.
    pub fn line(record: &DecisionRecord) -> Option<String> {
        let input = record.input.as_ref()?.to_json().ok()?;
        let line = json!({
            "hook": record.hook,
            "plugin": record.plugin,
            "revision": record.revision,
            "subject": record.subject,
            "verdict": record.verdict,
            "call": {
                // Text that holds JSON, so that it is the same byte for byte.
                "input": input,
                "journal": record.journal,
                "verdict": record.verdict_json,
            },
        });
        Some(line.to_string())
    }

    /// Reads lines, one after the other; empty ones are left out.
    pub fn read(lines: impl BufRead) -> impl Iterator<Item = Result<Self, RecordingError>> {
        lines.lines().enumerate().filter_map(|(index, text)| {
            let line = index + 1;
            match text {
                Err(source) => Some(Err(RecordingError::Read { line, source })),
                Ok(text) if text.trim().is_empty() => None,
                Ok(text) => Some(Self::parse(&text).map_err(|error| RecordingError::Format {
                    line,
                    reason: error.to_string(),
                })),
            }
        })
    }

    /// The connections that the plugin spoke over, such as `http:scim`.
    pub fn connections(&self) -> BTreeSet<(String, String)> {
        let of = |entry: &JournalEntry| {
            let call: Value = serde_json::from_str(&entry.call).ok()?;
            let kind = call["call"].as_str()?.split('.').next()?.to_owned();
            Some((kind, call["connection"].as_str()?.to_owned()))
        };
        self.journal.iter().filter_map(of).collect()
    }
}

impl Running {
    /// Asks a recorded decision again, for the tenant that it was made for; without one, for that of
    /// [`Plugin::tenant`](crate::Plugin::tenant). With `strict`, a question to the host that was not asked then is a fault.
    ///
    /// # Errors
    ///
    /// If the plugin does not implement the hook.
    pub async fn replay(&self, recorded: &Recorded, strict: bool) -> Result<Replayed, Error> {
        let (Some(input), Some(before)) = (&recorded.input, &recorded.verdict_json) else {
            return Ok(Replayed::NotKept);
        };
        let answers = Answers::Recorded {
            entries: Arc::clone(&recorded.journal),
            strict,
        };
        let tenant = recorded.tenant.as_ref().unwrap_or_else(|| self.tenant());
        let called = self.ask_for(tenant, Question::from(input.clone()), answers).await?;
        Ok(if called.record.verdict_json == *before {
            Replayed::Same
        } else {
            Replayed::Differs(Box::new(called))
        })
    }
}
