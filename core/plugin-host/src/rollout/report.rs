//! What a comparison found, read from its counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tally::{FAULT, bucket_end, names};

/// How often two revisions differed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The active revision's verdict.
    pub active: String,
    /// The other's. If it is the same, they differ in what is in it, or in their effects.
    pub candidate: String,
    /// How often.
    pub calls: u64,
}

/// The calls of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// How many.
    pub calls: u64,
    /// How many failed by the revision's own fault.
    pub faults: u64,
    /// The time that all but the slowest hundredth took at most, in microseconds, to a quarter of a doubling.
    pub p99_us: Option<u64>,
}

/// What was found, over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonReport {
    /// Calls that both revisions were asked, and that say something.
    pub compared: u64,
    /// Those with the same verdict and the same effects.
    pub same: u64,
    /// The others, the most frequent first.
    pub differences: Vec<Difference>,
    /// Calls that the candidate would refuse, or make conditional, where the active revision did not.
    pub new_denies: u64,
    /// Calls that the candidate would let through where the active revision did not.
    pub new_allows: u64,
    /// Calls on which the candidate would fail, whoever has to act on that, where the active revision did not.
    #[serde(default)]
    pub new_faults: u64,
    /// Calls that say nothing: the server was busy, or the candidate asked what the active revision had not.
    pub not_comparable: u64,
    /// Calls that were not compared because devices came first.
    pub shed: u64,
    /// The active revision's calls.
    pub active: Calls,
    /// The candidate's: those that it answered if there are some, else those beside them.
    pub candidate: Calls,
}

/// How strict a verdict is; none for a fault, whose meaning its hook's rule says.
fn strictness(verdict: &str) -> Option<u8> {
    match verdict {
        FAULT => None,
        "deny" | "unknown" | "wrong-credentials" => Some(2),
        "hold" | "require-sign-in" | "require-software-update" => Some(1),
        _ => Some(0),
    }
}

impl ComparisonReport {
    /// Reads counters. While a promoted revision is watched it is the candidate, although it is the active one.
    pub fn read(totals: &BTreeMap<String, u64>, watching: bool) -> Self {
        let of = |name: &str| totals.get(name).copied().unwrap_or_default();
        let mut report = Self {
            same: of(names::SAME),
            not_comparable: of(names::NOT_COMPARABLE),
            shed: of(names::SHED),
            ..Self::default()
        };
        report.compared = report.same;
        for (name, calls) in totals {
            let Some((base, other)) = name.strip_prefix(names::PAIR).and_then(|pair| pair.split_once('>')) else {
                continue;
            };
            let (active, candidate) = if watching { (other, base) } else { (base, other) };
            report.compared += calls;
            match (strictness(active), strictness(candidate)) {
                (Some(before), Some(after)) if after > before => report.new_denies += calls,
                (Some(before), Some(after)) if after < before => report.new_allows += calls,
                (Some(_), None) => report.new_faults += calls,
                _ => {}
            }
            report.differences.push(Difference {
                active: active.to_owned(),
                candidate: candidate.to_owned(),
                calls: *calls,
            });
        }
        report
            .differences
            .sort_by_key(|difference| std::cmp::Reverse(difference.calls));
        let base = Calls::read(totals, names::BASE);
        let beside = Calls::read(totals, names::BESIDE);
        (report.active, report.candidate) = if watching {
            (beside, base)
        } else {
            let answered = Calls::read(totals, names::OTHER);
            let faults = answered.faults + beside.faults;
            let calls = answered.calls + beside.calls;
            let p99_us = answered.p99_us.or(beside.p99_us);
            (base, Calls { calls, faults, p99_us })
        };
        report
    }

    /// One line: what would be different.
    pub fn summary(&self) -> String {
        let of = self.compared;
        let mut parts = vec![format!("{} of {of} would be refused", self.new_denies)];
        if self.new_allows > 0 {
            parts.push(format!("{} would be let through", self.new_allows));
        }
        let otherwise: u64 = self.differences.iter().map(|difference| difference.calls).sum();
        let otherwise = otherwise - self.new_denies - self.new_allows - self.new_faults;
        if self.new_faults > 0 {
            parts.push(format!("{} would fail", self.new_faults));
        }
        if otherwise > 0 {
            parts.push(format!("{otherwise} would be answered otherwise"));
        }
        // Those that were compared are told already.
        if self.candidate.faults > self.new_faults {
            parts.push(format!(
                "{} of {} calls failed",
                self.candidate.faults, self.candidate.calls
            ));
        }
        parts.join(", ")
    }
}

impl Calls {
    fn read(totals: &BTreeMap<String, u64>, who: &str) -> Self {
        let of = |name: &str| totals.get(&format!("{who}{name}")).copied().unwrap_or_default();
        let prefix = format!("{who}{}", names::TIME);
        let buckets: Vec<(u32, u64)> = totals
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .filter_map(|(name, calls)| Some((name[prefix.len()..].parse().ok()?, *calls)))
            .collect();
        let all: u64 = buckets.iter().map(|(_, calls)| calls).sum();
        let mut passed = 0;
        let p99_us = buckets
            .iter()
            .find(|(_, calls)| {
                passed += calls;
                passed.saturating_mul(100) >= all.saturating_mul(99)
            })
            .map(|(bucket, _)| bucket_end(*bucket));
        Self {
            calls: of(names::CALLS),
            faults: of(names::FAULTS),
            p99_us,
        }
    }
}
