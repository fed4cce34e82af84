//! The plugin host's store of revisions, on the server's database.

use async_trait::async_trait;
use jiff::Timestamp;
use russet_plugin_host::{
    ActiveRevisions, NewRevision, RevisionState, RevisionStore, RevisionStoreError, StoredPlugin, StoredRevision,
};
use russet_store::{RevisionId, RevisionRecord, Store, StoreError, TenantId};

/// Revisions in the database.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseRevisions(pub(crate) Store);

impl DatabaseRevisions {
    async fn tenant(&self, name: &str) -> Result<TenantId, RevisionStoreError> {
        let tenant = self.0.tenant_by_name(name).await.map_err(failed)?;
        tenant.map(|tenant| tenant.id).ok_or(RevisionStoreError::NotFound("tenant"))
    }
}

#[async_trait]
impl RevisionStore for DatabaseRevisions {
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError> {
        let tenants = self.0.tenants().await.map_err(failed)?;
        Ok(tenants.into_iter().map(|tenant| tenant.name).collect())
    }

    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.0.plugin_generation(tenant).await.map(unsigned).map_err(failed)
    }

    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let active = self.0.active_plugins(tenant).await.map_err(failed)?;
        Ok(ActiveRevisions {
            generation: unsigned(active.generation),
            revisions: active.revisions.into_iter().map(stored).collect(),
        })
    }

    async fn plugins(&self, tenant: &str) -> Result<Vec<StoredPlugin>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let plugins = self.0.plugins(tenant).await.map_err(failed)?;
        Ok(plugins.into_iter().map(|plugin| StoredPlugin { name: plugin.name, position: plugin.position }).collect())
    }

    async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<StoredRevision>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let revisions = self.0.revisions(tenant, plugin).await.map_err(failed)?;
        Ok(revisions.into_iter().map(stored).collect())
    }

    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let digest = digest_bytes(digest)?;
        let component = self.0.plugin_component(tenant, &digest).await.map_err(failed)?;
        component.ok_or(RevisionStoreError::NotFound("component"))
    }

    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let new = russet_store::NewRevision {
            tenant,
            plugin: revision.plugin,
            version: revision.version,
            digest: digest_bytes(&revision.digest)?,
            component: revision.component.to_vec(),
            manifest: revision.manifest,
            settings: revision.settings,
            grants: revision.grants,
        };
        self.0.insert_revision(new, Timestamp::now()).await.map(|id| id.0).map_err(failed)
    }

    async fn activate(&self, tenant: &str, revision: i64) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let activated = self.0.activate_revision(tenant, RevisionId(revision), Timestamp::now()).await;
        activated.map(unsigned).map_err(failed)
    }

    async fn disable(&self, tenant: &str, plugin: &str, reason: &str) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.0.disable_plugin(tenant, plugin, reason).await.map(unsigned).map_err(failed)
    }

    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.0.set_plugin_position(tenant, plugin, position).await.map(unsigned).map_err(failed)
    }
}

fn stored(record: RevisionRecord) -> StoredRevision {
    StoredRevision {
        id: record.id.0,
        plugin: record.plugin,
        position: record.position,
        version: record.version,
        digest: hex::encode(record.digest),
        manifest: record.manifest,
        settings: record.settings,
        grants: record.grants,
        state: match record.state {
            russet_store::RevisionState::Pending => RevisionState::Pending,
            russet_store::RevisionState::Active => RevisionState::Active,
            russet_store::RevisionState::Retired => RevisionState::Retired,
            russet_store::RevisionState::Rejected => RevisionState::Rejected,
        },
        created_at: record.created_at,
    }
}

/// Generations count up from 0.
fn unsigned(generation: i64) -> u64 {
    generation.unsigned_abs()
}

fn digest_bytes(digest: &str) -> Result<[u8; 32], RevisionStoreError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest, &mut bytes).map_err(|_| RevisionStoreError::NotFound("component"))?;
    Ok(bytes)
}

fn failed(error: StoreError) -> RevisionStoreError {
    match error {
        StoreError::NotFound(what) => RevisionStoreError::NotFound(what),
        other => RevisionStoreError::Failed(Box::new(other)),
    }
}
