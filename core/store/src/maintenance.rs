//! Retention: what is old enough goes, a thousand rows at a time, so that the writer is never held up for long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::db::{ms, values};
use crate::error::StoreError;
use crate::store::Store;

/// How long things are kept once they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Finished queue entries with their results, and commands that nothing refers to.
    pub commands: Duration,
    /// Decision records.
    pub decisions: Duration,
    /// SCEP challenges after their expiry: for so long a device may repeat a request.
    pub challenges: Duration,
}

impl Default for Retention {
    /// 90 days of commands, a year of decisions, a day of challenges.
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            commands: Duration::from_secs(90 * DAY),
            decisions: Duration::from_secs(365 * DAY),
            challenges: Duration::from_secs(DAY),
        }
    }
}

/// How many rows a purge changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries whose time was over before they were delivered.
    pub expired: u64,
    /// Entries deleted.
    pub entries: u64,
    /// Commands deleted.
    pub commands: u64,
    /// Decisions deleted.
    pub decisions: u64,
    /// Challenges deleted.
    pub challenges: u64,
}

const EXPIRED: &str = "UPDATE queue_entries SET state = 'expired', finished_at = $1 WHERE id IN \
     (SELECT id FROM queue_entries WHERE finished_at IS NULL AND expires_at IS NOT NULL AND expires_at <= $1 \
     LIMIT 1000)";
const ENTRIES: &str = "DELETE FROM queue_entries WHERE id IN \
     (SELECT id FROM queue_entries WHERE finished_at IS NOT NULL AND finished_at <= $1 LIMIT 1000)";
const COMMANDS: &str = "DELETE FROM commands WHERE id IN (SELECT c.id FROM commands c WHERE c.created_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM queue_entries q WHERE q.command_id = c.id) LIMIT 1000)";
const DECISIONS: &str =
    "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE created_at <= $1 LIMIT 1000)";
const CHALLENGES: &str =
    "DELETE FROM scep_challenges WHERE id IN (SELECT id FROM scep_challenges WHERE expires_at <= $1 LIMIT 1000)";

impl Store {
    /// Marks what expired, and deletes what is older than the retention says.
    ///
    /// # Errors
    /// When the database fails; what was deleted until then stays deleted.
    pub async fn purge(&self, now: Timestamp, retention: &Retention) -> Result<Purged, StoreError> {
        Ok(Purged {
            expired: self.batches(EXPIRED, ms(now)).await?,
            entries: self.batches(ENTRIES, before(now, retention.commands)).await?,
            commands: self.batches(COMMANDS, before(now, retention.commands)).await?,
            decisions: self.batches(DECISIONS, before(now, retention.decisions)).await?,
            challenges: self.batches(CHALLENGES, before(now, retention.challenges)).await?,
        })
    }

    async fn batches(&self, sql: &'static str, limit: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let changed = self
                .write((sql, limit), |db, (sql, limit)| {
                    Box::pin(async move { db.exec(*sql, values![*limit]).await })
                })
                .await?;
            total += changed;
            if changed == 0 {
                return Ok(total);
            }
        }
    }
}

/// The time that long ago; the beginning of time when the duration reaches beyond it.
fn before(now: Timestamp, ago: Duration) -> i64 {
    SignedDuration::try_from(ago)
        .ok()
        .and_then(|ago| now.checked_sub(ago).ok())
        .map_or(i64::MIN, ms)
}
