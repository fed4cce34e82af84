//! Commands that wait for an administrator's approval.
//!
//! Who may approve is decided above; here a decision is written down, once, and what follows from it is done.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Approval, Hold, open_entry};
use crate::db::{Db, ms, values, words};
use crate::decisions::{NewDecision, record as record_decisions};
use crate::error::StoreError;
use crate::ids::{EntryId, TenantId};
use crate::push;
use crate::store::Store;

/// What an administrator decided about a held command.
#[derive(Clone, Debug)]
struct Decided {
    tenant: TenantId,
    uuid: Uuid,
    approval: Approval,
    by: String,
    at: Timestamp,
}

/// Notes the decision; the command's row. Of two at once one comes too late.
async fn decide(db: &Db, decided: &Decided) -> Result<i64, StoreError> {
    let row = db
        .one(
            "UPDATE commands SET approval = $3, decided_by = $4, decided_at = $5 \
             WHERE tenant_id = $1 AND uuid = $2 AND approval = 'held' RETURNING id",
            values![
                decided.tenant,
                decided.uuid,
                decided.approval,
                decided.by.clone(),
                ms(decided.at)
            ],
        )
        .await?;
    row.ok_or(StoreError::NotFound("held command"))?.get(0)
}

pub(super) const HOLD: &str = concat!(
    "UPDATE queue_entries SET state = 'held', defer_reason = $2, retry_at = NULL, unanswered = 0, stuck_at = NULL \
     WHERE id = $1 AND ",
    open_entry!(),
    " RETURNING command_id"
);

impl Store {
    /// The command as a property list, or what it is made from at delivery; empty if the stored one was changed outside the
    /// server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn command_payload(&self, tenant: TenantId, uuid: Uuid) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT payload FROM commands WHERE tenant_id = $1 AND uuid = $2";
        let row = self.read().one(sql, values![tenant, uuid]).await?;
        row.map(|row| self.open_command(tenant, uuid, &row.get::<Vec<u8>>(0)?))
            .transpose()
    }

    /// Lets a held command go, as it is or with another payload, and records the decisions of the policies that were asked
    /// again; for how many enrollments it was released.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it does not wait (any longer); then nothing is recorded.
    pub async fn approve(
        &self,
        tenant: TenantId,
        uuid: Uuid,
        by: &str,
        payload: Option<Vec<u8>>,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let payload = payload
            .map(|payload| self.seal_payload(tenant, uuid, &payload))
            .transpose()?;
        let decided = Decided {
            tenant,
            uuid,
            approval: Approval::Approved,
            by: words(by),
            at: now,
        };
        self.write((decided, payload, decisions), |db, (decided, payload, decisions)| {
            Box::pin(async move {
                let command = decide(db, decided).await?;
                if let Some(payload) = payload {
                    let sql = "UPDATE commands SET payload = $2 WHERE id = $1";
                    db.exec(sql, values![command, payload.clone()]).await?;
                }
                let released = db
                    .exec(
                        "UPDATE queue_entries SET state = 'pending', defer_reason = NULL, retry_at = NULL, unanswered = 0 \
                         WHERE command_id = $1 AND state = 'held' AND finished_at IS NULL",
                        values![command],
                    )
                    .await?;
                let first = "SELECT MIN(not_before) FROM queue_entries WHERE command_id = $1 AND state = 'pending'";
                let first = db.row(first, values![command]).await?.time_opt(0)?;
                let first = first.unwrap_or(decided.at);
                push::request_for_command(db, command, released, first, decided.at).await?;
                record_decisions(db, decided.tenant, None, decisions, decided.at).await?;
                Ok(released)
            })
        })
        .await
    }

    /// Takes a held command back for good; how many enrollments it waited for.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it does not wait (any longer); then nothing is recorded.
    pub async fn reject(
        &self,
        tenant: TenantId,
        uuid: Uuid,
        by: &str,
        reason: Option<String>,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let decided = Decided {
            tenant,
            uuid,
            approval: Approval::Rejected,
            by: words(by),
            at: now,
        };
        let reason = reason.as_deref().map(words);
        self.write((decided, reason, decisions), |db, (decided, reason, decisions)| {
            Box::pin(async move {
                let command = decide(db, decided).await?;
                let cancelled = db
                    .exec(
                        "UPDATE queue_entries SET state = 'cancelled', finished_at = $2, \
                         defer_reason = COALESCE($3, defer_reason) WHERE command_id = $1 AND finished_at IS NULL",
                        values![command, ms(decided.at), reason.clone()],
                    )
                    .await?;
                record_decisions(db, decided.tenant, None, decisions, decided.at).await?;
                Ok(cancelled)
            })
        })
        .await
    }

    /// Holds a taken entry back, because a policy wants an approval before it goes to this device, and records the policy's
    /// decisions. Whether the entry was still open.
    ///
    /// # Errors
    /// When the database fails; then neither happened.
    pub async fn hold_delivery(
        &self,
        tenant: TenantId,
        entry: EntryId,
        hold: Hold,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(
            (tenant, entry, hold, decisions, now),
            |db, (tenant, entry, hold, decisions, now)| {
                Box::pin(async move {
                    let row = db.one(HOLD, values![*entry, words(&hold.message)]).await?;
                    record_decisions(db, *tenant, None, decisions, *now).await?;
                    let Some(row) = row else { return Ok(false) };
                    db.exec(
                        "UPDATE commands SET approval = 'held', hold_reason = $2, hold_message = $3 WHERE id = $1",
                        values![row.get::<i64>(0)?, words(&hold.reason), words(&hold.message)],
                    )
                    .await?;
                    Ok(true)
                })
            },
        )
        .await
    }
}
