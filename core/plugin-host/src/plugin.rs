//! A plugin that is ready to be called: compiled, linked to what it was granted, and tried once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{
    DirectoryHook, EscrowHook, FaultKind, GateHook, HookKind, HookSetBuilder, Implementor, PluginFault, Scope,
    TemplateHook,
};
use serde_json::Value;
use tokio::time::timeout_at;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::exports::russet::plugin as wit;
use crate::engine::Compiled;
use crate::fault::{Phase, classify};
use crate::inspect::{InspectError, inspect};
use crate::limits::Violation;
use crate::settings::{SettingsError, check_settings};
use crate::state::{CallState, PluginContext, Subject};
use crate::{GrantError, Grants, LdapConnections, Limits, Manifest, PluginEngine, capabilities, hooks};

/// What a plugin is loaded from.
#[derive(Clone)]
pub struct PluginSource {
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
    #[error("the server has no LDAP connection {name:?} for this tenant; there are: {}", known(.configured))]
    UnknownConnection {
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
    gate: Option<Implementor<GateHook>>,
    directory: Option<Implementor<DirectoryHook>>,
    escrow: Option<Implementor<EscrowHook>>,
    template: Option<Implementor<TemplateHook>>,
}

/// The part that calls share.
pub(crate) struct Prepared {
    engine: PluginEngine,
    context: Arc<PluginContext>,
    cpu_ticks: u64,
    manifest: Manifest,
    revision: String,
    pre: InstancePre<CallState>,
    /// Lets other tenants find the compiled component as long as this one uses it.
    _compiled: Arc<Compiled>,
    pub(crate) gate: Option<wit::enrollment_gate::GuestIndices>,
    pub(crate) directory: Option<wit::directory::GuestIndices>,
    pub(crate) escrow: Option<wit::escrow_policy::GuestIndices>,
    pub(crate) template: Option<wit::profile_template::GuestIndices>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("name", &self.context.name)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl LoadedPlugin {
    /// Checks, compiles on a thread that may block, links, and starts the plugin once without calling it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub async fn load(
        engine: &PluginEngine,
        connections: &LdapConnections,
        source: PluginSource,
    ) -> Result<Self, LoadError> {
        let (settings, manifest, digest) = {
            let bytes = Arc::clone(&source.component);
            let settings = source.settings.clone();
            tokio::task::spawn_blocking(move || check(&bytes, settings))
                .await
                .map_err(|_| LoadError::Compile("the inspection panicked".to_owned()))??
        };
        let grants = source.grants.effective(&manifest)?;
        let ldap = granted_connections(&grants, connections)?;
        if source.limits.memory_bytes > engine.max_memory_bytes() {
            return Err(LoadError::MemoryLimit {
                asked: source.limits.memory_bytes,
                available: engine.max_memory_bytes(),
            });
        }

        let compiled = engine
            .compile(&digest, &source.component)
            .await
            .map_err(LoadError::Compile)?;
        let revision = revision_digest(&digest, &settings, &grants);
        let context = Arc::new(PluginContext {
            name: manifest.name.as_str().into(),
            settings,
            limits: source.limits,
            ldap,
        });
        let component = compiled
            .get()
            .ok_or_else(|| LoadError::Compile("not compiled".to_owned()))?;
        let pre = capabilities::linker(engine.wasmtime(), &grants)
            .and_then(|linker| linker.instantiate_pre(component))
            .map_err(|error| LoadError::Probe(unusable(&context.name, &error)))?;
        let prepared = Prepared::bind(engine.clone(), compiled, context, manifest, revision, pre)?;
        prepared.probe().await.map_err(LoadError::Probe)?;
        Ok(Self::with_services(Arc::new(prepared)))
    }

