//! Reading decision records.

use jiff::Timestamp;
use sea_orm::Value;
use serde_json::Value as Json;

use super::{ChainHead, RecordedCall};
use crate::db::{Row, values};
use crate::error::StoreError;
use crate::ids::{DecisionId, EnrollmentId, Sha256, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// A recorded decision.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// Its row.
    pub id: DecisionId,
    /// The enrollment that it is about.
    pub enrollment: Option<EnrollmentId>,
    /// The enrollment's key.
    pub enrollment_key: Option<String>,
    /// The extension point.
    pub hook: String,
    /// The plugin that answered.
    pub plugin: Option<String>,
    /// The revision's digest, in hexadecimal.
    pub revision: Option<String>,
    /// What was decided about.
    pub subject: String,
    /// The answer's kind.
    pub verdict: String,
    /// The answer's own words.
    pub reason: Option<String>,
    /// The fault, when the plugin failed.
    pub fault: Option<String>,
    /// The failure rule that was applied.
    pub failure_rule: Option<String>,
    /// How long the answer took, in microseconds.
    pub duration_us: i64,
    /// What was to be done because of it, and what became of each: an array.
    pub effects: Json,
    /// The digest of the question.
    pub input_sha256: Option<Sha256>,
    /// The digest of what the plugin asked the server, with the answers.
    pub journal_sha256: Option<Sha256>,
    /// The digest of the whole answer.
    pub verdict_sha256: Option<Sha256>,
    /// How often the plugin asked the server for something.
    pub host_calls: i64,
    /// Its processor time, in ticks of 10 ms.
    pub cpu_ticks: i64,
    /// Its memory at the most, in bytes.
    pub memory_bytes: i64,
    /// Whether question, journal and answer are still kept in full.
    pub has_call: bool,
    /// Its place in the tenant's chain; `None` for the moment until it has one.
    pub chain: Option<ChainHead>,
    /// When it was recorded.
    pub created_at: Timestamp,
}

/// Which decisions to list; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// Only those about this enrollment.
    pub enrollment: Option<EnrollmentId>,
    /// Only those of this hook.
    pub hook: Option<String>,
    /// Only those of this plugin.
    pub plugin: Option<String>,
    /// Only those with this verdict.
    pub verdict: Option<String>,
    /// Only those from this time on.
    pub since: Option<Timestamp>,
    /// Only those that are kept in full.
    pub with_call: bool,
}

/// The columns of [`decision_of`], of `decisions d` and `enrollments n`.
const COLUMNS: &str = "d.id, d.enrollment_id, n.enrollment_key, d.hook, d.plugin, d.revision, d.subject, d.verdict, \
     d.reason, d.fault, d.failure_rule, d.duration_us, d.effects, d.input_sha256, d.journal_sha256, d.verdict_sha256, \
     d.host_calls, d.cpu_ticks, d.memory_bytes, d.sealed IS NOT NULL, d.chain_seq, d.chain_hash, d.created_at";

fn decision_of(row: &Row) -> Result<DecisionRecord, StoreError> {
    let chain = match (row.get(20)?, row.sha256_opt(21)?) {
        (Some(seq), Some(hash)) => Some(ChainHead { seq, hash }),
        _ => None,
    };
    Ok(DecisionRecord {
        id: DecisionId(row.get(0)?),
        enrollment: row.get::<Option<i64>>(1)?.map(EnrollmentId),
        enrollment_key: row.get(2)?,
        hook: row.get(3)?,
        plugin: row.get(4)?,
        revision: row.get(5)?,
        subject: row.get(6)?,
        verdict: row.get(7)?,
        reason: row.get(8)?,
        fault: row.get(9)?,
        failure_rule: row.get(10)?,
        duration_us: row.get(11)?,
        effects: row.json(12)?,
        input_sha256: row.sha256_opt(13)?,
        journal_sha256: row.sha256_opt(14)?,
        verdict_sha256: row.sha256_opt(15)?,
        host_calls: row.get(16)?,
        cpu_ticks: row.get(17)?,
        memory_bytes: row.get(18)?,
        has_call: row.get(19)?,
        chain,
        created_at: row.time(22)?,
    })
}

