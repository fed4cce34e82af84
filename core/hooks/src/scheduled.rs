//! `scheduled`: what is done at certain times.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Ask, Hook, HookInput, HookKind, HookService, PluginFault, native};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// Work that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRun {
    /// The name that the manifest, or the effect that asked for it, gave the work.
    pub name: String,
    /// When it was due, in milliseconds since the epoch.
    pub due: i64,
    /// What the effect that asked for it gave along; empty for the manifest's own schedules.
    pub payload: String,
    /// How often it was tried before.
    pub attempt: u32,
}

/// A time at which a plugin wants to work, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The name of the work, unique in its plugin.
    pub name: String,
    /// When.
    pub when: ScheduleTime,
}

/// When work is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleTime {
    /// Every so many minutes, counted from the epoch, so that every node comes to the same times.
    EveryMinutes(u32),
    /// Once a day at this time of UTC.
    DailyAt {
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
    },
}

impl ScheduleTime {
    /// The first time after this one, both in milliseconds since the epoch.
    pub fn next_after(self, time: i64) -> i64 {
        let (period, offset) = match self {
            Self::EveryMinutes(minutes) => (i64::from(minutes.max(1)) * MINUTE_MS, 0),
            Self::DailyAt { hour, minute } => (DAY_MS, (i64::from(hour) * 60 + i64::from(minute)) * MINUTE_MS),
        };
        (time - offset).div_euclid(period) * period + period + offset
    }
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct ScheduledHook;

impl Hook for ScheduledHook {
    const KIND: HookKind = HookKind::Scheduled;
    type Request = ScheduledRun;
    type Verdict = ();

    fn subject(run: &ScheduledRun) -> &str {
        &run.name
    }

    fn input(run: &Arc<ScheduledRun>) -> Option<HookInput> {
        Some(HookInput::Scheduled(Arc::clone(run)))
    }

    fn verdict_name((): &()) -> &'static str {
        "ran"
    }

    fn verdict_json((): &()) -> String {
        "\"ran\"".to_owned()
    }
}

/// Scheduled work in native Rust.
#[async_trait]
pub trait Scheduled: Send + Sync + 'static {
    /// Does the work.
    ///
    /// # Errors
    ///
    /// On a fault it is tried again.
    async fn run(&self, ask: &Ask<ScheduledHook>) -> Result<(), PluginFault>;
}

impl ScheduledHook {
    /// Makes a service of native work.
    pub fn service(work: impl Scheduled) -> HookService<Self> {
        native(work, |work, ask| Box::pin(async move { work.run(&ask).await }))
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, MINUTE_MS, ScheduleTime};

    #[test]
    fn the_next_time_is_later_and_the_same_on_every_node() {
        let quarter = ScheduleTime::EveryMinutes(15);
        assert_eq!(quarter.next_after(0), 15 * MINUTE_MS);
        assert_eq!(quarter.next_after(15 * MINUTE_MS - 1), 15 * MINUTE_MS);
        assert_eq!(quarter.next_after(15 * MINUTE_MS), 30 * MINUTE_MS);
        let night = ScheduleTime::DailyAt { hour: 2, minute: 30 };
        assert_eq!(night.next_after(0), 150 * MINUTE_MS);
        assert_eq!(night.next_after(150 * MINUTE_MS), DAY_MS + 150 * MINUTE_MS);
        assert_eq!(night.next_after(DAY_MS), DAY_MS + 150 * MINUTE_MS);
    }
}
