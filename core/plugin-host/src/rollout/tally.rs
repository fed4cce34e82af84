//! What this node has counted of a comparison: numbers by name, which the nodes' sums keep, and a few samples.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use russet_hooks::{Blame, FaultKind, HookKind, PluginFault};
use serde::{Deserialize, Serialize};

/// The most samples that wait to be written.
const MAX_SAMPLES: usize = 50;

/// The most different pairs of verdicts that are told apart.
const MAX_PAIRS: usize = 100;

/// Buckets of time: the last one is for whatever takes longer.
const BUCKETS: usize = 100;

/// The longest subject and reason of a sample, in bytes.
const MAX_TEXT: usize = 256;

/// What stands for a verdict where there is none.
pub(crate) const FAULT: &str = "fault";

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
    pub(crate) const BASE: &str = "base";
    pub(crate) const OTHER: &str = "other";
    pub(crate) const BESIDE: &str = "beside";
}

/// Whose call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The active revision's, on the path of devices.
    Base,
    /// The other one's, on the path of devices.
    Other,
    /// The other one's, beside it.
    Beside,
}

impl Who {
    const ALL: [Self; 3] = [Self::Base, Self::Other, Self::Beside];

    fn name(self) -> &'static str {
        match self {
            Self::Base => names::BASE,
            Self::Other => names::OTHER,
            Self::Beside => names::BESIDE,
        }
    }
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
            verdict: FAULT.to_owned(),
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

/// The calls of one of the two.
#[derive(Debug)]
struct Calls {
    calls: AtomicU64,
    faults: AtomicU64,
    /// By the bucket of their time.
    times: [AtomicU64; BUCKETS],
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            calls: AtomicU64::default(),
            faults: AtomicU64::default(),
            times: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// Where they did not agree.
#[derive(Debug, Default)]
struct Differences {
    pairs: BTreeMap<String, u64>,
    samples: Vec<Sample>,
    /// What was written last.
    written: BTreeMap<String, u64>,
}

/// The counters of one comparison on this node. What devices' calls count, they count without a lock.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) rollout: i64,
    calls: [Calls; Who::ALL.len()],
    same: AtomicU64,
    not_comparable: AtomicU64,
    shed: AtomicU64,
    differences: Mutex<Differences>,
}

impl Tally {
    pub(crate) fn new(rollout: i64) -> Self {
        Self {
            rollout,
            calls: Default::default(),
            same: AtomicU64::default(),
            not_comparable: AtomicU64::default(),
            shed: AtomicU64::default(),
            differences: Mutex::default(),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Differences) -> R) -> R {
        // Nothing panics while it is held, and if it did the counts would still be whole.
        change(&mut self.differences.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call of one of the two, and how long it took, if that was measured.
    pub(crate) fn called(&self, who: Who, fault: Option<&PluginFault>, took: Option<Duration>) {
        let counts = &self.calls[who as usize];
        add(&counts.calls);
        if let Some(time) = took.and_then(|took| counts.times.get(bucket(took) as usize)) {
            add(time);
        }
        if fault.is_some_and(|fault| fault.blame == Blame::Guest) {
            add(&counts.faults);
        }
    }

    /// A call that was not compared, because there was more to do.
    pub(crate) fn shed(&self) {
        add(&self.shed);
    }

    /// Both were asked the same.
    pub(crate) fn compared(&self, hook: HookKind, subject: &str, active: Said, candidate: Said) {
        if active.says_nothing() || candidate.says_nothing() {
            return add(&self.not_comparable);
        }
        if active.verdict == candidate.verdict && active.json == candidate.json {
            return add(&self.same);
        }
        let pair = format!("{}{}>{}", names::PAIR, active.verdict, candidate.verdict);
        self.with(|differences| {
            if differences.pairs.len() >= MAX_PAIRS && !differences.pairs.contains_key(&pair) {
                return add(&self.not_comparable);
            }
            *differences.pairs.entry(pair).or_default() += 1;
            if differences.samples.len() < MAX_SAMPLES {
                differences.samples.push(Sample {
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
        self.with(|differences| {
            let totals = self.totals(&differences.pairs);
            if totals == differences.written {
                return None;
            }
            differences.written.clone_from(&totals);
            Some((totals, std::mem::take(&mut differences.samples)))
        })
    }

    fn totals(&self, pairs: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut totals = pairs.clone();
        let mut total = |name: String, counter: &AtomicU64| {
            let count = counter.load(Ordering::Acquire);
            if count > 0 {
                totals.insert(name, count);
            }
        };
        // What is compared is read first: a call is counted before it is compared, so that it is never compared only.
        total(names::SAME.to_owned(), &self.same);
        total(names::NOT_COMPARABLE.to_owned(), &self.not_comparable);
        total(names::SHED.to_owned(), &self.shed);
        for who in Who::ALL {
            let (name, counts) = (who.name(), &self.calls[who as usize]);
            total(format!("{name}{}", names::CALLS), &counts.calls);
            total(format!("{name}{}", names::FAULTS), &counts.faults);
            for (bucket, time) in counts.times.iter().enumerate() {
                total(format!("{name}{}{bucket:02}", names::TIME), time);
            }
        }
        totals
    }

    /// Writing failed: it is to be written again.
    pub(crate) fn put_back(&self, samples: Vec<Sample>) {
        self.with(|differences| {
            differences.written.clear();
            differences.samples.extend(samples);
            differences.samples.truncate(MAX_SAMPLES);
        });
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Release);
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
    (doublings * 4 + part as u32).min(BUCKETS as u32 - 1)
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
    fn it_is_written_again_only_after_something_changed() {
        let tally = Tally::new(1);
        assert_eq!(tally.take(), None);
        tally.called(Who::Base, None, Some(Duration::from_micros(4)));
        tally.called(Who::Beside, None, None);
        tally.shed();
        let expected = [("base.calls", 1), ("base.time:08", 1), ("beside.calls", 1), ("shed", 1)];
        let expected: BTreeMap<String, u64> = expected.map(|(name, count)| (name.to_owned(), count)).into();
        assert_eq!(tally.take(), Some((expected.clone(), Vec::new())));
        assert_eq!(tally.take(), None);
        tally.put_back(Vec::new());
        assert_eq!(tally.take(), Some((expected, Vec::new())));
    }

    #[test]
    fn buckets_follow_one_another() {
        let ends: Vec<u64> = (8..80).map(bucket_end).collect();
        assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
    }
}
