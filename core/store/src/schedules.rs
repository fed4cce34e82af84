//! Work of plugins that is due at some time: what their manifests name again and again, and what their effects asked for
//! once.
//!
//! A row is leased while it runs, so that of a cluster's nodes one runs it. A time that was missed is run once: the next
//! one is counted from when it was done.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::db::{Db, Row, Sql, ms, values, words};
use crate::decisions::{NewDecision, record};
use crate::effects::Cause;
use crate::error::StoreError;
use crate::ids::{ScheduleId, TenantId, words};
use crate::signals::Signal;
use crate::store::Store;

words! {
    /// Who asked for the work.
    ScheduleOrigin {
        /// The plugin's manifest: it comes again.
        Manifest = "manifest",
        /// An effect: it is done once.
        Effect = "effect",
    }
}

/// A call that a plugin asked for by an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCall {
    /// Names the work; what waits under this name is replaced.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// What the call is given.
    pub payload: String,
    /// How many plugins caused one another until then.
    pub depth: u8,
}

/// A schedule of a plugin's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSchedule {
    /// The plugin.
    pub plugin: String,
    /// The work.
    pub name: String,
    /// When it comes, in words that change with it.
    pub rule: String,
    /// The next time, for one that is new or changed.
    pub next: Timestamp,
}

/// Work that waits, or was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// Its row.
    pub id: ScheduleId,
    /// The tenant.
    pub tenant: TenantId,
    /// The plugin.
    pub plugin: String,
    /// Who asked for it.
    pub origin: ScheduleOrigin,
    /// The work.
    pub name: String,
    /// When it comes, in words; empty for what an effect asked for.
    pub rule: String,
    /// What the call is given.
    pub payload: String,
    /// The time that it is for.
    pub due_at: Timestamp,
    /// When it is tried.
    pub next_try_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// How many plugins caused one another until then.
    pub depth: u8,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// When it was given up.
    pub parked_at: Option<Timestamp>,
}

/// Work that one node has in its hands.
#[derive(Clone, Debug)]
pub struct ScheduleJob {
    /// The work.
    pub work: ScheduleRecord,
    claim: Uuid,
}

/// What is to become of work that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRun {
    /// It comes again at this time.
    Next(Timestamp),
    /// It was asked for once.
    Over,
}

/// What is to become of work that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// The plugin was not asked, so it does not count as a try: again at this time.
    Wait(Timestamp),
    /// It is tried again at this time.
    Retry(Timestamp),
    /// It is given up until this time, when it comes anyway.
    Next(Timestamp),
    /// It is given up, and shown.
    Park,
}

const COLUMNS: &str = "id, tenant_id, plugin, origin, name, rule, payload, due_at, next_try_at, attempts, depth, error, \
     parked_at";

fn schedule_of(row: &Row) -> Result<ScheduleRecord, StoreError> {
    Ok(ScheduleRecord {
        id: ScheduleId(row.get(0)?),
        tenant: TenantId(row.get(1)?),
        plugin: row.get(2)?,
        origin: row.word(3, ScheduleOrigin::from_word, "schedule origin")?,
        name: row.get(4)?,
        rule: row.get(5)?,
        payload: row.get(6)?,
        due_at: row.time(7)?,
        next_try_at: row.time(8)?,
        attempts: u32::try_from(row.get::<i64>(9)?).unwrap_or(u32::MAX),
        depth: u8::try_from(row.get::<i64>(10)?).unwrap_or(u8::MAX),
        error: row.get(11)?,
        parked_at: row.time_opt(12)?,
    })
}

/// One whose rule changed begins anew; the others keep their time, also one that was missed.
const NOTE: Sql = Sql::per(
    "INSERT INTO plugin_schedules (tenant_id, plugin, origin, name, rule, payload, due_at, next_try_at, attempts, depth, \
     seen_at) SELECT $1, json_extract(value, '$[0]'), 'manifest', json_extract(value, '$[1]'), \
     json_extract(value, '$[2]'), '', json_extract(value, '$[3]'), json_extract(value, '$[3]'), 0, 0, $3 \
     FROM json_each($2) WHERE TRUE ON CONFLICT (tenant_id, plugin, origin, name) DO UPDATE SET \
     due_at = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.due_at ELSE excluded.due_at END, \
     next_try_at = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.next_try_at \
     ELSE excluded.next_try_at END, \
     attempts = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.attempts ELSE 0 END, \
     rule = excluded.rule, seen_at = excluded.seen_at",
    "INSERT INTO plugin_schedules (tenant_id, plugin, origin, name, rule, payload, due_at, next_try_at, attempts, depth, \
     seen_at) SELECT $1, value ->> 0, 'manifest', value ->> 1, value ->> 2, '', (value ->> 3)::bigint, \
     (value ->> 3)::bigint, 0, 0, $3 FROM json_array_elements($2::json) AS rows(value) \
     ON CONFLICT (tenant_id, plugin, origin, name) DO UPDATE SET \
     due_at = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.due_at ELSE excluded.due_at END, \
     next_try_at = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.next_try_at \
     ELSE excluded.next_try_at END, \
     attempts = CASE WHEN plugin_schedules.rule = excluded.rule THEN plugin_schedules.attempts ELSE 0 END, \
     rule = excluded.rule, seen_at = excluded.seen_at",
);

