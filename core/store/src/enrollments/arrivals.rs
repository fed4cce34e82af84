//! The plain Authenticates and TokenUpdates of many devices in one statement: PostgreSQL's way of sharing a commit. On
//! SQLite the writer shares it.
//!
//! It takes only what is plain and what nobody else holds: a device that was never here, with a certificate that is bound to
//! nobody; a token of an enrollment for which nothing waits. Whoever is left out goes the long way, in a transaction of its
//! own. So no device waits for another one's lock, and what is rare has one place where it is decided: [`super::write`].

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use sea_orm::QueryResult;
use sea_orm::sqlx;
use serde_json::Value as Json;

use super::at_once::{enrollment_columns, plans, token_columns, waits};
use super::{AuthenticateWrite, TokenTarget, TokenUpdateWrite, TokenUpdated};
use crate::backend::BoxFuture;
use crate::backend::lanes::{Bundle, Lane, failed};
use crate::db::{Row, ms, words};
use crate::decisions::{NewDecision, decision_columns};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, Sha256};
use crate::store::Store;

/// A message of one device.
pub(crate) enum Arrival {
    Authenticate(Arc<AuthenticateWrite>, Timestamp),
    Token(EnrollmentId, Arc<TokenUpdateWrite>, Timestamp),
}

/// What became of it; `None` where it was left out.
pub(crate) type Arrived = Option<TokenUpdated>;

/// Stores the messages of many devices at once.
pub(crate) struct Arriving;

/// A certificate is locked before it is bound, and an enrollment before its token is written: what was read of them stays
/// so until the end. What would have to be requested with a token (a push for commands that wait, a plan of declarations)
/// leaves the token out.
const STATEMENT: &str = concat!(
    "WITH new AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], \
     $5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], \
     $14::text[], $15::text[], $16::text[], $17::text[], $18::text[]) \
     AS a(tenant_id, enrollment_key, channel, person, attributes, sha256, topic, now, udid, serial_number, model, \
     model_name, product_name, os_version, build_version, device_name, imei, meid)), \
     free AS MATERIALIZED (SELECT c.sha256 FROM new n JOIN certificates c ON c.sha256 = n.sha256 \
     WHERE c.tenant_id = n.tenant_id AND c.enrollment_id IS NULL FOR UPDATE OF c SKIP LOCKED), \
     enrolled AS (INSERT INTO enrollments (",
    enrollment_columns!(),
    ") SELECT n.tenant_id, n.enrollment_key, n.channel, n.person, n.attributes, n.sha256, n.topic, n.now, n.now, 'pending', \
     FALSE, n.udid, n.serial_number, n.model, n.model_name, n.product_name, n.os_version, n.build_version, n.device_name, \
     n.imei, n.meid FROM free f JOIN new n ON n.sha256 = f.sha256 ORDER BY n.enrollment_key ON CONFLICT DO NOTHING \
     RETURNING id, certificate_sha256), \
     bound AS (UPDATE certificates c SET enrollment_id = e.id FROM enrolled e WHERE c.sha256 = e.certificate_sha256), \
     decided AS (INSERT INTO decisions (",
    decision_columns!(),
    ") SELECT n.tenant_id, e.id, d.hook, d.plugin, d.revision, d.subject, d.verdict, d.reason, d.fault, d.failure_rule, \
     d.duration_us, n.now, '[]', d.input_sha256, d.journal_sha256, d.verdict_sha256, d.host_calls, d.cpu_ticks, \
     d.memory_bytes, d.sealed, d.sealed_as FROM unnest($19::bytea[], $20::text[], $21::text[], $22::text[], $23::text[], \
     $24::text[], $25::text[], $26::text[], $27::text[], $28::bigint[], $29::bytea[], $30::bytea[], $31::bytea[], \
     $32::bigint[], $33::bigint[], $34::bigint[], $35::bytea[], $36::uuid[]) \
     AS d(sha256, hook, plugin, revision, subject, verdict, reason, fault, failure_rule, duration_us, input_sha256, \
     journal_sha256, verdict_sha256, host_calls, cpu_ticks, memory_bytes, sealed, sealed_as) \
     JOIN enrolled e ON e.certificate_sha256 = d.sha256 JOIN new n ON n.sha256 = d.sha256), \
     told AS MATERIALIZED (SELECT t.*, e.state FROM unnest($37::bigint[], $38::text[], $39::bytea[], $40::text[], \
     $41::boolean[], $42::bigint[], $43::bytea[]) AS t(id, topic, token, magic, awaiting, now, sha256) \
     JOIN enrollments e ON e.id = t.id WHERE e.state <> 'removed' AND NOT ",
    waits!(),
    " AND (e.state <> 'pending' OR NOT (",
    plans!(),
    ")) FOR UPDATE OF e SKIP LOCKED), tokens AS (UPDATE enrollments e SET ",
    token_columns!("e": "t.topic", "t.token", "t.magic", "t.awaiting", "t.now", "t.sha256"),
    " FROM told t WHERE e.id = t.id) \
     SELECT id, certificate_sha256, TRUE FROM enrolled UNION ALL SELECT id, NULL, state = 'pending' FROM told"
);

