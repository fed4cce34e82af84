//! The command queue: when commands are offered again, when devices are woken again, and how long what is over is kept.

use super::problems::Problems;
use super::settings::settings;

settings! {
    /// The command queue. A command that a device does not answer is offered again at its next poll, then with growing
    /// pauses, and always behind everything else that waits.
    pub struct Queue {
        /// How long a command rests that was delivered twice without an answer, in seconds; doubles with each further time.
        offer_again_first_seconds: u64 = 60,
        /// The longest such rest, in seconds.
        offer_again_longest_seconds: u64 = 6 * 3600,
        /// After so many deliveries without an answer a command is stuck: shown as such, and offered rarely.
        stuck_after_offers: u32 = 5,
        /// How long a stuck command rests, in hours.
        stuck_offer_hours: u64 = 24,
        /// How long after a push a device that still has something to fetch is woken again, in minutes; doubles as long as
        /// it does not come.
        push_again_first_minutes: u64 = 15,
        /// The most such pushes for one device in 24 hours; 0 turns them off.
        push_again_per_day: u32 = 8,
        /// How many days a question that changes nothing (such as DeviceInformation) waits for its answer, if whoever asks
        /// names no time; 0 for as long as it takes.
        question_days: u32 = 30,
    }
}

settings! {
    /// How long the server keeps what is over.
    pub struct Retention {
        /// How many days commands are kept after they were answered, failed, expired or were taken back; and the identity
        /// certificates of devices after they ended, but for the last one of each device.
        commands_days: u32 = 90,
        /// How many days the answers of devices are kept in full; after that, only how each command ended.
        results_days: u32 = 30,
    }
}

impl Queue {
    pub(super) fn check(&self, problems: &mut Problems) {
        const DAY: u64 = 24 * 3600;
        problems.range(
            "queue.offer_again_first_seconds",
            self.offer_again_first_seconds,
            1..=DAY,
        );
        problems.range(
            "queue.offer_again_longest_seconds",
            self.offer_again_longest_seconds,
            1..=30 * DAY,
        );
        problems.range("queue.stuck_after_offers", self.stuck_after_offers, 1..=1_000);
        problems.range("queue.stuck_offer_hours", self.stuck_offer_hours, 1..=24 * 365);
        problems.range(
            "queue.push_again_first_minutes",
            self.push_again_first_minutes,
            1..=24 * 60,
        );
        problems.range("queue.push_again_per_day", self.push_again_per_day, 0..=96);
        problems.range("queue.question_days", self.question_days, 0..=3_650);
        if self.offer_again_longest_seconds < self.offer_again_first_seconds {
            problems.add(
                "queue.offer_again_longest_seconds",
                "must not be less than queue.offer_again_first_seconds",
            );
        }
    }
}

impl Retention {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("retention.commands_days", self.commands_days, 1..=3_650);
        problems.range("retention.results_days", self.results_days, 0..=3_650);
        if self.results_days > self.commands_days {
            problems.add(
                "retention.results_days",
                "must not be more than retention.commands_days: results go with their commands",
            );
        }
    }
}
