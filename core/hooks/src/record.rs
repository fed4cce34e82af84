//! What was decided, by whom and why: the record that the engine stores with what follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Effect, HookInput, HookKind, JournalEntry, PluginFault, Usage};

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
    /// It goes on as if the implementor were not there.
    Open,
    /// The implementor's last good plan stays.
    LastGoodPlan,
    /// It is tried again.
    Retry,
}

impl FailureRule {
    /// The stable name, as recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::UnknownPerson => "unknown-person",
            Self::KeepMarked => "keep-marked",
            Self::Wait => "wait",
            Self::Open => "open",
            Self::LastGoodPlan => "last-good-plan",
            Self::Retry => "retry",
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
    /// What is to be done because of the call; empty if it failed.
    pub effects: Vec<Effect>,
    /// The question, to be asked again; absent where it is never recorded: sign-ins have passwords, and what was made of an
    /// escrowed secret can not be told without the secret.
    pub input: Option<HookInput>,
    /// The calls of the host, with their answers; empty unless the scope asked for recording.
    pub journal: Vec<JournalEntry>,
    /// The verdict as canonical JSON ([`crate::Hook::verdict_json`]); that of a fault is its kind.
    pub verdict_json: String,
    /// What the call used.
    pub usage: Usage,
    /// The canonical key of the enrollment that it was about: not known here, the engine fills it in.
    pub enrollment: Option<String>,
}

impl DecisionRecord {
    /// Makes it the record of a failed call: an answer that turned out to be unusable.
    pub(crate) fn failed(&mut self, fault: &PluginFault) {
        "fault".clone_into(&mut self.verdict);
        self.verdict_json = Self::fault_json(fault);
        self.fault = Some(fault.clone());
        // All of it or nothing: what a call asked for before it failed is not done.
        self.effects.clear();
    }

    fn fault_json(fault: &PluginFault) -> String {
        format!("{{\"fault\":\"{}\"}}", fault.kind)
    }
}
