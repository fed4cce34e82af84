//! Authenticate and TokenUpdate in as few questions to the database as there can be, within a transaction.
//!
//! On SQLite each is one text of several statements: the writer's connection works on a thread of its own, and going there
//! and back takes longer than most statements.

use jiff::Timestamp;
use serde_json::Value as Json;

use super::{AuthenticateWrite, EnrollmentState, TokenUpdateWrite};
use crate::certificates::bind;
use crate::db::{Db, Row, Sql, ms, values};
use crate::decisions::{COLUMN_COUNT, decision_columns, record, row_values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, Sha256, TenantId};

/// The columns of an enrollment that begins.
macro_rules! enrollment_columns {
    () => {
        "tenant_id, enrollment_key, channel, person, attributes, certificate_sha256, push_topic, created_at, last_seen_at, \
         state, awaiting_configuration, udid, serial_number, model, model_name, product_name, os_version, build_version, \
         device_name, imei, meid"
    };
}
pub(super) use enrollment_columns;

/// The row of an enrollment that begins; its end says what becomes of one that is there.
macro_rules! insert_enrollment {
    () => {
        concat!(
            "INSERT INTO enrollments (",
            $crate::enrollments::at_once::enrollment_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 'pending', FALSE, \
             $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
             ON CONFLICT (tenant_id, enrollment_key) "
        )
    };
}
pub(super) use insert_enrollment;

/// The values of [`insert_enrollment!`]; the sixth is the digest of the certificate.
pub(super) fn enroll_values(write: &AuthenticateWrite, now: Timestamp) -> Vec<sea_orm::Value> {
    let mut values = values![
        write.tenant,
        write.key.clone(),
        write.channel.as_str(),
        write.person.as_ref().map(Json::to_string),
        write.attributes.to_string(),
        write.certificate_sha256.to_vec(),
        write.topic.clone(),
        ms(now),
    ];
    values.extend(write.facts.values());
    values
}

/// A device that was never here, and its certificate, which is bound to nobody. Nothing of the rest happens where the first
/// does not; `changes()` is what the statement before has changed. The answer has a row for each of the two.
const ENROLL: &str = concat!(
    insert_enrollment!(),
    "DO NOTHING RETURNING id; \
     UPDATE certificates SET enrollment_id = last_insert_rowid() WHERE sha256 = $6 AND enrollment_id IS NULL \
     AND changes() > 0 RETURNING 0"
);

/// On SQLite: stores a plain Authenticate, if the device was never here.
pub(super) async fn enroll(
    db: &Db,
    write: &AuthenticateWrite,
    now: Timestamp,
) -> Result<Option<EnrollmentId>, StoreError> {
    let (mut sql, mut values) = (ENROLL.to_owned(), enroll_values(write, now));
    for decision in &write.decisions {
        let numbers = (values.len() + 1..).take(COLUMN_COUNT);
        let numbers: Vec<_> = numbers.map(|number| format!("${number}")).collect();
        // The second column is the enrollment.
        let [tenant, _, rest @ ..] = numbers.as_slice() else {
            continue;
        };
        sql.push_str(&format!(
            "; INSERT INTO decisions ({}) SELECT {tenant}, c.enrollment_id, {} FROM certificates c \
             WHERE c.sha256 = $6 AND changes() > 0",
            decision_columns!(),
            rest.join(", ")
        ));
        values.extend(row_values(write.tenant, None, decision, "[]".to_owned(), now));
    }
    let rows = db.all(sql, values).await?;
    let id = |row: &Row| row.get(0).map(EnrollmentId);
    match rows.as_slice() {
        [] => Ok(None),
        [enrolled, _bound, ..] => id(enrolled).map(Some),
        [enrolled] => {
            let id = id(enrolled)?;
            bind(db, &write.certificate_sha256, id).await?;
            record(db, write.tenant, Some(id), &write.decisions, now).await?;
            Ok(Some(id))
        }
    }
}

/// What was of an enrollment before its token came.
pub(super) struct Before {
    pub(super) tenant: TenantId,
    /// Whether it becomes active with this.
    pub(super) first: bool,
    /// Whether commands wait in its queue.
    pub(super) waits: bool,
    /// Whether it can have declarations.
    pub(super) plans: bool,
}

/// The row, locked against a concurrent CheckOut where there can be one.
const LOCK: Sql = Sql::per(
    "SELECT tenant_id, state FROM enrollments WHERE id = $1",
    "SELECT tenant_id, state FROM enrollments WHERE id = $1 FOR UPDATE",
);

