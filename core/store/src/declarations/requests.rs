//! Which plans are to be made anew. Requests are written in the transaction that causes them and coalesce to one row per
//! enrollment, as those of pushes do.

use jiff::Timestamp;
use uuid::Uuid;

use crate::db::{Db, Sql, id_list, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::signals::Signal;
use crate::store::Store;

/// A plan to make, leased to one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanJob {
    /// Whose plan.
    pub enrollment: EnrollmentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's name.
    pub tenant_name: String,
    /// The generation of plugins that the tenant's plans are made with: an older one must not make it.
    pub generation: i64,
    /// How often it failed before.
    pub attempts: i64,
    /// Names the lease.
    pub(super) claim: Uuid,
    /// The last request that this plan answers for.
    pub(super) seq: i64,
}

/// The rest of the statements that request plans. A plan that failed is made again at once when something changed.
const AGAIN: &str = "ON CONFLICT (enrollment_id) DO UPDATE SET seq = declaration_plan_requests.seq + 1, attempts = 0, \
     due_at = CASE WHEN declaration_plan_requests.due_at < excluded.due_at THEN declaration_plan_requests.due_at \
     ELSE excluded.due_at END";

const REQUEST: Sql = Sql::per(
    "INSERT INTO declaration_plan_requests (enrollment_id, tenant_id, seq, due_at, attempts) \
     SELECT e.id, e.tenant_id, 1, $2, 0 FROM json_each($1) AS target JOIN enrollments e ON e.id = target.value \
     WHERE e.state <> 'removed' ORDER BY e.id \
     ON CONFLICT (enrollment_id) DO UPDATE SET seq = declaration_plan_requests.seq + 1, attempts = 0, \
     due_at = CASE WHEN declaration_plan_requests.due_at < excluded.due_at THEN declaration_plan_requests.due_at \
     ELSE excluded.due_at END",
    "INSERT INTO declaration_plan_requests (enrollment_id, tenant_id, seq, due_at, attempts) \
     SELECT e.id, e.tenant_id, 1, $2, 0 FROM json_array_elements_text($1::json) AS target(value) \
     JOIN enrollments e ON e.id = target.value::bigint WHERE e.state <> 'removed' ORDER BY e.id \
     ON CONFLICT (enrollment_id) DO UPDATE SET seq = declaration_plan_requests.seq + 1, attempts = 0, \
     due_at = CASE WHEN declaration_plan_requests.due_at < excluded.due_at THEN declaration_plan_requests.due_at \
     ELSE excluded.due_at END",
);

const CLAIM: Sql = Sql::per(
    "UPDATE declaration_plan_requests SET claim = $1, lease_until = $2 WHERE enrollment_id IN \
     (SELECT enrollment_id FROM declaration_plan_requests WHERE lease_until IS NULL AND due_at <= $3 \
      ORDER BY due_at LIMIT $4) RETURNING enrollment_id",
    "WITH due AS MATERIALIZED (SELECT enrollment_id FROM declaration_plan_requests \
     WHERE lease_until IS NULL AND due_at <= $3 ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
     UPDATE declaration_plan_requests SET claim = $1, lease_until = $2 FROM due \
     WHERE declaration_plan_requests.enrollment_id = due.enrollment_id \
     RETURNING declaration_plan_requests.enrollment_id",
);

const CLAIMED: &str = "SELECT r.enrollment_id, r.tenant_id, t.name, COALESCE(s.generation, 0), r.attempts, r.seq \
     FROM declaration_plan_requests r JOIN tenants t ON t.id = r.tenant_id \
     LEFT JOIN declaration_sweeps s ON s.tenant_id = r.tenant_id WHERE r.claim = $1 ORDER BY r.due_at, r.enrollment_id";

/// How many enrollments a step of the walk over a tenant takes.
const STEP: i64 = 500;