const CLAIM: Sql = Sql::per(
    "UPDATE plugin_schedules SET claim = $1, lease_until = $2 WHERE id IN \
     (SELECT id FROM plugin_schedules WHERE parked_at IS NULL AND next_try_at <= $3 \
     AND (lease_until IS NULL OR lease_until <= $3) ORDER BY next_try_at LIMIT $4)",
    "WITH due AS MATERIALIZED (SELECT id FROM plugin_schedules WHERE parked_at IS NULL AND next_try_at <= $3 \
     AND (lease_until IS NULL OR lease_until <= $3) ORDER BY next_try_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
     UPDATE plugin_schedules SET claim = $1, lease_until = $2 FROM due WHERE plugin_schedules.id = due.id",
);

impl Store {
    /// Notes the schedules that a node's plugins of a tenant have; those that a plugin has no more go. `plugins` are all
    /// that do scheduled work, also with no schedule of their own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schedules_seen(
        &self,
        tenant: TenantId,
        plugins: Vec<String>,
        schedules: Vec<ManifestSchedule>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(
            (tenant, plugins, schedules, now),
            |db, (tenant, plugins, schedules, now)| Box::pin(note(db, *tenant, plugins, schedules, *now)),
        )
        .await
    }

    /// Forgets the work of plugins that no node has had since a time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_schedules(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(before, |db, before| {
            Box::pin(async move {
                db.exec("DELETE FROM plugin_schedules WHERE seen_at < $1", values![ms(*before)])
                    .await
            })
        })
        .await
    }

    /// Leases up to `limit` pieces of work that are due. When nothing is, nothing is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schedules_claim(
        &self,
        limit: u32,
        lease: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<ScheduleJob>, StoreError> {
        self.clock().heard(now);
        let sql = "SELECT 1 FROM plugin_schedules WHERE parked_at IS NULL AND next_try_at <= $1 \
                   AND (lease_until IS NULL OR lease_until <= $1) LIMIT 1";
        if self.read().one(sql, values![ms(now)]).await?.is_none() {
            return Ok(Vec::new());
        }
        let input = (limit, lease, now, Uuid::new_v4());
        self.write(input, |db, (limit, lease, now, claim)| {
            Box::pin(async move {
                db.exec(CLAIM, values![*claim, ms(*lease), ms(*now), i64::from(*limit)])
                    .await?;
                let sql = format!("SELECT {COLUMNS} FROM plugin_schedules WHERE claim = $1 ORDER BY next_try_at, id");
                let rows = db.all(sql, values![*claim]).await?;
                rows.iter()
                    .map(|row| {
                        Ok(ScheduleJob {
                            work: schedule_of(row)?,
                            claim: *claim,
                        })
                    })
                    .collect()
            })
        })
        .await
    }

    /// When the next work is due, or a lease ends; `None` when nothing waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schedules_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT MIN(CASE WHEN lease_until > next_try_at THEN lease_until ELSE next_try_at END) \
                   FROM plugin_schedules WHERE parked_at IS NULL";
        self.read().row(sql, values![]).await?.time_opt(0)
    }

    /// The work was done: what it wants done is done with it. `false`, and nothing is done, if the lease was lost.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn schedule_done(
        &self,
        job: &ScheduleJob,
        after: AfterRun,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (job.clone(), after, decisions, now);
        self.write(input, |db, (job, after, decisions, now)| {
            Box::pin(async move {
                let (id, claim) = (job.work.id, job.claim);
                let settled = match after {
                    AfterRun::Next(next) => {
                        db.exec(
                            "UPDATE plugin_schedules SET due_at = $3, next_try_at = $3, attempts = 0, error = NULL, \
                             claim = NULL, lease_until = NULL WHERE id = $1 AND claim = $2",
                            values![id, claim, ms(*next)],
                        )
                        .await?
                    }
                    AfterRun::Over => {
                        let sql = "DELETE FROM plugin_schedules WHERE id = $1 AND claim = $2";
                        db.exec(sql, values![id, claim]).await?
                    }
                };
                if settled > 0 {
                    record(db, job.work.tenant, None, decisions, *now).await?;
                }
                Ok(settled > 0)
            })
        })
        .await
    }

    /// The work failed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schedule_failed(
        &self,
        job: &ScheduleJob,
        after: AfterFailure,
        error: &str,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let input = (job.clone(), after, words(error), decisions, now);
        self.write(input, |db, (job, after, error, decisions, now)| {
            Box::pin(async move {
                let work = &job.work;
                let tried = i64::from(work.attempts) + 1;
                let (due, attempts, parked) = match after {
                    AfterFailure::Wait(_) => (work.due_at, i64::from(work.attempts), None),
                    AfterFailure::Retry(_) => (work.due_at, tried, None),
                    AfterFailure::Next(next) => (*next, 0, None),
                    AfterFailure::Park => (work.due_at, tried, Some(ms(*now))),
                };
                let next_try = match after {
                    AfterFailure::Wait(at) | AfterFailure::Retry(at) | AfterFailure::Next(at) => *at,
                    AfterFailure::Park => *now,
                };
                db.exec(
                    "UPDATE plugin_schedules SET due_at = $3, next_try_at = $4, attempts = $5, parked_at = $6, \
                     error = $7, claim = NULL, lease_until = NULL WHERE id = $1 AND claim = $2",
                    values![
                        work.id,
                        job.claim,
                        ms(due),
                        ms(next_try),
                        attempts,
                        parked,
                        error.clone()
                    ],
                )
                .await?;
                record(db, work.tenant, None, decisions, *now).await
            })
        })
        .await
    }

    /// The work that waits in a tenant, the next first, and what was given up.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn schedules(&self, tenant: TenantId) -> Result<Vec<ScheduleRecord>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM plugin_schedules WHERE tenant_id = $1 ORDER BY next_try_at, id LIMIT 1000");
        let rows = self.read().all(sql, values![tenant]).await?;
        rows.iter().map(schedule_of).collect()
    }

    /// Runs work now that waits or was given up; whether there is such.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run_schedule(&self, tenant: TenantId, id: ScheduleId, now: Timestamp) -> Result<bool, StoreError> {
        self.write((tenant, id, now), |db, (tenant, id, now)| {
            Box::pin(async move {
                db.ask(Signal::Schedule);
                let changed = db
                    .exec(
                        "UPDATE plugin_schedules SET next_try_at = $3, parked_at = NULL, attempts = 0 \
                         WHERE tenant_id = $1 AND id = $2",
                        values![*tenant, *id, ms(*now)],
                    )
                    .await?;
                Ok(changed > 0)
            })
        })
        .await
    }

    /// Forgets work; whether there was such. What a manifest names comes back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_schedule(&self, tenant: TenantId, id: ScheduleId) -> Result<bool, StoreError> {
        self.write((tenant, id), |db, (tenant, id)| {
            Box::pin(async move {
                let sql = "DELETE FROM plugin_schedules WHERE tenant_id = $1 AND id = $2";
                Ok(db.exec(sql, values![*tenant, *id]).await? > 0)
            })
        })
        .await
    }
}

