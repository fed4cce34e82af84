//! The plugins that are measured, as they were built, and the request that gates are asked about.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{
    Device, EnrollmentMethod, EnrollmentRequest, GateStage, GateVerdict, HookSource, Outcome, Ownership, Scope,
};
use russet_plugin_host::package::Trust;
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Connections, EngineConfig, Grants, LdapConnection, LdapConnections, Limits, LoadedPlugin, MemoryRevisions,
    PluginEngine, PluginHost, PluginManager, PluginSource, inspect,
};
use serde_json::{Value, json};

use crate::Failure;

/// The tenant that hooks are pinned for.
pub(crate) const TENANT: &str = "default";

/// A built component.
pub(crate) fn component(name: &str) -> Result<Arc<[u8]>, Failure> {
    Ok(std::fs::read(russet_plugin_build::artifact(name))?.into())
}

/// An engine as the server has it, with its compilation cache in a folder.
pub(crate) fn engine(cache: &Path) -> Result<PluginEngine, Failure> {
    Ok(PluginEngine::new(&EngineConfig {
        cache_dir: Some(cache.to_owned()),
        ..EngineConfig::default()
    })?)
}

/// A plugin manager as the server has it, with revisions in memory, and the host that answers for it.
pub(crate) fn manager(cache: &Path) -> Result<(Arc<PluginHost>, PluginManager), Failure> {
    let host = Arc::new(PluginHost::new());
    let manager = PluginManager::new(
        engine(cache)?,
        Arc::clone(&host),
        Arc::new(MemoryRevisions::new([TENANT])),
        connections()?,
        Ports::memory(),
        Limits::default(),
    )
    .with_trust(Trust::unsigned());
    Ok((host, manager))
}

/// Everything that a component asks for.
pub(crate) fn grants(component: &[u8]) -> Result<Grants, Failure> {
    let mut grants = Grants::default();
    grants.capabilities.extend(inspect(component)?.manifest.capabilities);
    if grants.capabilities.iter().any(|name| name.starts_with("ldap.")) {
        grants.connections.ldap.insert("corp".to_owned());
    }
    Ok(grants)
}

/// A directory that nobody asks: no measured call searches it.
pub(crate) fn connections() -> Result<Connections, Failure> {
    let mut ldap = LdapConnections::new();
    let corp = LdapConnection {
        url: "ldap://127.0.0.1:9".to_owned(),
        allow_plaintext: true,
        base_dn: "dc=example,dc=org".to_owned(),
        ..LdapConnection::default()
    };
    ldap.insert("corp", corp)?;
    Ok(Connections {
        ldap,
        ..Connections::default()
    })
}

/// A plugin with all that it asks for, and the server's default limits.
pub(crate) fn source(component: &Arc<[u8]>, settings: Option<Value>) -> Result<PluginSource, Failure> {
    Ok(PluginSource {
        tenant: TENANT.into(),
        component: Arc::clone(component).into(),
        settings,
        grants: grants(component)?,
        limits: Limits::default(),
    })
}

/// Loads a plugin.
pub(crate) async fn load(
    engine: &PluginEngine,
    component: &Arc<[u8]>,
    settings: Option<Value>,
) -> Result<LoadedPlugin, Failure> {
    let source = source(component, settings)?;
    Ok(LoadedPlugin::load(engine, &connections()?, &Ports::memory(), source).await?)
}

/// Settings of the bundled gate that use each of its rules but those about people.
pub(crate) fn gate_settings() -> Value {
    json!({
        "serial_numbers": {"allow": ["F4K*", "G6T*", "C02*"], "deny": ["C02LOST1"]},
        "ownership": ["organization"],
        "minimum_os": {"Mac": "26.1", "iPhone": "26.1"},
        "attributes": {"group": "field"}
    })
}

/// A device that these settings let in, with every fact that a device can have.
pub(crate) fn request() -> EnrollmentRequest {
    let text = |text: &str| Some(text.to_owned());
    EnrollmentRequest {
        stage: GateStage::Authenticate,
        method: EnrollmentMethod::Automated,
        ownership: Ownership::Organization,
        device: Device {
            udid: text("00008112-000A5C2E1E30A01E"),
            serial_number: text("C02XK1A2MD6T"),
            product_name: text("Mac15,3"),
            model: text("MR7K3"),
            model_name: text("MacBook Pro"),
            device_name: text("Ada's Mac"),
            os_version: text("27.1"),
            build_version: text("26B5032a"),
            imei: text("356766061234567"),
            meid: text("35676606123456"),
            language: text("en-GB"),
            enrollment_id: text("00008112-000A5C2E1E30A01E"),
            attributes: BTreeMap::from([
                ("group".to_owned(), "field".to_owned()),
                ("site".to_owned(), "north".to_owned()),
            ]),
        },
        person: None,
        can_request_software_update: true,
        replaces: None,
    }
}

/// Asks the gates as the engine does for one message of a device: pins a generation, gives it a deadline, asks, and gets
/// the verdict with its decision records.
pub(crate) async fn ask(source: &dyn HookSource, request: EnrollmentRequest) -> Outcome<GateVerdict> {
    ask_for(source, TENANT, request).await
}

/// The same for any tenant.
pub(crate) async fn ask_for(source: &dyn HookSource, tenant: &str, request: EnrollmentRequest) -> Outcome<GateVerdict> {
    let set = source.pin(tenant);
    let scope = Scope::new(tenant, "bench", Duration::from_secs(5));
    set.check_enrollment(&scope, request).await
}

/// The attributes of a verdict that allows; anything else fails the measurement.
pub(crate) fn allowed(outcome: Outcome<GateVerdict>) -> Result<BTreeMap<String, String>, Failure> {
    match outcome.verdict? {
        GateVerdict::Allow(attributes) => Ok(attributes),
        other => Err(format!("the gate did not allow: {}", other.as_str()).into()),
    }
}
