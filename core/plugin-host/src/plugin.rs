//! A plugin that is ready to be called.

use std::collections::BTreeSet;
use std::sync::Arc;

use russet_hooks::{
    Answers, Ask, CommandHook, DecisionRecord, DirectoryHook, EscrowHook, GateHook, Hook, HookInput, HookKind,
    HookSetBuilder, Implementor, ObserverHook, PlannerHook, ScheduledHook, Scope, TemplateHook,
};
use semver::Version;

use crate::hooks;
use crate::prepared::Prepared;
use crate::{Limits, Manifest};

/// A plugin that is ready to be called.
#[derive(Clone, Debug)]
pub struct LoadedPlugin {
    shared: Arc<Prepared>,
    contract: Version,
    gate: Option<Implementor<GateHook>>,
    directory: Option<Implementor<DirectoryHook>>,
    escrow: Option<Implementor<EscrowHook>>,
    template: Option<Implementor<TemplateHook>>,
    command: Option<Implementor<CommandHook>>,
    planner: Option<Implementor<PlannerHook>>,
    observer: Option<Implementor<ObserverHook>>,
    scheduled: Option<Implementor<ScheduledHook>>,
}

impl LoadedPlugin {
    pub(crate) fn with_services(shared: Arc<Prepared>, contract: Version) -> Self {
        let limits = shared.context.limits.call_limits();
        let name = shared.context.name.as_ref();
        let revision = shared.revision.as_str();
        macro_rules! service {
            ($name:ident) => {
                shared
                    .exports
                    .$name
                    .as_ref()
                    .map(|_| hooks::implementor(name, revision, limits, hooks::$name(&shared)))
            };
        }
        Self {
            gate: service!(gate),
            directory: service!(directory),
            escrow: service!(escrow),
            template: service!(template),
            command: service!(command),
            planner: service!(planner),
            observer: service!(observer),
            scheduled: service!(scheduled),
            contract,
            shared,
        }
    }

    /// The name, unique in a tenant.
    pub fn name(&self) -> &str {
        &self.shared.context.name
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// The version of the contract that it was built against.
    pub fn contract(&self) -> &Version {
        &self.contract
    }

    /// The digest of the revision: of component, settings and grants.
    pub fn revision(&self) -> &str {
        &self.shared.revision
    }

    /// What a call may use.
    pub fn limits(&self) -> &Limits {
        &self.shared.context.limits
    }

    /// The hooks that it implements.
    pub fn hooks(&self) -> &BTreeSet<HookKind> {
        &self.shared.manifest.hooks
    }

    /// The gate, if it is one: for callers without a [`crate::PluginHost`], such as a bench.
    pub fn gate(&self) -> Option<&Implementor<GateHook>> {
        self.gate.as_ref()
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Implementor<DirectoryHook>> {
        self.directory.as_ref()
    }

    /// The escrow policy, if it is one.
    pub fn escrow_policy(&self) -> Option<&Implementor<EscrowHook>> {
        self.escrow.as_ref()
    }

    /// The template engine, if it is one.
    pub fn template(&self) -> Option<&Implementor<TemplateHook>> {
        self.template.as_ref()
    }

    /// The command policy, if it is one.
    pub fn command_policy(&self) -> Option<&Implementor<CommandHook>> {
        self.command.as_ref()
    }

    /// The planner, if it is one.
    pub fn planner(&self) -> Option<&Implementor<PlannerHook>> {
        self.planner.as_ref()
    }

    /// The observer, if it is one.
    pub fn observer(&self) -> Option<&Implementor<ObserverHook>> {
        self.observer.as_ref()
    }

    /// The scheduled work, if it has any.
    pub fn scheduled(&self) -> Option<&Implementor<ScheduledHook>> {
        self.scheduled.as_ref()
    }

    /// Asks the question of a record, of whichever hook. Nothing is applied: what the plugin would have had done is in the
    /// record. Absent if the plugin does not implement the hook.
    pub async fn answer(&self, scope: Scope, input: HookInput, answers: Answers) -> Option<DecisionRecord> {
        async fn asked<H: Hook>(
            implementor: Option<&Implementor<H>>,
            scope: Scope,
            request: Arc<H::Request>,
            answers: Answers,
        ) -> Option<DecisionRecord> {
            let ask = Ask::new(scope, request).beside(answers);
            Some(implementor?.ask(ask).await.1)
        }
        match input {
            HookInput::EnrollmentGate(request) => asked(self.gate(), scope, request, answers).await,
            HookInput::Directory(request) => asked(self.directory(), scope, request, answers).await,
            HookInput::EscrowPolicy(request) => asked(self.escrow_policy(), scope, request, answers).await,
            HookInput::ProfileTemplate(request) => asked(self.template(), scope, request, answers).await,
            HookInput::CommandPolicy(request) => asked(self.command_policy(), scope, request, answers).await,
            HookInput::DeclarationPlanner(request) => asked(self.planner(), scope, request, answers).await,
            HookInput::Observer(event) => asked(self.observer(), scope, event, answers).await,
            HookInput::Scheduled(run) => asked(self.scheduled(), scope, run, answers).await,
        }
    }

    /// Adds what it implements to a set.
    pub(crate) fn add_to(&self, mut set: HookSetBuilder) -> HookSetBuilder {
        if let Some(gate) = &self.gate {
            set = set.add_gate(gate.clone());
        }
        if let Some(directory) = &self.directory {
            set = set.add_directory(directory.clone());
        }
        if let Some(escrow) = &self.escrow {
            set = set.add_escrow_policy(escrow.clone());
        }
        if let Some(template) = &self.template {
            set = set.add_template(template.clone());
        }
        if let Some(command) = &self.command {
            set = set.add_command_policy(command.clone());
        }
        if let Some(planner) = &self.planner {
            set = set.add_planner(planner.clone());
        }
        if let Some(observer) = &self.observer {
            set = set.add_observer(observer.clone(), self.shared.manifest.events.clone());
        }
        if let Some(scheduled) = &self.scheduled {
            set = set.add_scheduled(scheduled.clone(), self.shared.manifest.schedules());
        }
        set
    }
}
