//! How long decision records are kept, for each tenant, and what was asked and answered in full.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::SLACK;
use crate::db::{Row, ms, values};
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::maintenance::before;
use crate::store::Store;

/// A tenant's own retention; what is absent is as the server's settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionRetention {
    /// How many days records are kept.
    pub decisions_days: Option<u32>,
    /// How many hours questions, journals and answers are kept in full; 0 keeps none.
    pub input_hours: Option<u32>,
}

const HOUR: u64 = 60 * 60;

/// Goes with its rows: where the chain begins from now on. `$2` is the last record that goes.
const ANCHOR: &str = "UPDATE decision_chains SET anchor_seq = $2, anchor_hash = \
     (SELECT chain_hash FROM decisions WHERE tenant_id = $1 AND chain_seq = $2) \
     WHERE tenant_id = $1 AND anchor_seq < $2 \
     AND EXISTS (SELECT 1 FROM decisions WHERE tenant_id = $1 AND chain_seq = $2)";

/// The number of the last record that was made by $2, before the first that is younger. One that is later than $3 is from a
/// clock that was ahead: it goes with those beside it.
macro_rules! last_to_go {
    () => {
        "(SELECT MAX(g.chain_seq) FROM decisions g WHERE g.tenant_id = $1 AND g.chain_seq IS NOT NULL \
         AND g.created_at <= $2 AND g.chain_seq < COALESCE((SELECT y.chain_seq FROM decisions y WHERE y.tenant_id = $1 \
         AND y.chain_seq IS NOT NULL AND y.created_at > $2 AND y.created_at <= $3 ORDER BY y.chain_seq LIMIT 1), \
         9223372036854775807))"
    };
}

/// The records before the first that is young enough.
const WOULD_GO: &str = concat!(
    "SELECT COUNT(*) FROM decisions WHERE tenant_id = $1 AND chain_seq <= ",
    last_to_go!()
);

/// The calls that are old enough, of records that stay.
const CALLS_WOULD_GO: &str = concat!(
    "SELECT COUNT(*) FROM decisions WHERE tenant_id = $1 AND sealed IS NOT NULL AND created_at <= $4 \
     AND (chain_seq IS NULL OR chain_seq > COALESCE(",
    last_to_go!(),
    ", 0))"
);

/// The ends of a chain, and how far it may go.
const ENDS: &str = concat!(
    "SELECT anchor_seq, ",
    last_to_go!(),
    " FROM (SELECT 1 AS one) AS base LEFT JOIN decision_chains ON tenant_id = $1"
);

fn retention_of(row: &Row) -> Result<DecisionRetention, StoreError> {
    let number = |at| {
        let number: Option<i64> = row.get(at)?;
        Ok::<_, StoreError>(number.and_then(|number| u32::try_from(number).ok()))
    };
    Ok(DecisionRetention {
        decisions_days: number(0)?,
        input_hours: number(1)?,
    })
}

