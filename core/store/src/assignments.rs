//! Stored profiles that enrollments have for good: installed when they are given, again whenever they change, and removed
//! when they are taken away.
//!
//! The commands are queued in the transaction of the assignment. What an InstallProfile or a RemoveProfile holds is put in
//! when it is delivered, so that it is the newest then.

use std::collections::HashSet;

use jiff::Timestamp;
use russet_protocol::{codec, plist};
use uuid::Uuid;

use crate::commands::{CommandOrigin, NewCommand, enqueue};
use crate::db::{Db, Row, Sql, ms, values};
use crate::effects::SealedCommand;
use crate::enrollments::EnrollmentState;
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// A profile that an enrollment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileAssignment {
    /// The profile.
    pub profile: String,
    /// The `PayloadIdentifier` that was delivered last; `None` before the first delivery.
    pub identifier: Option<String>,
    /// Who gave it: an API token's name, a plugin.
    pub assigned_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// The commands that go with an assignment, sealed.
#[derive(Clone, Debug)]
pub struct ProfileCommands {
    /// InstallProfile; its payload is put in at delivery.
    pub install: SealedCommand,
    /// RemoveProfile; its identifier is put in at delivery.
    pub remove: SealedCommand,
}

impl Store {
    /// The commands for giving a profile to enrollments, or taking it away.
    ///
    /// # Errors
    /// When the vault fails.
    pub fn profile_commands(&self, tenant: TenantId, profile: &str, by: &str) -> Result<ProfileCommands, StoreError> {
        let command = |request_type: &str| {
            let fields = [("RequestType".to_owned(), plist::Value::from(request_type))];
            self.sealed_command(NewCommand {
                uuid: Uuid::now_v7(),
                tenant,
                request_type: request_type.to_owned(),
                payload: codec::encode(&fields.into_iter().collect()),
                profile_name: Some(profile.to_owned()),
                priority: 0,
                not_before: None,
                expires_at: None,
                // One that the device has and did not answer yet must not stand in for it: it may hold what was before.
                dedupe_key: None,
                origin: CommandOrigin::Server,
                created_by: by.to_owned(),
                creator_token: None,
                pace: None,
                hold: None,
                warnings: Vec::new(),
            })
        };
        Ok(ProfileCommands {
            install: command("InstallProfile")?,
            remove: command("RemoveProfile")?,
        })
    }

    /// Gives a profile to an enrollment and queues its installation; whether it did not have it already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such profile or enrollment, [`StoreError::Removed`] when that is gone.
    pub async fn assign_profile(
        &self,
        tenant: TenantId,
        enrollment: EnrollmentId,
        profile: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let install = self.profile_commands(tenant, profile, by)?.install;
        let input = (tenant, enrollment, profile.to_owned(), by.to_owned(), install, now);
        self.write(input, |db, (tenant, enrollment, profile, by, install, now)| {
            Box::pin(assign_profile(db, *tenant, *enrollment, profile, by, install, *now))
        })
        .await
    }

