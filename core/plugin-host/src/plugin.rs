//! A plugin that is ready to be called: compiled, linked to what it was granted, and tried once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use russet_hooks::{
    Answers, Ask, Blame, CommandHook, DecisionRecord, DirectoryHook, EscrowHook, FaultKind, GateHook, Hook, HookInput,
    HookKind, HookSetBuilder, Implementor, ObserverHook, PlannerHook, PluginFault, ScheduledHook, Scope, TemplateHook,
};
use semver::Version;
use serde_json::Value;

use crate::capabilities::Connections;
use crate::exports::Exports;
use crate::inspect::{InspectError, Inspection, inspect};
use crate::ports::{HttpPort, LdapPort, Ports, Space};
use crate::prepared::Prepared;
use crate::settings::{SettingsError, check_settings};
use crate::state::PluginContext;
use crate::{GrantError, Grants, Limits, Manifest, PluginEngine, capabilities, hooks};

/// What a plugin is loaded from.
#[derive(Clone)]
pub struct PluginSource {
    /// The name of the tenant: what the plugin keeps is kept for it alone.
    pub tenant: Arc<str>,
    /// The component file, with its manifest.
    pub component: Arc<[u8]>,
    /// The settings; those of the manifest if absent.
    pub settings: Option<Value>,
    /// What the operator granted.
    pub grants: Grants,
    /// What a call may use.
    pub limits: Limits,
}

impl fmt::Debug for PluginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Settings may hold secrets.
        f.debug_struct("PluginSource")
            .field("size", &self.component.len())
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// Why a plugin can not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The component is refused.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It asks for more than was granted.
    #[error(transparent)]
    Grants(#[from] GrantError),
    /// A granted connection is not configured.
    #[error("the server has no {kind} connection {name:?} for this tenant; there are: {}", known(.configured))]
    UnknownConnection {
        /// `LDAP` or `HTTP`.
        kind: &'static str,
        /// The name of the connection.
        name: String,
        /// The names of those that the tenant may use.
        configured: Vec<String>,
    },
    /// The settings are refused.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// More memory is allowed than the engine has in one piece.
    #[error("the limit of {asked} bytes of memory is above the server's {available}")]
    MemoryLimit {
        /// The limit of the plugin.
        asked: usize,
        /// What the engine has.
        available: usize,
    },
    /// The component can not be compiled.
    #[error("the component can not be compiled: {0}")]
    Compile(String),
    /// The component does not match the contract, or its start fails.
    #[error("the plugin failed its first start: {0}")]
    Probe(PluginFault),
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

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
    /// Checks, compiles on a thread that may block, links, and starts the plugin once without calling it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub async fn load(
        engine: &PluginEngine,
        connections: &Connections,
        ports: &Ports,
        source: PluginSource,
    ) -> Result<Self, LoadError> {
        let (settings, inspection) = {
            let bytes = Arc::clone(&source.component);
            let settings = source.settings.clone();
            tokio::task::spawn_blocking(move || check(&bytes, settings))
                .await
                .map_err(|_| LoadError::Compile("the inspection panicked".to_owned()))??
        };
        let Inspection {
            manifest,
            contract,
            digest,
            wasi,
            ..
        } = inspection;
        let grants = source.grants.effective(&manifest)?;
        let (ldap, http) = granted_connections(&grants, connections)?;
        let limits = grants.limits.over(source.limits);
        if limits.memory_bytes > engine.max_memory_bytes() {
            return Err(LoadError::MemoryLimit {
                asked: limits.memory_bytes,
                available: engine.max_memory_bytes(),
            });
        }

        let compiled = engine
            .compile(&digest, &source.component)
            .await
            .map_err(LoadError::Compile)?;
        let revision = revision_digest(&digest, &settings, &grants);
        let name: Arc<str> = manifest.name.as_str().into();
        let context = Arc::new(PluginContext {
            name: Arc::clone(&name),
            settings,
            limits,
            scheduled: manifest.hooks.contains(&HookKind::Scheduled),
            ports: ports.clone(),
            space: Space::new(source.tenant, Arc::clone(&name)),
            ldap,
            http,
        });
        let component = compiled
            .get()
            .ok_or_else(|| LoadError::Compile("not compiled".to_owned()))?;
        let bound = capabilities::linker(engine.wasmtime(), &grants, !wasi.is_empty())
            .and_then(|linker| linker.instantiate_pre(component))
            .and_then(|pre| Ok((Exports::find(&pre, &manifest.hooks)?, pre)));
        let (exports, pre) = bound.map_err(|error| LoadError::Probe(unusable(&name, &error)))?;
        let prepared = Prepared {
            engine: engine.clone(),
            context,
            manifest,
            revision,
            exports,
            pre,
            compiled,
        };
        prepared.probe().await.map_err(LoadError::Probe)?;
        Ok(Self::with_services(Arc::new(prepared), contract))
    }

    fn with_services(shared: Arc<Prepared>, contract: Version) -> Self {
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

/// The settings to use, and what the component is.
fn check(bytes: &[u8], settings: Option<Value>) -> Result<(String, Inspection), LoadError> {
    let inspection = inspect(bytes)?;
    let settings = settings
        .or_else(|| inspection.manifest.defaults.clone())
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    check_settings(&inspection.manifest, &settings)?;
    Ok((settings.to_string(), inspection))
}

/// The granted connections of both kinds, by name.
type Granted = (BTreeMap<String, Arc<dyn LdapPort>>, BTreeMap<String, Arc<dyn HttpPort>>);

fn granted_connections(grants: &Grants, connections: &Connections) -> Result<Granted, LoadError> {
    let mut ldap: BTreeMap<String, Arc<dyn LdapPort>> = BTreeMap::new();
    for name in &grants.connections.ldap {
        let client = connections.ldap.get(name).ok_or_else(|| LoadError::UnknownConnection {
            kind: "LDAP",
            name: name.clone(),
            configured: connections.ldap.names().map(str::to_owned).collect(),
        })?;
        ldap.insert(name.clone(), Arc::clone(client));
    }
    let mut http: BTreeMap<String, Arc<dyn HttpPort>> = BTreeMap::new();
    for name in &grants.connections.http {
        let client = connections.http.get(name).ok_or_else(|| LoadError::UnknownConnection {
            kind: "HTTP",
            name: name.clone(),
            configured: connections.http.names().map(str::to_owned).collect(),
        })?;
        http.insert(name.clone(), Arc::clone(client));
    }
    Ok((ldap, http))
}

fn unusable(name: &str, error: &wasmtime::Error) -> PluginFault {
    PluginFault::new(name, FaultKind::Unusable, format!("{error:#}")).blamed_on(Blame::Guest)
}

/// The digest of a revision: what runs, with which settings, with which grants.
pub fn revision_digest(component_digest: &str, settings: &str, grants: &Grants) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [component_digest, settings] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    for (kind, names) in [
        ("capability", &grants.capabilities),
        ("ldap", &grants.connections.ldap),
        ("http", &grants.connections.http),
    ] {
        for name in names {
            context.update(kind.as_bytes());
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
        }
    }
    hex::encode(context.finish())
}
