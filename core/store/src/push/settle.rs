//! What became of pushes, written down for many at a time: a transaction for each would be most of what a push costs.
//!
//! A push that was sent and not written down is sent again when its lease ends. That is harmless, since APNs keeps only the
//! last, and the other way round it would be lost.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{PushJob, offered_at};
use crate::commands::QueueRules;
use crate::db::{Db, Sql, id_list, ms, values};
use crate::error::StoreError;
use crate::events;
use crate::store::Store;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// APNs took it.
    Taken,
    /// APNs did not take it: it is due again then, with one attempt more.
    Refused {
        /// When.
        due_at: Timestamp,
    },
    /// APNs says that the token is dead.
    Dead,
}

/// Of the rows that are still leased to a claim: how many requests they have now, when the first of what the device has to
/// fetch may be offered, and the first of what may not be yet. What it is not to have before an approval does not count.
///
/// PostgreSQL locks the rows in the order in which requests do, so that the two do not lock each other up.
pub(super) const STANDING: Sql = Sql::per(
    concat!(
        "SELECT p.enrollment_id, p.seq, MIN(CASE WHEN q.id IS NOT NULL THEN ",
        offered_at!(),
        " END), MIN(CASE WHEN ",
        offered_at!(),
        " > $3 THEN ",
        offered_at!(),
        " END) FROM json_each($1) AS t CROSS JOIN push_outbox p ON p.enrollment_id = t.value \
         LEFT JOIN queue_entries q ON q.enrollment_id = p.enrollment_id AND q.finished_at IS NULL AND q.state <> 'held' \
         WHERE p.claim = $2 GROUP BY p.enrollment_id, p.seq"
    ),
    concat!(
        "SELECT p.enrollment_id, p.seq, open.first, open.rests FROM json_array_elements_text($1::json) AS t(value) \
         JOIN push_outbox p ON p.enrollment_id = t.value::bigint CROSS JOIN LATERAL (SELECT MIN(",
        offered_at!(),
        ") AS first, MIN(CASE WHEN ",
        offered_at!(),
        " > $3 THEN ",
        offered_at!(),
        " END) AS rests FROM queue_entries q WHERE q.enrollment_id = p.enrollment_id AND q.finished_at IS NULL \
         AND q.state <> 'held') AS open WHERE p.claim = $2 ORDER BY p.enrollment_id FOR UPDATE OF p"
    ),
);

/// A row that goes on: `[enrollment, due_at, again, rounds, day_start, day_count]`.
const AGAIN: Sql = Sql::per(
    "UPDATE push_outbox SET due_at = json_extract(t.value, '$[1]'), again = json_extract(t.value, '$[2]'), \
     rounds = json_extract(t.value, '$[3]'), day_start = json_extract(t.value, '$[4]'), \
     day_count = json_extract(t.value, '$[5]'), pushed_at = $3, attempts = 0, claim = NULL, lease_until = NULL \
     FROM json_each($1) AS t WHERE push_outbox.enrollment_id = json_extract(t.value, '$[0]') AND push_outbox.claim = $2",
    "UPDATE push_outbox SET due_at = (t.value ->> 1)::bigint, again = (t.value ->> 2)::boolean, \
     rounds = (t.value ->> 3)::bigint, day_start = (t.value ->> 4)::bigint, day_count = (t.value ->> 5)::bigint, \
     pushed_at = $3, attempts = 0, claim = NULL, lease_until = NULL \
     FROM json_array_elements($1::json) AS t(value) \
     WHERE push_outbox.enrollment_id = (t.value ->> 0)::bigint AND push_outbox.claim = $2",
);

/// A row that was not taken: `[enrollment, due_at]`.
const REFUSED: Sql = Sql::per(
    "UPDATE push_outbox SET due_at = json_extract(t.value, '$[1]'), attempts = attempts + 1, claim = NULL, \
     lease_until = NULL FROM json_each($1) AS t \
     WHERE push_outbox.enrollment_id = json_extract(t.value, '$[0]') AND push_outbox.claim = $2 \
     RETURNING enrollment_id",
    "UPDATE push_outbox SET due_at = (t.value ->> 1)::bigint, attempts = attempts + 1, claim = NULL, \
     lease_until = NULL FROM json_array_elements($1::json) AS t(value) \
     WHERE push_outbox.enrollment_id = (t.value ->> 0)::bigint AND push_outbox.claim = $2 \
     RETURNING push_outbox.enrollment_id",
);

impl Store {
    /// Writes down what became of pushes, in one transaction whose number of statements does not depend on how many were
    /// taken or refused; how many tokens were parked. A job whose lease is another dispatcher's by now is left to that one.
    ///
    /// - Taken: a request that came meanwhile stays due. If the device has something to fetch, it is woken again when that
    ///   may be offered, or after a pause if it may be already: see [`QueueRules`].
    /// - Refused: due again, and told to observers the first time.
    /// - Dead: the token is parked until the next TokenUpdate, unless that came already: then the push is due again with
    ///   the new token.
    ///
    /// # Errors
    /// When the database fails; then nothing is written down, and all are due again when their leases end.
    pub async fn push_settle(&self, pushes: Vec<(PushJob, PushOutcome)>, now: Timestamp) -> Result<u64, StoreError> {
        if pushes.is_empty() {
            return Ok(0);
        }
        self.clock().heard(now);
        self.write((pushes, self.queue_rules(), now), |db, (pushes, rules, now)| {
            Box::pin(async move {
                let mut claims: BTreeMap<Uuid, Vec<&(PushJob, PushOutcome)>> = BTreeMap::new();
                for push in pushes {
                    claims.entry(push.0.claim).or_default().push(push);
                }
                let mut parked = 0;
                for (claim, mut pushes) in claims {
                    pushes.sort_by_key(|(job, _)| job.enrollment);
                    taken(db, claim, &pushes, rules, *now).await?;
                    refused(db, claim, &pushes, *now).await?;
                    for (job, _) in pushes.iter().filter(|(_, outcome)| *outcome == PushOutcome::Dead) {
                        parked += u64::from(dead(db, job, *now).await?);
                    }
                }
                Ok(parked)
            })
        })
        .await
    }
}

