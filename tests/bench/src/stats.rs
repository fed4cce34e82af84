//! Durations of many calls, and what is said of them.

use std::time::Duration;

/// The durations of calls that were all made the same way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    nanoseconds: Vec<u64>,
}

impl Samples {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            nanoseconds: Vec::with_capacity(capacity),
        }
    }

    /// The same with memory that the process holds from now on, and not only from when it is filled.
    pub(crate) fn with_memory(capacity: usize) -> Self {
        let mut nanoseconds = vec![u64::MAX; capacity];
        nanoseconds.clear();
        Self { nanoseconds }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.nanoseconds
            .push(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
    }

    pub(crate) fn len(&self) -> usize {
        self.nanoseconds.len()
    }

    /// The smallest duration that `percent` of the calls did not exceed (nearest rank); zero if there are none.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let mut sorted = self.nanoseconds.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        let at = rank.clamp(1, sorted.len().max(1)) - 1;
        Duration::from_nanos(sorted.get(at).copied().unwrap_or_default())
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50.0)
    }
}

/// How many of something there were in a second.
pub(crate) fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        let mut samples = Samples::with_capacity(100);
        for milliseconds in (1..=100).rev() {
            samples.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(samples.median(), Duration::from_millis(50));
        assert_eq!(samples.percentile(99.0), Duration::from_millis(99));
        assert_eq!(samples.percentile(100.0), Duration::from_millis(100));
        assert_eq!(samples.percentile(0.0), Duration::from_millis(1));
    }

    #[test]
    fn one_call_is_every_percentile_and_none_is_zero() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), Duration::ZERO);
        samples.add(Duration::from_micros(7));
        assert_eq!(samples.percentile(99.0), Duration::from_micros(7));
    }

    #[test]
    fn a_rate_counts_all_tasks() {
        assert!((per_second(500, Duration::from_millis(250)) - 2000.0).abs() < 1e-9);
    }
}
