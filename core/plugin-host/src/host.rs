//! The generations in use: which plugins answer for which tenant, behind one atomic pointer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use russet_hooks::{
    CallLimits, FaultKind, Hook, HookKind, HookSet, HookSetBuilder, HookSource, Implementor, PluginFault, native,
};

use crate::LoadedPlugin;
use crate::hooks::implementor;

/// A plugin of a generation.
#[derive(Clone, Debug)]
pub enum ActivePlugin {
    /// Ready to be called.
    Loaded(LoadedPlugin),
    /// Active, but it can not be loaded.
    Unusable(UnusablePlugin),
}

/// A plugin that is active and can not be loaded. Its hooks answer with a fault, so that their failure rules apply: a
/// gate that is missing must not let everybody in.
#[derive(Clone, Debug)]
pub struct UnusablePlugin {
    /// The name.
    pub name: String,
    /// The digest of the revision, as far as it is known.
    pub revision: String,
    /// The hooks that fail.
    pub hooks: BTreeSet<HookKind>,
    /// Why it can not be loaded.
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
            Self::Unusable(plugin) => plugin.hooks.iter().fold(set, |set, hook| match hook {
                HookKind::EnrollmentGate => set.add_gate(plugin.fails()),
                HookKind::Directory => set.add_directory(plugin.fails()),
                HookKind::EscrowPolicy => set.add_escrow_policy(plugin.fails()),
                HookKind::ProfileTemplate => set.add_template(plugin.fails()),
                HookKind::CommandPolicy => set.add_command_policy(plugin.fails()),
                HookKind::DeclarationPlanner => set.add_planner(plugin.fails()),
                // Which events it takes is not known for sure: none must be lost until it can be loaded again.
                HookKind::Observer => set.add_observer(plugin.fails(), vec!["*".to_owned()]),
                HookKind::Scheduled => set.add_scheduled(plugin.fails(), Vec::new()),
            }),
        }
    }
}

impl UnusablePlugin {
    fn fails<H: Hook>(&self) -> Implementor<H> {
        let fault = PluginFault::new(&self.name, FaultKind::Unusable, &self.reason);
        let service = native(fault, |fault, _| Box::pin(async move { Err(fault.as_ref().clone()) }));
        implementor(&self.name, &self.revision, CallLimits::default(), service)
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
    pub fn publish(&self, tenant: &str, generation: u64, plugins: &[ActivePlugin]) -> bool {
        let set = plugins
            .iter()
            .fold(self.native.extend().generation(generation), |set, plugin| {
                plugin.add_to(set)
            })
            .build();
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
}

impl HookSource for PluginHost {
    fn pin(&self, tenant: &str) -> Arc<HookSet> {
        Arc::clone(self.tenants.load().get(tenant).unwrap_or(&self.native))
    }
}
