//! What a plugin leaves behind: its store, its secrets and its keys go with it, at an administrator's word or some time
//! after it was taken out of use. Its revisions, and what was recorded of its decisions, are kept by other rules.

use crate::db::{Db, values};
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;

/// What was deleted of a plugin's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedPluginData {
    /// Values of its store.
    pub values: u64,
    /// Secrets that it was given, or kept itself.
    pub secrets: u64,
    /// Keys that it signs with. What they signed can not be signed again.
    pub keys: u64,
}

impl PurgedPluginData {
    fn total(self) -> u64 {
        self.values + self.secrets + self.keys
    }
}

/// Whether a revision answers, or is asked, or would answer if it were not in quarantine.
const IN_USE: &str = "SELECT 1 FROM plugins p WHERE p.tenant_id = $1 AND p.name = $2 AND (p.halted_id IS NOT NULL \
     OR EXISTS (SELECT 1 FROM plugin_revisions r WHERE r.plugin_id = p.id AND r.state IN ('active', 'shadow', 'canary')))";

/// Plugins that were in use once, are not any more, and to which nothing has happened since then; with nothing that waits
/// for its grants, because it would want its secrets. One that was given secrets and is not installed yet is none of them.
const LEFT: &str = "SELECT p.tenant_id, p.name FROM plugins p WHERE p.halted_id IS NULL \
     AND EXISTS (SELECT 1 FROM plugin_revisions r WHERE r.plugin_id = p.id AND r.activated_at IS NOT NULL) \
     AND NOT EXISTS (SELECT 1 FROM plugin_revisions r WHERE r.plugin_id = p.id \
         AND r.state NOT IN ('retired', 'rejected', 'quarantined')) \
     AND NOT EXISTS (SELECT 1 FROM plugin_revision_events e WHERE e.plugin_id = p.id AND e.created_at > $1) \
     AND (EXISTS (SELECT 1 FROM plugin_kv d WHERE d.tenant_id = p.tenant_id AND d.plugin = p.name) \
         OR EXISTS (SELECT 1 FROM plugin_secrets d WHERE d.tenant_id = p.tenant_id AND d.plugin = p.name) \
         OR EXISTS (SELECT 1 FROM plugin_keys d WHERE d.tenant_id = p.tenant_id AND d.plugin = p.name))";

impl Store {
    /// Deletes what a plugin keeps: its store, its secrets and its keys. Absent if the plugin is in use, and then nothing is
    /// deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purge_plugin_data(
        &self,
        tenant: TenantId,
        plugin: &str,
    ) -> Result<Option<PurgedPluginData>, StoreError> {
        self.write((tenant, plugin.to_owned()), |db, (tenant, plugin)| {
            Box::pin(async move {
                if db.one(IN_USE, values![*tenant, plugin.clone()]).await?.is_some() {
                    return Ok(None);
                }
                delete(db, *tenant, plugin).await.map(Some)
            })
        })
        .await
    }

    /// Deletes the data of plugins that have been out of use since before a time; how many rows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purge_left_plugin_data(&self, before: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        for row in self.read().all(LEFT, values![before]).await? {
            let (tenant, plugin): (i64, String) = (row.get(0)?, row.get(1)?);
            let purged = self.purge_plugin_data(TenantId(tenant), &plugin).await?;
            total += purged.unwrap_or_default().total();
        }
        Ok(total)
    }

    /// What [`purge_left_plugin_data`](Self::purge_left_plugin_data) would delete.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn would_purge_left_plugin_data(&self, before: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        for row in self.read().all(LEFT, values![before]).await? {
            let (tenant, plugin): (i64, String) = (row.get(0)?, row.get(1)?);
            for sql in [
                "SELECT COUNT(*) FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2",
                "SELECT COUNT(*) FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2",
                "SELECT COUNT(*) FROM plugin_keys WHERE tenant_id = $1 AND plugin = $2",
            ] {
                let count: i64 = self.read().row(sql, values![tenant, plugin.clone()]).await?.get(0)?;
                total += u64::try_from(count).unwrap_or(0);
            }
        }
        Ok(total)
    }
}

async fn delete(db: &Db, tenant: TenantId, plugin: &str) -> Result<PurgedPluginData, StoreError> {
    let of = || values![tenant, plugin];
    let purged = PurgedPluginData {
        values: db
            .exec("DELETE FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2", of())
            .await?,
        secrets: db
            .exec("DELETE FROM plugin_secrets WHERE tenant_id = $1 AND plugin = $2", of())
            .await?,
        keys: db
            .exec("DELETE FROM plugin_keys WHERE tenant_id = $1 AND plugin = $2", of())
            .await?,
    };
    // The row stays: a version of a value is never given twice.
    let space = "UPDATE plugin_spaces SET kv_keys = 0, kv_bytes = 0 WHERE tenant_id = $1 AND plugin = $2";
    db.exec(space, of()).await?;
    Ok(purged)
}
