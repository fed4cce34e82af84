//! How queues stand, in numbers.

use std::collections::BTreeMap;

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

fn counts(rows: &[Row]) -> Result<BTreeMap<EntryState, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let state = row.word(0, EntryState::from_word, "entry state")?;
        counts.insert(state, u64::try_from(row.get::<i64>(1)?).unwrap_or(0));
    }
    Ok(counts)
}

impl Store {
    pub(super) async fn counts_of_command(&self, id: i64) -> Result<CommandCounts, StoreError> {
        let sql = "SELECT state, COUNT(*) FROM queue_entries WHERE command_id = $1 GROUP BY state";
        counts(&self.read().all(sql, values![id]).await?)
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
                "SELECT (SELECT COUNT(*) FROM commands WHERE tenant_id = $1 AND approval = 'held'), \
                 (SELECT COUNT(*) FROM queue_entries WHERE tenant_id = $1 AND stuck_at IS NOT NULL \
                  AND finished_at IS NULL)",
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
