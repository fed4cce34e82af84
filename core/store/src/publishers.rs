//! Publishers of plugins that a tenant trusts, and the versions of plugins that it had in use. Knows keys as bytes; what
//! they prove is for others.

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::db::{Row, ms, values};
use crate::error::StoreError;
use crate::ids::{Sha256, TenantId};
use crate::store::Store;

/// A publisher to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPublisher {
    /// The tenant that trusts it.
    pub tenant: TenantId,
    /// What the tenant calls it; unique in the tenant.
    pub name: String,
    /// Its public key; unique in the tenant.
    pub public_key: [u8; 32],
    /// The only plugins that it may publish, by name; empty for any.
    pub plugins: Vec<String>,
    /// Who says so.
    pub added_by: String,
}

/// A trusted publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// What the tenant calls it.
    pub name: String,
    /// Its public key.
    pub public_key: [u8; 32],
    /// The only plugins that it may publish, by name; empty for any.
    pub plugins: Vec<String>,
    /// Who said so.
    pub added_by: String,
    /// When.
    pub added_at: Timestamp,
}

/// A component that was in use at some time.
#[derive(Clone, Debug, PartialEq)]
pub struct UsedVersion {
    /// The author's version.
    pub version: String,
    /// Digest of the component.
    pub digest: Sha256,
    /// How it was signed; `None` when it was stored before that was noted, or was removed since.
    pub signature: Option<Json>,
}

impl Store {
    /// Trusts a publisher from now on.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the tenant has a publisher of that name or with that key.
    pub async fn add_publisher(&self, publisher: NewPublisher, now: Timestamp) -> Result<(), StoreError> {
        self.write((publisher, now), |db, (publisher, now)| {
            Box::pin(async move {
                let plugins = Json::from(publisher.plugins.clone()).to_string();
                let added = db
                    .exec(
                        "INSERT INTO plugin_publishers (tenant_id, name, public_key, plugins, added_by, created_at) \
                         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                        values![
                            publisher.tenant,
                            publisher.name.clone(),
                            publisher.public_key.to_vec(),
                            plugins,
                            publisher.added_by.clone(),
                            ms(*now),
                        ],
                    )
                    .await?;
                if added == 0 {
                    Err(StoreError::Exists("publisher of that name or with that key"))
                } else {
                    Ok(())
                }
            })
        })
        .await
    }

    /// The publishers that a tenant trusts, by name.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn publishers(&self, tenant: TenantId) -> Result<Vec<Publisher>, StoreError> {
        let sql = "SELECT name, public_key, plugins, added_by, created_at FROM plugin_publishers \
             WHERE tenant_id = $1 ORDER BY name";
        let rows = self.read().all(sql, values![tenant]).await?;
        rows.iter().map(publisher_of).collect()
    }

    /// Trusts a publisher no longer. What it published before stays in use.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such publisher.
    pub async fn remove_publisher(&self, tenant: TenantId, name: &str) -> Result<(), StoreError> {
        self.write((tenant, name.to_owned()), |db, (tenant, name)| {
            Box::pin(async move {
                let sql = "DELETE FROM plugin_publishers WHERE tenant_id = $1 AND name = $2";
                match db.exec(sql, values![*tenant, name.clone()]).await? {
                    0 => Err(StoreError::NotFound("publisher")),
                    _ => Ok(()),
                }
            })
        })
        .await
    }

    /// What of a plugin was ever in use, also where it was gone back from, or the revision itself was removed since.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn used_versions(&self, tenant: TenantId, plugin: &str) -> Result<Vec<UsedVersion>, StoreError> {
        let sql = "SELECT r.version, r.digest, r.signature FROM plugin_revisions r JOIN plugins p ON p.id = r.plugin_id \
             WHERE p.tenant_id = $1 AND p.name = $2 AND r.activated_at IS NOT NULL \
             UNION SELECT e.version, e.digest, r.signature FROM plugin_revision_events e \
             JOIN plugins p ON p.id = e.plugin_id LEFT JOIN plugin_revisions r ON r.id = e.revision_id \
             WHERE p.tenant_id = $1 AND p.name = $2 AND e.to_state = 'active' ORDER BY 1, 2";
        let rows = self.read().all(sql, values![tenant, plugin.to_owned()]).await?;
        rows.iter()
            .map(|row| {
                Ok(UsedVersion {
                    version: row.get(0)?,
                    digest: row.sha256(1)?,
                    signature: row.json_opt(2)?,
                })
            })
            .collect()
    }
}

fn publisher_of(row: &Row) -> Result<Publisher, StoreError> {
    Ok(Publisher {
        name: row.get(0)?,
        public_key: row.sha256(1)?,
        plugins: serde_json::from_value(row.json(2)?).map_err(|_| StoreError::Corrupt("publisher's plugins"))?,
        added_by: row.get(3)?,
        added_at: row.time(4)?,
    })
}