impl Store {
    /// Leases up to `limit` plans that are to be made, until `lease`; one that is not settled by then is offered again.
    /// When nothing is due, nothing is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_claim(&self, limit: u32, lease: Timestamp, now: Timestamp) -> Result<Vec<PlanJob>, StoreError> {
        self.clock().heard(now);
        let due = self
            .read()
            .one(
                "SELECT 1 FROM (SELECT 1 AS one) AS base WHERE EXISTS \
                 (SELECT 1 FROM declaration_plan_requests WHERE lease_until IS NULL AND due_at <= $1) OR EXISTS \
                 (SELECT 1 FROM declaration_plan_requests WHERE lease_until IS NOT NULL AND lease_until <= $1)",
                values![ms(now)],
            )
            .await?;
        if due.is_none() {
            return Ok(Vec::new());
        }
        self.write((limit, lease, now, Uuid::new_v4()), |db, (limit, lease, now, claim)| {
            Box::pin(async move {
                db.exec(
                    "UPDATE declaration_plan_requests SET lease_until = NULL, claim = NULL \
                     WHERE lease_until IS NOT NULL AND lease_until <= $1",
                    values![ms(*now)],
                )
                .await?;
                let claimed = values![*claim, ms(*lease), ms(*now), i64::from(*limit)];
                db.all(CLAIM, claimed).await?;
                let rows = db.all(CLAIMED, values![*claim]).await?;
                rows.iter()
                    .map(|row| {
                        Ok(PlanJob {
                            enrollment: EnrollmentId(row.get(0)?),
                            tenant: TenantId(row.get(1)?),
                            tenant_name: row.get(2)?,
                            generation: row.get(3)?,
                            attempts: row.get(4)?,
                            claim: *claim,
                            seq: row.get(5)?,
                        })
                    })
                    .collect()
            })
        })
        .await
    }

    /// Gives a plan back that could not be made: it is due again at `due_at`. `failed` counts it as an attempt.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_again(&self, job: &PlanJob, due_at: Timestamp, failed: bool) -> Result<(), StoreError> {
        self.write((job.clone(), due_at, failed), |db, (job, due_at, failed)| {
            Box::pin(again(db, job, *due_at, *failed))
        })
        .await
    }

    /// Whether a plan of the enrollment waits to be made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_requested(&self, enrollment: EnrollmentId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM declaration_plan_requests WHERE enrollment_id = $1";
        Ok(self.read().one(sql, values![enrollment]).await?.is_some())
    }

    /// Requests the plan of an enrollment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_request(&self, enrollment: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
        self.write((enrollment, now), |db, (enrollment, now)| {
            Box::pin(async move { request_plan(db, &[*enrollment], *now).await })
        })
        .await
    }

    /// One step of the walk that makes a tenant's plans anew when its plugins changed: requests the plans of the next
    /// enrollments, and says whether there are more. `generation` is what this node runs, and `planners` whether it has
    /// any. A tenant that never had planners is not walked, and nothing is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_sweep(
        &self,
        tenant: TenantId,
        generation: i64,
        planners: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT generation, planners, after_enrollment FROM declaration_sweeps WHERE tenant_id = $1";
        let (begin, after) = match self.read().one(sql, values![tenant]).await? {
            None => (planners, None),
            Some(row) => {
                let newer = row.get::<i64>(0)? < generation;
                (newer && (planners || row.get(1)?), row.get::<Option<i64>>(2)?)
            }
        };
        if !begin && after.is_none() {
            return Ok(false);
        }
        let input = (tenant, generation, planners, begin, after, now);
        self.write(input, |db, (tenant, generation, planners, begin, after, now)| {
            Box::pin(async move {
                let after = if *begin {
                    db.exec(
                        "INSERT INTO declaration_sweeps (tenant_id, generation, planners, after_enrollment) \
                         VALUES ($1, $2, $3, 0) ON CONFLICT (tenant_id) DO UPDATE SET generation = excluded.generation, \
                         planners = excluded.planners, after_enrollment = 0 \
                         WHERE declaration_sweeps.generation < excluded.generation",
                        values![*tenant, *generation, *planners],
                    )
                    .await?;
                    0
                } else {
                    after.unwrap_or_default()
                };
                step(db, *tenant, after, *now).await
            })
        })
        .await
    }
}

