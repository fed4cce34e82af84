//! The generations in use: which plugins answer for which tenant, behind one atomic pointer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use russet_hooks::{
    CallLimits, FaultKind, Hook, HookKind, HookSet, HookSetBuilder, HookSource, Implementor, PluginFault, native,
};

use crate::LoadedPlugin;
use crate::hooks::implementor;
use crate::rollout::seat::Seat;

/// A plugin of a generation.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each plugin of a tenant, and moved at a swap only"
)]
pub enum ActivePlugin {
    /// Ready to be called.
    Loaded(LoadedPlugin),
    /// Active, but it can not be called.
    Unusable(UnusablePlugin),
}

/// A plugin that is active and can not be called. Its hooks answer with a fault, so that their failure rules apply: a
/// gate that is missing must not let everybody in.
#[derive(Clone, Debug)]
pub struct UnusablePlugin {
    /// The name.
    pub name: String,
    /// The digest of the revision, as far as it is known.
    pub revision: String,
    /// The hooks that fail.
    pub hooks: BTreeSet<HookKind>,
    /// The kind of fault: [`FaultKind::Unusable`], or [`FaultKind::Quarantined`].
    pub kind: FaultKind,
    /// Why it can not be called.
    pub reason: String,
}

impl ActivePlugin {
    /// The name, unique in a tenant.
    pub fn name(&self) -> &str {
        match self {
            Self::Loaded(plugin) => plugin.name(),
            Self::Unusable(plugin) => &plugin.name,
        }
    }

    fn add_to(&self, set: HookSetBuilder) -> HookSetBuilder {
        match self {
            Self::Loaded(plugin) => plugin.add_to(set),
            Self::Unusable(plugin) => plugin.add_to(set),
        }
    }
}

impl UnusablePlugin {
    fn add_to(&self, set: HookSetBuilder) -> HookSetBuilder {
        self.hooks.iter().fold(set, |set, hook| match hook {
            HookKind::EnrollmentGate => set.add_gate(self.fails()),
            HookKind::Directory => set.add_directory(self.fails()),
            HookKind::EscrowPolicy => set.add_escrow_policy(self.fails()),
            HookKind::ProfileTemplate => set.add_template(self.fails()),
            HookKind::CommandPolicy => set.add_command_policy(self.fails()),
            HookKind::DeclarationPlanner => set.add_planner(self.fails()),
            // Which events it takes is not known for sure: none must be lost until it can be loaded again.
            HookKind::Observer => set.add_observer(self.fails(), vec!["*".to_owned()]),
            HookKind::Scheduled => set.add_scheduled(self.fails(), Vec::new()),
        })
    }

    fn fails<H: Hook>(&self) -> Implementor<H> {
        let fault = PluginFault::new(&self.name, self.kind, &self.reason);
        let service = native(fault, |fault, _| Box::pin(async move { Err(fault.as_ref().clone()) }));
        implementor(&self.name, &self.revision, CallLimits::default(), service)
    }
}

/// A plugin of a generation with what a manager knows of it: breakers, shares, a candidate.
#[derive(Clone, Debug)]
pub(crate) enum Seated {
    Usable(Seat),
    Unusable(UnusablePlugin),
}

impl Seated {
    fn add_to(&self, mut set: HookSetBuilder) -> HookSetBuilder {
        let seat = match self {
            Self::Unusable(plugin) => return plugin.add_to(set),
            Self::Usable(seat) => seat,
        };
        let manifest = seat.active.plugin().manifest();
        if let Some(gate) = seat.implementor(LoadedPlugin::gate) {
            set = set.add_gate(gate);
        }
        if let Some(directory) = seat.implementor(LoadedPlugin::directory) {
            set = set.add_directory(directory);
        }
        if let Some(policy) = seat.implementor(LoadedPlugin::escrow_policy) {
            set = set.add_escrow_policy(policy);
        }
        if let Some(template) = seat.implementor(LoadedPlugin::template) {
            set = set.add_template(template);
        }
        if let Some(policy) = seat.implementor(LoadedPlugin::command_policy) {
            set = set.add_command_policy(policy);
        }
        if let Some(planner) = seat.implementor(LoadedPlugin::planner) {
            set = set.add_planner(planner);
        }
        if let Some(observer) = seat.implementor(LoadedPlugin::observer) {
            set = set.add_observer(observer, manifest.events.clone());
        }
        if let Some(scheduled) = seat.implementor(LoadedPlugin::scheduled) {
            set = set.add_scheduled(scheduled, manifest.schedules());
        }
        set
    }
}

/// The generations of all tenants. Reading is lock-free; a request that pinned a generation keeps it until its end.
#[derive(Debug)]
pub struct PluginHost {
    native: Arc<HookSet>,
    tenants: ArcSwap<HashMap<Arc<str>, Arc<HookSet>>>,
}

impl Default for PluginHost {
    fn default() -> Self {
        Self::new()
    }
}

impl PluginHost {
    /// A host without plugins.
    pub fn new() -> Self {
        Self::with_native(HookSet::builder().build())
    }

    /// A host whose tenants all have these native implementors, asked before any plugin.
    pub fn with_native(native: Arc<HookSet>) -> Self {
        Self {
            native,
            tenants: ArcSwap::default(),
        }
    }

    /// Makes a generation the current one of a tenant: requests that start from now on see it. The order of the plugins is
    /// the order in which they are asked. Returns whether it was published; a generation older than the current one is not.
    ///
    /// For embeddings without a [`crate::PluginManager`]: calls have their limits, and no breaker.
    pub fn publish(&self, tenant: &str, generation: u64, plugins: &[ActivePlugin]) -> bool {
        let set = plugins
            .iter()
            .fold(self.native.extend().generation(generation), |set, plugin| {
                plugin.add_to(set)
            });
        self.put(tenant, generation, set.build())
    }

    /// The same for a manager.
    pub(crate) fn publish_seats(&self, tenant: &str, generation: u64, seats: &[Seated]) -> bool {
        let set = seats
            .iter()
            .fold(self.native.extend().generation(generation), |set, seat| {
                seat.add_to(set)
            });
        self.put(tenant, generation, set.build())
    }

    fn put(&self, tenant: &str, generation: u64, set: Arc<HookSet>) -> bool {
        let mut published = false;
        self.tenants.rcu(|tenants| {
            published = tenants.get(tenant).is_none_or(|set| set.generation() <= generation);
            let mut tenants = HashMap::clone(tenants);
            if published {
                tenants.insert(tenant.into(), Arc::clone(&set));
            }
            tenants
        });
        published
    }

    /// Takes a tenant's plugins away; native implementors stay.
    pub fn forget(&self, tenant: &str) {
        self.tenants.rcu(|tenants| {
            let mut tenants = HashMap::clone(tenants);
            tenants.remove(tenant);
            tenants
        });
    }

    /// The current generation of a tenant; absent if none was published.
    pub fn generation(&self, tenant: &str) -> Option<u64> {
        self.tenants.load().get(tenant).map(|set| set.generation())
    }

    /// The current generations of all tenants for which one was published.
    pub fn generations(&self) -> impl Iterator<Item = (Arc<str>, u64)> {
        let tenants = self.tenants.load();
        let generations: Vec<_> = tenants
            .iter()
            .map(|(tenant, set)| (Arc::clone(tenant), set.generation()))
            .collect();
        generations.into_iter()
    }
}

impl HookSource for PluginHost {
    fn pin(&self, tenant: &str) -> Arc<HookSet> {
        Arc::clone(self.tenants.load().get(tenant).unwrap_or(&self.native))
    }
}
