//! The implementors that one request sees: an immutable set, pinned from its first hook to its last.

use std::fmt;
use std::sync::Arc;

use crate::{
    CallLimits, CommandHook, CommandPolicy, DeclarationPlanner, Directory, DirectoryHook, EnrollmentGate, EscrowHook,
    EscrowPolicy, GateHook, Hook, HookService, Observer, ObserverHook, PlannerHook, ProfileTemplate, Schedule,
    Scheduled, ScheduledHook, TemplateHook, guarded,
};

/// One implementor of a hook.
pub struct Implementor<H: Hook> {
    /// The name, unique in its tenant.
    pub name: String,
    /// The digest of the revision; `native` for Rust code.
    pub revision: String,
    /// What answers.
    pub service: HookService<H>,
}

impl<H: Hook> Clone for Implementor<H> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            revision: self.revision.clone(),
            service: self.service.clone(),
        }
    }
}

impl<H: Hook> fmt::Debug for Implementor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Implementor")
            .field("hook", &H::KIND)
            .field("name", &self.name)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// An observer with the kinds of events that it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Observing {
    pub(crate) implementor: Implementor<ObserverHook>,
    pub(crate) events: Vec<String>,
}

/// Scheduled work with its schedules.
#[derive(Clone, Debug)]
pub(crate) struct Scheduling {
    pub(crate) implementor: Implementor<ScheduledHook>,
    pub(crate) schedules: Vec<Schedule>,
}

/// A generation: all implementors of a tenant, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct HookSet {
    pub(crate) generation: u64,
    pub(crate) gates: Vec<Implementor<GateHook>>,
    pub(crate) directories: Vec<Implementor<DirectoryHook>>,
    pub(crate) escrow: Vec<Implementor<EscrowHook>>,
    pub(crate) templates: Vec<Implementor<TemplateHook>>,
    pub(crate) command_policies: Vec<Implementor<CommandHook>>,
    pub(crate) planners: Vec<Implementor<PlannerHook>>,
    pub(crate) observers: Vec<Observing>,
    pub(crate) scheduled: Vec<Scheduling>,
}

impl HookSet {
    /// Starts a set.
    pub fn builder() -> HookSetBuilder {
        HookSetBuilder::default()
    }

