//! What came of asking two revisions of a plugin the same: totals per node, and a few samples.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::db::{ms, values, words};
use crate::error::StoreError;
use crate::ids::{RolloutId, TenantId};
use crate::store::Store;

/// The most samples that are kept of one rollout.
const MAX_SAMPLES: i64 = 200;

/// The most counters that one node may have of one rollout: their names come from verdicts.
const MAX_COUNTERS: usize = 256;

/// A call on which two revisions did not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonSample {
    /// The hook.
    pub hook: String,
    /// What the call was about: a serial number, a user name.
    pub subject: String,
    /// The name of the active revision's verdict.
    pub base_verdict: String,
    /// The name of the other's.
    pub other_verdict: String,
    /// Why the other one decided as it did.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What one node has counted of a rollout since it started, and what it saw since it wrote last.
#[derive(Clone, Debug)]
pub struct ComparisonReport {
    /// The rollout.
    pub rollout: RolloutId,
    /// The node.
    pub node: String,
    /// Totals by counter.
    pub totals: BTreeMap<String, u64>,
    /// New samples.
    pub samples: Vec<ComparisonSample>,
}

/// What all nodes have counted of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Totals by counter, summed over the nodes.
    pub totals: BTreeMap<String, u64>,
    /// The newest samples, newest first.
    pub samples: Vec<ComparisonSample>,
}

impl Store {
    /// Writes what a node has counted. A rollout that is gone takes nothing, which is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn report_comparison(&self, tenant: TenantId, report: ComparisonReport) -> Result<(), StoreError> {
        self.write((tenant, report), |db, (tenant, report)| {
            Box::pin(async move {
                let known = db
                    .one(
                        "SELECT id FROM plugin_rollouts WHERE id = $1 AND tenant_id = $2 AND ended_at IS NULL",
                        values![report.rollout, *tenant],
                    )
                    .await?;
                if known.is_none() {
                    return Ok(());
                }
                for (counter, total) in report.totals.iter().take(MAX_COUNTERS) {
                    db.exec(
                        "INSERT INTO plugin_comparisons (rollout_id, node, counter, total) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (rollout_id, node, counter) DO UPDATE SET total = excluded.total",
                        values![
                            report.rollout,
                            report.node.clone(),
                            words(counter),
                            i64::try_from(*total).unwrap_or(i64::MAX)
                        ],
                    )
                    .await?;
                }
                for sample in &report.samples {
                    db.exec(
                        "INSERT INTO plugin_comparison_samples (rollout_id, hook, subject, base_verdict, \
                         other_verdict, reason, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                        values![
                            report.rollout,
                            sample.hook.clone(),
                            words(&sample.subject),
                            words(&sample.base_verdict),
                            words(&sample.other_verdict),
                            sample.reason.as_deref().map(words),
                            ms(sample.at)
                        ],
                    )
                    .await?;
                }
                if !report.samples.is_empty() {
                    db.exec(
                        "DELETE FROM plugin_comparison_samples WHERE rollout_id = $1 AND id NOT IN \
                         (SELECT id FROM plugin_comparison_samples WHERE rollout_id = $1 ORDER BY id DESC LIMIT $2)",
                        values![report.rollout, MAX_SAMPLES],
                    )
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// What all nodes have counted of a rollout of the tenant; nothing if there is no such rollout.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn comparison(&self, tenant: TenantId, rollout: RolloutId) -> Result<Comparison, StoreError> {
        let totals = self
            .read()
            .all(
                "SELECT c.counter, CAST(SUM(c.total) AS BIGINT) FROM plugin_comparisons c \
                 JOIN plugin_rollouts r ON r.id = c.rollout_id \
                 WHERE c.rollout_id = $1 AND r.tenant_id = $2 GROUP BY c.counter",
                values![rollout, tenant],
            )
            .await?;
        let samples = self
            .read()
            .all(
                "SELECT s.hook, s.subject, s.base_verdict, s.other_verdict, s.reason, s.created_at \
                 FROM plugin_comparison_samples s JOIN plugin_rollouts r ON r.id = s.rollout_id \
                 WHERE s.rollout_id = $1 AND r.tenant_id = $2 ORDER BY s.id DESC",
                values![rollout, tenant],
            )
            .await?;
        Ok(Comparison {
            totals: totals
                .iter()
                .map(|row| Ok((row.get(0)?, u64::try_from(row.get::<i64>(1)?).unwrap_or_default())))
                .collect::<Result<_, StoreError>>()?,
            samples: samples
                .iter()
                .map(|row| {
                    Ok(ComparisonSample {
                        hook: row.get(0)?,
                        subject: row.get(1)?,
                        base_verdict: row.get(2)?,
                        other_verdict: row.get(3)?,
                        reason: row.get(4)?,
                        at: row.time(5)?,
                    })
                })
                .collect::<Result<_, StoreError>>()?,
        })
    }
}
