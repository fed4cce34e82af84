//! What a candidate has to keep to before it is promoted, and what a promoted revision has to keep to while it is watched.

use serde::{Deserialize, Serialize};

use super::report::ComparisonReport;

/// Thresholds. Shares are in thousandths of the calls that were compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gates {
    /// How many calls have to be compared before anything is judged.
    pub min_samples: u64,
    /// The largest share of calls that it may refuse, or make conditional, where the other revision did not.
    pub max_new_denies_permille: u32,
    /// The largest share of calls that it may let through where the other revision did not.
    pub max_new_allows_permille: u32,
    /// The largest share of its calls that may fail by its own fault, and of those that were compared that may fail, whoever
    /// has to act on that, where the other revision did not: what both fail by is no fault of the one.
    pub max_faults_permille: u32,
    /// How much slower its slowest hundredth of calls may be than the other's, in hundredths: 300 is three
    /// times; 0 for any time.
    pub max_p99_ratio_percent: u32,
    /// Up to here its slowest hundredth is fast enough whatever the ratio, in microseconds.
    pub p99_floor_us: u64,
    /// How many calls have to be seen before a promoted revision is judged.
    pub watch_min_samples: u64,
}

impl Default for Gates {
    /// A hundred calls, none decided more strictly or more mildly, one fault in a thousand, three times as slow above 5 ms;
    /// watched from 20 calls on.
    fn default() -> Self {
        Self {
            min_samples: 100,
            max_new_denies_permille: 0,
            max_new_allows_permille: 0,
            max_faults_permille: 1,
            max_p99_ratio_percent: 300,
            p99_floor_us: 5_000,
            watch_min_samples: 20,
        }
    }
}

/// A gate that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateFailure {
    /// The gate, as [`Gates`] names it.
    pub gate: String,
    /// What was seen and what may be.
    pub detail: String,
}

impl std::fmt::Display for GateFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.gate, self.detail)
    }
}

impl Gates {
    /// Those of a watched revision: what is asked beside it does not wait for anybody, so that times say nothing.
    #[must_use]
    pub fn watching(&self) -> Self {
        Self {
            max_p99_ratio_percent: 0,
            ..self.clone()
        }
    }

    /// Those that only hold a revision to not failing: for one that was promoted by force, whose other decisions are
    /// wanted.
    #[must_use]
    pub fn faults_only(&self) -> Self {
        Self {
            max_new_denies_permille: 1_000,
            max_new_allows_permille: 1_000,
            ..self.clone()
        }
    }

    /// Which gates a candidate does not keep.
    pub fn failures(&self, report: &ComparisonReport) -> Vec<GateFailure> {
        let mut failures = Vec::new();
        if report.compared < self.min_samples {
            failures.push(failure(
                "min_samples",
                format!(
                    "{} calls were compared, {} are wanted",
                    report.compared, self.min_samples
                ),
            ));
        }
        failures.extend(self.breaches(report));
        failures
    }

    /// Which gates are broken by what was seen so far, however little it is.
    pub fn breaches(&self, report: &ComparisonReport) -> Vec<GateFailure> {
        let mut failures = Vec::new();
        let shares = [
            (
                "max_new_denies_permille",
                "more strictly",
                report.new_denies,
                self.max_new_denies_permille,
            ),
            (
                "max_new_allows_permille",
                "more mildly",
                report.new_allows,
                self.max_new_allows_permille,
            ),
        ];
        for (gate, how, seen, most) in shares {
            if above(seen, report.compared, most) {
                failures.push(failure(
                    gate,
                    format!(
                        "{seen} of {} calls would be decided {how}; {most}‰ may be",
                        report.compared
                    ),
                ));
            }
        }
        failures.extend(self.too_many_faults(report));
        if let (Some(before), Some(after)) = (report.active.p99_us, report.candidate.p99_us)
            && self.max_p99_ratio_percent > 0
            && after > self.p99_floor_us
            && after.saturating_mul(100) > before.max(1).saturating_mul(u64::from(self.max_p99_ratio_percent))
        {
            failures.push(failure(
                "max_p99_ratio_percent",
                format!(
                    "its slowest hundredth takes {after} µs, that of the active revision {before} µs; {}% may be",
                    self.max_p99_ratio_percent
                ),
            ));
        }
        failures
    }

    fn too_many_faults(&self, report: &ComparisonReport) -> Option<GateFailure> {
        let most = self.max_faults_permille;
        let (faults, calls) = (report.candidate.faults, report.candidate.calls);
        let (alone, compared) = (report.new_faults, report.compared);
        let detail = if above(faults, calls, most) {
            format!("{faults} of {calls} calls failed; {most}‰ may")
        } else if above(alone, compared, most) {
            format!("{alone} of {compared} calls failed that the other revision answered; {most}‰ may")
        } else {
            return None;
        };
        Some(failure("max_faults_permille", detail))
    }
}

fn above(seen: u64, of: u64, permille: u32) -> bool {
    seen > 0 && seen.saturating_mul(1_000) > of.saturating_mul(u64::from(permille))
}

fn failure(gate: &str, detail: String) -> GateFailure {
    GateFailure {
        gate: gate.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn broken(counters: &[(&str, u64)], watching: bool) -> Vec<String> {
        let totals: BTreeMap<String, u64> = counters
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        let gates = Gates {
            max_faults_permille: 50,
            ..Gates::default()
        };
        let failures = gates.faults_only().breaches(&ComparisonReport::read(&totals, watching));
        failures.into_iter().map(|failure| failure.gate).collect()
    }

    #[test]
    fn what_fails_alone_is_a_share_of_what_was_compared() {
        let most_were_shed = [("base.calls", 1_000), ("same", 10), ("pair:fault>allow", 10)];
        assert_eq!(broken(&most_were_shed, true), ["max_faults_permille"]);
        let few = [("base.calls", 1_000), ("same", 95), ("pair:fault>allow", 5)];
        assert!(broken(&few, true).is_empty());
    }

    #[test]
    fn the_fault_is_the_candidates_or_that_of_what_was_promoted() {
        let candidate_fails = [("same", 10), ("pair:allow>fault", 10)];
        assert_eq!(broken(&candidate_fails, false), ["max_faults_permille"]);
        assert!(broken(&candidate_fails, true).is_empty());
        let both_fail = [("same", 10), ("pair:fault>fault", 10)];
        assert!(broken(&both_fail, false).is_empty());
    }

    #[test]
    fn its_own_faults_are_a_share_of_its_calls() {
        let own = [("same", 10), ("beside.calls", 10), ("beside.faults", 1)];
        assert_eq!(broken(&own, false), ["max_faults_permille"]);
        let own = [("same", 100), ("beside.calls", 100), ("beside.faults", 5)];
        assert!(broken(&own, false).is_empty());
    }
}
