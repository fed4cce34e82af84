//! What plugins ask of the server, answered by the store: names of tenants become their numbers, and failures of the store
//! become words for the plugin.

mod inventory;
mod kv;
mod secrets;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use russet_plugin_host::ports::{CallError, Ports, SystemClock, SystemRandom};
use russet_store::{Store, StoreError, TenantId};

use self::inventory::StoreInventory;
use self::kv::StoreKv;
use self::secrets::StoreSecrets;

/// The ports of plugins to a store.
pub(crate) fn ports(store: &Store) -> Ports {
    let tenants = Tenants::new(store.clone());
    Ports {
        kv: Arc::new(StoreKv(tenants.clone())),
        inventory: Arc::new(StoreInventory(tenants.clone())),
        secrets: Arc::new(StoreSecrets(tenants)),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    }
}

/// The store, with the numbers of tenants by their names. A tenant keeps its number for ever, so each is asked for once.
#[derive(Clone, Debug)]
struct Tenants {
    store: Store,
    known: Arc<RwLock<HashMap<String, TenantId>>>,
}

impl Tenants {
    fn new(store: Store) -> Self {
        Self {
            store,
            known: Arc::default(),
        }
    }

    async fn id(&self, name: &str) -> Result<TenantId, CallError> {
        // Nobody panics while it is held, and if somebody did, the map would still be whole.
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let tenant = self.store.tenant_by_name(name).await.map_err(|error| failed(&error))?;
        let id = tenant
            .ok_or_else(|| CallError::Unavailable("there is no such tenant".to_owned()))?
            .id;
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), id);
        Ok(id)
    }
}

/// What a plugin is told of a failure of the store: the log has the rest.
fn failed(error: &StoreError) -> CallError {
    tracing::warn!(%error, "the store could not answer a plugin");
    CallError::Unavailable("the server's store can not answer now".to_owned())
}
