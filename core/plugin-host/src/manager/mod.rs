//! Installs, loads and removes plugins: what runs is what the store says, and a change is prepared off the request path
//! and then made by one pointer.

mod install;
mod sync;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

pub use self::install::{InstallError, InstallReport, InstallRequest, InstalledState};
pub use self::sync::{LoadFailure, LoadReport};
pub use self::view::{PendingRevision, PluginState, PluginStatus};
use crate::host::ActivePlugin;
use crate::{LdapConnections, Limits, PluginEngine, PluginHost, RevisionStore, RevisionStoreError};

/// Brings together the store of revisions, the engine that compiles them and the host that answers with them.
#[derive(Debug)]
pub struct PluginManager {
    engine: PluginEngine,
    host: Arc<PluginHost>,
    store: Arc<dyn RevisionStore>,
    connections: LdapConnections,
    limits: Limits,
    tenants: Mutex<HashMap<String, Arc<Mutex<Current>>>>,
}

/// What is loaded for a tenant. Its lock is held during a change, so that changes follow one another.
#[derive(Debug, Default)]
struct Current {
    generation: Option<u64>,
    /// In the order in which they are asked, each with the number of its revision.
    plugins: Vec<(i64, ActivePlugin)>,
}

impl PluginManager {
    /// A manager. Nothing is loaded before [`load_all`](Self::load_all).
    pub fn new(
        engine: PluginEngine,
        host: Arc<PluginHost>,
        store: Arc<dyn RevisionStore>,
        connections: LdapConnections,
        limits: Limits,
    ) -> Self {
        Self {
            engine,
            host,
            store,
            connections,
            limits,
            tenants: Mutex::default(),
        }
    }

    /// The host that answers with what is loaded.
    pub fn host(&self) -> &Arc<PluginHost> {
        &self.host
    }

    /// The limits of every plugin.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a plugin out of use; its revisions stay stored. Returns the new generation. Requests that are running keep
    /// it until their end.
    ///
    /// # Errors
    ///
    /// There is no such active plugin, or the store failed.
    pub async fn disable(&self, tenant: &str, plugin: &str, reason: &str) -> Result<u64, RevisionStoreError> {
        let current = self.tenant(tenant).await;
        let mut current = current.lock().await;
        self.store.disable(tenant, plugin, reason).await?;
        self.refresh(tenant, &mut current).await?;
        tracing::info!(plugin.name = plugin, tenant.name = tenant, reason, "plugin disabled");
        Ok(current.generation.unwrap_or_default())
    }

    async fn tenant(&self, tenant: &str) -> Arc<Mutex<Current>> {
        let mut tenants = self.tenants.lock().await;
        match tenants.get(tenant) {
            Some(current) => Arc::clone(current),
            None => Arc::clone(tenants.entry(tenant.to_owned()).or_default()),
        }
    }
}
