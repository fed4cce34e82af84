//! Loads what the store says is active, at start and when another node changed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use russet_hooks::HookKind;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Current, PluginManager, Tenant};
use crate::host::{ActivePlugin, UnusablePlugin};
use crate::ports::Ports;
use crate::{
    Connections, Grants, Limits, LoadedPlugin, Manifest, PluginEngine, PluginSource, RevisionStore,
    RevisionStoreError, StoredRevision,
};

/// How many tenants are loaded at once at start.
const TENANTS_AT_ONCE: usize = 8;

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
        let tenants = self.store.tenants().await?;
        let mut report = LoadReport::default();
        let mut loading = stream::iter(tenants)
            .map(async |name| {
                let slot = self.tenant(&name);
                let _change = slot.change.lock().await;
                self.refresh(&slot, None).await?;
                Ok::<_, RevisionStoreError>((name, slot.current.load_full()))
            })
            .buffer_unordered(TENANTS_AT_ONCE);
        while let Some(loaded) = loading.next().await {
            let (tenant, current) = loaded?;
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
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        if self.host.generation(tenant) == Some(generation) {
            return Ok(false);
        }
        self.refresh(&slot, None).await?;
        Ok(true)
    }

    /// Loads what is active and not loaded yet, and publishes the generation, which it returns. `fresh` is a revision
    /// that was just loaded. The caller holds the tenant's lock for changes.
    pub(super) async fn refresh(
        &self,
        tenant: &Tenant,
        fresh: Option<(i64, LoadedPlugin)>,
    ) -> Result<u64, RevisionStoreError> {
        let active = self.store.active(&tenant.name).await?;
        let current = tenant.current.load_full();
        let fresh = fresh.map(|(id, plugin)| (id, ActivePlugin::Loaded(plugin)));
        let mut plugins: Vec<Option<(i64, ActivePlugin)>> = Vec::with_capacity(active.revisions.len());
        let mut loading = JoinSet::new();
        for (place, revision) in active.revisions.into_iter().enumerate() {
            let loaded = current
                .plugins
                .iter()
                .chain(&fresh)
                .find(|(id, plugin)| *id == revision.id && matches!(plugin, ActivePlugin::Loaded(_)))
                .cloned();
            if loaded.is_none() {
                let loader = Loader {
                    engine: self.engine.clone(),
                    store: Arc::clone(&self.store),
                    connections: self.connections.of_tenant(&tenant.name),
                    ports: self.ports.clone(),
                    limits: self.limits.clone(),
                };
                let tenant = tenant.name.clone();
                loading.spawn(async move { (place, revision.id, loader.load_or_fail(&tenant, revision).await) });
            }
            plugins.push(loaded);
        }
        while let Some(joined) = loading.join_next().await {
            let (place, id, plugin) = joined.map_err(|error| RevisionStoreError::Failed(Box::new(error)))?;
            plugins[place] = Some((id, plugin));
        }
        let plugins: Vec<(i64, ActivePlugin)> = plugins.into_iter().flatten().collect();
        let order: Vec<ActivePlugin> = plugins.iter().map(|(_, plugin)| plugin.clone()).collect();
        tenant.current.store(Arc::new(Current { plugins }));
        self.host.publish(&tenant.name, active.generation, &order);
        tracing::info!(
            tenant.name,
            generation = active.generation,
            plugins = order.len(),
            "plugin generation published"
        );
        Ok(active.generation)
    }
}

/// What it takes to load one revision.
struct Loader {
    engine: PluginEngine,
    store: Arc<dyn RevisionStore>,
    connections: Connections,
    ports: Ports,
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
            tenant: tenant.into(),
            component: component.into(),
            settings: Some(revision.settings.clone()),
            grants,
            limits: self.limits.clone(),
        };
        LoadedPlugin::load(&self.engine, &self.connections, &self.ports, source)
            .await
            .map_err(|error| error.to_string())
    }
}
