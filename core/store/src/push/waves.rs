//! Pushes for a command that many devices got: their requests are written as they fall due, a few thousand at a time.
//!
//! A million requests at once would take as long as the million entries that they are for, would all be due at once, and
//! most of them would stand in the outbox for nothing: a device that polls in the meantime needs none.

use jiff::Timestamp;

use super::request_push;
use crate::db::{Db, Sql, ms, values};
use crate::error::StoreError;

/// For more devices than these a command is a wave.
const FEW: u64 = 1_000;

/// How many devices of a wave are asked for at once.
const STEP: i64 = 5_000;

const ALL: &str = request_push!(
    "e.id, e.tenant_id, 1, CASE WHEN q.not_before > $2 THEN q.not_before ELSE $2 END, 0 \
     FROM queue_entries q JOIN enrollments e ON e.id = q.enrollment_id \
     WHERE q.command_id = $1 AND q.state = 'pending'"
);

/// Those up to an enrollment that still need one.
const SOME: &str = request_push!(
    "e.id, e.tenant_id, 1, CASE WHEN q.not_before > $2 THEN q.not_before ELSE $2 END, 0 \
     FROM queue_entries q JOIN enrollments e ON e.id = q.enrollment_id \
     WHERE q.command_id = $1 AND q.enrollment_id > $3 AND q.enrollment_id <= $4 AND q.state = 'pending'"
);

/// One that is due. Several dispatchers do not wait for each other.
const DUE: Sql = Sql::per(
    "SELECT command_id, after_enrollment FROM push_waves WHERE due_at <= $1 ORDER BY due_at LIMIT 1",
    "SELECT command_id, after_enrollment FROM push_waves WHERE due_at <= $1 ORDER BY due_at LIMIT 1 \
     FOR UPDATE SKIP LOCKED",
);

/// How far the next step goes, and when the last of it may be delivered: the step after that is not due before.
const NEXT: &str = "SELECT MAX(step.enrollment_id), MAX(step.not_before) FROM (SELECT enrollment_id, not_before \
     FROM queue_entries WHERE command_id = $1 AND enrollment_id > $2 ORDER BY enrollment_id LIMIT $3) AS step";

/// Requests a push for each enrollment that a command was queued for, at the time of its entry, within a transaction.
/// `entries` is how many there may be, and none is to be delivered before `first`.
pub(crate) async fn request_for_command(
    db: &Db,
    command: i64,
    entries: u64,
    first: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let requested = if entries > FEW {
        db.exec(
            "INSERT INTO push_waves (command_id, after_enrollment, due_at) VALUES ($1, 0, $2) \
             ON CONFLICT (command_id) DO UPDATE SET after_enrollment = 0, due_at = excluded.due_at",
            values![command, ms(first.max(now))],
        )
        .await?
    } else {
        db.exec(ALL, values![command, ms(now)]).await?
    };
    if requested > 0 {
        db.request_push();
    }
    Ok(())
}

/// Takes the next step of a wave that is due, within a transaction; whether there was one.
pub(super) async fn go_on(db: &Db, now: Timestamp) -> Result<bool, StoreError> {
    let Some(row) = db.one(DUE, values![ms(now)]).await? else {
        return Ok(false);
    };
    let (command, after): (i64, i64) = (row.get(0)?, row.get(1)?);
    let step = db.row(NEXT, values![command, after, STEP]).await?;
    let Some(last) = step.get::<Option<i64>>(0)? else {
        let sql = "DELETE FROM push_waves WHERE command_id = $1";
        db.exec(sql, values![command]).await?;
        return Ok(true);
    };
    db.exec(SOME, values![command, ms(now), after, last]).await?;
    let due = step.time_opt(1)?.map_or(now, |last| last.max(now));
    let sql = "UPDATE push_waves SET after_enrollment = $2, due_at = $3 WHERE command_id = $1";
    db.exec(sql, values![command, last, ms(due)]).await?;
    Ok(true)
}
