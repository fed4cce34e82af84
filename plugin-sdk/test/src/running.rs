//! A plugin that is loaded: its hooks can be called.

use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{
    Answers, Ask, CommandHook, CommandRequest, DecisionRecord, DirectoryHook, DirectoryRequest, Effect,
    EnrollmentRequest, EscrowHook, EscrowRequest, Event, GateHook, Hook, Implementor, ObserverHook, PlanRequest,
    PlannerHook, PluginFault, ScheduledHook, ScheduledRun, Scope, TemplateHook, TemplateRequest, Usage,
};
use russet_plugin_host::LoadedPlugin;
use russet_plugin_host::ports::{CallError, Ports, Space};
use serde_json::Value;
use tracing::instrument::WithSubscriber;

use crate::answer::{self, Shown};
use crate::log::Lines;
use crate::{Error, LogLine, Question, Script};

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Called<V> {
    /// The verdict, or why there is none.
    pub verdict: Result<V, PluginFault>,
    /// The verdict as JSON; null if there is none.
    pub shown: Value,
    /// The record that a server would store.
    pub record: DecisionRecord,
    /// What the plugin wrote to the log.
    pub log: Vec<LogLine>,
}

impl<V> Called<V> {
    /// What is to be done because of the call, in order; nothing if it failed.
    pub fn effects(&self) -> &[Effect] {
        &self.record.effects
    }

    /// What the call used.
    pub fn usage(&self) -> Usage {
        self.record.usage
    }

    /// How long the call took.
    pub fn duration(&self) -> Duration {
        self.record.duration
    }

    /// The verdict's name, such as `deny`, or `fault`.
    pub fn name(&self) -> &str {
        &self.record.verdict
    }

    /// The short reason of the verdict, if it has one.
    pub fn reason(&self) -> Option<&str> {
        answer::reason(&self.shown)
    }
}

/// A plugin that is loaded. What it keeps in its store, it finds there in the next call.
#[derive(Clone, Debug)]
pub struct Running {
    loaded: LoadedPlugin,
    ports: Ports,
    space: Space,
    script: Script,
    depth: u8,
}

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $hook:ty, $implementor:ident;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        ///
        /// If the plugin does not implement the hook. What goes wrong inside the call is in [`Called::verdict`].
        pub async fn $name(&self, request: $request) -> Result<Called<<$hook as Hook>::Verdict>, Error> {
            self.call(self.tenant(), self.loaded.$implementor(), request, Answers::Live).await
        })*
    };
}

impl Running {
    pub(crate) fn new(loaded: LoadedPlugin, ports: Ports, space: Space, script: Script) -> Self {
        Self {
            loaded,
            ports,
            space,
            script,
            depth: 0,
        }
    }

    /// The plugin, as the host has it.
    pub fn loaded(&self) -> &LoadedPlugin {
        &self.loaded
    }

    /// How many plugins caused one another before the next calls; 0 without this.
    #[must_use]
    pub fn at_depth(mut self, depth: u8) -> Self {
        self.depth = depth;
        self
    }

    /// A value in the plugin's store, as a call left it.
    ///
    /// # Errors
    ///
    /// Never for the store in memory that tests have.
    pub async fn kv(&self, key: &str) -> Result<Option<Vec<u8>>, CallError> {
        let entry = self.ports.kv.get(&self.space, key).await?;
        Ok(entry.map(|entry| entry.value))
    }

    /// A secret of the plugin, as a call left it.
    ///
    /// # Errors
    ///
    /// Never for the store in memory that tests have.
    pub async fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, CallError> {
        let secret = self.ports.secrets.get(&self.space, name).await?;
        Ok(secret.map(|secret| secret.to_vec()))
    }

    hooks! {
        /// Asks the gate.
        gate(EnrollmentRequest) -> GateHook, gate;
        /// Asks the directory.
        directory(DirectoryRequest) -> DirectoryHook, directory;
        /// Renders a template.
        template(TemplateRequest) -> TemplateHook, template;
        /// Asks the command policy.
        command(CommandRequest) -> CommandHook, command_policy;
        /// Asks the planner.
        plan(PlanRequest) -> PlannerHook, planner;
        /// Hands an event to the observer.
        observe(Event) -> ObserverHook, observer;
        /// Lets the scheduled work be done.
        run(ScheduledRun) -> ScheduledHook, scheduled;
    }

