//! A built plugin, and all that it gets when it is loaded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{env, fs, io};

use jiff::Timestamp;
use russet_hooks::{Device, HookKind, Person};
use russet_plugin_build::{BuildError, BuildOptions};
use russet_plugin_host::ports::{CallError, HttpRequest, HttpResponse, LdapEntry, LdapSearch, Space};
use russet_plugin_host::{
    EngineConfig, EngineError, Grants, InspectError, Inspection, Limits, LoadError, LoadedPlugin, PluginEngine,
    PluginSource, inspect,
};
use serde_json::Value;

use crate::{InputError, Running, Script};

/// How many calls of a test run at once.
const CONCURRENT_CALLS: u32 = 16;

/// What a connection is called that a plugin needs and no test speaks of: it answers that it can not be reached.
const UNSCRIPTED: &str = "unscripted";

/// Why a plugin can not be tested.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The test does not run under cargo.
    #[error("there is no crate here; `cargo test` says which one it tests (CARGO_MANIFEST_DIR)")]
    NoCrate,
    /// The plugin does not build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The file can not be read.
    #[error("{} can not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no plugin.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The plugin can not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was scripted does not fit into the host.
    #[error("the script can not be used: {0}")]
    Script(CallError),
    /// The plugin does not implement the hook.
    #[error("the plugin does not implement the hook {hook}; it implements {}", names(.implemented))]
    NoHook {
        /// The hook that was asked.
        hook: HookKind,
        /// The hooks of the plugin.
        implemented: Vec<HookKind>,
    },
    /// An input does not fit the hook.
    #[error(transparent)]
    Input(#[from] InputError),
}

fn names(hooks: &[HookKind]) -> String {
    hooks.iter().map(|hook| hook.as_str()).collect::<Vec<_>>().join(", ")
}

/// A built plugin, with its settings, its grants and a scripted host.
#[derive(Clone, Debug)]
pub struct Plugin {
    component: Arc<[u8]>,
    inspection: Inspection,
    tenant: Arc<str>,
    settings: Option<Value>,
    grants: Option<Grants>,
    limits: Limits,
    script: Script,
    engine: Option<PluginEngine>,
}

impl Plugin {
    /// Builds the plugin crate that is tested. What has not changed is not built again.
    ///
    /// # Errors
    ///
    /// Outside `cargo test`, or if the crate does not build to a plugin.
    pub fn build_here() -> Result<Self, Error> {
        let here = env::var_os("CARGO_MANIFEST_DIR").ok_or(Error::NoCrate)?;
        Self::build(here)
    }

    /// Builds the plugin crate in a folder.
    ///
    /// # Errors
    ///
    /// If it does not build to a plugin.
    pub fn build(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let built = russet_plugin_build::build(BuildOptions::new([folder.into()]))?;
        let built = built.first().ok_or(Error::Build(BuildError::Nothing))?;
        Self::from_file(&built.path)
    }

