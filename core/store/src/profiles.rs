//! Configuration profiles by name: fixed content, or a template and the settings for it. One that changes is installed again
//! where it is assigned.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value as Json;

use crate::assignments::reinstall;
use crate::db::{from_json, from_ms, ms, values};
use crate::entity::profile;
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;

/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name, unique in the tenant.
    pub name: String,
    /// The mobileconfig, or the template's text.
    pub content: Vec<u8>,
    /// The plugin that renders it; `None` when the content is delivered as it is.
    pub template: Option<String>,
    /// Values for the template; an object.
    pub settings: Json,
    /// When it was stored last.
    pub updated_at: Timestamp,
}

/// What storing a profile did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileWritten {
    /// There was none of this name.
    pub created: bool,
    /// In how many queues it is now, because it is assigned and changed.
    pub reinstalled: u64,
}

impl TryFrom<profile::Model> for Profile {
    type Error = StoreError;

    fn try_from(row: profile::Model) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.name,
            content: row.content,
            template: row.template,
            settings: from_json(&row.settings)?,
            updated_at: from_ms(row.updated_at)?,
        })
    }
}

impl Store {
    /// Stores a profile, in place of the one that has this name; `updated_at` is the time of the change. If it changed, its
    /// installation is queued for every enrollment that has it, in the same transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_profile(&self, tenant: TenantId, profile: Profile) -> Result<ProfileWritten, StoreError> {
        let install = self.profile_commands(tenant, &profile.name, "russet")?.install;
        self.write((tenant, profile, install), |db, (tenant, profile, install)| {
            Box::pin(async move {
                let before = profile::Entity::find()
                    .filter(profile::Column::TenantId.eq(tenant.0))
                    .filter(profile::Column::Name.eq(&profile.name))
                    .one(db)
                    .await?
                    .map(Profile::try_from)
                    .transpose()?;
                db.exec(
                    "INSERT INTO profiles (tenant_id, name, content, template, settings, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, name) DO UPDATE SET \
                     content = excluded.content, template = excluded.template, settings = excluded.settings, \
                     updated_at = excluded.updated_at",
                    values![
                        *tenant,
                        profile.name.clone(),
                        profile.content.clone(),
                        profile.template.clone(),
                        profile.settings.to_string(),
                        ms(profile.updated_at)
                    ],
                )
                .await?;
                let same = |before: &Profile| {
                    (&before.content, &before.template, &before.settings)
                        == (&profile.content, &profile.template, &profile.settings)
                };
                let reinstalled = match &before {
                    Some(before) if !same(before) => {
                        reinstall(db, *tenant, &profile.name, install, profile.updated_at).await?
                    }
                    _ => 0,
                };
                Ok(ProfileWritten {
                    created: before.is_none(),
                    reinstalled,
                })
            })
        })
        .await
    }

    /// The profile of a name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn profile(&self, tenant: TenantId, name: &str) -> Result<Option<Profile>, StoreError> {
        let row = profile::Entity::find()
            .filter(profile::Column::TenantId.eq(tenant.0))
            .filter(profile::Column::Name.eq(name))
            .one(self.read())
            .await?;
        row.map(Profile::try_from).transpose()
    }

    /// All profiles of a tenant, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn profiles(&self, tenant: TenantId) -> Result<Vec<Profile>, StoreError> {
        let rows = profile::Entity::find()
            .filter(profile::Column::TenantId.eq(tenant.0))
            .order_by_asc(profile::Column::Name)
            .all(self.read())
            .await?;
        rows.into_iter().map(Profile::try_from).collect()
    }

    /// Deletes a profile that no enrollment has; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while an enrollment has it.
    pub async fn delete_profile(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
        self.write((tenant, name.to_owned()), |db, (tenant, name)| {
            Box::pin(async move {
                let sql = "SELECT 1 FROM profile_assignments WHERE tenant_id = $1 AND profile_name = $2 \
                           AND removed_at IS NULL LIMIT 1";
                if db.one(sql, values![*tenant, name.clone()]).await?.is_some() {
                    return Err(StoreError::InUse("profile"));
                }
                // It is put in when it is delivered, and such a delivery could never be made.
                let sql = "SELECT 1 FROM commands c WHERE c.tenant_id = $1 AND c.profile_name = $2 \
                           AND c.request_type = 'InstallProfile' AND EXISTS (SELECT 1 FROM queue_entries q \
                           WHERE q.command_id = c.id AND q.finished_at IS NULL) LIMIT 1";
                if db.one(sql, values![*tenant, name.clone()]).await?.is_some() {
                    return Err(StoreError::InUse("profile"));
                }
                let sql = "DELETE FROM profiles WHERE tenant_id = $1 AND name = $2";
                Ok(db.exec(sql, values![*tenant, name.clone()]).await? > 0)
            })
        })
        .await
    }
}