async fn taken(
    db: &Db,
    claim: Uuid,
    pushes: &[&(PushJob, PushOutcome)],
    rules: &QueueRules,
    now: Timestamp,
) -> Result<(), StoreError> {
    let jobs: BTreeMap<i64, &PushJob> = pushes
        .iter()
        .filter(|(_, outcome)| *outcome == PushOutcome::Taken)
        .map(|(job, _)| (job.enrollment.0, job))
        .collect();
    if jobs.is_empty() {
        return Ok(());
    }
    let (mut over, mut again) = (Vec::new(), Vec::new());
    let list = id_list(jobs.keys().copied());
    for row in db.all(STANDING, values![list, claim, ms(now)]).await? {
        let Some(job) = jobs.get(&row.get(0)?) else { continue };
        let (first, rests) = (row.time_opt(2)?, row.time_opt(3)?);
        let (after, pause_over) = job.before.pushed(rules, now);
        let at_hand = first.is_some_and(|first| first <= now) && rules.push_again_per_day > 0;
        let next = [rests, at_hand.then_some(pause_over)].into_iter().flatten().min();
        // A request that came while the push was on its way is due.
        let (due, by_itself) = match next {
            _ if row.get::<i64>(1)? != job.seq => (now, false),
            Some(next) => (next, true),
            None => {
                over.push(job.enrollment.0);
                continue;
            }
        };
        if !by_itself {
            db.request_push();
        }
        again.push((
            job.enrollment.0,
            ms(due),
            by_itself,
            after.rounds,
            after.day_start.map(ms),
            after.day_count,
        ));
    }
    if !over.is_empty() {
        db.exec(super::FORGET, values![id_list(over)]).await?;
    }
    if !again.is_empty() {
        db.exec(AGAIN, values![list_of(&again)?, claim, ms(now)]).await?;
    }
    Ok(())
}

async fn refused(db: &Db, claim: Uuid, pushes: &[&(PushJob, PushOutcome)], now: Timestamp) -> Result<(), StoreError> {
    let mut jobs = BTreeMap::new();
    for (job, outcome) in pushes {
        if let PushOutcome::Refused { due_at } = outcome {
            jobs.insert(job.enrollment.0, (job, *due_at));
        }
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let due: Vec<(i64, i64)> = jobs.iter().map(|(id, (_, due_at))| (*id, ms(*due_at))).collect();
    for row in db.all(REFUSED, values![list_of(&due)?, claim]).await? {
        // The failures after the first tell nothing new.
        if let Some((job, due_at)) = jobs.get(&row.get(0)?)
            && job.attempts == 0
        {
            tell_failed(db, job, Some(*due_at), now).await?;
        }
    }
    Ok(())
}

/// Whether the token was parked.
async fn dead(db: &Db, job: &PushJob, now: Timestamp) -> Result<bool, StoreError> {
    let parked = db
        .exec(
            "UPDATE enrollments SET token_parked_at = $1 WHERE id = $2 AND push_token = $3 AND token_parked_at IS NULL",
            values![ms(now), job.enrollment, job.token.clone()],
        )
        .await?;
    if parked == 0 {
        release(db, job, now).await?;
        return Ok(false);
    }
    let sql = "DELETE FROM push_outbox WHERE enrollment_id = $1";
    db.exec(sql, values![job.enrollment]).await?;
    tell_failed(db, job, None, now).await?;
    Ok(true)
}

/// Ends a lease; the push is due now.
async fn release(db: &Db, job: &PushJob, now: Timestamp) -> Result<(), StoreError> {
    let released = db
        .exec(
            "UPDATE push_outbox SET due_at = $3, again = FALSE, attempts = 0, claim = NULL, lease_until = NULL \
             WHERE enrollment_id = $1 AND claim = $2",
            values![job.enrollment, job.claim, ms(now)],
        )
        .await?;
    if released > 0 {
        db.request_push();
    }
    Ok(())
}

/// Tells observers that a device can not be woken: for good, unless it is tried again.
async fn tell_failed(db: &Db, job: &PushJob, retry_at: Option<Timestamp>, now: Timestamp) -> Result<(), StoreError> {
    let detail = || json!({ "topic": job.topic, "parked": retry_at.is_none(), "retry_at": retry_at });
    events::tell(db, job.tenant, Some(job.enrollment), "push.failed", detail, now)
        .await
        .map(|_| ())
}

fn list_of<T: serde::Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|_| StoreError::Corrupt("list"))
}