impl Store {
    /// A tenant's own retention.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decision_retention(&self, tenant: TenantId) -> Result<DecisionRetention, StoreError> {
        let sql = "SELECT decisions_days, input_hours FROM decision_retention WHERE tenant_id = $1";
        let row = self.read().one(sql, values![tenant]).await?;
        let Some(row) = row else {
            return Ok(DecisionRetention::default());
        };
        retention_of(&row)
    }

    /// The tenants with a retention of their own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decision_retentions(&self) -> Result<Vec<(TenantId, DecisionRetention)>, StoreError> {
        let sql = "SELECT decisions_days, input_hours, tenant_id FROM decision_retention";
        let rows = self.read().all(sql, values![]).await?;
        rows.iter()
            .map(|row| Ok((TenantId(row.get(2)?), retention_of(row)?)))
            .collect()
    }

    /// Sets a tenant's own retention. What is older than it says goes with the next purge.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_decision_retention(
        &self,
        tenant: TenantId,
        retention: DecisionRetention,
    ) -> Result<(), StoreError> {
        self.write((tenant, retention), |db, (tenant, retention)| {
            Box::pin(async move {
                db.exec(
                    "INSERT INTO decision_retention (tenant_id, decisions_days, input_hours) VALUES ($1, $2, $3) \
                     ON CONFLICT (tenant_id) DO UPDATE SET decisions_days = excluded.decisions_days, \
                     input_hours = excluded.input_hours",
                    values![
                        *tenant,
                        retention.decisions_days.map(i64::from),
                        retention.input_hours.map(i64::from)
                    ],
                )
                .await
                .map(|_| ())
            })
        })
        .await
    }

    /// Throws away records from the old end of each chain, and calls whose shorter time is over; how many of each.
    pub(crate) async fn purge_decisions(
        &self,
        decisions: Duration,
        calls: Duration,
        now: Timestamp,
    ) -> Result<(u64, u64), StoreError> {
        self.chain_decisions().await?;
        let (mut records, mut sealed) = (0, 0);
        for tenant in self.tenants().await? {
            let (keep, keep_calls) = self.kept(tenant.id, decisions, calls).await?;
            records += self.purge_chain(tenant.id, before(now, keep), ms(now) + SLACK).await?;
            sealed += self.purge_calls(tenant.id, before(now, keep_calls)).await?;
        }
        Ok((records, sealed))
    }

    /// How many records and calls would be thrown away, of those that are in their chains.
    pub(crate) async fn would_purge_decisions(
        &self,
        decisions: Duration,
        calls: Duration,
        now: Timestamp,
    ) -> Result<(u64, u64), StoreError> {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let (mut records, mut sealed) = (0, 0);
        for tenant in self.tenants().await? {
            let (keep, keep_calls) = self.kept(tenant.id, decisions, calls).await?;
            let (before_this, latest) = (before(now, keep), ms(now) + SLACK);
            let row = self
                .read()
                .row(WOULD_GO, values![tenant.id, before_this, latest])
                .await?;
            records += count(row.get(0)?);
            let values = values![tenant.id, before_this, latest, before(now, keep_calls)];
            sealed += count(self.read().row(CALLS_WOULD_GO, values).await?.get(0)?);
        }
        Ok((records, sealed))
    }

    /// How long a tenant's records and calls are kept.
    async fn kept(
        &self,
        tenant: TenantId,
        decisions: Duration,
        calls: Duration,
    ) -> Result<(Duration, Duration), StoreError> {
        let own = self.decision_retention(tenant).await?;
        let keep = own
            .decisions_days
            .map_or(decisions, |days| Duration::from_secs(u64::from(days) * 24 * HOUR));
        let keep_calls = own
            .input_hours
            .map_or(calls, |hours| Duration::from_secs(u64::from(hours) * HOUR));
        Ok((keep, keep_calls))
    }

    /// A thousand rows at a time: those up to the first that is young enough.
    async fn purge_chain(&self, tenant: TenantId, before: i64, latest: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let row = self.read().row(ENDS, values![tenant, before, latest]).await?;
            let (Some(anchor), Some(last)) = (row.get::<Option<i64>>(0)?, row.get::<Option<i64>>(1)?) else {
                return Ok(total);
            };
            let last = last.min(anchor + 1_000);
            if last <= anchor {
                return Ok(total);
            }
            let deleted = self
                .write((tenant, last), |db, (tenant, last)| {
                    Box::pin(async move {
                        if db.exec(ANCHOR, values![*tenant, *last]).await? == 0 {
                            // Another node was here first, or the row is missing: verifying says which.
                            return Ok(0);
                        }
                        let sql = "DELETE FROM decisions WHERE tenant_id = $1 AND chain_seq <= $2";
                        db.exec(sql, values![*tenant, *last]).await
                    })
                })
                .await?;
            total += deleted;
            if deleted == 0 {
                return Ok(total);
            }
        }
    }

    async fn purge_calls(&self, tenant: TenantId, before: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let changed = self
                .write((tenant, before), |db, (tenant, before)| {
                    Box::pin(async move {
                        db.exec(
                            "UPDATE decisions SET sealed = NULL, sealed_as = NULL WHERE id IN (SELECT id FROM decisions \
                             WHERE sealed IS NOT NULL AND tenant_id = $1 AND created_at <= $2 LIMIT 1000)",
                            values![*tenant, *before],
                        )
                        .await
                    })
                })
                .await?;
            total += changed;
            if changed == 0 {
                return Ok(total);
            }
        }
    }
}