    /// Asks the escrow policy. A request without a secret gets the scripted one.
    ///
    /// # Errors
    ///
    /// If the plugin does not implement the hook. What goes wrong inside the call is in [`Called::verdict`].
    pub async fn escrow(&self, mut request: EscrowRequest) -> Result<Called<<EscrowHook as Hook>::Verdict>, Error> {
        if request.secret.is_none() {
            request.secret.clone_from(&self.script.escrow_secret);
        }
        self.call(self.tenant(), self.loaded.escrow_policy(), request, Answers::Live)
            .await
    }

    /// Asks whatever hook. The verdict is JSON.
    ///
    /// # Errors
    ///
    /// If the plugin does not implement the hook. What goes wrong inside the call is in [`Called::verdict`].
    pub async fn ask(&self, question: Question) -> Result<Called<Value>, Error> {
        self.ask_with(question, Answers::Live).await
    }

    /// Asks whatever hook, with these answers of the host.
    ///
    /// # Errors
    ///
    /// If the plugin does not implement the hook. What goes wrong inside the call is in [`Called::verdict`].
    pub async fn ask_with(&self, question: Question, answers: Answers) -> Result<Called<Value>, Error> {
        self.ask_for(self.tenant(), question, answers).await
    }

    /// The tenant that the plugin was loaded for.
    pub(crate) fn tenant(&self) -> &Arc<str> {
        &self.space.tenant
    }

    /// The same for another tenant: the plugin is told of that one. Its stores are those that were scripted, all the same.
    pub(crate) async fn ask_for(
        &self,
        tenant: &Arc<str>,
        question: Question,
        answers: Answers,
    ) -> Result<Called<Value>, Error> {
        fn untyped<V>(called: Called<V>) -> Called<Value> {
            Called {
                verdict: called.verdict.map(|_| called.shown.clone()),
                shown: called.shown,
                record: called.record,
                log: called.log,
            }
        }
        let loaded = &self.loaded;
        Ok(match question {
            Question::Gate(request) => untyped(self.call(tenant, loaded.gate(), request, answers).await?),
            Question::Directory(request) => untyped(self.call(tenant, loaded.directory(), request, answers).await?),
            Question::Escrow(mut request) => {
                if request.secret.is_none() {
                    request.secret.clone_from(&self.script.escrow_secret);
                }
                untyped(self.call(tenant, loaded.escrow_policy(), request, answers).await?)
            }
            Question::Template(request) => untyped(self.call(tenant, loaded.template(), request, answers).await?),
            Question::Command(request) => untyped(self.call(tenant, loaded.command_policy(), request, answers).await?),
            Question::Plan(request) => untyped(self.call(tenant, loaded.planner(), request, answers).await?),
            Question::Event(event) => untyped(self.call(tenant, loaded.observer(), event, answers).await?),
            Question::Run(run) => untyped(self.call(tenant, loaded.scheduled(), run, answers).await?),
        })
    }

    async fn call<H: Shown>(
        &self,
        tenant: &Arc<str>,
        implementor: Option<&Implementor<H>>,
        request: H::Request,
        answers: Answers,
    ) -> Result<Called<H::Verdict>, Error> {
        let implementor = implementor.ok_or_else(|| Error::NoHook {
            hook: H::KIND,
            implemented: self.loaded.hooks().iter().copied().collect(),
        })?;
        let wall = Duration::from_millis(self.loaded.limits().wall_ms);
        let scope = Scope::new(Arc::clone(tenant), "test", wall)
            .at_depth(self.depth)
            .recording(true);
        let ask = Ask::new(scope, Arc::new(request)).beside(answers);
        let lines = Lines::default();
        let (verdict, record) = implementor.ask(ask).with_subscriber(lines.clone()).await;
        Ok(Called {
            shown: verdict.as_ref().map(H::shown).unwrap_or_default(),
            verdict,
            record,
            log: lines.take(),
        })
    }
}
