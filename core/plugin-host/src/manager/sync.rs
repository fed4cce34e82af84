//! Loads what the store says is active, at start and when another node changed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use russet_hooks::HookKind;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Current, PluginManager};
use crate::host::{ActivePlugin, UnusablePlugin};
use crate::{
    Grants, LdapConnections, Limits, LoadedPlugin, Manifest, PluginEngine, PluginSource, RevisionStore,
    RevisionStoreError, StoredRevision,
};

/// What came of loading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// How many plugins are loaded, over all tenants.
    pub loaded: usize,
    /// Those that are not: their hooks answer with a fault.
    pub failures: Vec<LoadFailure>,
}

/// A plugin that is active and could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadFailure {
    /// The tenant.
    pub tenant: String,
    /// The plugin.
    pub plugin: String,
    /// Why.
    pub reason: String,
}

impl PluginManager {
    /// Loads the active plugins of every tenant. A plugin that can not be loaded does not stop the others; its hooks
    /// answer with a fault.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn load_all(&self) -> Result<LoadReport, RevisionStoreError> {
        let mut report = LoadReport::default();
        for tenant in self.store.tenants().await? {
            let current = self.tenant(&tenant).await;
            let mut current = current.lock().await;
            self.refresh(&tenant, &mut current).await?;
            for (_, plugin) in &current.plugins {
                match plugin {
                    ActivePlugin::Loaded(_) => report.loaded += 1,
                    ActivePlugin::Unusable(plugin) => report.failures.push(LoadFailure {
                        tenant: tenant.clone(),
                        plugin: plugin.name.clone(),
                        reason: plugin.reason.clone(),
                    }),
                }
            }
        }
        Ok(report)
    }

    /// Catches up with the store if it is ahead, as it is after another node changed something. Returns whether it was.
    ///
    /// # Errors
    ///
    /// The store failed; what runs goes on.
    pub async fn sync(&self, tenant: &str) -> Result<bool, RevisionStoreError> {
        let generation = self.store.generation(tenant).await?;
        if self.host.generation(tenant) == Some(generation) {
            return Ok(false);
        }
        let current = self.tenant(tenant).await;
        let mut current = current.lock().await;
        if current.generation == Some(generation) {
            return Ok(false);
        }
        self.refresh(tenant, &mut current).await?;
        Ok(true)
    }

    /// Loads what is active and not loaded yet, and publishes the generation.
    pub(super) async fn refresh(&self, tenant: &str, current: &mut Current) -> Result<(), RevisionStoreError> {
        let active = self.store.active(tenant).await?;
        let mut plugins: Vec<Option<(i64, ActivePlugin)>> = Vec::with_capacity(active.revisions.len());
        let mut loading = JoinSet::new();
        for (place, revision) in active.revisions.into_iter().enumerate() {
            let loaded = current
                .plugins
                .iter()
                .find(|(id, plugin)| *id == revision.id && matches!(plugin, ActivePlugin::Loaded(_)))
                .cloned();
            if loaded.is_none() {
                let loader = Loader {
                    engine: self.engine.clone(),
                    store: Arc::clone(&self.store),
                    connections: self.connections.clone(),
                    limits: self.limits.clone(),
                };
                let tenant = tenant.to_owned();
                loading.spawn(async move { (place, revision.id, loader.load_or_fail(&tenant, revision).await) });
            }
            plugins.push(loaded);
        }
        while let Some(joined) = loading.join_next().await {
            let (place, id, plugin) = joined.map_err(|error| RevisionStoreError::Failed(Box::new(error)))?;
            plugins[place] = Some((id, plugin));
        }
        current.plugins = plugins.into_iter().flatten().collect();
        current.generation = Some(active.generation);
        let order: Vec<ActivePlugin> = current.plugins.iter().map(|(_, plugin)| plugin.clone()).collect();
        self.host.publish(tenant, active.generation, &order);
        tracing::info!(
            tenant.name = tenant,
            generation = active.generation,
            plugins = order.len(),
            "plugin generation published"
        );
        Ok(())
    }
}

/// What it takes to load one revision.
struct Loader {
    engine: PluginEngine,
    store: Arc<dyn RevisionStore>,
    connections: LdapConnections,
    limits: Limits,
}

impl Loader {
    async fn load_or_fail(&self, tenant: &str, revision: StoredRevision) -> ActivePlugin {
        match self.load(tenant, &revision).await {
            Ok(plugin) => ActivePlugin::Loaded(plugin),
            Err(reason) => {
                tracing::error!(
                    plugin.name = revision.plugin,
                    tenant.name = tenant,
                    plugin.digest = revision.digest,
                    reason,
                    "an active plugin can not be loaded; its hooks fail until it is replaced"
                );
                // Without a readable manifest nobody knows what it implements: everything fails closed.
                let hooks = serde_json::from_value::<Manifest>(revision.manifest)
                    .map_or_else(|_| BTreeSet::from(HookKind::ALL), |manifest| manifest.hooks);
                ActivePlugin::Unusable(UnusablePlugin {
                    name: revision.plugin,
                    revision: revision.digest,
                    hooks,
                    reason,
                })
            }
        }
    }

    async fn load(&self, tenant: &str, revision: &StoredRevision) -> Result<LoadedPlugin, String> {
        let component = self
            .store
            .component(tenant, &revision.digest)
            .await
            .map_err(|error| error.to_string())?;
        if crate::component_digest(&component) != revision.digest {
            return Err("the stored component does not have the digest it was stored under".to_owned());
        }
        let grants: Grants = serde_json::from_value(revision.grants.clone())
            .map_err(|error| format!("the stored grants can not be read: {error}"))?;
        let source = PluginSource {
            component: component.into(),
            settings: Some(revision.settings.clone()),
            grants,
            limits: self.limits.clone(),
        };
        LoadedPlugin::load(&self.engine, &self.connections, source)
            .await
            .map_err(|error| error.to_string())
    }
}
