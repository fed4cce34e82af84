//! Secrets and signing keys of plugins, sealed to their tenant, plugin and name.

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;
use crate::vault::{Binding, Kind};

/// The most secrets of one plugin of a tenant.
pub const MAX_PLUGIN_SECRETS: u64 = 100;
/// The most signing keys of one plugin of a tenant.
pub const MAX_PLUGIN_KEYS: u64 = 16;

/// A plugin's secret as it is stored: readable with the data key only. Made by [`Store::sealed_plugin_secret`], for an
/// operation that stores it together with other things.
#[derive(Clone, Debug)]
pub struct SealedPluginSecret {
    plugin: String,
    pub(crate) name: String,
    sealed: Vec<u8>,
}

/// The additional data names the row; plugins' names hold no slash.
pub(crate) fn row(plugin: &str, name: &str) -> String {
    format!("{plugin}/{name}")
}

fn binding<'a>(tenant: TenantId, kind: Kind, row: &'a str) -> Binding<'a> {
    Binding { tenant, kind, row }
}

impl Store {
    /// A secret of a plugin.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when the stored value was changed or moved.
    pub async fn plugin_secret(
        &self,
        tenant: TenantId,
        plugin: &str,
        name: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed = self
            .read()
            .one(
                "SELECT sealed FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2 AND name = $3",
                values![tenant, plugin, name],
            )
            .await?;
        sealed
            .map(|found| {
                let sealed: Vec<u8> = found.get(0)?;
                self.vault()
                    .open(binding(tenant, Kind::PluginSecret, &row(plugin, name)), &sealed)
            })
            .transpose()
    }

    /// The names of a plugin's secrets, sorted, each with the time of its last change.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plugin_secret_names(
        &self,
        tenant: TenantId,
        plugin: &str,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let rows = self
            .read()
            .all(
                "SELECT name, updated_at FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2 ORDER BY name",
                values![tenant, plugin],
            )
            .await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.time(1)?))).collect()
    }

    /// Seals a secret for [`store_secret`].
    ///
    /// # Errors
    /// When sealing fails.
    pub fn sealed_plugin_secret(
        &self,
        tenant: TenantId,
        plugin: &str,
        name: &str,
        secret: &[u8],
    ) -> Result<SealedPluginSecret, StoreError> {
        Ok(SealedPluginSecret {
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            sealed: self
                .vault()
                .seal(binding(tenant, Kind::PluginSecret, &row(plugin, name)), secret)?,
        })
    }

    /// Keeps a secret, in place of the one that has this name. Not if the plugin has [`MAX_PLUGIN_SECRETS`] of other names:
    /// whether it is stored.
    ///
    /// # Errors
    /// When sealing or the database fails.
    pub async fn put_plugin_secret(
        &self,
        tenant: TenantId,
        plugin: &str,
        name: &str,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = self.sealed_plugin_secret(tenant, plugin, name, secret)?;
        self.write((tenant, sealed, now), |db, (tenant, sealed, now)| {
            Box::pin(async move { store_secret(db, *tenant, sealed, *now).await })
        })
        .await
    }

    /// Deletes a secret; whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_plugin_secret(&self, tenant: TenantId, plugin: &str, name: &str) -> Result<bool, StoreError> {
        let input = (tenant, plugin.to_owned(), name.to_owned());
        self.write(input, |db, (tenant, plugin, name)| {
            Box::pin(async move {
                let sql = "DELETE FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2 AND name = $3";
                Ok(db.exec(sql, values![*tenant, plugin.clone(), name.clone()]).await? > 0)
            })
        })
        .await
    }

    /// Seals bytes that the plugin keeps itself.
    ///
    /// # Errors
    /// When sealing fails.
    pub fn seal_for_plugin(&self, tenant: TenantId, plugin: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.vault().seal(binding(tenant, Kind::HandedOut, plugin), value)
    }

    /// Opens what was sealed for the plugin.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when it was not.
    pub fn open_for_plugin(
        &self,
        tenant: TenantId,
        plugin: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.vault().open(binding(tenant, Kind::HandedOut, plugin), sealed)
    }

    /// The signing key of a name: the one that is stored, or `fresh`, which is stored from now on. Servers that ask at the same
    /// time agree on one. Absent if the plugin has [`MAX_PLUGIN_KEYS`] of other names.
    ///
    /// # Errors
    /// When sealing or the database fails.
    pub async fn plugin_key(
        &self,
        tenant: TenantId,
        plugin: &str,
        name: &str,
        fresh: &[u8],
        now: Timestamp,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let id = row(plugin, name);
        let known = sealed_key(self.read(), tenant, plugin, name).await?;
        let sealed = match known {
            Some(sealed) => Some(sealed),
            None => {
                let sealed = self.vault().seal(binding(tenant, Kind::PluginKey, &id), fresh)?;
                let input = (tenant, plugin.to_owned(), name.to_owned(), sealed, now);
                self.write(input, |db, (tenant, plugin, name, sealed, now)| {
                    Box::pin(async move {
                        db.exec(
                            "INSERT INTO plugin_keys (tenant_id, plugin, name, sealed, created_at) \
                             SELECT $1, $2, $3, $4, $5 WHERE \
                             (SELECT COUNT(*) FROM plugin_keys WHERE tenant_id = $1 AND plugin = $2) < $6 \
                             ON CONFLICT DO NOTHING",
                            values![
                                *tenant,
                                plugin.clone(),
                                name.clone(),
                                sealed.clone(),
                                ms(*now),
                                MAX_PLUGIN_KEYS.cast_signed()
                            ],
                        )
                        .await?;
                        sealed_key(db, *tenant, plugin, name).await
                    })
                })
                .await?
            }
        };
        sealed
            .map(|sealed| self.vault().open(binding(tenant, Kind::PluginKey, &id), &sealed))
            .transpose()
    }
}

/// Stores a sealed secret in a transaction that does other things too. Whether it did: not if the plugin has as many as it
/// may.
pub(crate) async fn store_secret(
    db: &Db,
    tenant: TenantId,
    secret: &SealedPluginSecret,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let stored = db
        .exec(
            "INSERT INTO plugin_secrets (tenant_id, plugin, name, sealed, updated_at) SELECT $1, $2, $3, $4, $5 WHERE \
             (SELECT COUNT(*) FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2 AND name <> $3) < $6 \
             ON CONFLICT (tenant_id, plugin, name) \
             DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at",
            values![
                tenant,
                secret.plugin.clone(),
                secret.name.clone(),
                secret.sealed.clone(),
                ms(now),
                MAX_PLUGIN_SECRETS.cast_signed()
            ],
        )
        .await?;
    Ok(stored > 0)
}

async fn sealed_key(db: &Db, tenant: TenantId, plugin: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    db.one(
        "SELECT sealed FROM plugin_keys WHERE tenant_id = $1 AND plugin = $2 AND name = $3",
        values![tenant, plugin, name],
    )
    .await?
    .map(|row| row.get(0))
    .transpose()
}