    /// Takes a profile away from an enrollment and queues its removal; whether it had it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unassign_profile(
        &self,
        tenant: TenantId,
        enrollment: EnrollmentId,
        profile: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let remove = self.profile_commands(tenant, profile, by)?.remove;
        let input = (tenant, enrollment, profile.to_owned(), remove, now);
        self.write(input, |db, (tenant, enrollment, profile, remove, now)| {
            Box::pin(unassign_profile(db, *tenant, *enrollment, profile, remove, *now))
        })
        .await
    }

    /// The profiles that an enrollment has, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn assigned_profiles(&self, enrollment: EnrollmentId) -> Result<Vec<ProfileAssignment>, StoreError> {
        let sql = "SELECT profile_name, identifier, assigned_by, created_at FROM profile_assignments \
                   WHERE enrollment_id = $1 AND removed_at IS NULL ORDER BY profile_name";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter().map(assignment_of).collect()
    }

    /// The enrollments that have a profile, by their keys, in the order in which they enrolled first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enrollments_with_profile(
        &self,
        tenant: TenantId,
        profile: &str,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<String>, StoreError> {
        let sql = "SELECT e.id, e.enrollment_key FROM profile_assignments a JOIN enrollments e ON e.id = a.enrollment_id \
                   WHERE a.tenant_id = $1 AND a.profile_name = $2 AND a.removed_at IS NULL AND e.id > $3 \
                   ORDER BY e.id LIMIT $4";
        let after = after.map_or(0, |cursor| cursor.0);
        let rows = self
            .read()
            .all(sql, values![tenant, profile, after, probe(limit)])
            .await?;
        let rows: Vec<(i64, String)> = rows
            .iter()
            .map(|row| Ok((row.get(0)?, row.get(1)?)))
            .collect::<Result<_, StoreError>>()?;
        let page = Page::cut(rows, limit, |(id, _)| *id);
        Ok(Page {
            items: page.items.into_iter().map(|(_, key)| key).collect(),
            next: page.next,
        })
    }

    /// The identifier by which a profile that was given to an enrollment once is removed; `None` if it was never delivered.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delivered_profile(
        &self,
        enrollment: EnrollmentId,
        profile: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT identifier FROM profile_assignments WHERE enrollment_id = $1 AND profile_name = $2";
        let row = self.read().one(sql, values![enrollment, profile]).await?;
        Ok(row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten())
    }

    /// Notes under which identifier an assigned profile is delivered; the other one that it was delivered under before, if it
    /// was. Writes nothing if the identifier is known, or if the profile is not assigned.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_delivered_profile(
        &self,
        enrollment: EnrollmentId,
        profile: &str,
        identifier: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT identifier FROM profile_assignments WHERE enrollment_id = $1 AND profile_name = $2 \
                   AND removed_at IS NULL AND (identifier IS NULL OR identifier <> $3)";
        let differs = self.read().one(sql, values![enrollment, profile, identifier]).await?;
        let Some(differs) = differs else { return Ok(None) };
        let before: Option<String> = differs.get(0)?;
        let input = (enrollment, profile.to_owned(), identifier.to_owned());
        self.write(input, |db, (enrollment, profile, identifier)| {
            Box::pin(async move {
                let sql =
                    "UPDATE profile_assignments SET identifier = $3 WHERE enrollment_id = $1 AND profile_name = $2";
                let values = values![*enrollment, profile.clone(), identifier.clone()];
                db.exec(sql, values).await.map(|_| ())
            })
        })
        .await?;
        Ok(before)
    }
}

fn assignment_of(row: &Row) -> Result<ProfileAssignment, StoreError> {
    Ok(ProfileAssignment {
        profile: row.get(0)?,
        identifier: row.get(1)?,
        assigned_by: row.get(2)?,
        created_at: row.time(3)?,
    })
}

/// The row, locked against a concurrent CheckOut where there can be one.
const LOCK: Sql = Sql::per(
    "SELECT state FROM enrollments WHERE id = $1 AND tenant_id = $2",
    "SELECT state FROM enrollments WHERE id = $1 AND tenant_id = $2 FOR UPDATE",
);

/// Whether something can be given to an enrollment of the tenant, within a transaction.
pub(crate) async fn assignable(db: &Db, tenant: TenantId, enrollment: EnrollmentId) -> Result<(), StoreError> {
    let row = db.one(LOCK, values![enrollment, tenant]).await?;
    let row = row.ok_or(StoreError::NotFound("enrollment"))?;
    if row.word(0, EnrollmentState::from_word, "enrollment state")? == EnrollmentState::Removed {
        return Err(StoreError::Removed);
    }
    Ok(())
}

/// Takes back the commands for a profile that wait in a queue and were not sent yet.
async fn take_back(
    db: &Db,
    enrollment: EnrollmentId,
    request_type: &str,
    profile: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.exec(
        "UPDATE queue_entries SET state = 'cancelled', finished_at = $4 WHERE enrollment_id = $1 \
         AND finished_at IS NULL AND state IN ('pending', 'held', 'not_now') AND EXISTS \
         (SELECT 1 FROM commands c WHERE c.id = queue_entries.command_id AND c.request_type = $2 AND c.profile_name = $3)",
        values![enrollment, request_type, profile, ms(now)],
    )
    .await
    .map(|_| ())
}

