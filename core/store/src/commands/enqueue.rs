//! Queueing: a command once, an entry per enrollment, and one push request per enrollment, in one transaction.
//!
//! Each step is one statement for all enrollments, whether they are named one by one, are a group or a whole tenant, so
//! that the number of statements does not depend on their number.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sea_orm::ConnectionTrait;
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
/// row can be, as the command is new, and no row is looked for first. See [`Tries`] for what is done with a key.
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
const NAMED_POSTGRES: Variants = variants!("enrollments e WHERE e.id = ANY (translate($1, '[]', '{}')::bigint[]) AND");
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

/// Whether any device of the tenant has a command with this key open. Of the open entries with keys, the index is read; what
/// else stands in the table is not.
pub(super) const ASKED: Sql = Sql::per(
    "SELECT 1 FROM queue_entries INDEXED BY queue_dedupe WHERE finished_at IS NULL AND dedupe_key = $1 AND tenant_id = $2 \
     LIMIT 1",
    "SELECT 1 FROM queue_entries WHERE finished_at IS NULL AND dedupe_key = $1 AND tenant_id = $2 LIMIT 1",
);

/// For fewer named enrollments it makes no difference whether each is looked at first.
const FEW: usize = 100;

/// How the queues are filled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Without a key nothing is a duplicate.
    Unkeyed,
    /// Nothing seems to be a duplicate: looking at each row first would take longer than all the rest. If one is after all,
    /// the index refuses the statement, and it is run again looking.
    Hoping,
    /// Each row is looked at first.
    Looking,
}

impl Store {
    /// Queues a command, and requests a push for each enrollment that can be woken. One that is held waits for its approval
    /// and wakes nobody. One with a dedupe key that nobody gets, because all have it or there is nobody, is not kept.
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
    let (queued, tried) = fan_out(db, command, id, targets, now).await?;
    let mut result = Enqueued {
        queued,
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
        // Nothing was a duplicate, and nobody has to be counted.
        Targets::Group(_) | Targets::All if tried != Tries::Looking => {}
        Targets::Group(_) | Targets::All => {
            let (sql, group) = match targets {
                Targets::Group(group) => (GROUP_SIZE, group.0),
                _ => (TENANT_SIZE, 0),
            };
            let size: i64 = db.row(sql, values![group, command.tenant]).await?.get(0)?;
            result.duplicates = u64::try_from(size).unwrap_or(0).saturating_sub(result.queued);
        }
    }
    if result.queued == 0 && command.dedupe_key.is_some() {
        // Who asks again and again for what waits already must not fill the table.
        db.exec("DELETE FROM commands WHERE id = $1", values![id]).await?;
    }
    Ok(result)
}

async fn insert(db: &Db, command: &NewCommand, now: Timestamp) -> Result<i64, StoreError> {
    let warnings = serde_json::to_string(&command.warnings).map_err(|_| StoreError::Corrupt("JSON value"))?;
    let hold = command.hold.as_ref();
    db.one(
        "INSERT INTO commands (uuid, tenant_id, request_type, payload, profile_name, priority, not_before, expires_at, \
         dedupe_key, created_by, warnings, created_at, origin, creator_token, pace, approval, hold_reason, hold_message, \
         depth) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
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
            i64::from(db.depth()),
        ],
    )
    .await?
    .ok_or(StoreError::Exists("command"))?
    .get(0)
}

/// Fills the queues: how many, and how that went.
async fn fan_out(
    db: &Db,
    command: &NewCommand,
    id: i64,
    targets: &Targets,
    now: Timestamp,
) -> Result<(u64, Tries), StoreError> {
    let (variants, target): ([&Variants; 2], sea_orm::Value) = match targets {
        Targets::Enrollments(targets) if targets.is_empty() => return Ok((0, Tries::Unkeyed)),
        Targets::Enrollments(targets) => {
            let each: BTreeSet<i64> = targets.iter().map(|id| id.0).collect();
            ([&NAMED_SQLITE, &NAMED_POSTGRES], id_list(each).into())
        }
        Targets::Group(group) => ([&OF_GROUP; 2], group.0.into()),
        Targets::All => ([&OF_TENANT; 2], 0i64.into()),
    };
    let pace = command.pace.filter(|pace| *pace > 0);
    let [sqlite, postgres] = variants.map(|variants| variants.map(|each| each[usize::from(pace.is_some())]));
    let [blind, looking] = [0, 1].map(|at| Sql::per(sqlite[at], postgres[at]));
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
    let tries = tries(db, command, targets).await?;
    match tries {
        Tries::Unkeyed => return Ok((db.exec(blind, values).await?, tries)),
        Tries::Hoping => {
            if let Some(queued) = unless_refused(db, blind, values.clone()).await? {
                return Ok((queued, tries));
            }
        }
        Tries::Looking => {}
    }
    Ok((db.exec(looking, values).await?, Tries::Looking))
}

async fn tries(db: &Db, command: &NewCommand, targets: &Targets) -> Result<Tries, StoreError> {
    let Some(key) = &command.dedupe_key else {
        return Ok(Tries::Unkeyed);
    };
    let hopes = match targets {
        Targets::Enrollments(targets) => targets.len() > FEW,
        Targets::Group(_) => true,
        // What is refused after a million rows has taken as long as a million rows.
        Targets::All => db.one(ASKED, values![key.clone(), command.tenant]).await?.is_none(),
    };
    Ok(if hopes { Tries::Hoping } else { Tries::Looking })
}

/// Runs a statement within a transaction, which goes on if a unique index refuses it: then nothing of it was kept.
async fn unless_refused(db: &Db, sql: Sql, values: Vec<sea_orm::Value>) -> Result<Option<u64>, StoreError> {
    // SQLite takes back the statement alone; PostgreSQL gives up the transaction.
    let frame = |words: &'static str| async move {
        match db.is_sqlite() {
            true => Ok(()),
            false => db.execute_unprepared(words).await.map(|_| ()),
        }
    };
    frame("SAVEPOINT fan_out").await?;
    match db.exec(sql, values).await {
        Ok(changed) => {
            frame("RELEASE SAVEPOINT fan_out").await?;
            Ok(Some(changed))
        }
        Err(error) if error.is_duplicate() => {
            frame("ROLLBACK TO SAVEPOINT fan_out").await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
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
