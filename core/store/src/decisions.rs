//! Decision records: what a hook answered, why, and under which failure rule.
//!
//! A decision that lets a write happen is inserted in the transaction of that write, so that neither exists without
//! the other; one that only refuses something stands alone.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, from_ms, ms, values, words};
use crate::entity::decision;
use crate::error::StoreError;
use crate::ids::{DecisionId, EnrollmentId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// A decision to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDecision {
    /// The enrollment that it is about; filled in by a write that makes or names one.
    pub enrollment: Option<EnrollmentId>,
    /// The extension point, by its name in the contract.
    pub hook: String,
    /// The plugin that answered; `None` when nobody was asked and a default held.
    pub plugin: Option<String>,
    /// The revision's digest, in hexadecimal.
    pub revision: Option<String>,
    /// What was decided about: a serial number, a key, a command.
    pub subject: String,
    /// The answer's kind, such as `allow` or `deny`.
    pub verdict: String,
    /// The answer's own words.
    pub reason: Option<String>,
    /// The fault, when the plugin failed.
    pub fault: Option<String>,
    /// The failure rule that turned the fault into the verdict.
    pub failure_rule: Option<String>,
    /// How long the answer took, in microseconds.
    pub duration_us: i64,
}

/// A recorded decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Its row.
    pub id: DecisionId,
    /// What was recorded.
    pub decision: NewDecision,
    /// When it was recorded.
    pub created_at: Timestamp,
}

impl Store {
    /// Records decisions that no write follows from.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_decisions(
        &self,
        tenant: TenantId,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if decisions.is_empty() {
            return Ok(());
        }
        self.write((tenant, decisions, now), |db, (tenant, decisions, now)| {
            Box::pin(record(db, *tenant, None, decisions, *now))
        })
        .await
    }

    /// Decisions of a tenant, or of one of its enrollments, newest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn decisions(
        &self,
        tenant: TenantId,
        enrollment: Option<EnrollmentId>,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<DecisionRecord>, StoreError> {
        let mut query = decision::Entity::find().filter(decision::Column::TenantId.eq(tenant.0));
        if let Some(enrollment) = enrollment {
            query = query.filter(decision::Column::EnrollmentId.eq(enrollment.0));
        }
        if let Some(after) = after {
            query = query.filter(decision::Column::Id.lt(after.0));
        }
        let rows = query
            .order_by_desc(decision::Column::Id)
            .limit(u64::try_from(probe(limit)).ok())
            .all(self.read())
            .await?;
        let rows = rows
            .into_iter()
            .map(DecisionRecord::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::cut(rows, limit, |record: &DecisionRecord| record.id.0))
    }
}

impl TryFrom<decision::Model> for DecisionRecord {
    type Error = StoreError;

    fn try_from(row: decision::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: DecisionId(row.id),
            created_at: from_ms(row.created_at)?,
            decision: NewDecision {
                enrollment: row.enrollment_id.map(EnrollmentId),
                hook: row.hook,
                plugin: row.plugin,
                revision: row.revision,
                subject: row.subject,
                verdict: row.verdict,
                reason: row.reason,
                fault: row.fault,
                failure_rule: row.failure_rule,
                duration_us: row.duration_us,
            },
        })
    }
}

/// Inserts decisions into the transaction that follows from them.
pub(crate) async fn record(
    db: &Db,
    tenant: TenantId,
    enrollment: Option<EnrollmentId>,
    decisions: &[NewDecision],
    now: Timestamp,
) -> Result<(), StoreError> {
    for decision in decisions {
        db.exec(
            "INSERT INTO decisions (tenant_id, enrollment_id, hook, plugin, revision, subject, verdict, reason, \
             fault, failure_rule, duration_us, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            values![
                tenant,
                decision.enrollment.or(enrollment).map(|id| id.0),
                decision.hook.clone(),
                decision.plugin.clone(),
                decision.revision.clone(),
                words(&decision.subject),
                decision.verdict.clone(),
                decision.reason.as_deref().map(words),
                decision.fault.as_deref().map(words),
                decision.failure_rule.clone(),
                decision.duration_us,
                ms(now),
            ],
        )
        .await?;
    }
    Ok(())
}
