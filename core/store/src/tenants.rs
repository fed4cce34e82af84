//! Tenants: the customers of one server.

use jiff::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::db::{from_ms, ms, values};
use crate::entity::tenant;
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its row.
    pub id: TenantId,
    /// Its name, unique on the server; part of URLs.
    pub name: String,
    /// Counts the changes of its active plugin set.
    pub plugin_generation: i64,
    /// When it was created.
    pub created_at: Timestamp,
}

impl TryFrom<tenant::Model> for Tenant {
    type Error = StoreError;

    fn try_from(row: tenant::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: TenantId(row.id),
            name: row.name,
            plugin_generation: row.plugin_generation,
            created_at: from_ms(row.created_at)?,
        })
    }
}

impl Store {
    /// Creates a tenant.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name is taken.
    pub async fn create_tenant(&self, name: &str, now: Timestamp) -> Result<TenantId, StoreError> {
        self.write((name.to_owned(), now), |db, (name, now)| {
            Box::pin(async move {
                let row = db
                    .one(
                        "INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id",
                        values![name.clone(), ms(*now)],
                    )
                    .await?;
                row.ok_or(StoreError::Exists("tenant"))?.get(0).map(TenantId)
            })
        })
        .await
    }

    /// The tenant of a name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tenant_by_name(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        let row = tenant::Entity::find()
            .filter(tenant::Column::Name.eq(name))
            .one(self.read())
            .await?;
        row.map(Tenant::try_from).transpose()
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let rows = tenant::Entity::find()
            .order_by_asc(tenant::Column::Name)
            .all(self.read())
            .await?;
        rows.into_iter().map(Tenant::try_from).collect()
    }
}
