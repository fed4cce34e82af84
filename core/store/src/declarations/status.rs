//! What devices report: the latest value of each status item, and what could not be read of their reports.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::requests::request_plan;
use crate::db::{ms, values, words};
use crate::error::StoreError;
use crate::events::{self, NewEvent};
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// The most different problems that are kept of one enrollment; the oldest go first.
const MAX_PROBLEMS: i64 = 20;

/// A status item.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusItem {
    /// Its name, such as `device.operating-system.version`.
    pub item: String,
    /// What was reported last.
    pub value: Json,
    /// When this value was reported first.
    pub reported_at: Timestamp,
}

/// What could not be read of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusProblem {
    /// What is wrong.
    pub problem: String,
    /// The beginning of the report, if it is needed to understand it.
    pub excerpt: Option<Vec<u8>>,
    /// How often it came.
    pub times: i64,
    /// When it came last.
    pub reported_at: Timestamp,
}

/// What a report changes.
#[derive(Clone, Debug)]
pub struct StatusWrite {
    /// Whose report.
    pub enrollment: EnrollmentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// New values.
    pub set: Vec<(String, Json)>,
    /// Items that are gone.
    pub removed: Vec<String>,
    /// What could not be read.
    pub problems: Vec<String>,
    /// The beginning of the report, if it could not be read.
    pub excerpt: Option<Vec<u8>>,
    /// Whether a plan may rest on what changed.
    pub replan: bool,
    /// What observers are told.
    pub events: Vec<NewEvent>,
}

impl Store {
    /// The status items of an enrollment, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn status_items(&self, enrollment: EnrollmentId) -> Result<Vec<StatusItem>, StoreError> {
        let sql = "SELECT item, value, reported_at FROM declaration_status WHERE enrollment_id = $1 ORDER BY item";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter()
            .map(|row| {
                Ok(StatusItem {
                    item: row.get(0)?,
                    value: row.json(1)?,
                    reported_at: row.time(2)?,
                })
            })
            .collect()
    }

    /// What could not be read of an enrollment's reports, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn status_problems(&self, enrollment: EnrollmentId) -> Result<Vec<StatusProblem>, StoreError> {
        let sql = "SELECT problem, excerpt, times, reported_at FROM declaration_status_problems \
                   WHERE enrollment_id = $1 ORDER BY reported_at DESC, problem";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter()
            .map(|row| {
                Ok(StatusProblem {
                    problem: row.get(0)?,
                    excerpt: row.get(1)?,
                    times: row.get(2)?,
                    reported_at: row.time(3)?,
                })
            })
            .collect()
    }

    /// Stores what a report changes.
    ///
    /// # Errors
    /// [`StoreError::Removed`] when the enrollment is gone.
    pub async fn put_status(&self, write: StatusWrite, now: Timestamp) -> Result<(), StoreError> {
        self.write((write, now), |db, (write, now)| {
            Box::pin(async move {
                crate::assignments::assignable(db, write.tenant, write.enrollment).await?;
                for (item, value) in &write.set {
                    db.exec(
                        "INSERT INTO declaration_status (enrollment_id, item, tenant_id, value, reported_at) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (enrollment_id, item) DO UPDATE SET \
                         value = excluded.value, reported_at = excluded.reported_at",
                        values![
                            write.enrollment,
                            item.clone(),
                            write.tenant,
                            // PostgreSQL refuses a text with a NUL; JSON text has it escaped.
                            value.to_string(),
                            ms(*now)
                        ],
                    )
                    .await?;
                }
                for item in &write.removed {
                    let sql = "DELETE FROM declaration_status WHERE enrollment_id = $1 AND item = $2";
                    db.exec(sql, values![write.enrollment, item.clone()]).await?;
                }
                for problem in &write.problems {
                    db.exec(
                        "INSERT INTO declaration_status_problems (enrollment_id, problem, tenant_id, excerpt, times, \
                         reported_at) VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT (enrollment_id, problem) DO UPDATE SET \
                         excerpt = excluded.excerpt, times = declaration_status_problems.times + 1, \
                         reported_at = excluded.reported_at",
                        values![
                            write.enrollment,
                            words(problem),
                            write.tenant,
                            write.excerpt.clone(),
                            ms(*now)
                        ],
                    )
                    .await?;
                }
                if !write.problems.is_empty() {
                    db.exec(
                        "DELETE FROM declaration_status_problems WHERE enrollment_id = $1 AND problem NOT IN \
                         (SELECT problem FROM declaration_status_problems WHERE enrollment_id = $1 \
                          ORDER BY reported_at DESC, problem LIMIT $2)",
                        values![write.enrollment, MAX_PROBLEMS],
                    )
                    .await?;
                }
                events::record(db, write.tenant, Some(write.enrollment), &write.events, *now).await?;
                if write.replan {
                    request_plan(db, &[write.enrollment], *now).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
