//! Installs, loads, rolls out and removes plugins: what runs is what the store says, and a change is prepared off the
//! request path and then made by one pointer.

mod cluster;
mod diff;
mod install;
mod rollouts;
mod sync;
mod unloaded;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

pub use self::cluster::NodeStatus;
pub use self::diff::{ListDiff, RevisionDiff};
pub use self::install::{GrantRequest, InstallError, InstallReport, InstallRequest, InstalledState, Staging};
pub use self::rollouts::{PromoteRequest, Promoted, RolloutError, RolloutRequest, RolloutStatus};
pub use self::sync::{LoadFailure, LoadReport};
use self::unloaded::Unloaded;
pub use self::view::{OpenRollout, PendingRevision, PluginState, PluginStatus, RevisionSummary};
use crate::host::Seated;
use crate::package::Trust;
use crate::ports::Ports;
use crate::revisions::Actor;
use crate::rollout::BreakerSettings;
use crate::rollout::lane::Lane;
use crate::rollout::seat::{Member, Trip};
use crate::rollout::tally::Tally;
use crate::{Connections, Contracts, Limits, PluginEngine, PluginHost, RevisionStore, RevisionStoreError};

/// How many components may be uploaded at once: each is held in memory.
const UPLOADS: usize = 4;

/// A tenant's share of the calls that may run at once, in quarters: what is left is for the others.
const TENANT_QUARTERS: u32 = 3;

/// Brings together the store of revisions, the engine that compiles them and the host that answers with them.
#[derive(Debug)]
pub struct PluginManager {
    engine: PluginEngine,
    host: Arc<PluginHost>,
    store: Arc<dyn RevisionStore>,
    connections: Connections,
    ports: Ports,
    limits: Limits,
    trust: Trust,
    contracts: Contracts,
    breaker: BreakerSettings,
    node: NodeIdentity,
    lane: Lane,
    uploads: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
    trips: Trips,
    reported: Mutex<Option<cluster::Reported>>,
}

/// Revisions that keep failing, on their way into quarantine.
#[derive(Debug)]
struct Trips {
    sender: mpsc::UnboundedSender<Trip>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Trip>>,
}

/// This process among the nodes.
#[derive(Debug)]
struct NodeIdentity {
    id: Uuid,
    name: String,
    started_at: Timestamp,
}

/// A tenant as this node has it.
#[derive(Debug)]
struct Tenant {
    name: Arc<str>,
    /// Held during a change, so that changes follow one another. Reading does not wait for it: compiling takes seconds.
    change: tokio::sync::Mutex<()>,
    current: ArcSwap<Current>,
    /// What of it could not be loaded.
    unloaded: Mutex<Unloaded>,
    /// Its share of the places for calls.
    places: Arc<Semaphore>,
}

/// What is loaded for a tenant.
#[derive(Debug, Default)]
struct Current {
    /// In the order in which they are asked, each with the number of its revision.
    seats: Vec<(i64, Seated)>,
    /// All that is loaded, by the number of its revision: what is active, what is compared with it, what to go back to.
    members: HashMap<i64, Member>,
    /// What is counted, by the number of the comparison.
    tallies: HashMap<i64, Arc<Tally>>,
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
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            lane: Lane::new(engine.clone()),
            engine,
            host,
            store,
            connections,
            ports,
            limits,
            trust: Trust::default(),
            contracts: Contracts::default(),
            breaker: BreakerSettings::default(),
            node: NodeIdentity {
                id: Uuid::new_v4(),
                name: host_name(),
                started_at: Timestamp::now(),
            },
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            tenants: Mutex::default(),
            trips: Trips {
                sender,
                receiver: tokio::sync::Mutex::new(receiver),
            },
            reported: Mutex::default(),
        }
    }

    /// Sets whose plugins are installed; nobody's, until this is called.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets which versions of the contract are on their way out; as this build has it, until this is called.
    #[must_use]
    pub fn with_contracts(mut self, contracts: Contracts) -> Self {
        self.contracts = contracts;
        self
    }

    /// Sets when the circuit breaker of a plugin opens.
    #[must_use]
    pub fn with_breaker(mut self, settings: BreakerSettings) -> Self {
        self.breaker = settings;
        self
    }

    /// Sets how much of one processor shadows may use at most in the long run, in hundredths; one, until this is called. Beside
    /// devices' calls they get a sixtieth of that. Calls for which there is no time are not compared, and counted.
    #[must_use]
    pub fn with_shadow_percent(mut self, percent: u8) -> Self {
        self.lane = Lane::of(self.engine.clone(), percent);
        self
    }

    /// Sets what operators call this node.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.node.name = name.into();
        self
    }

    /// The host that answers with what is loaded.
    pub fn host(&self) -> &Arc<PluginHost> {
        &self.host
    }

    /// The limits of every plugin.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for an upload, if one is free: to be taken before a component is read, and kept until it is installed.
    pub fn upload(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.uploads).try_acquire_owned().ok()
    }

    /// Takes a plugin out of use, with what of it waits or is compared; its revisions stay stored. Returns the new
    /// generation. Requests that are running keep it until their end.
    ///
    /// # Errors
    ///
    /// There is no such active plugin, or the store failed.
    pub async fn disable(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<u64, RevisionStoreError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        let (by, reason) = (actor.name.clone(), actor.reason.clone());
        self.store.disable(tenant, plugin, actor).await?;
        let generation = self.refresh(&slot, None).await?;
        tracing::info!(
            plugin.name = plugin,
            tenant.name = tenant,
            by,
            reason,
            "plugin disabled"
        );
        Ok(generation)
    }

    fn tenant(&self, name: &str) -> Arc<Tenant> {
        // Nothing panics while it is held, and if it did the map would still be whole.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return Arc::clone(tenant);
        }
        let share = (self.engine.concurrent_calls().saturating_mul(TENANT_QUARTERS) / 4).max(1);
        let tenant = Arc::new(Tenant {
            name: name.into(),
            change: tokio::sync::Mutex::default(),
            current: ArcSwap::default(),
            unloaded: Mutex::default(),
            places: Arc::new(Semaphore::new(share as usize)),
        });
        tenants.insert(name.to_owned(), Arc::clone(&tenant));
        tenant
    }
}

/// The name of the machine.
fn host_name() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        "node".to_owned()
    }
}