impl Bundle for Arriving {
    type Question = Arrival;
    type Answer = Arrived;

    fn ask<'a>(lane: &'a mut Lane, questions: &'a [Arrival]) -> BoxFuture<'a, Result<Vec<Arrived>, StoreError>> {
        Box::pin(async move {
            let Lane::Postgres(connection) = lane else {
                return Err(StoreError::Corrupt("lane"));
            };
            let taken = Taken::of(questions);
            let mut enrolled = Vec::new();
            let mut told = Vec::new();
            let rows = sqlx::query(STATEMENT)
                .bind(taken.device(|of| of.tenant.0))
                .bind(taken.device(|of| of.key.as_str()))
                .bind(taken.device(|of| of.channel.as_str()))
                .bind(taken.device(|of| of.person.as_ref().map(Json::to_string)))
                .bind(taken.device(|of| of.attributes.to_string()))
                .bind(taken.device(|of| of.certificate_sha256.as_slice()))
                .bind(taken.device(|of| of.topic.as_deref()))
                .bind(taken.devices.iter().map(|(_, now)| *now).collect::<Vec<_>>())
                .bind(taken.device(|of| of.facts.udid.as_deref()))
                .bind(taken.device(|of| of.facts.serial_number.as_deref()))
                .bind(taken.device(|of| of.facts.model.as_deref()))
                .bind(taken.device(|of| of.facts.model_name.as_deref()))
                .bind(taken.device(|of| of.facts.product_name.as_deref()))
                .bind(taken.device(|of| of.facts.os_version.as_deref()))
                .bind(taken.device(|of| of.facts.build_version.as_deref()))
                .bind(taken.device(|of| of.facts.device_name.as_deref()))
                .bind(taken.device(|of| of.facts.imei.as_deref()))
                .bind(taken.device(|of| of.facts.meid.as_deref()))
                .bind(taken.decisions.iter().map(|(of, _)| of.as_slice()).collect::<Vec<_>>())
                .bind(taken.decision(|of| of.hook.as_str()))
                .bind(taken.decision(|of| of.plugin.as_deref()))
                .bind(taken.decision(|of| of.revision.as_deref()))
                .bind(taken.decision(|of| words(&of.subject)))
                .bind(taken.decision(|of| of.verdict.as_str()))
                .bind(taken.decision(|of| of.reason.as_deref().map(words)))
                .bind(taken.decision(|of| of.fault.as_deref().map(words)))
                .bind(taken.decision(|of| of.failure_rule.as_deref()))
                .bind(taken.decision(|of| of.duration_us))
                .bind(taken.decision(|of| of.input_sha256.as_ref().map(Sha256::as_slice)))
                .bind(taken.decision(|of| of.journal_sha256.as_ref().map(Sha256::as_slice)))
                .bind(taken.decision(|of| of.verdict_sha256.as_ref().map(Sha256::as_slice)))
                .bind(taken.decision(|of| i64::from(of.host_calls)))
                .bind(taken.decision(|of| i64::from(of.cpu_ticks)))
                .bind(taken.decision(|of| i64::try_from(of.memory_bytes).unwrap_or(i64::MAX)))
                .bind(taken.decision(|of| of.call.as_ref().map(|call| call.sealed.as_slice())))
                .bind(taken.decision(|of| of.call.as_ref().map(|call| call.name)))
                .bind(taken.tokens.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
                .bind(taken.token(|of| of.topic.as_str()))
                .bind(taken.token(|of| of.token.as_slice()))
                .bind(taken.token(|of| of.magic.as_str()))
                .bind(taken.token(|of| of.awaiting_configuration))
                .bind(taken.tokens.iter().map(|(_, _, now)| *now).collect::<Vec<_>>())
                .bind(taken.token(|of| of.certificate_sha256.as_ref().map(Sha256::as_slice)))
                .fetch_all(&mut **connection)
                .await
                .map_err(failed)?;
            for row in rows.into_iter().map(QueryResult::from).map(Row::from) {
                let id = EnrollmentId(row.get(0)?);
                match row.sha256_opt(1)? {
                    Some(sha256) => enrolled.push((sha256, id)),
                    None => told.push(TokenUpdated { id, first: row.get(2)? }),
                }
            }
            let answer = |(arrival, taken): (&Arrival, &bool)| match arrival {
                _ if !taken => None,
                Arrival::Authenticate(write, _) => {
                    let of = |(sha256, _): &&(Sha256, EnrollmentId)| *sha256 == write.certificate_sha256;
                    let (_, id) = enrolled.iter().find(of)?;
                    Some(TokenUpdated { id: *id, first: true })
                }
                Arrival::Token(id, ..) => told.iter().find(|told| told.id == *id).copied(),
            };
            Ok(questions.iter().zip(&taken.which).map(answer).collect())
        })
    }
}

impl Store {
    /// Stores a message along with those of other devices; `None` where it has to go the long way.
    pub(super) async fn arrive(&self, arrival: Arrival) -> Result<Arrived, StoreError> {
        let Some(lanes) = self.arriving() else {
            return Ok(None);
        };
        match lanes.ask(arrival).await {
            // The long way tries it again, or says what is wrong with it. Where the connection was lost and it was stored
            // all the same, it is as if the device had repeated its message.
            Err(error) if error.is_transient() || error.is_refusal() => Ok(None),
            arrived => arrived,
        }
    }
}

/// Whether an Authenticate is plain as far as it says itself: a device that enrolls, let in by calls that want nothing done.
pub(super) fn is_plain(write: &AuthenticateWrite) -> bool {
    let plain = |decision: &NewDecision| decision.effects.is_empty() && decision.enrollment.is_none();
    !write.renewal && write.decisions.iter().all(plain)
}

/// Whose token it is, if the TokenUpdate is plain as far as it says itself.
pub(super) fn plain_token(write: &TokenUpdateWrite) -> Option<EnrollmentId> {
    match write.target {
        TokenTarget::Enrollment(id) if write.commands_at_first.is_empty() && write.commands.is_empty() => Some(id),
        TokenTarget::Enrollment(_) | TokenTarget::User { .. } => None,
    }
}

/// Those of the questions that the statement takes: a certificate, a key and an enrollment have one place in it.
struct Taken<'a> {
    which: Vec<bool>,
    devices: Vec<(&'a AuthenticateWrite, i64)>,
    decisions: Vec<(Sha256, &'a NewDecision)>,
    tokens: Vec<(i64, &'a TokenUpdateWrite, i64)>,
}

impl<'a> Taken<'a> {
    fn of(questions: &'a [Arrival]) -> Self {
        let mut taken = Self {
            which: Vec::with_capacity(questions.len()),
            devices: Vec::new(),
            decisions: Vec::new(),
            tokens: Vec::new(),
        };
        let (mut certificates, mut keys, mut enrollments) = (HashSet::new(), HashSet::new(), HashSet::new());
        for question in questions {
            let alone = match question {
                Arrival::Authenticate(write, now) => {
                    let alone =
                        certificates.insert(write.certificate_sha256) & keys.insert((write.tenant, write.key.as_str()));
                    if alone {
                        taken.devices.push((write, ms(*now)));
                        let of = |decision| (write.certificate_sha256, decision);
                        taken.decisions.extend(write.decisions.iter().map(of));
                    }
                    alone
                }
                Arrival::Token(id, write, now) => {
                    let alone = enrollments.insert(*id);
                    if alone {
                        taken.tokens.push((id.0, write, ms(*now)));
                    }
                    alone
                }
            };
            taken.which.push(alone);
        }
        taken
    }

    fn device<T>(&self, of: impl Fn(&'a AuthenticateWrite) -> T) -> Vec<T> {
        self.devices.iter().map(|(write, _)| of(write)).collect()
    }

    fn decision<T>(&self, of: impl Fn(&'a NewDecision) -> T) -> Vec<T> {
        self.decisions.iter().map(|(_, decision)| of(decision)).collect()
    }

    fn token<T>(&self, of: impl Fn(&'a TokenUpdateWrite) -> T) -> Vec<T> {
        self.tokens.iter().map(|(_, write, _)| of(write)).collect()
    }
}
