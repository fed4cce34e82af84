//! Answers out of a journal.
//!
//! As long as the calls are the recorded ones in the recorded order, each gets its recorded answer: the same plugin decides
//! the same again. From the first call that differs, answers are found by what is asked. What is written then is seen by the
//! rest of the call and by nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use russet_hooks::{JournalEntry, Secret};

use super::{HostAnswer, HostCall, HostValue, Withheld};
use crate::limits::Violation;
use crate::ports::KvEntry;

/// The versions of overlaid values: above all that a store gives.
const OVERLAY_VERSIONS: u64 = 1 << 62;

/// What comes of a call.
pub(super) enum Step {
    /// This is the answer.
    Answer(HostAnswer),
    /// The ports have to be asked: this, or else the call itself.
    Ask(Option<HostCall>),
}

/// A journal that is being replayed.
#[derive(Debug)]
pub(crate) struct Replay {
    entries: Arc<[JournalEntry]>,
    strict: bool,
    /// The next entry, as long as the calls are the recorded ones.
    in_step: Option<usize>,
    used: Vec<bool>,
    /// What the call wrote; `None` for what it removed.
    kv: BTreeMap<String, Option<KvEntry>>,
    secrets: BTreeMap<String, Option<Secret>>,
    writes: u64,
}

impl Replay {
    pub(super) fn new(entries: &Arc<[JournalEntry]>, strict: bool) -> Self {
        Self {
            entries: Arc::clone(entries),
            strict,
            in_step: Some(0),
            used: vec![false; entries.len()],
            kv: BTreeMap::new(),
            secrets: BTreeMap::new(),
            writes: 0,
        }
    }

    /// What the call itself made of a secret.
    pub(super) fn secret(&self, name: &str) -> Option<Option<Secret>> {
        self.secrets.get(name).cloned()
    }

    /// The answer to a call, or what to ask the ports for. Only what changes nothing outside is ever asked.
    pub(super) fn step(&mut self, call: &HostCall) -> Result<Step, Violation> {
        let text = call.to_entry();
        if let Some(at) = self.in_step {
            if self.entries.get(at).is_some_and(|entry| entry.call == text) {
                self.in_step = Some(at + 1);
                return self.recorded(call, at);
            }
            self.in_step = None;
        }
        self.out_of_step(call, &text)
    }

    /// The answer from the ports, with what the call wrote put over it.
    pub(super) fn complete(&mut self, call: &HostCall, answer: HostAnswer) -> HostAnswer {
        match (call, answer) {
            (HostCall::KvKeys { .. }, Ok(HostValue::Keys(keys))) => Ok(HostValue::Keys(self.overlaid(call, keys))),
            (
                HostCall::KvSet { .. } | HostCall::KvCompareAndSet { .. } | HostCall::KvDelete { .. },
                Ok(HostValue::Entry(current)),
            ) => Ok(self.write(call, current.as_ref())),
            (HostCall::SecretsDelete { name }, Ok(HostValue::Secret(secret))) => {
                self.secrets.insert(name.clone(), None);
                Ok(HostValue::Flag(secret.present))
            }
            (_, answer) => answer,
        }
    }

    fn recorded(&mut self, call: &HostCall, at: usize) -> Result<Step, Violation> {
        self.used[at] = true;
        let answer: HostAnswer = serde_json::from_str(&self.entries[at].answer)
            .map_err(|_| Violation::NotRecorded("an answer that can be read".to_owned()))?;
        if answer.is_ok() {
            self.follow(call, &answer);
        }
        Ok(match (call, answer) {
            // Secrets are not written down: the call's own, or what the server has now.
            (HostCall::SecretsGet { name }, Ok(HostValue::Secret(recorded))) => match self.secret(name) {
                Some(own) => Step::Answer(Ok(HostValue::Secret(Withheld::new(own)))),
                None if recorded.present => Step::Ask(None),
                None => Step::Answer(Ok(HostValue::Secret(Withheld::new(None)))),
            },
            (HostCall::SecretsOpen { .. }, Ok(HostValue::Secret(_))) => Step::Ask(None),
            (_, answer) => Step::Answer(answer),
        })
    }

    /// Does in the overlay what the recorded call did.
    fn follow(&mut self, call: &HostCall, answer: &HostAnswer) {
        match call {
            HostCall::KvSet { .. } => {
                self.write(call, None);
            }
            HostCall::KvCompareAndSet {
                key,
                value,
                expires_in_ms,
                ..
            } if *answer == Ok(HostValue::Flag(true)) => self.put(key, value, *expires_in_ms),
            HostCall::KvDelete { key } => {
                self.kv.insert(key.clone(), None);
            }
            HostCall::SecretsPut { name, value } => {
                self.secrets.insert(name.clone(), Some(value.clone()));
            }
            HostCall::SecretsDelete { name } => {
                self.secrets.insert(name.clone(), None);
            }
            _ => {}
        }
    }

