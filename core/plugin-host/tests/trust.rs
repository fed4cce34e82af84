//! What a tenant's list of publishers means for installing, with everything in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{RENDERED, SilentDirectory, artifact, engine, hostile_grants, template_component, with_manifest};
use jiff::Timestamp;
use russet_plugin_host::package::{self, MemoryTrust, PackageError, Past, Publisher, SigningKey, Trust, Unsigned};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Grants, InstallError, InstallReport, InstallRequest, LimitGrants, Limits, LoadError, MemoryRevisions, PluginHost,
    PluginManager,
};
use serde_json::{Value, json};

const TENANT: &str = "default";

/// A server that trusts one publisher.
struct Server {
    manager: PluginManager,
    trust: Arc<MemoryTrust>,
    key: SigningKey,
    _directory: SilentDirectory,
}

impl Server {
    fn new() -> Self {
        let directory = SilentDirectory::start();
        let (trust, key) = (Arc::new(MemoryTrust::default()), SigningKey::generate().unwrap());
        trust.add(Publisher {
            name: "acme".to_owned(),
            public_key: *key.public(),
            plugins: ["hostile".to_owned(), "handmade".to_owned()].into(),
        });
        let manager = PluginManager::new(
            engine(),
            Arc::new(PluginHost::new()),
            Arc::new(MemoryRevisions::new([TENANT])),
            directory.connections(),
            Ports::memory(),
            Limits::default(),
        );
        Self {
            manager: manager.with_trust(Trust::new(Arc::clone(&trust) as _, Unsigned::Refuse)),
            trust,
            key,
            _directory: directory,
        }
    }

    fn sign(&self, component: &[u8]) -> Vec<u8> {
        package::sign(component, &self.key, Timestamp::now()).unwrap()
    }

    async fn install(&self, request: InstallRequest) -> Result<InstallReport, InstallError> {
        self.manager.install(TENANT, request).await
    }
}

fn hostile(component: Vec<u8>) -> InstallRequest {
    InstallRequest {
        component: Some(component),
        settings: Some(json!({"mode": "label", "label": "one"})),
        grants: Some(hostile_grants()),
        ..InstallRequest::default()
    }
}

/// A template engine of some version.
fn handmade(version: &str) -> Vec<u8> {
    let component = template_component("", "unreachable", RENDERED);
    let name = b"russet-manifest";
    let at = component
        .windows(name.len())
        .rposition(|window| window == name)
        .unwrap();
    // Before the name are its length, the size of the section in one byte, and the kind of the section.
    let plain = &component[..at - 3];
    with_manifest(
        plain,
        &json!({"name": "handmade", "version": version, "hooks": ["profile-template"]}),
    )
}

fn refusal(error: InstallError) -> PackageError {
    match error {
        InstallError::Package(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_signed_runs_and_says_by_whom() {
    let server = Server::new();
    let refused = server.install(hostile(artifact("hostile"))).await.unwrap_err();
    assert!(matches!(refusal(refused), PackageError::Unsigned));
    assert!(server.manager.list(TENANT).await.unwrap().is_empty());

    let report = server
        .install(hostile(server.sign(&artifact("hostile"))))
        .await
        .unwrap();
    let by = |signature: &Option<Value>| signature.as_ref().unwrap()["publisher"].clone();
    assert_eq!(by(&report.signature), "acme");
    assert!(
        report.warnings.iter().all(|warning| !warning.contains("signed")),
        "{:?}",
        report.warnings
    );

    // Other settings for what is there need no signature, and keep the one that is noted.
    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        settings: Some(json!({"mode": "label", "label": "two"})),
        ..InstallRequest::default()
    };
    server.install(request).await.unwrap();
    let shown = server.manager.get(TENANT, "hostile").await.unwrap();
    assert_eq!(by(&shown.signature), "acme");
}

#[tokio::test]
async fn a_damaged_file_is_refused_before_anything_else_is_read_of_it() {
    let server = Server::new();
    let mut file = server.sign(&artifact("hostile"));
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let refused = refusal(server.install(hostile(file)).await.unwrap_err());
    assert!(matches!(refused, PackageError::Tampered(_)), "{refused}");

    // Nothing but rubbish, signed by a stranger: the stranger is what is told.
    let stranger = SigningKey::generate().unwrap();
    let rubbish = package::sign(b"\0asm\x0d\0\x01\0\x07\x01\xff", &stranger, Timestamp::now()).unwrap();
    let refused = refusal(server.install(hostile(rubbish)).await.unwrap_err());
    assert!(matches!(refused, PackageError::UnknownPublisher(_)), "{refused}");
}

#[tokio::test]
async fn a_lower_version_than_was_in_use_takes_insisting() {
    let server = Server::new();
    let request = |version: &str, allow_downgrade| InstallRequest {
        component: Some(server.sign(&handmade(version))),
        allow_downgrade,
        ..InstallRequest::default()
    };
    server.trust.remember(
        TENANT,
        "handmade",
        Past {
            version: "2.0.0".parse().unwrap(),
            content: "of another file".to_owned(),
        },
    );
    let refused = refusal(server.install(request("1.9.0", false)).await.unwrap_err());
    assert!(matches!(refused, PackageError::Downgrade { .. }), "{refused}");
    let refused = refusal(server.install(request("2.0.0", false)).await.unwrap_err());
    assert!(matches!(refused, PackageError::SameVersion { .. }), "{refused}");
    server.install(request("2.0.1", false)).await.unwrap();
    server.install(request("1.9.0", true)).await.unwrap();
    assert_eq!(server.manager.get(TENANT, "handmade").await.unwrap().version, "1.9.0");
}

#[tokio::test]
async fn a_plugin_can_be_granted_limits_of_its_own() {
    let server = Server::new();
    let component = server.sign(&artifact("hostile"));
    let with = |memory_bytes| InstallRequest {
        grants: Some(Grants {
            limits: LimitGrants {
                memory_bytes: Some(memory_bytes),
                cpu_ms: Some(100),
            },
            ..hostile_grants()
        }),
        ..hostile(component.clone())
    };
    server.install(with(64 << 20)).await.unwrap();
    let shown = server.manager.get(TENANT, "hostile").await.unwrap();
    assert_eq!(
        json!(shown.grants)["limits"],
        json!({"memory_bytes": 64 << 20, "cpu_ms": 100})
    );
    // Not more than there is.
    let refused = server.install(with(1 << 40)).await.unwrap_err();
    assert!(
        matches!(refused, InstallError::Refused(LoadError::MemoryLimit { .. })),
        "{refused}"
    );
}