/// Requests the plans of the enrollments after this one, unless another node was there first.
async fn step(db: &Db, tenant: TenantId, after: i64, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM enrollments WHERE tenant_id = $1 AND id > $2 AND state <> 'removed' ORDER BY id LIMIT $3";
    let rows = db.all(sql, values![tenant, after, STEP]).await?;
    let ids = rows.iter().map(|row| row.get(0).map(EnrollmentId));
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    let more = ids.len() as i64 == STEP;
    let next = if more { ids.last().map(|id| id.0) } else { None };
    let sql = "UPDATE declaration_sweeps SET after_enrollment = $3 WHERE tenant_id = $1 AND after_enrollment = $2";
    if db.exec(sql, values![tenant, after, next]).await? == 0 {
        return Ok(true);
    }
    request_plan(db, &ids, now).await?;
    Ok(more)
}

/// Requests plans, within a transaction.
pub(crate) async fn request_plan(db: &Db, enrollments: &[EnrollmentId], now: Timestamp) -> Result<(), StoreError> {
    if enrollments.is_empty() {
        return Ok(());
    }
    let ids = id_list(enrollments.iter().map(|id| id.0));
    if db.exec(REQUEST, values![ids, ms(now)]).await? > 0 {
        db.ask(Signal::Plan);
    }
    Ok(())
}

/// Requests the plan of an enrollment that is new, within a transaction: if it can have anything in it. Whatever gives it
/// something later requests it then.
pub(crate) async fn request_first_plan(db: &Db, enrollment: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
    // A tenant's planners are noted before the walk over its enrollments begins: the walk finds this one, or this statement
    // finds the note.
    let sql = format!(
        "INSERT INTO declaration_plan_requests (enrollment_id, tenant_id, seq, due_at, attempts) \
         SELECT e.id, e.tenant_id, 1, $2, 0 FROM enrollments e WHERE e.id = $1 AND e.state <> 'removed' AND (\
         EXISTS (SELECT 1 FROM declaration_sweeps s WHERE s.tenant_id = e.tenant_id AND s.planners) \
         OR EXISTS (SELECT 1 FROM declaration_assignments a WHERE a.enrollment_id = e.id)) {AGAIN}"
    );
    if db.exec(sql, values![enrollment, ms(now)]).await? > 0 {
        db.ask(Signal::Plan);
    }
    Ok(())
}

/// Requests the plans of all enrollments that have a set; how many they are.
pub(super) async fn request_plans_of_set(
    db: &Db,
    tenant: TenantId,
    set: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let requested = db
        .exec(
            format!(
                "INSERT INTO declaration_plan_requests (enrollment_id, tenant_id, seq, due_at, attempts) \
                 SELECT a.enrollment_id, a.tenant_id, 1, $3, 0 FROM declaration_assignments a \
                 WHERE a.tenant_id = $1 AND a.set_name = $2 ORDER BY a.enrollment_id {AGAIN}"
            ),
            values![tenant, set, ms(now)],
        )
        .await?;
    if requested > 0 {
        db.ask(Signal::Plan);
    }
    Ok(requested)
}

/// Ends a lease; the plan is due at that time, or earlier if it was requested meanwhile.
pub(super) async fn again(db: &Db, job: &PlanJob, due_at: Timestamp, failed: bool) -> Result<(), StoreError> {
    db.exec(
        "UPDATE declaration_plan_requests SET due_at = CASE WHEN seq = $3 THEN $4 ELSE due_at END, \
         attempts = CASE WHEN seq = $3 AND $5 THEN attempts + 1 ELSE attempts END, claim = NULL, lease_until = NULL \
         WHERE enrollment_id = $1 AND claim = $2",
        values![job.enrollment, job.claim, job.seq, ms(due_at), failed],
    )
    .await
    .map(|_| ())
}

/// The plan was made: the request goes, unless another one came meanwhile.
pub(super) async fn done(db: &Db, job: &PlanJob) -> Result<(), StoreError> {
    let sql = "DELETE FROM declaration_plan_requests WHERE enrollment_id = $1 AND claim = $2 AND seq = $3";
    if db.exec(sql, values![job.enrollment, job.claim, job.seq]).await? == 0 {
        let sql = "UPDATE declaration_plan_requests SET claim = NULL, lease_until = NULL \
                   WHERE enrollment_id = $1 AND claim = $2";
        if db.exec(sql, values![job.enrollment, job.claim]).await? > 0 {
            db.ask(Signal::Plan);
        }
    }
    Ok(())
}
