//! When what a device did not answer, or put off, is offered again, and when the device is woken for it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::EntryState;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The queue's timing. The defaults are meant for real devices; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// How long a command rests that was delivered twice without an answer; doubles with each further time. (The second
    /// time is at the device's next poll, behind everything else that waits: mostly the answer was lost on the way.)
    pub offer_again_first: Duration,
    /// The longest such rest.
    pub offer_again_longest: Duration,
    /// After so many deliveries without an answer the command is stuck.
    pub stuck_after: u32,
    /// How long a stuck command rests.
    pub stuck_again: Duration,
    /// So many times in a row a device may say NotNow without a rest: it is asked again at its next poll.
    pub put_off_freely: u32,
    /// How long a command then rests; doubles with each further NotNow.
    pub put_off_first: Duration,
    /// The longest such rest.
    pub put_off_longest: Duration,
    /// How long after a push a device that still has something to fetch is woken again; doubles as long as it does not
    /// poll.
    pub push_again_first: Duration,
    /// The longest pause between two such pushes.
    pub push_again_longest: Duration,
    /// The most such pushes for one device in 24 hours; 0 for none.
    pub push_again_per_day: u32,
}

impl Default for QueueRules {
    fn default() -> Self {
        Self {
            offer_again_first: Duration::from_secs(MINUTE),
            offer_again_longest: Duration::from_secs(6 * HOUR),
            stuck_after: 5,
            stuck_again: Duration::from_secs(24 * HOUR),
            put_off_freely: 3,
            put_off_first: Duration::from_secs(MINUTE),
            put_off_longest: Duration::from_secs(HOUR),
            push_again_first: Duration::from_secs(15 * MINUTE),
            push_again_longest: Duration::from_secs(24 * HOUR),
            push_again_per_day: 8,
        }
    }
}

impl QueueRules {
    /// What a delivery makes of an entry that was delivered so often without an answer before: its state, and when it may
    /// be offered again.
    pub(super) fn delivered(&self, unanswered: i64, now: Timestamp) -> (EntryState, Timestamp) {
        if unanswered >= i64::from(self.stuck_after) {
            return (EntryState::Stuck, later(now, self.stuck_again));
        }
        let rest = match unanswered {
            ..=0 => Duration::ZERO,
            times => doubled(self.offer_again_first, times - 1, self.offer_again_longest),
        };
        (EntryState::Sent, later(now, rest))
    }

    /// When a command may be offered again that was put off so often before; `None` for the next poll.
    pub(super) fn put_off(&self, before: i64, now: Timestamp) -> Option<Timestamp> {
        let over = before.saturating_add(1) - i64::from(self.put_off_freely);
        (over > 0).then(|| later(now, doubled(self.put_off_first, over - 1, self.put_off_longest)))
    }

    /// How long after a push the next one is due, when the device was pushed so often since it last polled.
    pub(crate) fn push_again(&self, rounds: i64) -> Duration {
        doubled(self.push_again_first, rounds, self.push_again_longest)
    }
}

fn doubled(first: Duration, times: i64, longest: Duration) -> Duration {
    let times = u32::try_from(times.clamp(0, 30)).unwrap_or(30);
    first.saturating_mul(1 << times).min(longest)
}

pub(crate) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_answered_rests_longer_each_time_until_it_is_stuck() {
        let rules = QueueRules::default();
        let now: Timestamp = "2026-09-01T08:00:00Z".parse().unwrap();
        let rests: Vec<_> = (0..7)
            .map(|unanswered| {
                let (state, at) = rules.delivered(unanswered, now);
                (state, at.duration_since(now).as_secs() / 60)
            })
            .collect();
        let sent = EntryState::Sent;
        let stuck = (EntryState::Stuck, 24 * 60);
        assert_eq!(
            rests,
            [(sent, 0), (sent, 1), (sent, 2), (sent, 4), (sent, 8), stuck, stuck]
        );
        assert_eq!(rules.delivered(4, Timestamp::MAX).1, Timestamp::MAX);
    }

    #[test]
    fn a_device_that_says_not_now_over_and_over_is_asked_less_and_less() {
        let rules = QueueRules::default();
        let now: Timestamp = "2026-09-01T08:00:00Z".parse().unwrap();
        let rests: Vec<_> = [0, 2, 3, 4, 8, 9, i64::MAX]
            .map(|before| {
                rules
                    .put_off(before, now)
                    .map(|at| at.duration_since(now).as_secs() / 60)
            })
            .to_vec();
        assert_eq!(rests, [None, None, Some(1), Some(2), Some(32), Some(60), Some(60)]);
    }
}
