//! Queueing: a command once, an entry per enrollment, and one push request per enrollment, in one transaction.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{Enqueued, NewCommand};
use crate::db::{Db, Sql, id_list, ms, ms_opt, values};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::push;
use crate::store::Store;

/// The targets that can have a command. The list is one bound value, so its length does not matter.
const ELIGIBLE: Sql = Sql::per(
    "SELECT e.id FROM json_each($1) AS target JOIN enrollments e ON e.id = target.value \
     WHERE e.tenant_id = $2 AND e.state <> 'removed'",
    "SELECT e.id FROM json_array_elements_text($1::json) AS target(value) \
     JOIN enrollments e ON e.id = target.value::bigint WHERE e.tenant_id = $2 AND e.state <> 'removed'",
);

/// The partial index of dedupe keys refuses the rows that would be a second one, also between two transactions.
/// Ordered, so that two transactions that queue for the same enrollments do not lock each other up.
const FAN_OUT: Sql = Sql::per(
    "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, not_before, expires_at, \
     dedupe_key, attempts, created_at) \
     SELECT $2, target.value, $3, 'pending', $4, $5, $6, $7, 0, $8 FROM json_each($1) AS target \
     WHERE TRUE ORDER BY target.value ON CONFLICT DO NOTHING RETURNING enrollment_id",
    "INSERT INTO queue_entries (tenant_id, enrollment_id, command_id, state, priority, not_before, expires_at, \
     dedupe_key, attempts, created_at) \
     SELECT $2, target.value::bigint, $3, 'pending', $4, $5, $6, $7, 0, $8 \
     FROM json_array_elements_text($1::json) AS target(value) \
     ORDER BY target.value::bigint ON CONFLICT DO NOTHING RETURNING enrollment_id",
);

impl Store {
    /// Queues a command for enrollments, and requests a push for each that can be woken.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when a command with this UUID exists.
    pub async fn enqueue(
        &self,
        command: NewCommand,
        targets: Vec<EnrollmentId>,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        let command = self.seal_command(command)?;
        self.write((command, targets, now), |db, (command, targets, now)| {
            Box::pin(enqueue(db, command, targets, *now))
        })
        .await
    }
}

/// Queues a command that is sealed, within a transaction.
pub(crate) async fn enqueue(
    db: &Db,
    command: &NewCommand,
    targets: &[EnrollmentId],
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    let warnings = serde_json::to_string(&command.warnings).map_err(|_| StoreError::Corrupt("JSON value"))?;
    let id: i64 = db
        .one(
            "INSERT INTO commands (uuid, tenant_id, request_type, payload, profile_name, priority, not_before, \
             expires_at, dedupe_key, created_by, warnings, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING RETURNING id",
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
            ],
        )
        .await?
        .ok_or(StoreError::Exists("command"))?
        .get(0)?;

    let rows = db
        .all(
            ELIGIBLE,
            values![id_list(targets.iter().map(|id| id.0)), command.tenant],
        )
        .await?;
    let eligible: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;

    let rows = db
        .all(
            FAN_OUT,
            values![
                id_list(eligible.iter().copied()),
                command.tenant,
                id,
                i64::from(command.priority),
                ms_opt(command.not_before),
                ms_opt(command.expires_at),
                command.dedupe_key.clone(),
                ms(now),
            ],
        )
        .await?;
    let queued: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;

    let woken: Vec<_> = queued.iter().copied().map(EnrollmentId).collect();
    push::request(db, &woken, command.not_before.unwrap_or(now).max(now)).await?;

    let mut result = Enqueued {
        queued: queued.len() as u64,
        ..Enqueued::default()
    };
    let mut seen = HashSet::with_capacity(targets.len());
    for target in targets.iter().filter(|target| seen.insert(target.0)) {
        if !eligible.contains(&target.0) {
            result.unknown.push(*target);
        } else if !queued.contains(&target.0) {
            result.deduplicated.push(*target);
        }
    }
    Ok(result)
}
