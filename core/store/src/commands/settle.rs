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

const STATEMENT: &str = "WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], \
     $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[]) \
     AS a(now, report, report_state, status, error_chain, result, claim, attempts, claim_state, retry_at)), \
     reported AS MATERIALIZED (SELECT a.* FROM asked a JOIN queue_entries q ON q.id = a.report \
     WHERE q.state NOT IN ('acknowledged', 'failed') FOR UPDATE OF q SKIP LOCKED), \
     recorded AS (UPDATE queue_entries q SET state = a.report_state, status = a.status, error_chain = a.error_chain, \
     result = a.result, answered_at = a.now, finished_at = a.now FROM reported a \
     WHERE q.id = a.report AND q.state NOT IN ('acknowledged', 'failed') RETURNING q.id), \
     claimed AS MATERIALIZED (SELECT a.* FROM asked a JOIN queue_entries q ON q.id = a.claim \
     WHERE (a.report IS NULL OR a.report IN (SELECT id FROM recorded)) \
     AND q.attempts = a.attempts AND q.finished_at IS NULL AND q.state <> 'held' FOR UPDATE OF q SKIP LOCKED), \
     taken AS (UPDATE queue_entries q SET state = a.claim_state, attempts = q.attempts + 1, unanswered = q.unanswered + 1, \
     sent_at = a.now, retry_at = a.retry_at, stuck_at = CASE WHEN a.claim_state = 'stuck' THEN COALESCE(q.stuck_at, a.now) END \
     FROM claimed a WHERE q.id = a.claim AND q.attempts = a.attempts AND q.finished_at IS NULL AND q.state <> 'held' \
     RETURNING q.id) \
     SELECT id, TRUE FROM recorded UNION ALL SELECT id, FALSE FROM taken";

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
            let mut mine = Vec::with_capacity(questions.len());
            for question in questions {
                let answered = question
                    .answered
                    .as_ref()
                    .filter(|answered| used.insert(answered.entry));
                let alone = question.answered.is_none() || answered.is_some();
                let taking = question.taking.as_ref().filter(|_| alone);
                mine.push((
                    question.now,
                    answered,
                    taking.filter(|taking| used.insert(taking.claim.entry)),
                ));
            }
            let answered = || mine.iter().map(|(_, answered, _)| *answered);
            let taking = || mine.iter().map(|(_, _, taking)| *taking);
            let rows = sqlx::query(STATEMENT)
                .bind(mine.iter().map(|(now, _, _)| *now).collect::<Vec<_>>())
                .bind(answered().map(|of| of.map(|of| of.entry.0)).collect::<Vec<_>>())
                .bind(answered().map(|of| of.map(|of| of.state.as_str())).collect::<Vec<_>>())
                .bind(answered().map(|of| of.map(|of| of.status.as_str())).collect::<Vec<_>>())
                .bind(answered().map(|of| of?.error_chain.as_deref()).collect::<Vec<_>>())
                .bind(
                    answered()
                        .map(|of| of.map(|of| of.result.as_slice()))
                        .collect::<Vec<_>>(),
                )
                .bind(taking().map(|of| of.map(|of| of.claim.entry.0)).collect::<Vec<_>>())
                .bind(taking().map(|of| of.map(|of| of.claim.attempts)).collect::<Vec<_>>())
                .bind(taking().map(|of| of.map(|of| of.state.as_str())).collect::<Vec<_>>())
                .bind(taking().map(|of| of.map(|of| of.retry_at)).collect::<Vec<_>>())
                .fetch_all(&mut **connection)
                .await
                .map_err(failed)?;
            let mut done = HashSet::with_capacity(rows.len());
            for row in rows.into_iter().map(QueryResult::from).map(Row::from) {
                done.insert((row.get::<i64>(0)?, row.get::<bool>(1)?));
            }
            let settled = mine.iter().map(|(_, answered, taking)| Settled {
                recorded: answered.is_some_and(|of| done.contains(&(of.entry.0, true))),
                taken: taking.is_some_and(|of| done.contains(&(of.claim.entry.0, false))),
            });
            Ok(settled.collect())
        })
    }
}
