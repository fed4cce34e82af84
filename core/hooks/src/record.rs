//! What was decided, by whom and why: the record that the engine stores with what follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{HookKind, PluginFault};

/// What a failure of a hook means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureRule {
    /// What was asked for is refused for now.
    Closed,
    /// The person counts as unknown.
    UnknownPerson,
    /// The secret is kept sealed, and marked.
    KeepMarked,
    /// The delivery waits, and is shown.
    Wait,
}

impl FailureRule {
    /// The stable name, as recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::UnknownPerson => "unknown-person",
            Self::KeepMarked => "keep-marked",
            Self::Wait => "wait",
        }
    }
}

/// The record of one call of one implementor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRecord {
    /// The hook.
    pub hook: HookKind,
    /// The implementor.
    pub plugin: String,
    /// The digest of the revision that ran; `native` for Rust code.
    pub revision: String,
    /// What it was about: a serial number, a user name.
    pub subject: String,
    /// The verdict's name, or `fault`.
    pub verdict: String,
    /// The reason, if the verdict has one.
    pub reason: Option<String>,
    /// The fault, if there was one.
    pub fault: Option<PluginFault>,
    /// The failure rule, if it was applied.
    pub failure_rule: Option<FailureRule>,
    /// How long the call took.
    pub duration: Duration,
}
