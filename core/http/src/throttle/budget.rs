//! A budget for each key: so many a minute, all of them at once if need be.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// After so many questions, keys that have their whole budget again are forgotten.
const FORGET_EVERY: u32 = 4_096;

/// The budgets of all keys. Without a rate there is no end to them.
pub(super) struct Budget<K: Hash + Eq + Clone> {
    limiter: Option<RateLimiter<K, DashMapStateStore<K>, DefaultClock>>,
    asked: AtomicU32,
}

impl<K: Hash + Eq + Clone> fmt::Debug for Budget<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The keys are people's names and addresses.
        f.debug_struct("Budget")
            .field("keys", &self.limiter.as_ref().map(RateLimiter::len))
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone> Budget<K> {
    pub(super) fn new(per_minute: Option<NonZeroU32>) -> Self {
        Self {
            limiter: per_minute.map(|rate| RateLimiter::keyed(Quota::per_minute(rate))),
            asked: AtomicU32::new(0),
        }
    }

    /// Takes one out of the budget of a key; if it is used up, how long until there is one again.
    pub(super) fn take(&self, key: K) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            limiter.retain_recent();
        }
        limiter
            .check_key(&key)
            .map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_used_up_says_when_to_come_again() {
        let budget = Budget::new(NonZeroU32::new(2));
        assert_eq!(budget.take("a"), Ok(()));
        assert_eq!(budget.take("a"), Ok(()));
        let after = budget.take("a").unwrap_err();
        assert!(
            after > Duration::from_secs(20) && after <= Duration::from_secs(30),
            "{after:?}"
        );
        assert_eq!(budget.take("b"), Ok(()));
        assert!((0..10_000).all(|_| Budget::new(None).take("a").is_ok()));
    }
}
