//! Groups: named sets of devices, by explicit members, for commands to many.

use jiff::Timestamp;

use crate::db::{Sql, id_list, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, GroupId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::store::Store;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its row.
    pub id: GroupId,
    /// Its name, unique in the tenant.
    pub name: String,
    /// How many members it has that are not removed.
    pub members: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The list is one bound value, so its length does not matter; SQLite reads a CROSS JOIN from left to right. Another tenant's enrollments are passed over.
const ADD: Sql = Sql::per(
    "INSERT INTO group_members (group_id, enrollment_id) SELECT $1, e.id FROM json_each($2) AS target \
     CROSS JOIN enrollments e ON e.id = target.value WHERE e.tenant_id = $3 ORDER BY e.id ON CONFLICT DO NOTHING",
    "INSERT INTO group_members (group_id, enrollment_id) SELECT $1, e.id \
     FROM json_array_elements_text($2::json) AS target(value) JOIN enrollments e ON e.id = target.value::bigint \
     WHERE e.tenant_id = $3 ORDER BY e.id ON CONFLICT DO NOTHING",
);

const REMOVE: Sql = Sql::per(
    "DELETE FROM group_members WHERE group_id = $1 AND enrollment_id IN (SELECT value FROM json_each($2))",
    "DELETE FROM group_members WHERE group_id = $1 AND enrollment_id IN \
     (SELECT value::bigint FROM json_array_elements_text($2::json) AS target(value))",
);

const GROUP: &str = "g.id, g.name, (SELECT COUNT(*) FROM group_members m JOIN enrollments e ON e.id = m.enrollment_id \
     WHERE m.group_id = g.id AND e.state <> 'removed'), g.created_at FROM device_groups g";

impl Store {
    /// Makes a group, if there is none of that name, and puts these devices into it; with `only`, nobody else stays in it.
    /// Another tenant's are passed over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_group(
        &self,
        tenant: TenantId,
        name: &str,
        members: Vec<EnrollmentId>,
        only: bool,
        now: Timestamp,
    ) -> Result<GroupId, StoreError> {
        let members = id_list(members.iter().map(|id| id.0));
        let input = (tenant, name.to_owned(), members, only, now);
        self.write(input, |db, (tenant, name, members, only, now)| {
            Box::pin(async move {
                // The update changes nothing, but names the row and keeps it from being deleted meanwhile.
                let row = db
                    .row(
                        "INSERT INTO device_groups (tenant_id, name, created_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (tenant_id, name) DO UPDATE SET name = excluded.name RETURNING id",
                        values![*tenant, name.clone(), ms(*now)],
                    )
                    .await?;
                let id: i64 = row.get(0)?;
                if *only {
                    db.exec("DELETE FROM group_members WHERE group_id = $1", values![id])
                        .await?;
                }
                db.exec(ADD, values![id, members.clone(), *tenant]).await?;
                Ok(GroupId(id))
            })
        })
        .await
    }

    /// Takes devices out of a group; how many were in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_from_group(&self, group: GroupId, members: Vec<EnrollmentId>) -> Result<u64, StoreError> {
        let members = id_list(members.iter().map(|id| id.0));
        self.write((group, members), |db, (group, members)| {
            Box::pin(async move { db.exec(REMOVE, values![*group, members.clone()]).await })
        })
        .await
    }

    /// Deletes a group; its devices stay. Whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_group(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
        self.write((tenant, name.to_owned()), |db, (tenant, name)| {
            Box::pin(async move {
                let sql = "DELETE FROM device_groups WHERE tenant_id = $1 AND name = $2";
                Ok(db.exec(sql, values![*tenant, name.clone()]).await? > 0)
            })
        })
        .await
    }

    /// A group by its name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn group(&self, tenant: TenantId, name: &str) -> Result<Option<GroupRecord>, StoreError> {
        let sql = format!("SELECT {GROUP} WHERE g.tenant_id = $1 AND g.name = $2");
        let row = self.read().one(sql, values![tenant, name]).await?;
        row.map(|row| group_of(&row)).transpose()
    }

    /// The groups of a tenant, in the order in which they were made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn groups(
        &self,
        tenant: TenantId,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<GroupRecord>, StoreError> {
        let sql = format!("SELECT {GROUP} WHERE g.tenant_id = $1 AND g.id > $2 ORDER BY g.id LIMIT $3");
        let values = values![tenant, after.map_or(0, |cursor| cursor.0), probe(limit)];
        let rows = self.read().all(sql, values).await?;
        let groups = rows.iter().map(group_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(groups, limit, |group: &GroupRecord| group.id.0))
    }

    /// The members of a group that are not removed: each with its row, its key and its serial number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn group_members(
        &self,
        group: GroupId,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<(EnrollmentId, String, Option<String>)>, StoreError> {
        let rows = self
            .read()
            .all(
                "SELECT e.id, e.enrollment_key, e.serial_number FROM group_members m \
                 JOIN enrollments e ON e.id = m.enrollment_id \
                 WHERE m.group_id = $1 AND m.enrollment_id > $2 AND e.state <> 'removed' \
                 ORDER BY m.enrollment_id LIMIT $3",
                values![group, after.map_or(0, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let members = rows
            .iter()
            .map(|row| Ok((EnrollmentId(row.get(0)?), row.get(1)?, row.get(2)?)))
            .collect::<Result<_, StoreError>>()?;
        Ok(Page::cut(members, limit, |(id, ..): &(EnrollmentId, _, _)| id.0))
    }
}

fn group_of(row: &crate::db::Row) -> Result<GroupRecord, StoreError> {
    Ok(GroupRecord {
        id: GroupId(row.get(0)?),
        name: row.get(1)?,
        members: u64::try_from(row.get::<i64>(2)?).unwrap_or(0),
        created_at: row.time(3)?,
    })
}
