//! The plugin manager's port to the store: names of tenants become their numbers, and digests their bytes.

use async_trait::async_trait;
use jiff::Timestamp;
use russet_plugin_host::{
    ActiveRevisions, NewRevision, RevisionState, RevisionStore, RevisionStoreError, StoredPlugin, StoredRevision,
};
use russet_store::{RevisionId, RevisionRecord, Sha256, Store, StoreError, TenantId};

/// Keeps revisions of plugins in the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreRevisions {
    store: Store,
}

impl StoreRevisions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn tenant(&self, name: &str) -> Result<TenantId, RevisionStoreError> {
        let tenant = self.store.tenant_by_name(name).await.map_err(failed)?;
        tenant
            .map(|tenant| tenant.id)
            .ok_or(RevisionStoreError::NotFound("tenant"))
    }
}

fn failed(error: StoreError) -> RevisionStoreError {
    match error {
        StoreError::NotFound(what) => RevisionStoreError::NotFound(what),
        other => RevisionStoreError::Failed(Box::new(other)),
    }
}

/// A generation counts up from zero.
fn generation(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

fn digest_of(hexadecimal: &str) -> Result<Sha256, RevisionStoreError> {
    let mut digest = Sha256::default();
    // A digest that is none names nothing.
    hex::decode_to_slice(hexadecimal, &mut digest).map_err(|_| RevisionStoreError::NotFound("plugin component"))?;
    Ok(digest)
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

#[async_trait]
impl RevisionStore for StoreRevisions {
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError> {
        let tenants = self.store.tenants().await.map_err(failed)?;
        Ok(tenants.into_iter().map(|tenant| tenant.name).collect())
    }

    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError> {
        let tenant = self.store.tenant_by_name(tenant).await.map_err(failed)?;
        let tenant = tenant.ok_or(RevisionStoreError::NotFound("tenant"))?;
        Ok(generation(tenant.plugin_generation))
    }

    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let active = self.store.active_plugins(tenant).await.map_err(failed)?;
        Ok(ActiveRevisions {
            generation: generation(active.generation),
            revisions: active.revisions.into_iter().map(stored).collect(),
        })
    }

    async fn plugins(&self, tenant: &str) -> Result<Vec<StoredPlugin>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let plugins = self.store.plugins(tenant).await.map_err(failed)?;
        Ok(plugins
            .into_iter()
            .map(|plugin| StoredPlugin {
                name: plugin.name,
                position: plugin.position,
            })
            .collect())
    }

    async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<StoredRevision>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let revisions = self.store.revisions(tenant, plugin).await.map_err(failed)?;
        Ok(revisions.into_iter().map(stored).collect())
    }

    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let component = self
            .store
            .plugin_component(tenant, &digest_of(digest)?)
            .await
            .map_err(failed)?;
        component.ok_or(RevisionStoreError::NotFound("plugin component"))
    }

    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError> {
        let revision = russet_store::NewRevision {
            tenant: self.tenant(tenant).await?,
            plugin: revision.plugin,
            version: revision.version,
            digest: digest_of(&revision.digest)?,
            component: revision.component.to_vec(),
            manifest: revision.manifest,
            settings: revision.settings,
            grants: revision.grants,
        };
        let id = self
            .store
            .insert_revision(revision, Timestamp::now())
            .await
            .map_err(failed)?;
        Ok(id.0)
    }

    async fn activate(&self, tenant: &str, revision: i64) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let now = Timestamp::now();
        self.store
            .activate_revision(tenant, RevisionId(revision), now)
            .await
            .map(generation)
            .map_err(failed)
    }

    async fn disable(&self, tenant: &str, plugin: &str, reason: &str) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.store
            .disable_plugin(tenant, plugin, reason)
            .await
            .map(generation)
            .map_err(failed)
    }

    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        self.store
            .set_plugin_position(tenant, plugin, position)
            .await
            .map(generation)
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use russet_store::{DEFAULT_TENANT, MasterKey, StoreConfig};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_store_keeps_what_the_manager_hands_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("db").display());
        let store = Store::open(StoreConfig::new(url), &MasterKey::from_bytes([1; 32]))
            .await
            .unwrap();
        let revisions = StoreRevisions::new(store.clone());

        assert_eq!(revisions.tenants().await.unwrap(), [DEFAULT_TENANT]);
        let before = revisions.generation(DEFAULT_TENANT).await.unwrap();
        let digest = "ab".repeat(32);
        let new = NewRevision {
            plugin: "gate".to_owned(),
            version: "1.0.0".to_owned(),
            digest: digest.clone(),
            component: vec![1, 2, 3].into(),
            manifest: json!({"name": "gate"}),
            settings: json!({"a": 1}),
            grants: json!({"capabilities": ["log.write"]}),
        };
        let id = revisions.insert(DEFAULT_TENANT, new).await.unwrap();
        assert_eq!(revisions.generation(DEFAULT_TENANT).await.unwrap(), before);
        assert_eq!(revisions.component(DEFAULT_TENANT, &digest).await.unwrap(), [1, 2, 3]);

        let after = revisions.activate(DEFAULT_TENANT, id).await.unwrap();
        assert!(after > before);
        let active = revisions.active(DEFAULT_TENANT).await.unwrap();
        assert_eq!((active.generation, active.revisions.len()), (after, 1));
        let revision = &active.revisions[0];
        assert_eq!(
            (revision.id, revision.digest.as_str(), revision.state),
            (id, digest.as_str(), RevisionState::Active)
        );
        assert_eq!(
            (&revision.settings, &revision.grants["capabilities"]),
            (&json!({"a": 1}), &json!(["log.write"]))
        );

        let moved = revisions.set_position(DEFAULT_TENANT, "gate", 7).await.unwrap();
        assert_eq!(revisions.plugins(DEFAULT_TENANT).await.unwrap()[0].position, 7);
        let disabled = revisions.disable(DEFAULT_TENANT, "gate", "tested").await.unwrap();
        assert!(disabled > moved && moved > after);
        assert_eq!(
            revisions.revisions(DEFAULT_TENANT, "gate").await.unwrap()[0].state,
            RevisionState::Retired
        );

        let unknown = revisions.generation("nobody").await;
        assert!(matches!(unknown, Err(RevisionStoreError::NotFound("tenant"))));
        let unknown = revisions.component(DEFAULT_TENANT, "no digest").await;
        assert!(matches!(unknown, Err(RevisionStoreError::NotFound(_))));
        store.close().await.unwrap();
    }
}
