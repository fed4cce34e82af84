//! What the tests share: components, an engine, requests.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod questions;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{
    Device, EnrollmentMethod, EnrollmentRequest, GateStage, GateVerdict, HookSet, Ownership, PluginFault, Scope,
};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    ConnectionGrants, Connections, EngineConfig, Grants, LdapConnection, Limits, LoadedPlugin, PluginEngine,
    PluginSource,
};
use serde_json::{Value, json};

pub fn artifact(name: &str) -> Vec<u8> {
    std::fs::read(russet_plugin_build::artifact(name)).unwrap()
}

/// An engine whose cache is shared by all tests, so that a component is compiled once.
pub fn engine() -> PluginEngine {
    engine_for(16)
}

/// The same, with places for so many calls at once.
pub fn engine_for(concurrent_calls: u32) -> PluginEngine {
    PluginEngine::new(&EngineConfig {
        cache_dir: Some(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache")),
        concurrent_calls,
        ..EngineConfig::default()
    })
    .unwrap()
}

pub fn grants(capabilities: &[&str], ldap: &[&str]) -> Grants {
    Grants {
        capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        connections: ConnectionGrants {
            ldap: ldap.iter().map(|name| (*name).to_owned()).collect(),
            ..ConnectionGrants::default()
        },
        ..Grants::default()
    }
}

/// What the hostile plugin asks for.
pub fn hostile_grants() -> Grants {
    grants(&["log.write", "settings.get", "ldap.search"], &["corp"])
}

/// A directory that accepts connections and never says a word.
#[derive(Debug)]
pub struct SilentDirectory(TcpListener);

impl SilentDirectory {
    pub fn start() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    pub fn settings(&self) -> LdapConnection {
        LdapConnection {
            url: format!("ldap://{}", self.0.local_addr().unwrap()),
            allow_plaintext: true,
            base_dn: "dc=example,dc=org".to_owned(),
            ..LdapConnection::default()
        }
    }

    pub fn connections(&self) -> Connections {
        let mut connections = Connections::default();
        connections.ldap.insert("corp", self.settings()).unwrap();
        connections
    }
}

/// The hostile plugin in one of its modes.
pub async fn hostile(engine: &PluginEngine, settings: Value, limits: Limits) -> (LoadedPlugin, SilentDirectory) {
    let directory = SilentDirectory::start();
    let plugin = LoadedPlugin::load(
        engine,
        &directory.connections(),
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: artifact("hostile").into(),
            settings: Some(settings),
            grants: hostile_grants(),
            limits,
        },
    )
    .await
    .unwrap();
    (plugin, directory)
}

pub fn mode(name: &str) -> Value {
    json!({ "mode": name })
}

pub fn request(serial: &str) -> EnrollmentRequest {
    EnrollmentRequest {
        stage: GateStage::Profile,
        method: EnrollmentMethod::Automated,
        ownership: Ownership::Organization,
        device: Device {
            serial_number: Some(serial.to_owned()),
            udid: Some("00008112-000A".to_owned()),
            os_version: Some("27.1".to_owned()),
            ..Device::default()
        },
        person: None,
        can_request_software_update: true,
        replaces: None,
    }
}

pub fn scope() -> Scope {
    Scope::new("default", "test-request", Duration::from_secs(30))
}

/// Asks one plugin's gate.
pub async fn check(plugin: &LoadedPlugin) -> Result<GateVerdict, PluginFault> {
    let set = HookSet::builder().add_gate(plugin.gate().unwrap().clone()).build();
    verdict(&set).await
}

/// Asks the gates of a set.
pub async fn verdict(set: &Arc<HookSet>) -> Result<GateVerdict, PluginFault> {
    set.check_enrollment(&scope(), request("C02XY"))
        .await
        .verdict
        .map_err(|undecided| undecided.fault)
}

pub fn label(label: &str) -> GateVerdict {
    GateVerdict::Allow(BTreeMap::from([("label".to_owned(), label.to_owned())]))
}

/// A component with a manifest appended.
pub fn with_manifest(component: &[u8], manifest: &Value) -> Vec<u8> {
    let mut section = Vec::new();
    leb(&mut section, "russet-manifest".len());
    section.extend_from_slice(b"russet-manifest");
    section.extend_from_slice(manifest.to_string().as_bytes());
    let mut bytes = component.to_vec();
    bytes.push(0);
    leb(&mut bytes, section.len());
    bytes.extend(section);
    bytes
}

fn leb(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            break;
        }
    }
}

/// A template engine in text form: `start` is the body of its start function, `render` that of its only function,
/// `result` the type of what it answers.
pub fn template_component(start: &str, render: &str, result: &str) -> Vec<u8> {
    template_component_for("0.1.0", start, render, result)
}

/// The same, built for a version of the contract.
pub fn template_component_for(version: &str, start: &str, render: &str, result: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "russet:plugin/context@{version}" (instance $context
                (export "template-request" (type (sub resource)))))
            (alias export $context "template-request" (type $request))
            (core module $module
                (memory (export "memory") 1)
                (func $start {start})
                (start $start)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "render") (param i32) (result i32) {render}))
            (core instance $core (instantiate $module))
            (func $render (param "request" (borrow $request)) (result {result})
                (canon lift (core func $core "render")
                    (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (instance $hook (export "render" (func $render)))
            (export "russet:plugin/profile-template@{version}" (instance $hook)))"#
    );
    with_manifest(
        &wat::parse_str(&text).unwrap(),
        &json!({"name": "handmade", "version": "0.1.0", "hooks": ["profile-template"]}),
    )
}

/// What a template engine answers.
pub const RENDERED: &str = "(result (list u8) (error string))";
