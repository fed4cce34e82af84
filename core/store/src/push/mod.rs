//! The push outbox: which enrollments are to be woken.
//!
//! Requests are written in the transaction that causes them and coalesce to one row per enrollment. A row counts its
//! requests: a push that was on its way when another request came does not answer for that one.
//!
//! The row of a device that has something to fetch stays after its push: unless the device has fetched and answered it all
//! by then, it is woken again, after a pause that grows as long as it does not poll. What decides is what is in the queue
//! at that time, not how old it is.

mod missed;
mod settle;
mod waves;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::commands::{QueueRules, later};
use crate::db::{Db, Row, Sql, id_list, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

pub use settle::PushOutcome;
pub(crate) use waves::request_for_command;

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
    before: Before,
}

/// How a device was woken before.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// Nobody asked for this push: the device has not fetched all that it was woken for.
    again: bool,
    /// How often it was woken again since it last polled.
    rounds: i64,
    pushed_at: Option<Timestamp>,
    last_seen_at: Option<Timestamp>,
    /// The 24 hours in which pushes that nobody asked for are counted.
    day_start: Option<Timestamp>,
    day_count: i64,
}

/// A day, as pushes are counted.
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl Before {
    /// As of this push, and when the next one is due.
    fn pushed(mut self, rules: &QueueRules, now: Timestamp) -> (Self, Timestamp) {
        let polled = self
            .pushed_at
            .zip(self.last_seen_at)
            .is_some_and(|(pushed, seen)| seen >= pushed);
        self.rounds = if self.again && !polled { self.rounds + 1 } else { 0 };
        self.pushed_at = Some(now);
        let (start, count) = match self.day_start {
            // A day that begins in the future is from a clock that was ahead.
            Some(start) if start <= now && now.duration_since(start) < DAY => {
                (start, self.day_count + i64::from(self.again))
            }
            _ => (now, i64::from(self.again)),
        };
        (self.day_start, self.day_count) = (Some(start), count);
        let mut due = later(now, rules.push_again(self.rounds));
        if count >= i64::from(rules.push_again_per_day) {
            due = due.max(start.checked_add(DAY).unwrap_or(Timestamp::MAX));
        }
        (self, due)
    }
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

/// While APNs refuses (attempts above 0) a new request does not shorten the wait that it asked for. A request for later
/// leaves a push alone that is due before; a row that is not on its way and is due in time is not written at all.
macro_rules! request_push {
    ($source:literal) => {
        concat!(
            "INSERT INTO push_outbox (enrollment_id, tenant_id, seq, due_at, attempts) SELECT ",
            $source,
            " AND e.push_token IS NOT NULL AND e.token_parked_at IS NULL AND e.state = 'active' ORDER BY e.id \
             ON CONFLICT (enrollment_id) DO UPDATE SET seq = push_outbox.seq + 1, \
             again = push_outbox.again AND push_outbox.due_at < excluded.due_at, due_at = CASE \
             WHEN push_outbox.attempts > 0 OR push_outbox.due_at < excluded.due_at THEN push_outbox.due_at \
             ELSE excluded.due_at END \
             WHERE push_outbox.lease_until IS NOT NULL OR push_outbox.again OR push_outbox.due_at > excluded.due_at"
        )
    };
}
pub(crate) use request_push;

const REQUEST: Sql = Sql::per(
    request_push!(
        "e.id, e.tenant_id, 1, $2, 0 FROM json_each($1) AS target CROSS JOIN enrollments e ON e.id = target.value WHERE TRUE"
    ),
    request_push!(
        "e.id, e.tenant_id, 1, $2, 0 FROM json_array_elements_text($1::json) AS target(value) \
         JOIN enrollments e ON e.id = target.value::bigint WHERE TRUE"
    ),
);

/// Rows of devices that have fetched and answered everything, once their next push is due; of the first that are due, so
/// that a long outbox is not read for each claim. Each device is looked up by itself: as a join, which `NOT EXISTS` and `IN`
/// may become, PostgreSQL would read the queues of all devices for it.
macro_rules! all_fetched {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM (SELECT enrollment_id, again, seq FROM push_outbox WHERE lease_until IS NULL \
             AND due_at <= $1 ORDER BY due_at LIMIT $2) AS p WHERE p.again AND (SELECT q.id FROM queue_entries q \
             WHERE q.enrollment_id = p.enrollment_id AND q.finished_at IS NULL AND q.state <> 'held' LIMIT 1) IS NULL"
        )
    };
}

