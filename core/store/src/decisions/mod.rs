//! Decision records: what a hook answered, why, under which failure rule, and what was done because of it.
//!
//! A decision that lets a write happen is inserted in the transaction of that write, so that neither exists without
//! the other; one that only refuses something stands alone. Its effects are applied in the same transaction. Later each
//! record joins its tenant's chain ([`chain`]); what was asked and answered in full is sealed beside it for a while
//! ([`sealed`]).

mod chain;
mod list;
mod retention;
mod sealed;

use jiff::Timestamp;

use crate::db::{Db, ms, values, words};
use crate::effects::{self, Cause, NewEffect};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, Sha256, TenantId};
use crate::store::Store;

pub use chain::{ChainBreak, ChainHead, ChainReport};
pub use list::{DecisionFilter, DecisionRecord};
pub use retention::DecisionRetention;
pub use sealed::{RecordedCall, SealedCall};

/// A decision to record.
#[derive(Clone, Debug, Default)]
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
    /// What is to be done because of it.
    pub effects: Vec<NewEffect>,
    /// How many plugins caused one another until what the effects cause.
    pub depth: u8,
    /// The digest of the question.
    pub input_sha256: Option<Sha256>,
    /// The digest of what the plugin asked the server, with the answers.
    pub journal_sha256: Option<Sha256>,
    /// The digest of the whole answer.
    pub verdict_sha256: Option<Sha256>,
    /// How often the plugin asked the server for something.
    pub host_calls: u32,
    /// Its processor time, in ticks of 10 ms.
    pub cpu_ticks: u32,
    /// Its memory at the most, in bytes.
    pub memory_bytes: u64,
    /// Question, journal and answer in full, sealed; absent where they are not kept.
    pub call: Option<SealedCall>,
}

impl Store {
    /// Records decisions that no write follows from, and applies their effects.
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
}

/// The columns of a record, in the order of [`row_values`].
macro_rules! decision_columns {
    () => {
        "tenant_id, enrollment_id, hook, plugin, revision, subject, verdict, reason, fault, failure_rule, duration_us, \
         created_at, effects, input_sha256, journal_sha256, verdict_sha256, host_calls, cpu_ticks, memory_bytes, sealed, \
         sealed_as"
    };
}

pub(crate) use decision_columns;

/// How many they are.
pub(crate) const COLUMN_COUNT: usize = 21;

const INSERT: &str = concat!(
    "INSERT INTO decisions (",
    decision_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
);

/// The values of a record; `effects` is what became of those that the decision wanted.
pub(crate) fn row_values(
    tenant: TenantId,
    about: Option<EnrollmentId>,
    decision: &NewDecision,
    effects: String,
    now: Timestamp,
) -> Vec<sea_orm::Value> {
    let digest = |digest: Option<Sha256>| digest.map(|digest| digest.to_vec());
    values![
        tenant,
        about.map(|id| id.0),
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
        effects,
        digest(decision.input_sha256),
        digest(decision.journal_sha256),
        digest(decision.verdict_sha256),
        i64::from(decision.host_calls),
        i64::from(decision.cpu_ticks),
        i64::try_from(decision.memory_bytes).unwrap_or(i64::MAX),
        decision.call.as_ref().map(|call| call.sealed.clone()),
        decision.call.as_ref().map(|call| call.name),
    ]
}

/// Inserts decisions into the transaction that follows from them, and applies their effects in it.
pub(crate) async fn record(
    db: &Db,
    tenant: TenantId,
    enrollment: Option<EnrollmentId>,
    decisions: &[NewDecision],
    now: Timestamp,
) -> Result<(), StoreError> {
    for decision in decisions {
        let about = decision.enrollment.or(enrollment);
        let cause = Cause {
            tenant,
            about,
            plugin: decision.plugin.as_deref().unwrap_or_default(),
            now,
        };
        let effects = {
            let _depth = db.at_depth(decision.depth);
            effects::apply(db, cause, &decision.effects).await?
        };
        db.exec(INSERT, row_values(tenant, about, decision, effects.to_string(), now))
            .await?;
    }
    Ok(())
}