/// Whether commands wait in the queue of the enrollment `e`.
macro_rules! waits {
    () => {
        "EXISTS (SELECT 1 FROM queue_entries q WHERE q.enrollment_id = e.id AND q.finished_at IS NULL)"
    };
}
pub(super) use waits;

/// Whether the enrollment `e` can have declarations.
macro_rules! plans {
    () => {
        "EXISTS (SELECT 1 FROM declaration_sweeps s WHERE s.tenant_id = e.tenant_id AND s.planners) \
         OR EXISTS (SELECT 1 FROM declaration_assignments a WHERE a.enrollment_id = e.id)"
    };
}
pub(super) use plans;

/// What a push token changes in its enrollment, whose row is called `$row`.
macro_rules! token_columns {
    ($row:literal: $topic:literal, $token:literal, $magic:literal, $awaiting:literal, $now:literal, $sha256:literal) => {
        concat!(
            "state = 'active', push_topic = ",
            $topic,
            ", push_token = ",
            $token,
            ", push_magic = ",
            $magic,
            ", token_parked_at = NULL, awaiting_configuration = ",
            $awaiting,
            ", token_updated_at = ",
            $now,
            ", last_seen_at = ",
            $now,
            ", enrolled_at = COALESCE(",
            $row,
            ".enrolled_at, ",
            $now,
            "), certificate_sha256 = CASE WHEN ",
            $row,
            ".state = 'pending' AND ",
            $row,
            ".certificate_sha256 IS NOT NULL THEN COALESCE(",
            $sha256,
            ", ",
            $row,
            ".certificate_sha256) ELSE ",
            $row,
            ".certificate_sha256 END"
        )
    };
}
pub(super) use token_columns;

macro_rules! look {
    () => {
        concat!(
            "SELECT ",
            waits!(),
            ", ",
            plans!(),
            ", e.tenant_id, e.state FROM enrollments e WHERE e.id = $1"
        )
    };
}

macro_rules! update {
    () => {
        concat!(
            "UPDATE enrollments SET ",
            token_columns!("enrollments": "$2", "$3", "$4", "$5", "$6", "$7"),
            " WHERE id = $1 AND state <> 'removed'"
        )
    };
}

const LOOK: &str = look!();
const UPDATE: &str = update!();
const LOOK_AND_UPDATE: &str = concat!(look!(), "; ", update!());

fn enrolled(tenant: i64, state: EnrollmentState) -> Result<(TenantId, EnrollmentState), StoreError> {
    match state {
        EnrollmentState::Removed => Err(StoreError::Removed),
        EnrollmentState::Pending | EnrollmentState::Active => Ok((TenantId(tenant), state)),
    }
}

/// Tenant and state of an enrollment that is not removed and is not until the end of the transaction.
pub(super) async fn lock(db: &Db, id: EnrollmentId) -> Result<(TenantId, EnrollmentState), StoreError> {
    let row = db.one(LOCK, values![id]).await?;
    let row = row.ok_or(StoreError::NotFound("enrollment"))?;
    enrolled(
        row.get(0)?,
        row.word(1, EnrollmentState::from_word, "enrollment state")?,
    )
}

/// Writes a push token: the enrollment is active.
pub(super) async fn update_token(
    db: &Db,
    id: EnrollmentId,
    write: &TokenUpdateWrite,
    certificate: Option<Sha256>,
    now: Timestamp,
) -> Result<Before, StoreError> {
    let values = values![
        id,
        write.topic.clone(),
        write.token.clone(),
        write.magic.clone(),
        write.awaiting_configuration,
        ms(now),
        certificate.map(|sha256| sha256.to_vec()),
    ];
    let (look, (tenant, state)) = if db.is_sqlite() {
        let rows = db.all(LOOK_AND_UPDATE, values).await?;
        let look = rows.into_iter().next().ok_or(StoreError::NotFound("enrollment"))?;
        let state = look.word(3, EnrollmentState::from_word, "enrollment state")?;
        let before = enrolled(look.get(2)?, state)?;
        (look, before)
    } else {
        let before = lock(db, id).await?;
        db.exec(UPDATE, values).await?;
        (db.row(LOOK, values![id]).await?, before)
    };
    Ok(Before {
        tenant,
        first: state == EnrollmentState::Pending,
        waits: look.get(0)?,
        plans: look.get(1)?,
    })
}
