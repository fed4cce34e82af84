//! How queues stand, in numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::EntryState;
use crate::db::{Row, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// How many of a command's entries are in which state.
pub type CommandCounts = BTreeMap<EntryState, u64>;

/// How many open entries of one enrollment's queue are in which state.
pub type OpenCounts = BTreeMap<EntryState, u64>;

/// What of a tenant's queues needs somebody's attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueCounts {
    /// Commands that wait for an approval.
    pub held_commands: u64,
    /// Entries that were delivered again and again without an answer.
    pub stuck_entries: u64,
}

/// Of commands, those that wait for an approval: what was flushed, or whose device enrolled anew, waits for nothing.
pub(super) const WAITS_FOR_APPROVAL: &str = "AND approval = 'held' AND EXISTS (SELECT 1 FROM queue_entries q \
     WHERE q.command_id = commands.id AND q.finished_at IS NULL)";

/// From so many entries on a count is good for a while: whoever watches a command for a million devices has it counted
/// again and again, and each time reads them all.
const MANY: u64 = 50_000;

/// A count is good for so many times as long as it took, so that no more than a part of one reader goes into counting.
const GOOD_FOR: u32 = 10;

/// The most counts that are kept.
const KEPT: usize = 256;

/// Counts of commands for many devices, for a short time.
#[derive(Debug, Default)]
pub(crate) struct RecentCounts(Mutex<HashMap<i64, (Instant, CommandCounts)>>);

impl RecentCounts {
    fn get(&self, command: i64, now: Instant) -> Option<CommandCounts> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, counts) = kept.get(&command)?;
        (now < *until).then(|| counts.clone())
    }

    fn put(&self, command: i64, counts: &CommandCounts, took: Duration, now: Instant) {
        if counts.values().sum::<u64>() < MANY {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (until, _)| now < *until);
        if kept.len() < KEPT {
            kept.insert(command, (now + took.saturating_mul(GOOD_FOR), counts.clone()));
        }
    }
}

fn counts(rows: &[Row]) -> Result<BTreeMap<EntryState, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let state = row.word(0, EntryState::from_word, "entry state")?;
        counts.insert(state, u64::try_from(row.get::<i64>(1)?).unwrap_or(0));
    }
    Ok(counts)
}

impl Store {
    /// Of a command for very many devices it may be as of some seconds ago.
    pub(super) async fn counts_of_command(&self, id: i64) -> Result<CommandCounts, StoreError> {
        let started = Instant::now();
        if let Some(counts) = self.recent_counts().get(id, started) {
            return Ok(counts);
        }
        let sql = "SELECT state, COUNT(*) FROM queue_entries WHERE command_id = $1 GROUP BY state";
        let counts = counts(&self.read().all(sql, values![id]).await?)?;
        self.recent_counts().put(id, &counts, started.elapsed(), Instant::now());
        Ok(counts)
    }

    /// How an enrollment's queue stands: its open entries.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_counts(&self, enrollment: EnrollmentId) -> Result<OpenCounts, StoreError> {
        let sql = "SELECT state, COUNT(*) FROM queue_entries WHERE enrollment_id = $1 AND finished_at IS NULL \
                   GROUP BY state";
        counts(&self.read().all(sql, values![enrollment]).await?)
    }

    /// What of a tenant's queues needs attention. Reads partial indexes that hold nothing else.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queue_counts(&self, tenant: TenantId) -> Result<QueueCounts, StoreError> {
        let row = self
            .read()
            .row(
                format!(
                    "SELECT (SELECT COUNT(*) FROM commands WHERE tenant_id = $1 {WAITS_FOR_APPROVAL}), \
                     (SELECT COUNT(*) FROM queue_entries WHERE tenant_id = $1 AND stuck_at IS NOT NULL \
                      AND finished_at IS NULL)"
                ),
                values![tenant],
            )
            .await?;
        Ok(QueueCounts {
            held_commands: u64::try_from(row.get::<i64>(0)?).unwrap_or(0),
            stuck_entries: u64::try_from(row.get::<i64>(1)?).unwrap_or(0),
        })
    }

    /// How many devices a tenant has that are not removed, without the users on them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_count(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) FROM enrollments WHERE tenant_id = $1 AND parent_id IS NULL AND state <> 'removed'";
        let row = self.read().row(sql, values![tenant]).await?;
        Ok(u64::try_from(row.get::<i64>(0)?).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counts_of_many_are_kept_and_not_for_long() {
        let (recent, now) = (RecentCounts::default(), Instant::now());
        let second = Duration::from_secs(1);
        let few = CommandCounts::from([(EntryState::Pending, MANY - 1)]);
        recent.put(1, &few, second, now);
        assert_eq!(recent.get(1, now), None);
        let many = CommandCounts::from([(EntryState::Pending, MANY - 1), (EntryState::Sent, 1)]);
        recent.put(1, &many, second, now);
        assert_eq!(recent.get(1, now + second * 9), Some(many.clone()));
        assert_eq!(recent.get(1, now + second * GOOD_FOR), None);
        assert_eq!(recent.get(2, now), None);
        for command in 0..1_000 {
            recent.put(command, &many, second, now);
        }
        let kept = |at| (0..1_000).filter(|command| recent.get(*command, at).is_some()).count();
        assert_eq!((kept(now), kept(now + second * GOOD_FOR)), (KEPT, 0));
    }
}
