//! How much of a processor calls may take that only are compared: a share of it in the long run, and a little at once after
//! a pause. It has no clock in it, so that it can be tested without one.

use std::time::Duration;

/// How much may be used at once, if little was before: a handful of slow calls, hundreds of fast ones.
const CREDIT: Duration = Duration::from_millis(5);

/// The longest pause. A call that takes very long is made up for in part only, so that something is always compared.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How many times as much counts what is used while a device's call runs: the two share caches, the pool of instances and the
/// allocator, so that the call becomes slower even on a processor of its own. Where devices never pause, one call in six thousand
/// meets such a moment: with three times as many the slowest hundredth is two or three hundredths slower.
const BESIDE_A_CALL: u32 = 60;

/// What may still be used. Below zero after a call that took more than was left.
#[derive(Debug)]
pub(crate) struct Budget {
    nanoseconds: i64,
    percent: i64,
}

impl Budget {
    /// A budget of so many hundredths of a processor, at least one.
    pub(crate) fn new(percent: u8) -> Self {
        Self {
            nanoseconds: nanoseconds(CREDIT),
            percent: i64::from(percent.clamp(1, 100)),
        }
    }

    /// So much time passed.
    pub(crate) fn earn(&mut self, passed: Duration) {
        let earned = nanoseconds(passed).saturating_mul(self.percent) / 100;
        self.nanoseconds = self.nanoseconds.saturating_add(earned).min(nanoseconds(CREDIT));
    }

    /// So much processor time was used.
    pub(crate) fn spend(&mut self, used: Duration) {
        let most = nanoseconds(LONGEST_PAUSE) * self.percent / 100;
        self.nanoseconds = self.nanoseconds.saturating_sub(nanoseconds(used)).max(-most);
    }

    /// So much was used while a device's call ran.
    pub(crate) fn spend_beside_a_call(&mut self, used: Duration) {
        self.spend(used.saturating_mul(BESIDE_A_CALL));
    }

    /// Whether nothing is left.
    pub(crate) fn is_spent(&self) -> bool {
        self.nanoseconds < 0
    }

    /// How long to wait until something is left again.
    pub(crate) fn pause(&self) -> Duration {
        let owed = self.nanoseconds.min(0).saturating_neg().saturating_mul(100) / self.percent;
        Duration::from_nanos(owed.unsigned_abs())
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The share of a minute that is used by somebody who always has more to do.
    fn share(spend: impl Fn(&mut Budget, Duration)) -> f64 {
        let mut budget = Budget::new(1);
        let (mut used, mut passed) = (Duration::ZERO, Duration::ZERO);
        while passed < Duration::from_secs(60) {
            while !budget.is_spent() {
                spend(&mut budget, MS / 50);
                used += MS / 50;
            }
            let pause = budget.pause().max(5 * MS);
            budget.earn(pause);
            passed += pause;
        }
        used.as_secs_f64() / passed.as_secs_f64()
    }

    #[test]
    fn in_the_long_run_it_is_the_share() {
        let share = share(Budget::spend);
        assert!((0.009..=0.0115).contains(&share), "{share}");
    }

    #[test]
    fn beside_devices_calls_it_is_a_sixtieth_of_that() {
        let share = share(Budget::spend_beside_a_call);
        assert!((0.00015..=0.00019).contains(&share), "{share}");
    }

    #[test]
    fn a_pause_saves_no_more_than_a_little() {
        let mut budget = Budget::new(1);
        budget.earn(Duration::from_secs(3_600));
        budget.spend(CREDIT);
        assert!(!budget.is_spent());
        budget.spend(MS);
        assert!(budget.is_spent());
        assert_eq!(budget.pause(), 100 * MS);
    }

    #[test]
    fn what_takes_very_long_is_still_called_again() {
        let mut budget = Budget::new(1);
        budget.spend(Duration::from_secs(10));
        assert!(budget.is_spent());
        assert_eq!(budget.pause(), LONGEST_PAUSE);
        let mut whole = Budget::new(100);
        whole.spend(CREDIT + 2 * MS);
        assert_eq!(whole.pause(), 2 * MS);
    }
}
