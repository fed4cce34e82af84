//! The question of every message of a device: whose certificate is it, which enrollment does it name, and what does the
//! queue have for it? One statement for all devices that ask at the same moment, which writes nothing.

use std::time::Duration;

use jiff::Timestamp;
use russet_protocol::Channel;
use sea_orm::QueryResult;
use sea_orm::sqlx;
use uuid::Uuid;

use super::EntryState;
use super::delivery::{Candidate, candidate_of};
use crate::backend::BoxFuture;
use crate::backend::lanes::{Bundle, Lane, failed};
use crate::db::{Row, ms};
use crate::enrollments::{EnrollmentState, ResolvedEnrollment};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, EntryId, Sha256, TenantId};
use crate::store::Store;

/// What a message asks of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueAsk {
    /// Nothing: it is about something else.
    Nothing,
    /// It is an idle poll.
    Idle,
    /// It reports on this command, and takes the next one.
    Report(Uuid),
}

/// Who sends a message, and what the queue has for it.
#[derive(Debug)]
pub struct Caller {
    /// The certificate; `None` when this server never stored it.
    pub certificate: Option<CallerCertificate>,
    /// The enrollment of the key in the tenant.
    pub enrollment: Option<ResolvedEnrollment>,
    /// What the queue has: for [`Store::next_of`] and [`Store::report_of`].
    pub queue: QueueView,
}

/// A certificate, as far as every message needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerCertificate {
    /// The tenant that it identifies a device to.
    pub tenant: TenantId,
    /// The enrollment that it was bound to at Authenticate.
    pub enrollment: Option<EnrollmentId>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

/// What was in a queue at a moment. Whatever is done with it is checked again when it is done.
#[derive(Debug, Default)]
pub struct QueueView {
    /// The entry of the command that the message reports on.
    pub(super) reported: Option<(EntryId, EntryState)>,
    /// What would be delivered next.
    pub(super) first: Option<Candidate>,
}

/// A question to [`Callers`].
pub(crate) struct Question {
    certificate_sha256: Sha256,
    tenant: TenantId,
    key: String,
    /// Absent where nothing is asked of the queue.
    now: Option<i64>,
    idle: bool,
    reported: Option<Uuid>,
}

/// Asks for many devices at once.
pub(crate) struct Callers;

/// The columns of the answer, the number of the question first.
macro_rules! answer {
    () => {
        "SELECT a.n, c.tenant_id, c.enrollment_id, c.revoked_at, e.id, e.channel, e.state, e.parent_id, \
         COALESCE(p.certificate_sha256, e.certificate_sha256), e.awaiting_configuration, r.id, r.state, \
         o.id, o.attempts, o.unanswered, o.expires_at, m.uuid, m.request_type, m.payload, m.profile_name, m.tenant_id, \
         m.origin, m.created_by, CASE WHEN m.approval = 'approved' THEN m.decided_by END FROM "
    };
}

/// The column at which the candidate begins.
const CANDIDATE: usize = 12;

/// Who is asked about.
macro_rules! named {
    () => {
        " LEFT JOIN certificates c ON c.sha256 = a.sha256 \
         LEFT JOIN enrollments e ON e.tenant_id = a.tenant_id AND e.enrollment_key = a.enrollment_key \
         LEFT JOIN enrollments p ON p.id = e.parent_id \
         LEFT JOIN commands rc ON rc.uuid = a.reported "
    };
}

/// The same choice as that of [`super::delivery`]: what is fresh, or was never answered; at an idle poll also what was put
/// off. What the message reports on is not over yet where this is asked.
macro_rules! chosen {
    () => {
        " FROM queue_entries x WHERE x.enrollment_id = e.id AND x.finished_at IS NULL \
         AND (x.not_before IS NULL OR x.not_before <= a.now) AND a.now IS NOT NULL AND x.id IS DISTINCT FROM r.id \
         AND (x.state = 'pending' OR ((x.state IN ('sent', 'stuck') OR (a.idle AND x.state = 'not_now')) \
         AND (x.retry_at IS NULL OR x.retry_at < a.now))) \
         ORDER BY CASE x.state WHEN 'sent' THEN 1 WHEN 'stuck' THEN 2 ELSE 0 END, x.priority, x.id LIMIT 1"
    };
}

pub(super) const ON_POSTGRES: &str = concat!(
    answer!(),
    "unnest($1::bytea[], $2::bigint[], $3::text[], $4::bigint[], $5::boolean[], $6::uuid[]) \
     WITH ORDINALITY AS a(sha256, tenant_id, enrollment_key, now, idle, reported, n)",
    named!(),
    // The limit, which changes nothing, keeps PostgreSQL from reading all entries of a command and looking for the device's
    // among them: it would while the table is small, and the plan stays.
    "LEFT JOIN LATERAL (SELECT q.id, q.state FROM queue_entries q WHERE q.command_id = rc.id AND q.enrollment_id = e.id \
     LIMIT 1) r ON TRUE \
     LEFT JOIN LATERAL (SELECT x.id, x.attempts, x.unanswered, x.expires_at, x.command_id",
    chosen!(),
    ") o ON TRUE LEFT JOIN commands m ON m.id = o.command_id"
);