/// Forgets the work of a plugin that is taken out of use.
pub(crate) async fn forget_schedules_of(db: &Db, tenant: TenantId, plugin: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM plugin_schedules WHERE tenant_id = $1 AND plugin = $2";
    db.exec(sql, values![tenant, plugin]).await.map(|_| ())
}

/// Schedules a call within the transaction of the effect.
pub(crate) async fn call(db: &Db, cause: Cause<'_>, call: &NewCall) -> Result<(), StoreError> {
    db.exec(
        "INSERT INTO plugin_schedules (tenant_id, plugin, origin, name, rule, payload, due_at, next_try_at, attempts, \
         depth, seen_at) VALUES ($1, $2, 'effect', $3, '', $4, $5, $5, 0, $6, $7) \
         ON CONFLICT (tenant_id, plugin, origin, name) DO UPDATE SET payload = excluded.payload, \
         due_at = excluded.due_at, next_try_at = excluded.next_try_at, attempts = 0, depth = excluded.depth, \
         error = NULL, parked_at = NULL, claim = NULL, lease_until = NULL, seen_at = excluded.seen_at",
        values![
            cause.tenant,
            cause.plugin,
            words(&call.name),
            call.payload.replace('\0', "\u{fffd}"),
            ms(call.at),
            i64::from(call.depth),
            ms(cause.now),
        ],
    )
    .await?;
    db.ask(Signal::Schedule);
    Ok(())
}

async fn note(
    db: &Db,
    tenant: TenantId,
    plugins: &[String],
    schedules: &[ManifestSchedule],
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows: Vec<_> = schedules
        .iter()
        .map(|schedule| json!([schedule.plugin, schedule.name, schedule.rule, ms(schedule.next)]))
        .collect();
    db.exec(NOTE, values![tenant, json!(rows).to_string(), ms(now)]).await?;
    for plugin in plugins {
        // What an effect asked for stays as long as somebody is there who can do it.
        db.exec(
            "UPDATE plugin_schedules SET seen_at = $3 WHERE tenant_id = $1 AND plugin = $2 AND origin = 'effect'",
            values![tenant, plugin.as_str(), ms(now)],
        )
        .await?;
        let known = db
            .all(
                "SELECT id, name FROM plugin_schedules WHERE tenant_id = $1 AND plugin = $2 AND origin = 'manifest'",
                values![tenant, plugin.as_str()],
            )
            .await?;
        for row in known {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            if !schedules
                .iter()
                .any(|schedule| schedule.plugin == *plugin && schedule.name == name)
            {
                db.exec("DELETE FROM plugin_schedules WHERE id = $1", values![id])
                    .await?;
            }
        }
    }
    Ok(())
}
