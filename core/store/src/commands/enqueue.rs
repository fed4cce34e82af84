//! Queueing: a command once, an entry per enrollment, and one push request per enrollment, in one transaction.
//!
//! Each step is one statement for all enrollments, whether they are named one by one, are a group or a whole tenant, so
//! that the number of statements does not depend on their number.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::json;

use super::{Approval, Enqueued, EntryState, NewCommand, Targets};
use crate::db::{Db, Sql, id_list, ms, ms_opt, values};
use crate::decisions::{NewDecision, record as record_decisions};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::store::Store;
use crate::{events, push};

/// The statement that fills the queues. Ordered, so that two transactions that queue for the same enrollments do not lock
/// each other up.
macro_rules! fan_out {
    ($time:literal, $targets:literal, $duplicates:literal) => {
        concat!(
            "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, not_before, expires_at, \
             dedupe_key, attempts, created_at) SELECT e.tenant_id, e.id, $3, $9, $4, ",
            $time,
            ", $6, $7, 0, $8 FROM ",
            $targets,
            " e.tenant_id = $2 AND e.state <> 'removed' ORDER BY e.id",
            $duplicates
        )
    };
}

/// For targets: by whether the command has a dedupe key, and whether it goes out in waves of `$10` devices a minute. The
/// partial index of dedupe keys refuses the rows that would be a second one, also between two transactions; without a key no
/// row can be, as the command is new, and no row is looked for first.
macro_rules! variants {
    ($targets:literal) => {
        [
            variants!($targets, ""),
            variants!(
                $targets,
                " ON CONFLICT (enrollment_id, dedupe_key) WHERE finished_at IS NULL AND dedupe_key IS NOT NULL DO NOTHING"
            ),
        ]
    };
    ($targets:literal, $duplicates:literal) => {
        [
            fan_out!("$5", $targets, $duplicates),
            fan_out!(
                "$5 + ((ROW_NUMBER() OVER (ORDER BY e.id) - 1) / $10) * 60000",
                $targets,
                $duplicates
            ),
        ]
    };
}

