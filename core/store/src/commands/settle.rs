//! A device's report and the delivery of its next command, for many devices in one statement: PostgreSQL's way of sharing a
//! commit. On SQLite the writer shares it.
//!
//! It takes only what nobody else holds: a row that another transaction has locked is left out, and whoever is left out goes
//! the long way, in a transaction of its own. So no device waits for another one's lock, and no two statements lock up.

use std::collections::HashSet;

use sea_orm::QueryResult;
use sea_orm::sqlx;

use super::delivery::Claim;
use super::{EntryState, ReportStatus};
use crate::backend::BoxFuture;
use crate::backend::lanes::{Bundle, Lane, failed};
use crate::db::Row;
use crate::error::StoreError;
use crate::ids::EntryId;

/// A final answer of a device, sealed.
pub(super) struct Answered {
    pub(super) entry: EntryId,
    pub(super) state: EntryState,
    pub(super) status: ReportStatus,
    pub(super) error_chain: Option<String>,
    pub(super) result: Vec<u8>,
}

/// What becomes of an entry that is delivered.
pub(super) struct Taking {
    pub(super) claim: Claim,
    pub(super) state: EntryState,
    pub(super) retry_at: i64,
}

/// One device's report, or delivery, or both: then the delivery takes place only if the report does.
pub(crate) struct Settle {
    pub(super) now: i64,
    pub(super) answered: Option<Answered>,
    pub(super) taking: Option<Taking>,
}

/// What took place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(super) recorded: bool,
    pub(super) taken: bool,
}

/// Settles for many devices at once.
pub(crate) struct Settling;

/// One row for each report and each delivery; a delivery has the attempts that it saw, a report has none. First the rows
/// that are as they were seen are locked, so that nothing can change about them any more, then they are written: both with one
/// scan for all. The results are taken from their array only where they are written, and not carried along.
pub(super) const STATEMENT: &str = "WITH locked AS MATERIALIZED (SELECT a.* FROM unnest($1::bigint[], $2::bigint[], $3::text[], \
     $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[]) \
     WITH ORDINALITY AS a(entry, now, state, attempts, after, retry_at, status, error_chain, n) \
     JOIN queue_entries q ON q.id = a.entry WHERE CASE WHEN a.attempts IS NULL \
     THEN q.state NOT IN ('acknowledged', 'failed') \
     ELSE q.attempts = a.attempts AND q.state IN ('pending', 'not_now', 'sent', 'stuck') END FOR UPDATE OF q SKIP LOCKED) \
     UPDATE queue_entries q SET state = a.state, \
     status = CASE WHEN a.attempts IS NULL THEN a.status ELSE q.status END, \
     error_chain = CASE WHEN a.attempts IS NULL THEN a.error_chain ELSE q.error_chain END, \
     result = CASE WHEN a.attempts IS NULL THEN ($9::bytea[])[a.n] ELSE q.result END, \
     answered_at = CASE WHEN a.attempts IS NULL THEN a.now ELSE q.answered_at END, \
     finished_at = CASE WHEN a.attempts IS NULL THEN a.now END, \
     attempts = CASE WHEN a.attempts IS NULL THEN q.attempts ELSE q.attempts + 1 END, \
     unanswered = CASE WHEN a.attempts IS NULL THEN q.unanswered ELSE q.unanswered + 1 END, \
     sent_at = CASE WHEN a.attempts IS NULL THEN q.sent_at ELSE a.now END, \
     retry_at = CASE WHEN a.attempts IS NULL THEN q.retry_at ELSE a.retry_at END, \
     stuck_at = CASE WHEN a.attempts IS NULL THEN q.stuck_at WHEN a.state = 'stuck' THEN COALESCE(q.stuck_at, a.now) END \
     FROM locked a WHERE q.id = a.entry \
     AND (a.after IS NULL OR a.after IN (SELECT entry FROM locked WHERE attempts IS NULL)) RETURNING q.id";

/// A row of the statement.
struct Change<'a> {
    entry: EntryId,
    now: i64,
    /// What the delivery goes by, and the report that it goes with.
    taking: Option<(&'a Taking, Option<EntryId>)>,
    answered: Option<&'a Answered>,
}

impl Change<'_> {
    fn state(&self) -> Option<&'static str> {
        let taken = self.taking.map(|(taking, _)| taking.state);
        taken.or(self.answered.map(|of| of.state)).map(EntryState::as_str)
    }
}

impl Bundle for Settling {
    type Question = Settle;
    type Answer = Settled;

    fn ask<'a>(lane: &'a mut Lane, questions: &'a [Settle]) -> BoxFuture<'a, Result<Vec<Settled>, StoreError>> {
        Box::pin(async move {
            let Lane::Postgres(connection) = lane else {
                return Err(StoreError::Corrupt("lane"));
            };
            // An entry has one place in a statement: of two that want it, the second goes the long way.
            let mut used = HashSet::with_capacity(questions.len() * 2);
            let mut changes = Vec::with_capacity(questions.len() * 2);
            let mut mine = Vec::with_capacity(questions.len());
            for question in questions {
                let answered = question.answered.as_ref().filter(|of| used.insert(of.entry));
                let alone = question.answered.is_none() || answered.is_some();
                let taking = question.taking.as_ref().filter(|_| alone);
                let taking = taking.filter(|of| used.insert(of.claim.entry));
                let report = answered.map(|of| of.entry);
                let now = question.now;
                changes.extend(answered.map(|of| Change {
                    entry: of.entry,
                    now,
                    taking: None,
                    answered: Some(of),
                }));
                changes.extend(taking.map(|of| Change {
                    entry: of.claim.entry,
                    now,
                    taking: Some((of, report)),
                    answered: None,
                }));
                mine.push((report, taking.map(|of| of.claim.entry)));
            }
            let taking = || changes.iter().map(|of| of.taking);
            let answered = || changes.iter().map(|of| of.answered);
            let rows = sqlx::query(STATEMENT)
                .bind(changes.iter().map(|of| of.entry.0).collect::<Vec<_>>())
                .bind(changes.iter().map(|of| of.now).collect::<Vec<_>>())
                .bind(changes.iter().map(Change::state).collect::<Vec<_>>())
                .bind(
                    taking()
                        .map(|of| of.map(|(of, _)| of.claim.attempts))
                        .collect::<Vec<_>>(),
                )
                .bind(taking().map(|of| of?.1.map(|report| report.0)).collect::<Vec<_>>())
                .bind(taking().map(|of| of.map(|(of, _)| of.retry_at)).collect::<Vec<_>>())
                .bind(answered().map(|of| of.map(|of| of.status.as_str())).collect::<Vec<_>>())
                .bind(answered().map(|of| of?.error_chain.as_deref()).collect::<Vec<_>>())
                .bind(
                    answered()
                        .map(|of| of.map(|of| of.result.as_slice()))
                        .collect::<Vec<_>>(),
                )
                .fetch_all(&mut **connection)
                .await
                .map_err(failed)?;
            let mut done = HashSet::with_capacity(rows.len());
            for row in rows.into_iter().map(QueryResult::from).map(Row::from) {
                done.insert(EntryId(row.get::<i64>(0)?));
            }
            let is_done = |entry: &Option<EntryId>| entry.is_some_and(|entry| done.contains(&entry));
            let settled = mine.iter().map(|(report, claim)| Settled {
                recorded: is_done(report),
                taken: is_done(claim),
            });
            Ok(settled.collect())
        })
    }
}