    /// The number of the generation: it grows with every change of the set.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether anything decides who may enroll.
    pub fn has_gate(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Whether anything knows people.
    pub fn has_directory(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Whether anything decides what happens to escrowed secrets.
    pub fn has_escrow_policy(&self) -> bool {
        !self.escrow.is_empty()
    }

    /// Whether anything decides which commands go out.
    pub fn has_command_policy(&self) -> bool {
        !self.command_policies.is_empty()
    }

    /// Whether anything plans declarations.
    pub fn has_planner(&self) -> bool {
        !self.planners.is_empty()
    }

    /// Starts a set with the same implementors, to add more.
    pub fn extend(&self) -> HookSetBuilder {
        HookSetBuilder {
            set: self.clone(),
            limits: CallLimits::default(),
        }
    }
}

/// Makes a [`HookSet`].
#[derive(Debug, Default)]
pub struct HookSetBuilder {
    set: HookSet,
    limits: CallLimits,
}

const NATIVE: &str = "native";

impl HookSetBuilder {
    /// Sets the number of the generation.
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.set.generation = generation;
        self
    }

    /// Sets the limits of the native implementors added after this.
    #[must_use]
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a native gate.
    #[must_use]
    pub fn gate(self, name: impl Into<String>, gate: impl EnrollmentGate) -> Self {
        let implementor = self.native(name.into(), GateHook::service(gate));
        self.add_gate(implementor)
    }

    /// Adds a native directory.
    #[must_use]
    pub fn directory(self, name: impl Into<String>, directory: impl Directory) -> Self {
        let implementor = self.native(name.into(), DirectoryHook::service(directory));
        self.add_directory(implementor)
    }

    /// Adds a native escrow policy.
    #[must_use]
    pub fn escrow_policy(self, name: impl Into<String>, policy: impl EscrowPolicy) -> Self {
        let implementor = self.native(name.into(), EscrowHook::service(policy));
        self.add_escrow_policy(implementor)
    }

    /// Adds a native template engine.
    #[must_use]
    pub fn template(self, name: impl Into<String>, engine: impl ProfileTemplate) -> Self {
        let implementor = self.native(name.into(), TemplateHook::service(engine));
        self.add_template(implementor)
    }

    /// Adds a native command policy.
    #[must_use]
    pub fn command_policy(self, name: impl Into<String>, policy: impl CommandPolicy) -> Self {
        let implementor = self.native(name.into(), CommandHook::service(policy));
        self.add_command_policy(implementor)
    }

    /// Adds a native planner.
    #[must_use]
    pub fn planner(self, name: impl Into<String>, planner: impl DeclarationPlanner) -> Self {
        let implementor = self.native(name.into(), PlannerHook::service(planner));
        self.add_planner(implementor)
    }

    /// Adds a native observer of these kinds of events ([`crate::event_matches`]).
    #[must_use]
    pub fn observer(self, name: impl Into<String>, observer: impl Observer, events: Vec<String>) -> Self {
        let implementor = self.native(name.into(), ObserverHook::service(observer));
        self.add_observer(implementor, events)
    }

    /// Adds native work with its schedules.
    #[must_use]
    pub fn scheduled(self, name: impl Into<String>, work: impl Scheduled, schedules: Vec<Schedule>) -> Self {
        let implementor = self.native(name.into(), ScheduledHook::service(work));
        self.add_scheduled(implementor, schedules)
    }

    /// Adds a gate whose layers are already over it.
    #[must_use]
    pub fn add_gate(mut self, implementor: Implementor<GateHook>) -> Self {
        self.set.gates.push(implementor);
        self
    }

    /// Adds a directory whose layers are already over it.
    #[must_use]
    pub fn add_directory(mut self, implementor: Implementor<DirectoryHook>) -> Self {
        self.set.directories.push(implementor);
        self
    }

    /// Adds an escrow policy whose layers are already over it.
    #[must_use]
    pub fn add_escrow_policy(mut self, implementor: Implementor<EscrowHook>) -> Self {
        self.set.escrow.push(implementor);
        self
    }

    /// Adds a template engine whose layers are already over it.
    #[must_use]
    pub fn add_template(mut self, implementor: Implementor<TemplateHook>) -> Self {
        self.set.templates.push(implementor);
        self
    }

    /// Adds a command policy whose layers are already over it.
    #[must_use]
    pub fn add_command_policy(mut self, implementor: Implementor<CommandHook>) -> Self {
        self.set.command_policies.push(implementor);
        self
    }

    /// Adds a planner whose layers are already over it.
    #[must_use]
    pub fn add_planner(mut self, implementor: Implementor<PlannerHook>) -> Self {
        self.set.planners.push(implementor);
        self
    }

    /// Adds an observer of these kinds of events, whose layers are already over it.
    #[must_use]
    pub fn add_observer(mut self, implementor: Implementor<ObserverHook>, events: Vec<String>) -> Self {
        self.set.observers.push(Observing { implementor, events });
        self
    }

    /// Adds scheduled work whose layers are already over it.
    #[must_use]
    pub fn add_scheduled(mut self, implementor: Implementor<ScheduledHook>, schedules: Vec<Schedule>) -> Self {
        self.set.scheduled.push(Scheduling { implementor, schedules });
        self
    }

    /// The set.
    pub fn build(self) -> Arc<HookSet> {
        Arc::new(self.set)
    }

    fn native<H: Hook>(&self, name: String, service: HookService<H>) -> Implementor<H> {
        let service = guarded(name.clone(), service, self.limits);
        Implementor {
            name,
            revision: NATIVE.to_owned(),
            service,
        }
    }
}

/// Where the engine gets the current generation of a tenant.
pub trait HookSource: Send + Sync + fmt::Debug + 'static {
    /// The generation to use from the first hook of a request to its last. Cheap: no I/O, no lock that is held long.
    fn pin(&self, tenant: &str) -> Arc<HookSet>;
}

/// The same implementors for every tenant: for servers that extend Russet in Rust only, and for tests.
#[derive(Clone, Debug)]
pub struct FixedHooks(pub Arc<HookSet>);

impl HookSource for FixedHooks {
    fn pin(&self, _tenant: &str) -> Arc<HookSet> {
        Arc::clone(&self.0)
    }
}
