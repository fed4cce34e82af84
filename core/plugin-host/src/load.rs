//! How a plugin is loaded: checked, compiled, linked to what it was granted, and tried once.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use russet_hooks::{Blame, FaultKind, HookKind, PluginFault};
use serde_json::Value;
use wasmtime::component::Linker;

use crate::capabilities::Connections;
use crate::component::ComponentFile;
use crate::engine::Compiled;
use crate::exports::Exports;
use crate::inspect::{InspectError, Inspection, check_size, inspect_file};
use crate::ports::{HttpPort, LdapPort, Ports, Space};
use crate::prepared::Prepared;
use crate::settings::{SettingsError, check_settings};
use crate::state::{CallState, PluginContext};
use crate::{GrantError, Grants, Limits, LoadedPlugin, PluginEngine, capabilities};

/// What a plugin is loaded from.
#[derive(Clone)]
pub struct PluginSource {
    /// The name of the tenant: what the plugin keeps is kept for it alone.
    pub tenant: Arc<str>,
    /// The component file.
    pub component: ComponentFile,
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
            .field("component", &self.component)
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

impl LoadError {
    /// Whether it may be gone the next time although nobody changed anything: the server was busy, or slow.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // Processor time is counted in ticks of a clock, which go on while another process has the processor.
            Self::Probe(fault) => matches!(fault.kind, FaultKind::Busy | FaultKind::Deadline | FaultKind::CpuLimit),
            _ => false,
        }
    }
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl LoadedPlugin {
    /// Checks and compiles on threads that may block, links, and starts the plugin once without calling it.
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
        check_size(source.component.bytes())?;
        let (checked, compiled) = check_and_compile(engine, connections, &source).await?;
        let Checked {
            inspection,
            settings,
            grants,
            limits,
            ldap,
            http,
            linker,
        } = checked;
        let Inspection { manifest, contract, .. } = inspection;
        let revision = revision_digest(source.component.digest(), &settings, &grants);
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
        let bound = linker
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
}

/// Both look at the same bytes, and neither needs the other. What the check says goes first; what is compiled of a component
/// that it refuses is left to nobody.
async fn check_and_compile(
    engine: &PluginEngine,
    connections: &Connections,
    source: &PluginSource,
) -> Result<(Checked, Arc<Compiled>), LoadError> {
    let mut checking = pin!(check(engine, connections, source));
    let mut compiling = pin!(engine.compile(&source.component));
    let (checked, compiled) = tokio::select! {
        checked = &mut checking => (checked?, compiling.await),
        compiled = &mut compiling => (checking.await?, compiled),
    };
    Ok((checked, compiled.map_err(LoadError::Compile)?))
}

/// What a component is, and what it is let have.
struct Checked {
    inspection: Inspection,
    settings: String,
    grants: Grants,
    limits: Limits,
    ldap: BTreeMap<String, Arc<dyn LdapPort>>,
    http: BTreeMap<String, Arc<dyn HttpPort>>,
    linker: wasmtime::Result<Linker<CallState>>,
}

async fn check(engine: &PluginEngine, connections: &Connections, source: &PluginSource) -> Result<Checked, LoadError> {
    let (file, settings) = (source.component.clone(), source.settings.clone());
    let checked = tokio::task::spawn_blocking(move || check_file(&file, settings)).await;
    let (inspection, settings) = checked.map_err(|_| LoadError::Compile("the inspection panicked".to_owned()))??;
    let grants = source.grants.effective(&inspection.manifest)?;
    let (ldap, http) = granted_connections(&grants, connections)?;
    let limits = grants.limits.over(source.limits.clone());
    if limits.memory_bytes > engine.max_memory_bytes() {
        return Err(LoadError::MemoryLimit {
            asked: limits.memory_bytes,
            available: engine.max_memory_bytes(),
        });
    }
    let linker = capabilities::linker(engine.wasmtime(), &grants, !inspection.wasi.is_empty());
    Ok(Checked {
        inspection,
        settings,
        grants,
        limits,
        ldap,
        http,
        linker,
    })
}

/// What the component is, and the settings to use.
fn check_file(file: &ComponentFile, settings: Option<Value>) -> Result<(Inspection, String), LoadError> {
    let inspection = inspect_file(file)?;
    let settings = settings
        .or_else(|| inspection.manifest.defaults.clone())
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    check_settings(&inspection.manifest, &settings)?;
    Ok((inspection, settings.to_string()))
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
    // Nothing where there are none: a revision without limits of its own keeps the digest that it was stored with.
    let limits = [
        ("memory-bytes", grants.limits.memory_bytes.map(|bytes| bytes as u64)),
        ("cpu-ms", grants.limits.cpu_ms),
    ];
    for (kind, limit) in limits {
        if let Some(limit) = limit {
            context.update(kind.as_bytes());
            context.update(&limit.to_be_bytes());
        }
    }
    hex::encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionGrants, LimitGrants};

    #[test]
    fn limits_of_its_own_make_another_revision() {
        let with = |memory_bytes, cpu_ms| {
            let grants = Grants {
                capabilities: ["log.write".to_owned()].into(),
                connections: ConnectionGrants {
                    ldap: ["corp".to_owned()].into(),
                    ..ConnectionGrants::default()
                },
                limits: LimitGrants { memory_bytes, cpu_ms },
            };
            revision_digest("00", "{}", &grants)
        };
        // As it was before limits were a part of it: what is stored is found again.
        assert_eq!(
            with(None, None),
            "3300c34af4cc9403b2070cffafb3c373ee1156c7234d52f464be199e3d13dbba"
        );
        let all = [
            with(None, None),
            with(Some(64), None),
            with(Some(65), None),
            with(None, Some(64)),
            with(Some(64), Some(64)),
        ];
        assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), all.len());
    }
}