    fn with_services(shared: Arc<Prepared>) -> Self {
        let limits = shared.context.limits.call_limits();
        let name = shared.context.name.as_ref();
        let revision = shared.revision.as_str();
        Self {
            gate: shared
                .gate
                .as_ref()
                .map(|_| hooks::implementor(name, revision, limits, hooks::gate(&shared))),
            directory: shared
                .directory
                .as_ref()
                .map(|_| hooks::implementor(name, revision, limits, hooks::directory(&shared))),
            escrow: shared
                .escrow
                .as_ref()
                .map(|_| hooks::implementor(name, revision, limits, hooks::escrow(&shared))),
            template: shared
                .template
                .as_ref()
                .map(|_| hooks::implementor(name, revision, limits, hooks::template(&shared))),
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

    /// The digest of the revision: of component, settings and grants.
    pub fn revision(&self) -> &str {
        &self.shared.revision
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
        set
    }
}

impl Prepared {
    fn bind(
        engine: PluginEngine,
        compiled: Arc<Compiled>,
        context: Arc<PluginContext>,
        manifest: Manifest,
        revision: String,
        pre: InstancePre<CallState>,
    ) -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Probe(unusable(&context.name, &error));
        let has = |hook| manifest.hooks.contains(&hook);
        Ok(Self {
            gate: has(HookKind::EnrollmentGate)
                .then(|| wit::enrollment_gate::GuestIndices::new(&pre))
                .transpose()
                .map_err(failed)?,
            directory: has(HookKind::Directory)
                .then(|| wit::directory::GuestIndices::new(&pre))
                .transpose()
                .map_err(failed)?,
            escrow: has(HookKind::EscrowPolicy)
                .then(|| wit::escrow_policy::GuestIndices::new(&pre))
                .transpose()
                .map_err(failed)?,
            template: has(HookKind::ProfileTemplate)
                .then(|| wit::profile_template::GuestIndices::new(&pre))
                .transpose()
                .map_err(failed)?,
            cpu_ticks: context.limits.cpu_ticks(),
            engine,
            context,
            manifest,
            revision,
            pre,
            _compiled: compiled,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.context.limits
    }

    pub(crate) fn fault(&self, kind: FaultKind, detail: impl Into<String>) -> PluginFault {
        PluginFault::new(self.context.name.as_ref(), kind, detail)
    }

    /// Runs one call in a fresh instance, which is gone when this returns, traps, or is dropped.
    pub(crate) async fn run<R>(
        &self,
        scope: Scope,
        subject: Subject,
        call: impl AsyncFnOnce(&mut Store<CallState>, &Instance) -> wasmtime::Result<R>,
    ) -> Result<R, PluginFault> {
        let permit = timeout_at(scope.deadline, self.engine.permit()).await;
        let Ok(Some(_permit)) = permit else {
            return Err(self.fault(FaultKind::Busy, "no free instance before the deadline"));
        };
        // Declared after the permit, so dropped before it: the place in the pool is free when the permit is.
        let mut store = self.store(scope, subject);
        let instance = match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Err(classify(store.data(), Phase::Start, &error)),
        };
        let answer = call(&mut store, &instance).await;
        let state = store.data();
        if state.meter.log_lines_dropped > 0 {
            tracing::warn!(
                plugin.name = %state.plugin.name,
                tenant.name = %state.scope.tenant,
                request.id = %state.scope.request_id,
                dropped = state.meter.log_lines_dropped,
                "the plugin wrote more log lines than one call may; the rest was dropped"
            );
        }
        answer.map_err(|error| classify(state, Phase::Call, &error))
    }

    fn store(&self, scope: Scope, subject: Subject) -> Store<CallState> {
        let state = CallState::new(Arc::clone(&self.context), scope, subject);
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(self.context.limits.transfer_bytes);
        let (ticks, ms) = (self.cpu_ticks, self.context.limits.cpu_ms);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |mut store| {
            // One tick at a time, and the next one starts when the guest runs again: time in which the guest did not
            // run costs it nothing.
            let meter = &mut store.data_mut().meter;
            meter.ticks += 1;
            if meter.ticks > ticks {
                return Err(Violation::Cpu(ms).into());
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }

    /// Starts an instance and looks its exports up with their types: a record that changed shows only there.
    async fn probe(&self) -> Result<(), PluginFault> {
        let scope = Scope::new("", "probe", Duration::from_millis(self.context.limits.wall_ms));
        let deadline = scope.deadline;
        let tried = self.run(scope, Subject::Name, async |store, instance| {
            if let Some(gate) = &self.gate {
                gate.load(&mut *store, instance)?;
            }
            if let Some(directory) = &self.directory {
                directory.load(&mut *store, instance)?;
            }
            if let Some(escrow) = &self.escrow {
                escrow.load(&mut *store, instance)?;
            }
            if let Some(template) = &self.template {
                template.load(&mut *store, instance)?;
            }
            Ok(())
        });
        match timeout_at(deadline, tried).await {
            // Nothing of the hook ran, so an answer that can not be read means an export of another shape.
            Ok(Err(fault)) if fault.kind == FaultKind::BadAnswer => Err(PluginFault {
                kind: FaultKind::Unusable,
                blame: russet_hooks::Blame::Guest,
                ..fault
            }),
            Ok(answer) => answer,
            Err(_) => Err(self.fault(FaultKind::Deadline, "it did not start in time")),
        }
    }
}

/// The settings to use, the manifest, and the digest of the component.
fn check(bytes: &[u8], settings: Option<Value>) -> Result<(String, Manifest, String), LoadError> {
    let inspection = inspect(bytes)?;
    let settings = settings
        .or_else(|| inspection.manifest.defaults.clone())
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    check_settings(&inspection.manifest, &settings)?;
    Ok((settings.to_string(), inspection.manifest, inspection.digest))
}

fn granted_connections(
    grants: &Grants,
    connections: &LdapConnections,
) -> Result<BTreeMap<String, Arc<capabilities::LdapClient>>, LoadError> {
    let mut granted = BTreeMap::new();
    for name in &grants.connections.ldap {
        let client = connections.get(name).ok_or_else(|| LoadError::UnknownConnection {
            name: name.clone(),
            configured: connections.names().map(str::to_owned).collect(),
        })?;
        granted.insert(name.clone(), Arc::clone(client));
    }
    Ok(granted)
}

fn unusable(name: &str, error: &wasmtime::Error) -> PluginFault {
    PluginFault::new(name, FaultKind::Unusable, format!("{error:#}")).blamed_on(russet_hooks::Blame::Guest)
}

/// The digest of a revision: what runs, with which settings, with which grants.
pub fn revision_digest(component_digest: &str, settings: &str, grants: &Grants) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [component_digest, settings] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    for (kind, names) in [("capability", &grants.capabilities), ("ldap", &grants.connections.ldap)] {
        for name in names {
            context.update(kind.as_bytes());
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
        }
    }
    hex::encode(context.finish())
}
