//! Installs, loads and removes plugins: what runs is what the store says, and a change is prepared off the request path
//! and then made by one pointer.

mod install;
mod sync;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use self::install::{InstallError, InstallReport, InstallRequest, InstalledState};
pub use self::sync::{LoadFailure, LoadReport};
pub use self::view::{PendingRevision, PluginState, PluginStatus};
use crate::host::ActivePlugin;
use crate::ports::Ports;
use crate::{Connections, Limits, PluginEngine, PluginHost, RevisionStore, RevisionStoreError};

/// Brings together the store of revisions, the engine that compiles them and the host that answers with them.
#[derive(Debug)]
pub struct PluginManager {
    engine: PluginEngine,
    host: Arc<PluginHost>,
    store: Arc<dyn RevisionStore>,
    connections: Connections,
    ports: Ports,
    limits: Limits,
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
}

/// A tenant as this node has it.
#[derive(Debug, Default)]
struct Tenant {
    name: String,
    /// Held during a change, so that changes follow one another. Reading does not wait for it: compiling takes seconds.
    change: tokio::sync::Mutex<()>,
    current: ArcSwap<Current>,
}

/// What is loaded for a tenant.
#[derive(Debug, Default)]
struct Current {
    /// In the order in which they are asked, each with the number of its revision.
    plugins: Vec<(i64, ActivePlugin)>,
}

impl PluginManager {
    /// A manager. Nothing is loaded before [`load_all`](Self::load_all).
    pub fn new(
        engine: PluginEngine,
        host: Arc<PluginHost>,
        store: Arc<dyn RevisionStore>,
        connections: Connections,
        ports: Ports,
        limits: Limits,
    ) -> Self {
        Self {
            engine,
            host,
            store,
            connections,
            ports,
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
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        self.store.disable(tenant, plugin, reason).await?;
        let generation = self.refresh(&slot, None).await?;
        tracing::info!(plugin.name = plugin, tenant.name = tenant, reason, "plugin disabled");
        Ok(generation)
    }

    fn tenant(&self, name: &str) -> Arc<Tenant> {
        // Nothing panics while it is held, and if it did the map would still be whole.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return Arc::clone(tenant);
        }
        let tenant = Arc::new(Tenant {
            name: name.to_owned(),
            ..Tenant::default()
        });
        tenants.insert(name.to_owned(), Arc::clone(&tenant));
        tenant
    }
}
