//! What a call leaves beside its verdict: effects, a journal of its host calls, what it used.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Effect;

/// One call of the host by a plugin, and what it was answered. Both are canonical JSON, whose meaning only the plugin host
/// knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// What the plugin asked.
    pub call: String,
    /// What it was answered.
    pub answer: String,
}

/// Where the host calls of an implementor get their answers.
#[derive(Clone, Debug, Default)]
pub enum Answers {
    /// From the server.
    #[default]
    Live,
    /// From the journal of an earlier call. Nothing that the implementor writes leaves the call.
    Recorded {
        /// The journal.
        entries: Arc<[JournalEntry]>,
        /// Whether a question that the journal does not have is a fault ([`crate::FaultKind::NotRecorded`]) even where an
        /// answer could be made up.
        strict: bool,
    },
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Calls of the host.
    pub host_calls: u32,
    /// Processor time, in ticks of 10 ms that were begun.
    pub cpu_ticks: u32,
    /// Memory at its most, in bytes.
    pub memory_bytes: u64,
}

/// What a call left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
    /// The calls of the host, in order; empty unless the scope asks for recording.
    pub journal: Vec<JournalEntry>,
    /// What the call used.
    pub usage: Usage,
    /// The digest of the revision that answered, where it is not the implementor's own: a candidate that has a share of
    /// the calls.
    pub revision: Option<String>,
    /// Whether the implementor read what is never recorded: the same question would not be the same without it.
    pub read_unrecorded: bool,
}

/// Collects what a call leaves. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

impl Recorder {
    /// Reads or changes what is there. The function must not call the recorder again.
    pub fn with<R>(&self, change: impl FnOnce(&mut Recorded) -> R) -> R {
        // Nobody panics while it is held, and if somebody did, what is there would still be whole.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds an effect.
    pub fn effect(&self, effect: Effect) {
        self.with(|recorded| recorded.effects.push(effect));
    }

    /// Adds a call of the host.
    pub fn journal(&self, entry: JournalEntry) {
        self.with(|recorded| recorded.journal.push(entry));
    }

    /// Takes what is there, and leaves nothing.
    pub fn take(&self) -> Recorded {
        self.with(std::mem::take)
    }
}
