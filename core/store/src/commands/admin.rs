//! Commands and queues for administration.

use uuid::Uuid;

use super::{Approval, CommandCounts, CommandOrigin, CommandRecord, EntryRecord, EntryState, Hold, ReportStatus};
use crate::db::{Row, values};
use crate::error::StoreError;
use crate::ids::{ApiTokenId, EnrollmentId, EntryId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// How many bytes of results one page holds at most, unless it is one result alone.
const MAX_RESULTS: i64 = 16 << 20;

const COMMAND: &str = "id, uuid, request_type, profile_name, priority, not_before, expires_at, dedupe_key, created_by, \
     warnings, created_at, origin, creator_token, pace, approval, hold_reason, hold_message, decided_by, decided_at";

const ENTRY: &str = "q.id, q.enrollment_id, c.uuid, c.request_type, q.state, q.priority, q.not_before, q.expires_at, \
     q.attempts, q.defer_reason, q.created_at, q.sent_at, q.answered_at, q.finished_at, q.status, q.error_chain, \
     q.unanswered, q.retry_at";

impl Store {
    /// A command of a tenant, and how its entries stand.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn command(
        &self,
        tenant: TenantId,
        uuid: Uuid,
    ) -> Result<Option<(CommandRecord, CommandCounts)>, StoreError> {
        let row = self
            .read()
            .one(
                format!("SELECT {COMMAND} FROM commands WHERE tenant_id = $1 AND uuid = $2"),
                values![tenant, uuid],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (id, command) = command_of(&row)?;
        Ok(Some((command, self.counts_of_command(id).await?)))
    }

    /// The entries of a command, with their results, in the order in which they were queued. A page is shorter than
    /// asked for where the results are large.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn command_entries(
        &self,
        tenant: TenantId,
        uuid: Uuid,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<EntryRecord>, StoreError> {
        let sizes = self
            .read()
            .all(
                "SELECT CAST(COALESCE(LENGTH(q.result), 0) AS BIGINT) FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                 WHERE c.tenant_id = $1 AND c.uuid = $2 AND q.id > $3 ORDER BY q.id LIMIT $4",
                values![tenant, uuid, after.map_or(0, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let mut bytes = 0;
        let mut fitting = 0;
        for size in &sizes {
            bytes += size.get::<i64>(0)?;
            if bytes > MAX_RESULTS {
                break;
            }
            fitting += 1;
        }
        let limit = limit.min(fitting);
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {ENTRY}, q.result FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                     WHERE c.tenant_id = $1 AND c.uuid = $2 AND q.id > $3 ORDER BY q.id LIMIT $4"
                ),
                values![tenant, uuid, after.map_or(0, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let entries = rows
            .iter()
            .map(|row| self.entry_with_result(row))
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(entries, limit, |entry: &EntryRecord| entry.id.0))
    }

    /// One enrollment's entry of a command, with its result.
    ///
    /// # Errors
    /// When the database fails or the row does not read back.
    pub async fn command_entry(&self, enrollment: EnrollmentId, uuid: Uuid) -> Result<Option<EntryRecord>, StoreError> {
        let row = self
            .read()
            .one(
                format!(
                    "SELECT {ENTRY}, q.result FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                     WHERE q.enrollment_id = $1 AND c.uuid = $2"
                ),
                values![enrollment, uuid],
            )
            .await?;
        row.map(|row| self.entry_with_result(&row)).transpose()
    }

    /// What is open in an enrollment's queue, in the order of delivery, without results; at most a page.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn queue(&self, enrollment: EnrollmentId) -> Result<Vec<EntryRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {ENTRY} FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                     WHERE q.enrollment_id = $1 AND q.finished_at IS NULL ORDER BY q.priority, q.id LIMIT 1000"
                ),
                values![enrollment],
            )
            .await?;
        rows.iter().map(entry_of).collect()
    }

    /// Everything that was ever queued for an enrollment and is still kept, newest first, without results.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn queue_history(
        &self,
        enrollment: EnrollmentId,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<EntryRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {ENTRY} FROM queue_entries q JOIN commands c ON c.id = q.command_id \
                     WHERE q.enrollment_id = $1 AND q.id < $2 ORDER BY q.id DESC LIMIT $3"
                ),
                values![enrollment, after.map_or(i64::MAX, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let entries = rows.iter().map(entry_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(entries, limit, |entry: &EntryRecord| entry.id.0))
    }

    /// The entries of a tenant that were delivered again and again without an answer, in the order in which they were
    /// queued, without results.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn stuck_entries(
        &self,
        tenant: TenantId,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<EntryRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {ENTRY} FROM queue_entries q JOIN commands c ON c.id = q.command_id WHERE q.tenant_id = $1 \
                     AND q.stuck_at IS NOT NULL AND q.finished_at IS NULL AND q.id > $2 ORDER BY q.id LIMIT $3"
                ),
                values![tenant, after.map_or(0, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let entries = rows.iter().map(entry_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(entries, limit, |entry: &EntryRecord| entry.id.0))
    }

    /// Commands of a tenant, newest first; all, or those that wait for an approval.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn commands(
        &self,
        tenant: TenantId,
        held: bool,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<CommandRecord>, StoreError> {
        let held = if held { super::counts::WAITS_FOR_APPROVAL } else { "" };
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {COMMAND} FROM commands WHERE tenant_id = $1 AND id < $2 {held} ORDER BY id DESC LIMIT $3"
                ),
                values![tenant, after.map_or(i64::MAX, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let commands = rows.iter().map(command_of).collect::<Result<Vec<_>, _>>()?;
        let page = Page::cut(commands, limit, |(id, _)| *id);
        Ok(Page {
            items: page.items.into_iter().map(|(_, command)| command).collect(),
            next: page.next,
        })
    }

    fn entry_with_result(&self, row: &Row) -> Result<EntryRecord, StoreError> {
        let mut entry = entry_of(row)?;
        if let Some(sealed) = row.get::<Option<Vec<u8>>>(18)? {
            entry.result = Some(self.open_result(entry.enrollment, entry.uuid, &sealed)?);
        }
        Ok(entry)
    }
}

fn command_of(row: &Row) -> Result<(i64, CommandRecord), StoreError> {
    let warnings = serde_json::from_value(row.json(9)?).map_err(|_| StoreError::Corrupt("JSON value"))?;
    let command = CommandRecord {
        uuid: row.get(1)?,
        request_type: row.get(2)?,
        profile_name: row.get(3)?,
        priority: row.get(4)?,
        not_before: row.time_opt(5)?,
        expires_at: row.time_opt(6)?,
        dedupe_key: row.get(7)?,
        created_by: row.get(8)?,
        warnings,
        created_at: row.time(10)?,
        origin: row.word(11, CommandOrigin::from_word, "command origin")?,
        creator_token: row.get::<Option<i64>>(12)?.map(ApiTokenId),
        pace: row.get::<Option<i64>>(13)?.and_then(|pace| u32::try_from(pace).ok()),
        approval: match row.get::<Option<String>>(14)? {
            Some(word) => Some(Approval::from_word(&word).ok_or(StoreError::Corrupt("approval"))?),
            None => None,
        },
        hold: row
            .get::<Option<String>>(15)?
            .zip(row.get::<Option<String>>(16)?)
            .map(|(reason, message)| Hold { reason, message }),
        decided: row.get::<Option<String>>(17)?.zip(row.time_opt(18)?),
    };
    Ok((row.get(0)?, command))
}

fn entry_of(row: &Row) -> Result<EntryRecord, StoreError> {
    let status = match row.get::<Option<String>>(14)? {
        Some(word) => Some(ReportStatus::from_word(&word).ok_or(StoreError::Corrupt("report status"))?),
        None => None,
    };
    Ok(EntryRecord {
        id: EntryId(row.get(0)?),
        enrollment: EnrollmentId(row.get(1)?),
        uuid: row.get(2)?,
        request_type: row.get(3)?,
        state: row.word(4, EntryState::from_word, "entry state")?,
        priority: row.get(5)?,
        not_before: row.time_opt(6)?,
        expires_at: row.time_opt(7)?,
        attempts: row.get(8)?,
        defer_reason: row.get(9)?,
        created_at: row.time(10)?,
        sent_at: row.time_opt(11)?,
        answered_at: row.time_opt(12)?,
        finished_at: row.time_opt(13)?,
        status,
        error_chain: row.json_opt(15)?,
        unanswered: row.get(16)?,
        retry_at: row.time_opt(17)?,
        result: None,
    })
}