impl DecisionFilter {
    /// The rest of a statement whose values begin with the tenant.
    fn conditions(&self, sql: &mut String, values: &mut Vec<Value>) {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        for (condition, value) in [
            ("d.enrollment_id =", self.enrollment.map(|id| id.0.into())),
            ("d.hook =", text(&self.hook)),
            ("d.plugin =", text(&self.plugin)),
            ("d.verdict =", text(&self.verdict)),
            ("d.created_at >=", self.since.map(|since| since.as_millisecond().into())),
        ] {
            if let Some(value) = value {
                values.push(value);
                sql.push_str(&format!(" AND {condition} ${}", values.len()));
            }
        }
        if self.with_call {
            sql.push_str(" AND d.sealed IS NOT NULL");
        }
    }
}

impl Store {
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
        let filter = DecisionFilter {
            enrollment,
            ..DecisionFilter::default()
        };
        self.decisions_where(tenant, &filter, after, limit).await
    }

    /// Decisions of a tenant that fit a filter, newest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn decisions_where(
        &self,
        tenant: TenantId,
        filter: &DecisionFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<DecisionRecord>, StoreError> {
        let mut sql = format!(
            "SELECT {COLUMNS} FROM decisions d LEFT JOIN enrollments n ON n.id = d.enrollment_id \
             WHERE d.tenant_id = $1 AND d.id < $2"
        );
        let mut values = values![tenant, after.map_or(i64::MAX, |cursor| cursor.0), probe(limit)];
        filter.conditions(&mut sql, &mut values);
        sql.push_str(" ORDER BY d.id DESC LIMIT $3");
        let rows = self.read().all(sql, values).await?;
        let rows = rows.iter().map(decision_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(rows, limit, |record: &DecisionRecord| record.id.0))
    }

    /// One decision.
    ///
    /// # Errors
    /// When the database fails or the row does not read back.
    pub async fn decision(&self, tenant: TenantId, id: DecisionId) -> Result<Option<DecisionRecord>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM decisions d LEFT JOIN enrollments n ON n.id = d.enrollment_id \
             WHERE d.tenant_id = $1 AND d.id = $2"
        );
        let row = self.read().one(sql, values![tenant, id]).await?;
        row.map(|row| decision_of(&row)).transpose()
    }

    /// Decisions that fit a filter, oldest first, each with its call if that is kept: what is run again elsewhere. A page
    /// holds at most a hundred, because calls can be large.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn export_decisions(
        &self,
        tenant: TenantId,
        filter: &DecisionFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<(DecisionRecord, Option<RecordedCall>)>, StoreError> {
        let limit = limit.min(100);
        let mut sql = format!(
            "SELECT {COLUMNS}, d.sealed, d.sealed_as FROM decisions d LEFT JOIN enrollments n ON n.id = d.enrollment_id \
             WHERE d.tenant_id = $1 AND d.id > $2"
        );
        let mut values = values![tenant, after.map_or(0, |cursor| cursor.0), probe(limit)];
        filter.conditions(&mut sql, &mut values);
        sql.push_str(" ORDER BY d.id LIMIT $3");
        let rows = self.read().all(sql, values).await?;
        let rows = rows
            .iter()
            .map(|row| {
                let call = match (row.get::<Option<Vec<u8>>>(23)?, row.get(24)?) {
                    (Some(sealed), Some(name)) => Some(self.opened_call(tenant, &sealed, name)?),
                    _ => None,
                };
                Ok((decision_of(row)?, call))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Page::cut(rows, limit, |(record, _): &(DecisionRecord, _)| record.id.0))
    }
}
