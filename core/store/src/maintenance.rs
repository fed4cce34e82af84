//! Retention: what is old enough goes, a thousand rows at a time, so that the writer is never held up for long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::db::{Row, ms, values};
use crate::declarations::UNUSED_CONTENTS;
use crate::error::StoreError;
use crate::store::Store;

/// How long things are kept once they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Finished queue entries, commands that nothing refers to, and identity certificates after their end.
    pub commands: Duration,
    /// What devices answered, in full; the entry stays and says how it ended. Never longer than `commands`.
    pub results: Duration,
    /// Decision records, where a tenant has no retention of its own.
    pub decisions: Duration,
    /// What hooks were asked and answered in full, likewise.
    pub recorded_calls: Duration,
    /// Events that every observer has taken.
    pub events: Duration,
    /// SCEP challenges after their expiry: for so long a device may repeat a request.
    pub challenges: Duration,
    /// What a plugin keeps, after it was taken out of use.
    pub plugin_data: Duration,
}

impl Default for Retention {
    /// 90 days of commands, 30 of their results, 90 of decisions, 3 days of recorded calls, a week of events, a day of challenges,
    /// 90 days of what plugins keep that are out of use.
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            commands: Duration::from_secs(90 * DAY),
            results: Duration::from_secs(30 * DAY),
            decisions: Duration::from_secs(90 * DAY),
            recorded_calls: Duration::from_secs(3 * DAY),
            events: Duration::from_secs(7 * DAY),
            challenges: Duration::from_secs(DAY),
            plugin_data: Duration::from_secs(90 * DAY),
        }
    }
}

/// How many rows a purge changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries whose time was over before they were delivered.
    pub expired: u64,
    /// Results deleted.
    pub results: u64,
    /// Entries deleted.
    pub entries: u64,
    /// Commands deleted.
    pub commands: u64,
    /// Decisions deleted.
    pub decisions: u64,
    /// Recorded calls deleted.
    pub recorded_calls: u64,
    /// Events deleted.
    pub events: u64,
    /// Challenges deleted.
    pub challenges: u64,
    /// Values of plugins' stores deleted because they expired.
    pub plugin_values: u64,
    /// Values, secrets and keys deleted of plugins that are out of use.
    pub plugin_data: u64,
    /// Identity certificates deleted that ended, but for those that devices had last.
    pub certificates: u64,
    /// Contents of declarations deleted that no plan has any more.
    pub declarations: u64,
}

const EXPIRED: &str = "UPDATE queue_entries SET state = 'expired', finished_at = $1 WHERE id IN \
     (SELECT id FROM queue_entries WHERE finished_at IS NULL AND expires_at IS NOT NULL AND expires_at <= $1 \
     ORDER BY expires_at LIMIT 1000)";
/// A finished entry is in one of two partial indexes, by whether it has a result: neither statement reads what the other
/// one is about, however much is kept.
const RESULTS: &str = "UPDATE queue_entries SET result = NULL WHERE id IN (SELECT id FROM queue_entries \
     WHERE finished_at IS NOT NULL AND result IS NOT NULL AND finished_at <= $1 ORDER BY finished_at LIMIT 1000)";
const ENTRIES: &str = "DELETE FROM queue_entries WHERE id IN (SELECT id FROM queue_entries \
     WHERE finished_at IS NOT NULL AND result IS NULL AND finished_at <= $1 ORDER BY finished_at LIMIT 1000)";
const COMMANDS: &str = "DELETE FROM commands WHERE id IN (SELECT c.id FROM commands c WHERE c.created_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM queue_entries q WHERE q.command_id = c.id) ORDER BY c.created_at LIMIT 1000)";
const CHALLENGES: &str =
    "DELETE FROM scep_challenges WHERE id IN (SELECT id FROM scep_challenges WHERE expires_at <= $1 LIMIT 1000)";

/// How long the content of a declaration is kept that no plan has: one that is on its way into a plan is in use.
pub(crate) const CONTENTS: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Marks what expired, and deletes what is older than the retention says.
    ///
    /// # Errors
    /// When the database fails; what was deleted until then stays deleted.
    pub async fn purge(&self, now: Timestamp, retention: &Retention) -> Result<Purged, StoreError> {
        let (decisions, recorded_calls) = self
            .purge_decisions(retention.decisions, retention.recorded_calls, now)
            .await?;
        // In this order: only what is expired is finished, only what has no result any more is deleted, and only commands
        // without entries are.
        let expired = self.batches(EXPIRED, ms(now)).await?;
        let results = self
            .batches(RESULTS, before(now, retention.results.min(retention.commands)))
            .await?;
        let entries = self.batches(ENTRIES, before(now, retention.commands)).await?;
        let commands = self.batches(COMMANDS, before(now, retention.commands)).await?;
        self.shrink().await?;
        Ok(Purged {
            expired,
            results,
            entries,
            commands,
            decisions,
            recorded_calls,
            events: self.purge_events(before(now, retention.events)).await?,
            challenges: self.batches(CHALLENGES, before(now, retention.challenges)).await?,
            plugin_values: self.purge_plugin_values(now).await?,
            plugin_data: self.purge_left_plugin_data(before(now, retention.plugin_data)).await?,
            certificates: self.purge_certificates(before(now, retention.commands)).await?,
            declarations: self.batches(UNUSED_CONTENTS, before(now, CONTENTS)).await?,
        })
    }

    /// Gives the pages of what was deleted back to the file system, a few at a time. PostgreSQL's autovacuum keeps them for
    /// new rows instead.
    async fn shrink(&self) -> Result<(), StoreError> {
        if !self.read().is_sqlite() {
            return Ok(());
        }
        loop {
            let free = |row: Row| row.get::<i64>(0);
            let before = self
                .read()
                .row("PRAGMA freelist_count", values![])
                .await
                .and_then(free)?;
            self.write((), |db, ()| {
                Box::pin(async move {
                    // It frees a page for each row that is read.
                    db.all("PRAGMA incremental_vacuum(1000)", values![]).await.map(|_| ())
                })
            })
            .await?;
            let after = self
                .read()
                .row("PRAGMA freelist_count", values![])
                .await
                .and_then(free)?;
            if after >= before || after == 0 {
                return Ok(());
            }
        }
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
pub(crate) fn before(now: Timestamp, ago: Duration) -> i64 {
    SignedDuration::try_from(ago)
        .ok()
        .and_then(|ago| now.checked_sub(ago).ok())
        .map_or(i64::MIN, ms)
}
