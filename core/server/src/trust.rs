//! The plugin manager's port to the publishers that tenants trust, and to what they had in use.

use std::sync::Arc;

use async_trait::async_trait;
use russet_plugin_host::RevisionStoreError;
use russet_plugin_host::package::{Past, PublicKey, Publisher, Signed, Trust, TrustStore, Unsigned};
use russet_store::{Store, StoreError, TenantId, UsedVersion};

use crate::config::{Plugins, UnsignedPlugins};

/// Whose plugins the server installs.
pub(crate) fn trust(plugins: &Plugins, store: &Store) -> Trust {
    let unsigned = match plugins.unsigned {
        UnsignedPlugins::Refuse => Unsigned::Refuse,
        UnsignedPlugins::Allow => {
            tracing::warn!(
                "plugins.unsigned is \"allow\": plugins that NOBODY HAS SIGNED are installed; leave that to machines \
                 where plugins are developed"
            );
            Unsigned::Allow
        }
    };
    Trust::new(Arc::new(StoreTrust::new(store.clone())), unsigned)
}

/// Keeps publishers in the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreTrust {
    store: Store,
}

impl StoreTrust {
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

fn past(used: UsedVersion) -> Result<Past, RevisionStoreError> {
    let version = used.version.parse();
    let signed = used
        .signature
        .and_then(|json| serde_json::from_value::<Signed>(json).ok());
    Ok(Past {
        // A manifest without a version in this form was never stored.
        version: version.map_err(|error: semver::Error| RevisionStoreError::Failed(Box::new(error)))?,
        content: signed.map_or_else(|| hex::encode(used.digest), |signed| signed.content),
    })
}

#[async_trait]
impl TrustStore for StoreTrust {
    async fn publishers(&self, tenant: &str) -> Result<Vec<Publisher>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let publishers = self.store.publishers(tenant).await.map_err(failed)?;
        let publisher = |stored: russet_store::Publisher| Publisher {
            name: stored.name,
            public_key: PublicKey::from_bytes(stored.public_key),
            plugins: stored.plugins.into_iter().collect(),
        };
        Ok(publishers.into_iter().map(publisher).collect())
    }

    async fn past(&self, tenant: &str, plugin: &str) -> Result<Vec<Past>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let used = self.store.used_versions(tenant, plugin).await.map_err(failed)?;
        used.into_iter().map(past).collect()
    }
}