const ON_SQLITE: &str = concat!(
    answer!(),
    "(SELECT key + 1 AS n, unhex(value ->> 0) AS sha256, value ->> 1 AS tenant_id, value ->> 2 AS enrollment_key, \
     value ->> 3 AS now, value ->> 4 AS idle, unhex(value ->> 5) AS reported FROM json_each($1)) AS a",
    named!(),
    "LEFT JOIN queue_entries r ON r.command_id = rc.id AND r.enrollment_id = e.id \
     LEFT JOIN queue_entries o ON o.id = (SELECT x.id",
    chosen!(),
    ") LEFT JOIN commands m ON m.id = o.command_id"
);

impl Bundle for Callers {
    type Question = Question;
    type Answer = Row;

    /// It commits nothing.
    const PATIENCE: Duration = Duration::from_millis(1);

    fn ask<'a>(lane: &'a mut Lane, questions: &'a [Question]) -> BoxFuture<'a, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            let rows: Vec<QueryResult> = match lane {
                Lane::Postgres(connection) => {
                    let of = |question: &Question| question.tenant.0;
                    let rows = sqlx::query(ON_POSTGRES)
                        .bind(
                            questions
                                .iter()
                                .map(|of| of.certificate_sha256.to_vec())
                                .collect::<Vec<_>>(),
                        )
                        .bind(questions.iter().map(of).collect::<Vec<_>>())
                        .bind(questions.iter().map(|of| of.key.clone()).collect::<Vec<_>>())
                        .bind(questions.iter().map(|of| of.now).collect::<Vec<_>>())
                        .bind(questions.iter().map(|of| of.idle).collect::<Vec<_>>())
                        .bind(questions.iter().map(|of| of.reported).collect::<Vec<_>>())
                        .fetch_all(&mut **connection)
                        .await
                        .map_err(failed)?;
                    rows.into_iter().map(QueryResult::from).collect()
                }
                Lane::Sqlite(connection) => {
                    let list: Vec<_> = questions.iter().map(Question::as_json).collect();
                    let list = serde_json::to_string(&list).map_err(|_| StoreError::Corrupt("JSON value"))?;
                    let rows = sqlx::query(ON_SQLITE).bind(list).fetch_all(&mut **connection).await;
                    rows.map_err(failed)?.into_iter().map(QueryResult::from).collect()
                }
            };
            let mut numbered = Vec::with_capacity(rows.len());
            for row in rows.into_iter().map(Row::from) {
                numbered.push((row.get::<i64>(0)?, row));
            }
            numbered.sort_unstable_by_key(|(number, _)| *number);
            Ok(numbered.into_iter().map(|(_, row)| row).collect())
        })
    }
}

impl Question {
    fn as_json(&self) -> (String, i64, &str, Option<i64>, u8, Option<String>) {
        (
            hex(&self.certificate_sha256),
            self.tenant.0,
            &self.key,
            self.now,
            u8::from(self.idle),
            self.reported.map(|uuid| uuid.simple().to_string()),
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

impl Store {
    /// Who sends a message with this certificate and key, and what the queue has for it. Nothing is written. A certificate
    /// of another tenant is returned as it is: compare [`CallerCertificate::tenant`].
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn caller(
        &self,
        certificate_sha256: &Sha256,
        tenant: TenantId,
        key: &str,
        ask: QueueAsk,
        now: Timestamp,
    ) -> Result<Caller, StoreError> {
        let question = Question {
            certificate_sha256: *certificate_sha256,
            tenant,
            key: key.to_owned(),
            now: (ask != QueueAsk::Nothing).then(|| ms(now)),
            idle: ask == QueueAsk::Idle,
            reported: match ask {
                QueueAsk::Report(uuid) => Some(uuid),
                QueueAsk::Nothing | QueueAsk::Idle => None,
            },
        };
        let row = self.callers().ask(question).await?;
        let certificate = match row.get::<Option<i64>>(1)? {
            None => None,
            Some(tenant) => Some(CallerCertificate {
                tenant: TenantId(tenant),
                enrollment: row.get::<Option<i64>>(2)?.map(EnrollmentId),
                revoked_at: row.time_opt(3)?,
            }),
        };
        let enrollment = match row.get::<Option<i64>>(4)? {
            None => None,
            Some(id) => {
                let bound = row.sha256_opt(8)?;
                Some(ResolvedEnrollment {
                    id: EnrollmentId(id),
                    channel: row.word(5, Channel::parse, "channel")?,
                    state: row.word(6, EnrollmentState::from_word, "enrollment state")?,
                    parent: row.get::<Option<i64>>(7)?.map(EnrollmentId),
                    certificate_sha256: bound,
                    certificate_matches: bound.as_ref() == Some(certificate_sha256),
                    awaiting_configuration: row.get(9)?,
                })
            }
        };
        let reported = match row.get::<Option<i64>>(10)? {
            None => None,
            Some(id) => Some((EntryId(id), row.word(11, EntryState::from_word, "entry state")?)),
        };
        let first = match row.get::<Option<i64>>(CANDIDATE)? {
            None => None,
            Some(_) => Some(candidate_of(&row, CANDIDATE, now)?),
        };
        Ok(Caller {
            certificate,
            enrollment,
            queue: QueueView { reported, first },
        })
    }
}