type Variants = [[&'static str; 2]; 2];

/// The list is one bound value, so its length does not matter. SQLite reads a CROSS JOIN from left to right; left to itself
/// it reads all enrollments for the list.
const NAMED_SQLITE: Variants =
    variants!("json_each($1) AS target CROSS JOIN enrollments e ON e.id = target.value WHERE");
const NAMED_POSTGRES: Variants = variants!(
    "unnest(translate($1, '[]', '{}')::bigint[]) AS target(value) JOIN enrollments e ON e.id = target.value WHERE"
);
const OF_GROUP: Variants =
    variants!("group_members m JOIN enrollments e ON e.id = m.enrollment_id WHERE m.group_id = $1 AND");
const OF_TENANT: Variants = variants!("enrollments e WHERE $1 = 0 AND e.parent_id IS NULL AND");

/// Those of a list that did not get the command, and whether they could have.
const LEFT_OUT: Sql = Sql::per(
    "SELECT target.value, e.id FROM json_each($1) AS target \
     LEFT JOIN enrollments e ON e.id = target.value AND e.tenant_id = $2 AND e.state <> 'removed' \
     LEFT JOIN queue_entries q ON q.command_id = $3 AND q.enrollment_id = target.value WHERE q.id IS NULL",
    "SELECT target.value::bigint, e.id FROM json_array_elements_text($1::json) AS target(value) \
     LEFT JOIN enrollments e ON e.id = target.value::bigint AND e.tenant_id = $2 AND e.state <> 'removed' \
     LEFT JOIN queue_entries q ON q.command_id = $3 AND q.enrollment_id = target.value::bigint WHERE q.id IS NULL",
);

const GROUP_SIZE: &str = "SELECT COUNT(*) FROM group_members m JOIN enrollments e ON e.id = m.enrollment_id \
     WHERE m.group_id = $1 AND e.tenant_id = $2 AND e.state <> 'removed'";
const TENANT_SIZE: &str = "SELECT COUNT(*) FROM enrollments e WHERE $1 = 0 AND e.parent_id IS NULL AND e.tenant_id = $2 \
     AND e.state <> 'removed'";

impl Store {
    /// Queues a command, and requests a push for each enrollment that can be woken. One that is held waits for its approval
    /// and wakes nobody.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when a command with this UUID exists.
    pub async fn enqueue(
        &self,
        command: NewCommand,
        targets: impl Into<Targets>,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        self.enqueue_decided(command, targets, Vec::new(), now).await
    }

    /// As [`enqueue`](Self::enqueue), with the decisions that let the command be queued.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when a command with this UUID exists; then nothing is recorded either.
    pub async fn enqueue_decided(
        &self,
        command: NewCommand,
        targets: impl Into<Targets>,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let command = self.seal_command(command)?;
        let input = (command, targets.into(), decisions, now);
        self.write(input, |db, (command, targets, decisions, now)| {
            Box::pin(async move {
                let enqueued = enqueue_for(db, command, targets, *now).await?;
                record_decisions(db, command.tenant, None, decisions, *now).await?;
                Ok(enqueued)
            })
        })
        .await
    }
}

/// Queues a command that is sealed for a few enrollments, within a transaction.
pub(crate) async fn enqueue(
    db: &Db,
    command: &NewCommand,
    targets: &[EnrollmentId],
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    enqueue_for(db, command, &Targets::Enrollments(targets.to_vec()), now).await
}

async fn enqueue_for(db: &Db, command: &NewCommand, targets: &Targets, now: Timestamp) -> Result<Enqueued, StoreError> {
    let id = insert(db, command, now).await?;
    let mut result = Enqueued {
        queued: fan_out(db, command, id, targets, now).await?,
        ..Enqueued::default()
    };
    if command.hold.is_none() && result.queued > 0 {
        push::request_for_command(db, id, result.queued, command.not_before.unwrap_or(now), now).await?;
    }
    let detail = || {
        json!({
            "command_uuid": command.uuid,
            "request_type": command.request_type,
            "origin": command.origin,
            "created_by": command.created_by,
            "held": command.hold.is_some(),
        })
    };
    events::tell_queued(db, command.tenant, id, detail, now).await?;
    match targets {
        Targets::Enrollments(targets) => left_out(db, command, id, targets, &mut result).await?,
        // Without a key nothing can be a duplicate, and nobody has to be counted.
        Targets::Group(_) | Targets::All if command.dedupe_key.is_none() => {}
        Targets::Group(_) | Targets::All => {
            let (sql, group) = match targets {
                Targets::Group(group) => (GROUP_SIZE, group.0),
                _ => (TENANT_SIZE, 0),
            };
            let size: i64 = db.row(sql, values![group, command.tenant]).await?.get(0)?;
            result.duplicates = u64::try_from(size).unwrap_or(0).saturating_sub(result.queued);
        }
    }
    Ok(result)
}

async fn insert(db: &Db, command: &NewCommand, now: Timestamp) -> Result<i64, StoreError> {
    let warnings = serde_json::to_string(&command.warnings).map_err(|_| StoreError::Corrupt("JSON value"))?;
    let hold = command.hold.as_ref();
    db.one(
        "INSERT INTO commands (uuid, tenant_id, request_type, payload, profile_name, priority, not_before, expires_at, \
         dedupe_key, created_by, warnings, created_at, origin, creator_token, pace, approval, hold_reason, hold_message) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
         ON CONFLICT DO NOTHING RETURNING id",
        values![
            command.uuid,
            command.tenant,
            command.request_type.clone(),
            command.payload.clone(),
            command.profile_name.clone(),
            i64::from(command.priority),
            ms_opt(command.not_before),
            ms_opt(command.expires_at),
            command.dedupe_key.clone(),
            command.created_by.clone(),
            warnings,
            ms(now),
            command.origin,
            command.creator_token.map(|token| token.0),
            command.pace.map(i64::from),
            hold.map(|_| Approval::Held.as_str()),
            hold.map(|hold| crate::db::words(&hold.reason)),
            hold.map(|hold| crate::db::words(&hold.message)),
        ],
    )
    .await?
    .ok_or(StoreError::Exists("command"))?
    .get(0)
}

async fn fan_out(db: &Db, command: &NewCommand, id: i64, targets: &Targets, now: Timestamp) -> Result<u64, StoreError> {
    let pace = command.pace.filter(|pace| *pace > 0);
    let of = |variants: &Variants| variants[usize::from(command.dedupe_key.is_some())][usize::from(pace.is_some())];
    let (sql, target): (Sql, sea_orm::Value) = match targets {
        Targets::Enrollments(targets) if targets.is_empty() => return Ok(0),
        Targets::Enrollments(targets) => {
            let each: BTreeSet<i64> = targets.iter().map(|id| id.0).collect();
            (Sql::per(of(&NAMED_SQLITE), of(&NAMED_POSTGRES)), id_list(each).into())
        }
        Targets::Group(group) => (Sql::per(of(&OF_GROUP), of(&OF_GROUP)), group.0.into()),
        Targets::All => (Sql::per(of(&OF_TENANT), of(&OF_TENANT)), 0i64.into()),
    };
    let state = match command.hold {
        Some(_) => EntryState::Held,
        None => EntryState::Pending,
    };
    let not_before = match pace {
        Some(_) => Some(command.not_before.unwrap_or(now)),
        None => command.not_before,
    };
    let mut values = vec![target];
    values.extend(values![
        command.tenant,
        id,
        i64::from(command.priority),
        ms_opt(not_before),
        ms_opt(command.expires_at),
        command.dedupe_key.clone(),
        ms(now),
        state,
    ]);
    values.extend(pace.map(|pace| i64::from(pace).into()));
    db.exec(sql, values).await
}

/// Which of the named targets did not get it.
async fn left_out(
    db: &Db,
    command: &NewCommand,
    id: i64,
    targets: &[EnrollmentId],
    result: &mut Enqueued,
) -> Result<(), StoreError> {
    if u64::try_from(targets.len()).is_ok_and(|named| named == result.queued) {
        return Ok(());
    }
    let list = id_list(targets.iter().map(|id| id.0));
    let mut left = HashMap::new();
    for row in db.all(LEFT_OUT, values![list, command.tenant, id]).await? {
        left.insert(row.get::<i64>(0)?, row.get::<Option<i64>>(1)?.is_some());
    }
    // In the order in which they were named, each once.
    for target in targets {
        match left.remove(&target.0) {
            Some(true) => result.deduplicated.push(*target),
            Some(false) => result.unknown.push(*target),
            None => {}
        }
    }
    result.duplicates = result.deduplicated.len() as u64;
    Ok(())
}