    fn out_of_step(&mut self, call: &HostCall, text: &str) -> Result<Step, Violation> {
        match call {
            HostCall::KvGet { key } => {
                if let Some(own) = self.kv.get(key) {
                    return Ok(Step::Answer(Ok(HostValue::Entry(own.clone()))));
                }
            }
            HostCall::KvSet { .. } => return Ok(Step::Answer(Ok(self.write(call, None)))),
            HostCall::KvCompareAndSet { key, .. } | HostCall::KvDelete { key } => return self.guarded_write(call, key),
            HostCall::KvKeys { .. } => {
                return match self.find(text) {
                    Some(at) => match self.recorded(call, at)? {
                        Step::Answer(answer) => Ok(Step::Answer(self.complete(call, answer))),
                        ask @ Step::Ask(_) => Ok(ask),
                    },
                    None => self.unrecorded(call),
                };
            }
            HostCall::SecretsGet { name } => {
                if let Some(own) = self.secret(name) {
                    return Ok(Step::Answer(Ok(HostValue::Secret(Withheld::new(own)))));
                }
            }
            HostCall::SecretsPut { name, value } => {
                self.secrets.insert(name.clone(), Some(value.clone()));
                return Ok(Step::Answer(Ok(HostValue::Done)));
            }
            HostCall::SecretsDelete { name } => {
                if let Some(own) = self.secrets.insert(name.clone(), None) {
                    return Ok(Step::Answer(Ok(HostValue::Flag(own.is_some()))));
                }
                self.secrets.remove(name);
                if self.find(text).is_none() && !self.strict {
                    return Ok(Step::Ask(Some(HostCall::SecretsGet { name: name.clone() })));
                }
            }
            // Under a secret of the call's own, whatever was recorded under the one before is wrong.
            HostCall::SignerHmac { secret, .. } if self.secrets.contains_key(secret) => return Ok(Step::Ask(None)),
            _ => {}
        }
        match self.find(text) {
            Some(at) => self.recorded(call, at),
            None => self.unrecorded(call),
        }
    }

    /// An entry of the same call: one that was not used yet, or else the last that was.
    fn find(&self, text: &str) -> Option<usize> {
        let same = |at: &usize| self.entries[*at].call == text;
        let all = 0..self.entries.len();
        all.clone()
            .find(|at| !self.used[*at] && same(at))
            .or_else(|| all.rev().find(same))
    }

    fn unrecorded(&self, call: &HostCall) -> Result<Step, Violation> {
        let harmless = matches!(
            call,
            HostCall::ClockNow
                | HostCall::RandomBytes { .. }
                | HostCall::KvGet { .. }
                | HostCall::KvKeys { .. }
                | HostCall::FindDevice { .. }
                | HostCall::DevicesWithAttribute { .. }
                | HostCall::DevicesOfPerson { .. }
                | HostCall::SecretsGet { .. }
                | HostCall::SecretsSeal { .. }
                | HostCall::SecretsOpen { .. }
                | HostCall::SignerHmac { .. }
        );
        if harmless && !self.strict {
            Ok(Step::Ask(None))
        } else {
            Err(Violation::NotRecorded(call.name().to_owned()))
        }
    }

    /// A write that depends on what is there: known from the overlay or from a recorded read, or else asked for.
    fn guarded_write(&mut self, call: &HostCall, key: &str) -> Result<Step, Violation> {
        if let Some(own) = self.kv.get(key).cloned() {
            return Ok(Step::Answer(Ok(self.write(call, own.as_ref()))));
        }
        let read = HostCall::KvGet { key: key.to_owned() };
        if let Some(at) = self.find(&read.to_entry()) {
            return match self.recorded(&read, at)? {
                Step::Answer(Ok(HostValue::Entry(current))) => Ok(Step::Answer(Ok(self.write(call, current.as_ref())))),
                other => Ok(other),
            };
        }
        if let Some(at) = self.find(&call.to_entry()) {
            return self.recorded(call, at);
        }
        if self.strict {
            return Err(Violation::NotRecorded(call.name().to_owned()));
        }
        Ok(Step::Ask(Some(read)))
    }

    /// Writes to the overlay, over what is there now.
    fn write(&mut self, call: &HostCall, current: Option<&KvEntry>) -> HostValue {
        match call {
            HostCall::KvSet {
                key,
                value,
                expires_in_ms,
            } => {
                self.put(key, value, *expires_in_ms);
                HostValue::Done
            }
            HostCall::KvCompareAndSet {
                key,
                version,
                value,
                expires_in_ms,
            } => {
                let expected = *version == current.map(|entry| entry.version);
                if expected {
                    self.put(key, value, *expires_in_ms);
                }
                HostValue::Flag(expected)
            }
            HostCall::KvDelete { key } => {
                self.kv.insert(key.clone(), None);
                HostValue::Flag(current.is_some())
            }
            _ => HostValue::Done,
        }
    }

    fn put(&mut self, key: &str, value: &[u8], expires_in_ms: Option<u64>) {
        self.writes += 1;
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let entry = KvEntry {
            value: value.to_vec(),
            version: OVERLAY_VERSIONS + self.writes,
            expires_at_ms: expires_in_ms.map(|ms| now.saturating_add(ms)),
        };
        self.kv.insert(key.to_owned(), Some(entry));
    }

    /// Keys of the store, with those that the call wrote and without those that it removed.
    fn overlaid(&self, call: &HostCall, keys: Vec<String>) -> Vec<String> {
        let HostCall::KvKeys { prefix, after, limit } = call else {
            return keys;
        };
        let full = keys.len() >= *limit as usize;
        let last = keys.last().cloned();
        let mut all: std::collections::BTreeSet<String> = keys.into_iter().collect();
        for (key, entry) in &self.kv {
            let wanted = key.starts_with(prefix.as_str())
                && after.as_ref().is_none_or(|after| key > after)
                // What lies behind a full page belongs to the next one.
                && (!full || last.as_ref().is_none_or(|last| key <= last));
            match entry {
                Some(_) if wanted => {
                    all.insert(key.clone());
                }
                Some(_) => {}
                None => {
                    all.remove(key);
                }
            }
        }
        all.into_iter().take(*limit as usize).collect()
    }
}