/// On PostgreSQL somebody may queue something, and ask for a push, beside this statement, which does not see the entry and
/// waits for the row: then the row is not as it was judged.
const ALL_FETCHED: Sql = Sql::per(
    concat!(
        "DELETE FROM push_outbox WHERE enrollment_id IN (",
        all_fetched!("p.enrollment_id"),
        ") AND again"
    ),
    concat!(
        "WITH fetched AS MATERIALIZED (",
        all_fetched!("p.enrollment_id, p.seq"),
        ") DELETE FROM push_outbox o USING fetched WHERE o.enrollment_id = fetched.enrollment_id AND o.seq = fetched.seq \
         AND o.again"
    ),
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

const PUT_BACK: Sql = Sql::per(
    "UPDATE push_outbox SET due_at = json_extract(t.value, '$[1]'), claim = NULL, lease_until = NULL \
     FROM json_each($1) AS t WHERE push_outbox.enrollment_id = json_extract(t.value, '$[0]') AND push_outbox.claim = $2",
    "UPDATE push_outbox SET due_at = (t.value ->> 1)::bigint, claim = NULL, lease_until = NULL \
     FROM json_array_elements($1::json) AS t(value) \
     WHERE push_outbox.enrollment_id = (t.value ->> 0)::bigint AND push_outbox.claim = $2",
);

const FORGET: Sql = Sql::per(
    "DELETE FROM push_outbox WHERE enrollment_id IN (SELECT value FROM json_each($1))",
    "DELETE FROM push_outbox USING json_array_elements_text($1::json) AS t(value) \
     WHERE push_outbox.enrollment_id = t.value::bigint",
);

/// What is asked about the queues of many devices.
#[cfg(feature = "testing")]
pub(crate) const BY_DEVICE: [Sql; 3] = [ALL_FETCHED, CLAIMED, settle::STANDING];

/// How many steps of waves one claim takes at most: of a wave for devices without tokens nothing comes.
const MAX_STEPS: usize = 4;

/// When an open entry may be offered; null is at once.
macro_rules! offered_at {
    () => {
        "CASE WHEN COALESCE(q.not_before, 0) > COALESCE(q.retry_at, 0) THEN COALESCE(q.not_before, 0) \
         ELSE COALESCE(q.retry_at, 0) END"
    };
}
pub(crate) use offered_at;

macro_rules! claimed {
    ($list:literal) => {
        concat!(
            "SELECT p.enrollment_id, p.tenant_id, e.push_topic, e.push_token, e.push_magic, p.attempts, p.seq, p.again, \
             p.rounds, p.pushed_at, e.last_seen_at, p.day_start, p.day_count, \
             CASE WHEN p.again THEN (SELECT MIN(",
            offered_at!(),
            ") FROM queue_entries q WHERE q.enrollment_id = p.enrollment_id AND q.finished_at IS NULL \
             AND q.state <> 'held') END FROM ",
            $list,
            " JOIN enrollments e ON e.id = p.enrollment_id \
             WHERE e.push_token IS NOT NULL AND e.token_parked_at IS NULL ORDER BY p.due_at, p.enrollment_id"
        )
    };
}

const CLAIMED: Sql = Sql::per(
    claimed!("json_each($1) AS target CROSS JOIN push_outbox p ON p.enrollment_id = target.value"),
    claimed!(
        "json_array_elements_text($1::json) AS target(value) JOIN push_outbox p ON p.enrollment_id = target.value::bigint"
    ),
);

impl Store {
    /// Asks for an enrollment to be woken; without a live token nothing happens. Whatever rests in its queue because the
    /// device did not answer it, put it off, or because it could not be made, is offered again when it comes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_request(&self, enrollment: EnrollmentId, now: Timestamp) -> Result<(), StoreError> {
        self.write((enrollment, now), |db, (enrollment, now)| {
            Box::pin(async move {
                db.exec(
                    "UPDATE queue_entries SET retry_at = NULL, \
                     not_before = CASE WHEN state = 'pending' AND defer_reason IS NOT NULL THEN NULL ELSE not_before END \
                     WHERE enrollment_id = $1 AND finished_at IS NULL AND (retry_at > $2 OR not_before > $2)",
                    values![*enrollment, ms(*now)],
                )
                .await?;
                request(db, &[*enrollment], *now).await
            })
        })
        .await
    }

    /// Leases up to `limit` due pushes until `lease`; one that is not settled by then is offered again. Any number of
    /// dispatchers may claim at the same time. When nothing is due, nothing is written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn push_claim(&self, limit: u32, lease: Timestamp, now: Timestamp) -> Result<Vec<PushJob>, StoreError> {
        self.clock().heard(now);
        let due = self
            .read()
            .one(
                "SELECT 1 FROM (SELECT 1 AS one) AS base WHERE EXISTS \
                 (SELECT 1 FROM push_outbox WHERE lease_until IS NULL AND due_at <= $1) \
                 OR EXISTS (SELECT 1 FROM push_outbox WHERE lease_until IS NOT NULL AND lease_until <= $1) \
                 OR EXISTS (SELECT 1 FROM push_waves WHERE due_at <= $1)",
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
                db.exec(ALL_FETCHED, values![ms(*now), i64::from(*limit)]).await?;
                let mut claimed = BTreeSet::new();
                for _ in 0..MAX_STEPS {
                    let room = i64::from(*limit).saturating_sub(i64::try_from(claimed.len()).unwrap_or(i64::MAX));
                    for row in db.all(CLAIM, values![*claim, ms(*lease), ms(*now), room]).await? {
                        claimed.insert(row.get::<i64>(0)?);
                    }
                    if u32::try_from(claimed.len()).is_ok_and(|taken| taken >= *limit)
                        || !waves::go_on(db, *now).await?
                    {
                        break;
                    }
                }
                let rows = db.all(CLAIMED, values![id_list(claimed.iter().copied())]).await?;
                let (mut jobs, mut rests) = (Vec::with_capacity(rows.len()), Vec::new());
                for row in &rows {
                    let job = job_of(row, *claim)?;
                    match row.time_opt(13)? {
                        // Everything was fetched.
                        None if job.before.again => continue,
                        // Everything that it has to fetch rests: it is woken when that ends.
                        Some(offered_at) if job.before.again && offered_at > *now => {
                            rests.push((job.enrollment.0, ms(offered_at)));
                            claimed.remove(&job.enrollment.0);
                        }
                        _ => {
                            claimed.remove(&job.enrollment.0);
                            jobs.push(job);
                        }
                    }
                }
                put_back(db, *claim, &rests).await?;
                // And whose token went away in the meantime: its next TokenUpdate asks again.
                if !claimed.is_empty() {
                    db.exec(FORGET, values![id_list(claimed)]).await?;
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
                 (SELECT MIN(lease_until) FROM push_outbox WHERE lease_until IS NOT NULL), \
                 (SELECT MIN(due_at) FROM push_waves)",
                values![],
            )
            .await?;
        let times = [row.time_opt(0)?, row.time_opt(1)?, row.time_opt(2)?];
        Ok(times.into_iter().flatten().min())
    }
}

fn job_of(row: &Row, claim: Uuid) -> Result<PushJob, StoreError> {
    Ok(PushJob {
        enrollment: EnrollmentId(row.get(0)?),
        tenant: TenantId(row.get(1)?),
        topic: row.get(2)?,
        token: row.get(3)?,
        magic: row.get(4)?,
        attempts: row.get(5)?,
        claim,
        seq: row.get(6)?,
        before: Before {
            again: row.get(7)?,
            rounds: row.get(8)?,
            pushed_at: row.time_opt(9)?,
            last_seen_at: row.time_opt(10)?,
            day_start: row.time_opt(11)?,
            day_count: row.get(12)?,
        },
    })
}

/// Ends leases without a push: each is due later, at its time.
async fn put_back(db: &Db, claim: Uuid, due: &[(i64, i64)]) -> Result<(), StoreError> {
    if due.is_empty() {
        return Ok(());
    }
    let list = serde_json::to_string(due).map_err(|_| StoreError::Corrupt("list"))?;
    db.exec(PUT_BACK, values![list, claim]).await.map(|_| ())
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