    /// A component, as `russet plugin build` made it.
    ///
    /// # Errors
    ///
    /// If it can not be read, or is no plugin.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let component = fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(component)
    }

    /// A component.
    ///
    /// # Errors
    ///
    /// If it is no plugin.
    pub fn from_bytes(component: impl Into<Arc<[u8]>>) -> Result<Self, Error> {
        let component = component.into();
        Ok(Self {
            inspection: inspect(&component)?,
            component,
            tenant: "default".into(),
            settings: None,
            grants: None,
            limits: Limits::default(),
            script: Script::new(),
            engine: None,
        })
    }

    /// What the plugin is, asks for and imports.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The settings; the plugin's own defaults without this.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> Self {
        self.settings = Some(settings);
        self
    }

    /// What is granted. Without this, all that the plugin asks for, and the connections that were scripted.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// What a call may use.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The name of the tenant; `default` without this.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The engine that the plugin runs in; one that all plugins of the process share without this.
    #[must_use]
    pub fn engine(mut self, engine: PluginEngine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// All that the host answers, in place of what was scripted before.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// What the clock shows; it stands still.
    #[must_use]
    pub fn clock(mut self, now: Timestamp) -> Self {
        self.script = self.script.clock(now);
        self
    }

    /// Random numbers that are the same for the same seed.
    #[must_use]
    pub fn random(mut self, seed: u64) -> Self {
        self.script = self.script.random(seed);
        self
    }

    /// A value in the plugin's store.
    #[must_use]
    pub fn kv(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.script = self.script.kv(key, value);
        self
    }

    /// A secret of the plugin.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.script = self.script.secret(name, value);
        self
    }

    /// The secret that escrow policies are asked about, where a request has none of its own.
    #[must_use]
    pub fn escrow_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.script = self.script.escrow_secret(secret);
        self
    }

    /// An enrolled device, with the person behind it. It needs an enrollment identifier.
    #[must_use]
    pub fn device(mut self, device: Device, person: Option<Person>) -> Self {
        self.script = self.script.device(device, person);
        self
    }

    /// What the server behind an HTTP connection answers.
    #[must_use]
    pub fn http(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.script = self.script.http(connection, answer);
        self
    }

    /// What searches over an LDAP connection find.
    #[must_use]
    pub fn ldap_search(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&LdapSearch) -> Result<Vec<LdapEntry>, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.script = self.script.ldap_search(connection, answer);
        self
    }

    /// Whether a distinguished name and a password are right, over an LDAP connection.
    #[must_use]
    pub fn ldap_bind(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&str, &str) -> Result<bool, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.script = self.script.ldap_bind(connection, answer);
        self
    }

    /// Loads the plugin as a server does: checks settings and grants, compiles, links, and starts it once.
    ///
    /// # Errors
    ///
    /// If a server would not run it either; the text says what to change.
    pub async fn start(&self) -> Result<Running, Error> {
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => shared_engine()?,
        };
        let script = self.whole_script();
        let grants = self.grants.clone().unwrap_or_else(|| {
            let mut grants = Grants::all_asked(&self.inspection.manifest);
            grants.connections.http.extend(script.http_names().cloned());
            grants.connections.ldap.extend(script.ldap_names().cloned());
            grants
        });
        let space = Space::new(Arc::clone(&self.tenant), self.inspection.manifest.name.as_str());
        let ports = script.ports(&space).await.map_err(Error::Script)?;
        let source = PluginSource {
            tenant: Arc::clone(&self.tenant),
            component: Arc::clone(&self.component).into(),
            settings: self.settings.clone(),
            grants,
            limits: self.limits.clone(),
        };
        let loaded = LoadedPlugin::load(&engine, &script.connections(), &ports, source).await?;
        Ok(Running::new(loaded, ports, space, script))
    }

    /// The script, with a connection of each kind that the plugin can not be loaded without.
    fn whole_script(&self) -> Script {
        let asks = |interface: &str| {
            let mut asked = self.inspection.manifest.capabilities.iter();
            asked.any(|capability| capability.starts_with(interface))
        };
        let mut script = self.script.clone();
        let not_here = || CallError::Unavailable("the test says nothing of this connection".to_owned());
        if asks("http.") && script.http_names().next().is_none() {
            script = script.http(UNSCRIPTED, move |_| Err(not_here()));
        }
        if asks("ldap.") && script.ldap_names().next().is_none() {
            script = script.ldap_search(UNSCRIPTED, move |_| Err(not_here()));
        }
        script
    }
}

/// One engine for all plugins of the process: its pool is reserved once.
fn shared_engine() -> Result<PluginEngine, EngineError> {
    static ENGINE: OnceLock<PluginEngine> = OnceLock::new();
    if let Some(engine) = ENGINE.get() {
        return Ok(engine.clone());
    }
    let engine = PluginEngine::new(&EngineConfig {
        concurrent_calls: CONCURRENT_CALLS,
        ..EngineConfig::default()
    })?;
    Ok(ENGINE.get_or_init(|| engine).clone())
}
