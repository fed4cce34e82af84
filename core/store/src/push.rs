//! The push outbox: which enrollments are to be woken.
//!
//! Requests are written in the transaction that causes them and coalesce to one row per enrollment. A row counts its
//! requests: a push that was on its way when another request came does not answer for that one.

use jiff::Timestamp;
use uuid::Uuid;

use crate::db::{Db, Sql, id_list, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// A push to send, leased to one dispatcher.
#[derive(Clone)]
pub struct PushJob {
    /// Whom to wake.
    pub enrollment: EnrollmentId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The topic: names the push certificate.
    pub topic: String,
    /// The device token.
    pub token: Vec<u8>,
    /// The push magic: the notification's content.
    pub magic: String,
    /// How often it was tried before.
    pub attempts: i64,
    /// Names the lease.
    pub claim: Uuid,
    /// The last request that this push answers for.
    seq: i64,
}

impl std::fmt::Debug for PushJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Token and magic are secrets.
        f.debug_struct("PushJob")
            .field("enrollment", &self.enrollment)
            .field("topic", &self.topic)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// While APNs refuses (attempts above 0) a new request does not shorten the wait that it asked for.
const REQUEST: Sql = Sql::per(
    "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts) \
     SELECT e.id, e.tenant_id, 1, $2, 0 FROM json_each($1) AS target JOIN enrollments e ON e.id = target.value \
     WHERE e.push_token IS NOT NULL AND e.token_parked_at IS NULL AND e.state = 'active' ORDER BY e.id \
     ON CONFLICT (enrollment_id) DO UPDATE SET seq = push_outbox.seq + 1, due_at = CASE \
     WHEN push_outbox.attempts > 0 OR push_outbox.due_at < excluded.due_at THEN push_outbox.due_at \
     ELSE excluded.due_at END",
    "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts) \
     SELECT e.id, e.tenant_id, 1, $2, 0 FROM json_array_elements_text($1::json) AS target(value) \
     JOIN enrollments e ON e.id = target.value::bigint \
     WHERE e.push_token IS NOT NULL AND e.token_parked_at IS NULL AND e.state = 'active' ORDER BY e.id \
     ON CONFLICT (enrollment_id) DO UPDATE SET seq = push_outbox.seq + 1, due_at = CASE \
     WHEN push_outbox.attempts > 0 OR push_outbox.due_at < excluded.due_at THEN push_outbox.due_at \
     ELSE excluded.due_at END",
);

const CLAIM: Sql = Sql::per(
    "UPDATE push_outbox SET claim = $1, lease_until = $2 WHERE enrollment_id IN \
     (SELECT enrollment_id FROM push_outbox WHERE lease_until IS NULL AND due_at <= $3 ORDER BY due_at LIMIT $4) \
     RETURNING enrollment_id",
    "WITH due AS MATERIALIZED (SELECT enrollment_id FROM push_outbox WHERE lease_until IS NULL AND due_at <= $3 \
     ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) \
     UPDATE push_outbox SET claim = $1, lease_until = $2 FROM due \
     WHERE push_outbox.enrollment_id = due.enrollment_id RETURNING push_outbox.enrollment_id",
);

const CLAIMED: Sql = Sql::per(
    "SELECT p.enrollment_id, p.tenant_id, e.push_topic, e.push_token, e.push_magic, p.attempts, p.seq \
     FROM json_each($1) AS target JOIN push_outbox p ON p.enrollment_id = target.value \
     JOIN enrollments e ON e.id = p.enrollment_id \
     WHERE e.push_token IS NOT NULL AND e.token_parked_at IS NULL ORDER BY p.due_at, p.enrollment_id",
    "SELECT p.enrollment_id, p.tenant_id, e.push_topic, e.push_token, e.push_magic, p.attempts, p.seq \
     FROM json_array_elements_text($1::json) AS target(value) \
     JOIN push_outbox p ON p.enrollment_id = target.value::bigint JOIN enrollments e ON e.id = p.enrollment_id \
     WHERE e.push_token IS NOT NULL AND e.token_parked_at IS NULL ORDER BY p.due_at, p.enrollment_id",
);

impl Store {
    /// Asks for an enrollment to be woken; without a live token nothing happens.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_request(&self, enrollment: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
        self.write((enrollment, now), |db, (enrollment, now)| {
            Box::pin(async move { request(db, &[*enrollment], *now).await })
        })
        .await
    }

    /// Leases up to `limit` due pushes until `lease`; one that is not settled by then is offered again. Any number of
    /// dispatchers may claim at the same time. When nothing is due, nothing is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_claim(&self, limit: u32, lease: Timestamp, now: Timestamp) -> Result<Vec<PushJob>, StoreError> {
        let due = self
            .read()
            .one(
                "SELECT 1 FROM (SELECT 1 AS one) AS base WHERE EXISTS \
                 (SELECT 1 FROM push_outbox WHERE lease_until IS NULL AND due_at <= $1) \
                 OR EXISTS (SELECT 1 FROM push_outbox WHERE lease_until IS NOT NULL AND lease_until <= $1)",
                values![ms(now)],
            )
            .await?;
        if due.is_none() {
            return Ok(Vec::new());
        }
        self.write((limit, lease, now, Uuid::new_v4()), |db, (limit, lease, now, claim)| {
            Box::pin(async move {
                db.exec(
                    "UPDATE push_outbox SET lease_until = NULL, claim = NULL \
                     WHERE lease_until IS NOT NULL AND lease_until <= $1",
                    values![ms(*now)],
                )
                .await?;
                let rows = db
                    .all(CLAIM, values![*claim, ms(*lease), ms(*now), i64::from(*limit)])
                    .await?;
                let mut claimed: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
                let rows = db.all(CLAIMED, values![id_list(claimed.iter().copied())]).await?;
                let jobs: Vec<_> = rows
                    .iter()
                    .map(|row| {
                        Ok(PushJob {
                            enrollment: EnrollmentId(row.get(0)?),
                            tenant: TenantId(row.get(1)?),
                            topic: row.get(2)?,
                            token: row.get(3)?,
                            magic: row.get(4)?,
                            attempts: row.get(5)?,
                            claim: *claim,
                            seq: row.get(6)?,
                        })
                    })
                    .collect::<Result<_, StoreError>>()?;
                // Whose token went away in the meantime: its next TokenUpdate asks again.
                claimed.retain(|id| !jobs.iter().any(|job| job.enrollment.0 == *id));
                for id in claimed {
                    db.exec("DELETE FROM push_outbox WHERE enrollment_id = $1", values![id])
                        .await?;
                }
                Ok(jobs)
            })
        })
        .await
    }

    /// When the next push is due, or a lease ends; `None` when nothing waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = self
            .read()
            .row(
                "SELECT (SELECT MIN(due_at) FROM push_outbox WHERE lease_until IS NULL), \
                 (SELECT MIN(lease_until) FROM push_outbox WHERE lease_until IS NOT NULL)",
                values![],
            )
            .await?;
        Ok(match (row.time_opt(0)?, row.time_opt(1)?) {
            (Some(due), Some(lease)) => Some(due.min(lease)),
            (due, lease) => due.or(lease),
        })
    }

    /// APNs took the push. A request that came meanwhile stays due; an entry of the queue that may not be delivered
    /// yet asks for another push at its time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_done(&self, job: &PushJob, now: Timestamp) -> Result<(), StoreError> {
        self.write(
            (job.enrollment, job.claim, job.seq, now),
            |db, (enrollment, claim, seq, now)| {
                Box::pin(async move {
                    let row = db
                        .row(
                            "SELECT MIN(not_before) FROM queue_entries \
                         WHERE enrollment_id = $1 AND finished_at IS NULL AND not_before > $2",
                            values![*enrollment, ms(*now)],
                        )
                        .await?;
                    let Some(later) = row.get::<Option<i64>>(0)? else {
                        let answered = db
                            .exec(
                                "DELETE FROM push_outbox WHERE enrollment_id = $1 AND claim = $2 AND seq = $3",
                                values![*enrollment, *claim, *seq],
                            )
                            .await?;
                        return if answered == 0 {
                            release(db, *enrollment, *claim, *now).await
                        } else {
                            Ok(())
                        };
                    };
                    db.exec(
                        "UPDATE push_outbox SET due_at = CASE WHEN seq = $3 THEN $4 ELSE $5 END, attempts = 0, \
                     claim = NULL, lease_until = NULL WHERE enrollment_id = $1 AND claim = $2",
                        values![*enrollment, *claim, *seq, later, ms(*now)],
                    )
                    .await
                    .map(|_| ())
                })
            },
        )
        .await
    }

    /// APNs did not take the push: it is due again at `due_at`, with one attempt more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_retry(&self, job: &PushJob, due_at: Timestamp) -> Result<(), StoreError> {
        self.write(
            (job.enrollment, job.claim, due_at),
            |db, (enrollment, claim, due_at)| {
                Box::pin(async move {
                    db.exec(
                        "UPDATE push_outbox SET due_at = $3, attempts = attempts + 1, claim = NULL, lease_until = NULL \
                     WHERE enrollment_id = $1 AND claim = $2",
                        values![*enrollment, *claim, ms(*due_at)],
                    )
                    .await
                    .map(|_| ())
                })
            },
        )
        .await
    }

    /// APNs says that the token is dead. It is parked until the next TokenUpdate, unless that came already: then the
    /// push is due again with the new token. Whether it was parked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_park(&self, job: &PushJob, now: Timestamp) -> Result<bool, StoreError> {
        self.write((job.clone(), now), |db, (job, now)| {
            Box::pin(async move {
                let parked = db
                    .exec(
                        "UPDATE enrollments SET token_parked_at = $1 \
                         WHERE id = $2 AND push_token = $3 AND token_parked_at IS NULL",
                        values![ms(*now), job.enrollment, job.token.clone()],
                    )
                    .await?;
                if parked == 0 {
                    release(db, job.enrollment, job.claim, *now).await?;
                    return Ok(false);
                }
                db.exec(
                    "DELETE FROM push_outbox WHERE enrollment_id = $1",
                    values![job.enrollment],
                )
                .await?;
                Ok(true)
            })
        })
        .await
    }
}

/// Ends a lease; the push is due now.
async fn release(db: &Db, enrollment: EnrollmentId, claim: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let released = db
        .exec(
            "UPDATE push_outbox SET due_at = $3, attempts = 0, claim = NULL, lease_until = NULL \
             WHERE enrollment_id = $1 AND claim = $2",
            values![enrollment, claim, ms(now)],
        )
        .await?;
    if released > 0 {
        db.request_push();
    }
    Ok(())
}

/// Requests pushes, for now or a later time, within a transaction.
pub(crate) async fn request(db: &Db, enrollments: &[EnrollmentId], due: Timestamp) -> Result<(), StoreError> {
    if enrollments.is_empty() {
        return Ok(());
    }
    let requested = db
        .exec(REQUEST, values![id_list(enrollments.iter().map(|id| id.0)), ms(due)])
        .await?;
    if requested > 0 {
        db.request_push();
    }
    Ok(())
}