/// Gives a profile to an enrollment, within a transaction; whether it did not have it already. `by` is shown: an API token's
/// name, a plugin.
pub(crate) async fn assign_profile(
    db: &Db,
    tenant: TenantId,
    enrollment: EnrollmentId,
    profile: &str,
    by: &str,
    install: &SealedCommand,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM profiles WHERE tenant_id = $1 AND name = $2";
    let known = db.one(sql, values![tenant, profile]).await?;
    known.ok_or(StoreError::NotFound("profile"))?;
    assignable(db, tenant, enrollment).await?;
    let assigned = db
        .exec(
            "INSERT INTO profile_assignments (enrollment_id, profile_name, tenant_id, assigned_by, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (enrollment_id, profile_name) DO UPDATE SET \
             assigned_by = excluded.assigned_by, created_at = excluded.created_at, removed_at = NULL \
             WHERE profile_assignments.removed_at IS NOT NULL",
            values![enrollment, profile, tenant, by, ms(now)],
        )
        .await?;
    if assigned == 0 {
        return Ok(false);
    }
    take_back(db, enrollment, "RemoveProfile", profile, now).await?;
    enqueue(db, &install.0, &[enrollment], now).await?;
    Ok(true)
}

/// Takes a profile away from an enrollment, within a transaction; whether it had it. One that was never delivered is not
/// removed either.
pub(crate) async fn unassign_profile(
    db: &Db,
    tenant: TenantId,
    enrollment: EnrollmentId,
    profile: &str,
    remove: &SealedCommand,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE profile_assignments SET removed_at = $4 WHERE enrollment_id = $1 AND profile_name = $2 \
               AND tenant_id = $3 AND removed_at IS NULL RETURNING identifier";
    let row = db.one(sql, values![enrollment, profile, tenant, ms(now)]).await?;
    let Some(row) = row else { return Ok(false) };
    take_back(db, enrollment, "InstallProfile", profile, now).await?;
    if row.get::<Option<String>>(0)?.is_some() {
        enqueue(db, &remove.0, &[enrollment], now).await?;
    }
    Ok(true)
}

/// The enrollments in whose queue a profile waits. Locked where a device could fetch it at this moment: if it does first, it
/// may get what was before, and needs another one; if it does after the commit, it gets what is new.
const WAITING: Sql = Sql::per(
    "SELECT q.enrollment_id FROM queue_entries q JOIN commands c ON c.id = q.command_id \
     WHERE q.finished_at IS NULL AND q.state IN ('pending', 'held', 'not_now') AND c.request_type = 'InstallProfile' \
     AND c.tenant_id = $1 AND c.profile_name = $2",
    "SELECT q.enrollment_id FROM queue_entries q JOIN commands c ON c.id = q.command_id \
     WHERE q.finished_at IS NULL AND q.state IN ('pending', 'held', 'not_now') AND c.request_type = 'InstallProfile' \
     AND c.tenant_id = $1 AND c.profile_name = $2 ORDER BY q.id FOR UPDATE OF q",
);

/// Queues a profile that changed for every enrollment that has it, within a transaction; how many they are. Where it waits
/// already it is made at its delivery, and is the newest then.
pub(crate) async fn reinstall(
    db: &Db,
    tenant: TenantId,
    profile: &str,
    install: &SealedCommand,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ids = |rows: Vec<Row>| -> Result<Vec<i64>, StoreError> { rows.iter().map(|row| row.get(0)).collect() };
    let sql = "SELECT enrollment_id FROM profile_assignments WHERE tenant_id = $1 AND profile_name = $2 \
               AND removed_at IS NULL";
    let mut targets = ids(db.all(sql, values![tenant, profile]).await?)?;
    if targets.is_empty() {
        return Ok(0);
    }
    let waiting: HashSet<i64> = ids(db.all(WAITING, values![tenant, profile]).await?)?
        .into_iter()
        .collect();
    targets.retain(|id| !waiting.contains(id));
    if targets.is_empty() {
        return Ok(0);
    }
    let targets: Vec<_> = targets.into_iter().map(EnrollmentId).collect();
    Ok(enqueue(db, &install.0, &targets, now).await?.queued)
}
