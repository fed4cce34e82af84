//! Stored sets of declarations, and which enrollments have them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::requests::{self, request_plan};
use crate::db::{Db, Row, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// A set of declarations.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclarationSet {
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it holds, in the order in which it was given.
    pub declarations: Vec<SetDeclaration>,
    /// When it was stored last.
    pub updated_at: Timestamp,
}

/// A declaration of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDeclaration {
    /// Its identifier, unique for a device.
    pub identifier: String,
    /// Its type, such as `com.apple.configuration.passcode.settings`.
    #[serde(rename = "type")]
    pub declaration_type: String,
    /// Its content.
    pub payload: Map<String, Json>,
}

/// What storing a set did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetWritten {
    /// There was none of this name.
    pub created: bool,
    /// How many enrollments get a new plan because of it; none if the content is the same.
    pub replanned: u64,
}

/// A set that an enrollment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAssignment {
    /// The set.
    pub set: String,
    /// Who gave it: an API token's name, a plugin.
    pub assigned_by: String,
    /// When.
    pub created_at: Timestamp,
}

impl Store {
    /// Stores a set in place of the one of this name. Enrollments that have it get a new plan if it changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_declaration_set(&self, tenant: TenantId, set: DeclarationSet) -> Result<SetWritten, StoreError> {
        self.write((tenant, set), |db, (tenant, set)| {
            Box::pin(async move {
                let text = serde_json::to_string(&set.declarations).map_err(|_| StoreError::Corrupt("JSON value"))?;
                let sql = "SELECT declarations FROM declaration_sets WHERE tenant_id = $1 AND name = $2";
                let before = db.one(sql, values![*tenant, set.name.clone()]).await?;
                let before: Option<String> = before.map(|row| row.get(0)).transpose()?;
                if before.as_ref() == Some(&text) {
                    return Ok(SetWritten {
                        created: false,
                        replanned: 0,
                    });
                }
                db.exec(
                    "INSERT INTO declaration_sets (tenant_id, name, declarations, updated_at) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (tenant_id, name) DO UPDATE SET declarations = excluded.declarations, \
                     updated_at = excluded.updated_at",
                    values![*tenant, set.name.clone(), text, ms(set.updated_at)],
                )
                .await?;
                let replanned = requests::request_plans_of_set(db, *tenant, &set.name, set.updated_at).await?;
                Ok(SetWritten {
                    created: before.is_none(),
                    replanned,
                })
            })
        })
        .await
    }

    /// The set of a name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn declaration_set(&self, tenant: TenantId, name: &str) -> Result<Option<DeclarationSet>, StoreError> {
        let sql = "SELECT name, declarations, updated_at FROM declaration_sets WHERE tenant_id = $1 AND name = $2";
        let row = self.read().one(sql, values![tenant, name]).await?;
        row.as_ref().map(set_of).transpose()
    }

    /// All sets of a tenant, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn declaration_sets(&self, tenant: TenantId) -> Result<Vec<DeclarationSet>, StoreError> {
        let sql = "SELECT name, declarations, updated_at FROM declaration_sets WHERE tenant_id = $1 ORDER BY name";
        let rows = self.read().all(sql, values![tenant]).await?;
        rows.iter().map(set_of).collect()
    }

    /// Deletes a set that no enrollment has; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while an enrollment has it.
    pub async fn delete_declaration_set(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
        self.write((tenant, name.to_owned()), |db, (tenant, name)| {
            Box::pin(async move {
                let sql = "SELECT 1 FROM declaration_assignments WHERE tenant_id = $1 AND set_name = $2 LIMIT 1";
                if db.one(sql, values![*tenant, name.clone()]).await?.is_some() {
                    return Err(StoreError::InUse("declaration set"));
                }
                let sql = "DELETE FROM declaration_sets WHERE tenant_id = $1 AND name = $2";
                Ok(db.exec(sql, values![*tenant, name.clone()]).await? > 0)
            })
        })
        .await
    }

    /// Gives a set to an enrollment, which gets a new plan; whether it did not have it already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such set or enrollment, [`StoreError::Removed`] when that is gone.
    pub async fn assign_declaration_set(
        &self,
        tenant: TenantId,
        enrollment: EnrollmentId,
        name: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (tenant, enrollment, name.to_owned(), by.to_owned(), now);
        self.write(input, |db, (tenant, enrollment, name, by, now)| {
            Box::pin(assign_declarations(db, *tenant, *enrollment, name, by, *now))
        })
        .await
    }

    /// Takes a set away from an enrollment, which gets a new plan; whether it had it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unassign_declaration_set(
        &self,
        tenant: TenantId,
        enrollment: EnrollmentId,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (tenant, enrollment, name.to_owned(), now);
        self.write(input, |db, (tenant, enrollment, name, now)| {
            Box::pin(unassign_declarations(db, *tenant, *enrollment, name, *now))
        })
        .await
    }

    /// The sets that an enrollment has, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn assigned_declaration_sets(&self, enrollment: EnrollmentId) -> Result<Vec<SetAssignment>, StoreError> {
        let sql = "SELECT set_name, assigned_by, created_at FROM declaration_assignments WHERE enrollment_id = $1 \
                   ORDER BY set_name";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter()
            .map(|row| {
                Ok(SetAssignment {
                    set: row.get(0)?,
                    assigned_by: row.get(1)?,
                    created_at: row.time(2)?,
                })
            })
            .collect()
    }

    /// The sets that an enrollment has, with their content, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn declaration_sets_of(&self, enrollment: EnrollmentId) -> Result<Vec<DeclarationSet>, StoreError> {
        let sql = "SELECT s.name, s.declarations, s.updated_at FROM declaration_assignments a \
                   JOIN declaration_sets s ON s.tenant_id = a.tenant_id AND s.name = a.set_name \
                   WHERE a.enrollment_id = $1 ORDER BY s.name";
        let rows = self.read().all(sql, values![enrollment]).await?;
        rows.iter().map(set_of).collect()
    }
}

fn set_of(row: &Row) -> Result<DeclarationSet, StoreError> {
    let declarations = serde_json::from_value(row.json(1)?).map_err(|_| StoreError::Corrupt("declaration set"))?;
    Ok(DeclarationSet {
        name: row.get(0)?,
        declarations,
        updated_at: row.time(2)?,
    })
}

/// Gives a set to an enrollment, within a transaction. `by` is shown: an API token's name, a plugin.
pub(crate) async fn assign_declarations(
    db: &Db,
    tenant: TenantId,
    enrollment: EnrollmentId,
    name: &str,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM declaration_sets WHERE tenant_id = $1 AND name = $2";
    let known = db.one(sql, values![tenant, name]).await?;
    known.ok_or(StoreError::NotFound("declaration set"))?;
    crate::assignments::assignable(db, tenant, enrollment).await?;
    let assigned = db
        .exec(
            "INSERT INTO declaration_assignments (enrollment_id, set_name, tenant_id, assigned_by, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            values![enrollment, name, tenant, by, ms(now)],
        )
        .await?;
    if assigned > 0 {
        request_plan(db, &[enrollment], now).await?;
    }
    Ok(assigned > 0)
}

/// Takes a set away from an enrollment, within a transaction.
pub(crate) async fn unassign_declarations(
    db: &Db,
    tenant: TenantId,
    enrollment: EnrollmentId,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM declaration_assignments WHERE enrollment_id = $1 AND set_name = $2 AND tenant_id = $3";
    let removed = db.exec(sql, values![enrollment, name, tenant]).await?;
    if removed > 0 {
        request_plan(db, &[enrollment], now).await?;
    }
    Ok(removed > 0)
}
