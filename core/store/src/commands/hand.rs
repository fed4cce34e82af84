//! Deliveries to devices that poll, for many devices in one statement: PostgreSQL's way of sharing a commit. On SQLite the
//! writer shares it.
//!
//! Nobody is told by a delivery that anything is kept, so it does not wait for the disk: it is seen by everybody at once, and
//! written with the next commit that does wait, or a moment later. A database whose machine stops in that moment forgets that
//! the command went out, as if the answer to the poll had been lost: the command is still queued and is offered again, and a
//! report on it counts all the same.
//!
//! It takes only what nobody else holds, as [`super::settle`] does.

use sea_orm::QueryResult;
use sea_orm::sqlx;

use super::settle::Taking;
use crate::backend::BoxFuture;
use crate::backend::lanes::{Bundle, Lane, failed};
use crate::db::Row;
use crate::error::StoreError;

/// One device's delivery.
pub(crate) struct Hand {
    pub(super) now: i64,
    pub(super) taking: Taking,
}

/// Delivers to many devices at once.
pub(crate) struct Handing;

/// The rows that are as they were seen are locked, so that nothing can change about them any more, then they are written.
pub(super) const STATEMENT: &str = "WITH locked AS MATERIALIZED (SELECT a.* \
     FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[]) \
     AS a(entry, now, state, attempts, retry_at) JOIN queue_entries q ON q.id = a.entry \
     WHERE q.attempts = a.attempts AND q.state IN ('pending', 'not_now', 'sent', 'stuck') FOR UPDATE OF q SKIP LOCKED) \
     UPDATE queue_entries q SET state = a.state, attempts = q.attempts + 1, unanswered = q.unanswered + 1, sent_at = a.now, \
     retry_at = a.retry_at, stuck_at = CASE WHEN a.state = 'stuck' THEN COALESCE(q.stuck_at, a.now) END \
     FROM locked a WHERE q.id = a.entry RETURNING q.id";

impl Bundle for Handing {
    type Question = Hand;
    /// Whether the device gets it.
    type Answer = bool;

    const DURABLE: bool = false;

    fn ask<'a>(lane: &'a mut Lane, questions: &'a [Hand]) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            let Lane::Postgres(connection) = lane else {
                return Err(StoreError::Corrupt("lane"));
            };
            // An entry has one place in a statement: of two that want it, the second comes too late.
            let first = |(at, of): (usize, &Hand)| !questions[..at].iter().any(|earlier| earlier.entry() == of.entry());
            let mine: Vec<bool> = questions.iter().enumerate().map(first).collect();
            let taken = || questions.iter().zip(&mine).filter_map(|(of, mine)| mine.then_some(of));
            let rows = sqlx::query(STATEMENT)
                .bind(taken().map(Hand::entry).collect::<Vec<_>>())
                .bind(taken().map(|of| of.now).collect::<Vec<_>>())
                .bind(taken().map(|of| of.taking.state.as_str()).collect::<Vec<_>>())
                .bind(taken().map(|of| of.taking.claim.attempts).collect::<Vec<_>>())
                .bind(taken().map(|of| of.taking.retry_at).collect::<Vec<_>>())
                .fetch_all(&mut **connection)
                .await
                .map_err(failed)?;
            let done = rows
                .into_iter()
                .map(|row| Row::from(QueryResult::from(row)).get::<i64>(0));
            let done = done.collect::<Result<Vec<_>, _>>()?;
            let answer = |(of, mine): (&Hand, &bool)| *mine && done.contains(&of.entry());
            Ok(questions.iter().zip(&mine).map(answer).collect())
        })
    }
}

impl Hand {
    fn entry(&self) -> i64 {
        self.taking.claim.entry.0
    }
}
