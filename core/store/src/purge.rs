//! What a purge would do now, without doing it: for who changes the retention and wants to know before.
//!
//! Each count has the conditions of a statement in `maintenance` or beside its aggregate; a test compares the two.

use jiff::Timestamp;

use crate::db::{ms, values};
use crate::error::StoreError;
use crate::maintenance::{CONTENTS, Purged, Retention, before};
use crate::store::Store;

const EXPIRED: &str = "SELECT COUNT(*) FROM queue_entries \
     WHERE finished_at IS NULL AND expires_at IS NOT NULL AND expires_at <= $1";
const RESULTS: &str =
    "SELECT COUNT(*) FROM queue_entries WHERE finished_at IS NOT NULL AND result IS NOT NULL AND finished_at <= $1";
/// In two parts, as the indexes are.
const ENTRIES: &str = "SELECT (SELECT COUNT(*) FROM queue_entries WHERE finished_at IS NOT NULL AND result IS NOT NULL \
     AND finished_at <= $1) + (SELECT COUNT(*) FROM queue_entries WHERE finished_at IS NOT NULL AND result IS NULL \
     AND finished_at <= $1)";
const COMMANDS: &str = "SELECT COUNT(*) FROM commands c WHERE c.created_at <= $1 AND NOT EXISTS \
     (SELECT 1 FROM queue_entries q WHERE q.command_id = c.id AND (q.finished_at IS NULL OR q.finished_at > $1))";
const EVENTS: &str = "SELECT COUNT(*) FROM events e WHERE e.created_at <= $1 AND e.tx < $2 \
     AND NOT EXISTS (SELECT 1 FROM event_deliveries d WHERE d.event_id = e.id) \
     AND NOT EXISTS (SELECT 1 FROM event_cursors c WHERE c.tenant_id = e.tenant_id \
     AND (c.tx, c.event_id) < (e.tx, e.id))";
const CHALLENGES: &str = "SELECT COUNT(*) FROM scep_challenges WHERE expires_at <= $1";
const PLUGIN_VALUES: &str = "SELECT COUNT(*) FROM plugin_kv WHERE expires_at IS NOT NULL AND expires_at <= $1";
const DECLARATIONS: &str = "SELECT COUNT(*) FROM declaration_contents c WHERE c.used_at <= $1 AND NOT EXISTS \
     (SELECT 1 FROM declaration_plan_items i WHERE i.tenant_id = c.tenant_id AND i.server_token = c.server_token)";

impl Store {
    /// What [`purge`](Self::purge) would change at this time. Decisions that are not in their chain yet are not counted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn would_purge(&self, now: Timestamp, retention: &Retention) -> Result<Purged, StoreError> {
        let commands = before(now, retention.commands);
        let (decisions, recorded_calls) = self
            .would_purge_decisions(retention.decisions, retention.recorded_calls, now)
            .await?;
        let horizon = self.read().horizon().await?;
        let events = values![before(now, retention.events), horizon];
        let events: i64 = self.read().row(EVENTS, events).await?.get(0)?;
        Ok(Purged {
            expired: self.count(EXPIRED, ms(now)).await?,
            results: self
                .count(RESULTS, before(now, retention.results.min(retention.commands)))
                .await?,
            entries: self.count(ENTRIES, commands).await?,
            commands: self.count(COMMANDS, commands).await?,
            decisions,
            recorded_calls,
            events: u64::try_from(events).unwrap_or(0),
            challenges: self.count(CHALLENGES, before(now, retention.challenges)).await?,
            plugin_values: self.count(PLUGIN_VALUES, ms(now)).await?,
            plugin_data: self
                .would_purge_left_plugin_data(before(now, retention.plugin_data))
                .await?,
            certificates: self.would_purge_certificates(commands).await?,
            declarations: self.count(DECLARATIONS, before(now, CONTENTS)).await?,
        })
    }

    async fn count(&self, sql: &'static str, limit: i64) -> Result<u64, StoreError> {
        let count: i64 = self.read().row(sql, values![limit]).await?.get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
