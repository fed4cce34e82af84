//! What this node has counted of a comparison: numbers by name, which the nodes' sums keep, and a few samples.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use russet_hooks::{Blame, FaultKind, HookKind, PluginFault};
use serde::{Deserialize, Serialize};

/// The most samples that wait to be written.
const MAX_SAMPLES: usize = 50;

/// The most different pairs of verdicts that are told apart.
const MAX_PAIRS: usize = 100;

/// The longest subject and reason of a sample, in bytes.
const MAX_TEXT: usize = 256;

/// The names of counters: a part of the port to the store, never changed without a new one.
pub(crate) mod names {
    pub(crate) const SAME: &str = "same";
    pub(crate) const NOT_COMPARABLE: &str = "not-comparable";
    pub(crate) const SHED: &str = "shed";
    /// Then the two verdicts with `>` between them.
    pub(crate) const PAIR: &str = "pair:";
    /// Then the number of a bucket of time.
    pub(crate) const TIME: &str = ".time:";
    pub(crate) const CALLS: &str = ".calls";
    pub(crate) const FAULTS: &str = ".faults";
    /// The active revision, on the path of devices.
    pub(crate) const BASE: &str = "base";
    /// The other one, on the path of devices.
    pub(crate) const OTHER: &str = "other";
    /// The other one, beside it.
    pub(crate) const BESIDE: &str = "beside";
}

/// A call on which the two revisions did not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The hook.
    pub hook: String,
    /// What the call was about: a serial number, a user name.
    pub subject: String,
    /// The active revision's verdict; `fault` if it failed.
    pub active: String,
    /// The other's.
    pub candidate: String,
    /// Why the candidate decided or failed so, else why the active revision did.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What one revision answered, as far as it is compared.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// The verdict's name, or `fault`.
    pub(crate) verdict: String,
    /// The verdict and the effects, canonical.
    pub(crate) json: String,
    pub(crate) reason: Option<String>,
    pub(crate) fault: Option<(FaultKind, Blame)>,
}

impl Said {
    pub(crate) fn fault(fault: &PluginFault) -> Self {
        Self {
            verdict: "fault".to_owned(),
            json: String::new(),
            reason: Some(fault.to_string()),
            fault: Some((fault.kind, fault.blame)),
        }
    }

    /// Nobody's fault that a comparison could be about: the server was busy, or the journal does not tell.
    fn says_nothing(&self) -> bool {
        matches!(self.fault, Some((_, Blame::Host)))
    }
}

#[derive(Debug, Default)]
struct Counts {
    totals: BTreeMap<String, u64>,
    pairs: usize,
    samples: Vec<Sample>,
    changed: bool,
}

/// The counters of one comparison on this node.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) rollout: i64,
    counts: Mutex<Counts>,
}

impl Tally {
    pub(crate) fn new(rollout: i64) -> Self {
        Self {
            rollout,
            counts: Mutex::default(),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Counts) -> R) -> R {
        // Nothing panics while it is held, and if it did the counts would still be whole.
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call of one of the two, `who` of [`names`].
    pub(crate) fn called(&self, who: &str, fault: Option<&PluginFault>, took: Duration) {
        self.with(|counts| {
            counts.add(&format!("{who}{}", names::CALLS));
            counts.add(&format!("{who}{}{:02}", names::TIME, bucket(took)));
            if fault.is_some_and(|fault| fault.blame == Blame::Guest) {
                counts.add(&format!("{who}{}", names::FAULTS));
            }
        });
    }

    /// A call that was not compared, because there was more to do.
    pub(crate) fn shed(&self) {
        self.with(|counts| counts.add(names::SHED));
    }

    /// Both were asked the same.
    pub(crate) fn compared(&self, hook: HookKind, subject: &str, active: Said, candidate: Said) {
        self.with(|counts| {
            if active.says_nothing() || candidate.says_nothing() {
                counts.add(names::NOT_COMPARABLE);
                return;
            }
            if active.verdict == candidate.verdict && active.json == candidate.json {
                counts.add(names::SAME);
                return;
            }
            let pair = format!("{}{}>{}", names::PAIR, active.verdict, candidate.verdict);
            if !counts.totals.contains_key(&pair) {
                counts.pairs += 1;
            }
            if counts.pairs > MAX_PAIRS {
                counts.add(names::NOT_COMPARABLE);
                return;
            }
            counts.add(&pair);
            if counts.samples.len() < MAX_SAMPLES {
                counts.samples.push(Sample {
                    hook: hook.as_str().to_owned(),
                    subject: cut(subject),
                    active: active.verdict,
                    candidate: candidate.verdict,
                    reason: candidate.reason.or(active.reason).as_deref().map(cut),
                    at: Timestamp::now(),
                });
            }
        });
    }

    /// What is to be written: the totals and the samples since the last time; nothing if nothing changed.
    pub(crate) fn take(&self) -> Option<(BTreeMap<String, u64>, Vec<Sample>)> {
        self.with(|counts| {
            if !std::mem::take(&mut counts.changed) {
                return None;
            }
            Some((counts.totals.clone(), std::mem::take(&mut counts.samples)))
        })
    }

    /// Writing failed: it is to be written again.
    pub(crate) fn put_back(&self, samples: Vec<Sample>) {
        self.with(|counts| {
            counts.changed = true;
            counts.samples.extend(samples);
            counts.samples.truncate(MAX_SAMPLES);
        });
    }
}

impl Counts {
    fn add(&mut self, name: &str) {
        self.changed = true;
        match self.totals.get_mut(name) {
            Some(total) => *total += 1,
            None => {
                self.totals.insert(name.to_owned(), 1);
            }
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// Buckets of time: four for each doubling, from a microsecond on.
pub(crate) fn bucket(time: Duration) -> u32 {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = us.ilog2();
    let part = match doublings {
        0 | 1 => 0,
        _ => (us >> (doublings - 2)) & 3,
    };
    (doublings * 4 + part as u32).min(99)
}

/// The longest time in a bucket, in microseconds.
pub(crate) fn bucket_end(bucket: u32) -> u64 {
    let (doublings, part) = (bucket / 4, u64::from(bucket % 4));
    match doublings {
        0 => 1,
        1 => 3,
        _ => (1_u64 << doublings) + ((part + 1) << (doublings - 2)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_within_its_bucket() {
        for us in [1, 2, 3, 4, 5, 7, 8, 100, 1_000, 12_345, 2_000_000] {
            let bucket = bucket(Duration::from_micros(us));
            let end = bucket_end(bucket);
            assert!(end >= us, "{us} µs is in bucket {bucket}, which ends at {end}");
            assert!(
                end <= us + us / 3 + 1,
                "{us} µs is in bucket {bucket}, which ends at {end}"
            );
        }
    }

    #[test]
    fn buckets_follow_one_another() {
        let ends: Vec<u64> = (8..80).map(bucket_end).collect();
        assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
    }
}
