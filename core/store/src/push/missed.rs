//! Devices that have something to fetch and that nobody is going to wake: their row was lost.
//!
//! On PostgreSQL a command that is queued and a token that arrives at the same moment do not see each other: the one asks
//! for no push, as there is no token, and the other for none, as there is nothing to fetch. Such a device would come by
//! itself or never; it is looked for now and then.

use jiff::Timestamp;

use super::{offered_at, request};
use crate::db::{Sql, ms, values};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::store::Store;

/// How many open entries are looked at in one statement.
const SLICE: i64 = 5_000;

/// Where the next slice after an enrollment ends.
const LAST: &str = "SELECT MAX(s.enrollment_id) FROM (SELECT enrollment_id FROM queue_entries \
     WHERE finished_at IS NULL AND enrollment_id > $1 ORDER BY enrollment_id LIMIT $2) AS s";

/// Of a slice. The devices of a wave are asked for when it reaches them.
macro_rules! missed {
    ($entries:literal) => {
        concat!(
            "SELECT DISTINCT e.id FROM ",
            $entries,
            " JOIN enrollments e ON e.id = q.enrollment_id \
             WHERE q.finished_at IS NULL AND q.enrollment_id > $1 AND q.enrollment_id <= $2 AND q.state <> 'held' AND ",
            offered_at!(),
            " <= $3 AND e.push_token IS NOT NULL AND e.token_parked_at IS NULL AND e.state = 'active' \
             AND NOT EXISTS (SELECT 1 FROM push_outbox p WHERE p.enrollment_id = q.enrollment_id) \
             AND NOT EXISTS (SELECT 1 FROM push_waves w WHERE w.command_id = q.command_id)"
        )
    };
}

const MISSED: Sql = Sql::per(
    missed!("queue_entries q INDEXED BY queue_open"),
    missed!("queue_entries q"),
);

impl Store {
    /// Asks for a push for each device that has something to fetch, can be woken, and is not going to be; how many there
    /// were. Looks on a reader, at what is open alone, and writes only if it finds one.
    ///
    /// # Errors
    /// When the database fails; the next time begins anew.
    pub async fn push_missed(&self, now: Timestamp) -> Result<u64, StoreError> {
        // A device is then woken once, and its row goes.
        if self.queue_rules().push_again_per_day == 0 {
            return Ok(0);
        }
        let (mut found, mut after) = (0, 0_i64);
        loop {
            let last: Option<i64> = self.read().row(LAST, values![after, SLICE]).await?.get(0)?;
            let Some(last) = last else { return Ok(found) };
            let rows = self.read().all(MISSED, values![after, last, ms(now)]).await?;
            let missed: Vec<_> = rows
                .iter()
                .map(|row| row.get(0).map(EnrollmentId))
                .collect::<Result<_, _>>()?;
            if !missed.is_empty() {
                found += u64::try_from(missed.len()).unwrap_or(u64::MAX);
                self.write((missed, now), |db, (missed, now)| Box::pin(request(db, missed, *now)))
                    .await?;
            }
            after = last;
        }
    }
}
