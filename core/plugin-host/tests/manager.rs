//! Installing, granting, loading and removing plugins, with a store in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{RENDERED, SilentDirectory, artifact, engine, grants, hostile_grants, label, mode, template_component};
use russet_hooks::{FaultKind, GateVerdict, HookSource};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Activation, Actor, Connections, GrantRequest, Grants, InstallError, InstallRequest, InstalledState, LdapConnection,
    LimitGrants, Limits, LoadError, MemoryRevisions, NewRevision, PluginHost, PluginManager, PluginState,
    RevisionState, RevisionStore, SettingsError, Staging,
};
use serde_json::{Value, json};

const TENANT: &str = "default";

/// A server's plugins, and what a request of the tenant would see.
struct Server {
    manager: PluginManager,
    store: Arc<MemoryRevisions>,
    _directory: SilentDirectory,
}

impl Server {
    fn new() -> Self {
        Self::on(Arc::new(MemoryRevisions::new([TENANT, "other"])))
    }

    /// A node on a store that may be shared.
    fn on(store: Arc<MemoryRevisions>) -> Self {
        let directory = SilentDirectory::start();
        Self {
            manager: PluginManager::new(
                engine(),
                Arc::new(PluginHost::new()),
                Arc::clone(&store) as Arc<dyn RevisionStore>,
                directory.connections(),
                Ports::memory(),
                Limits::default(),
            )
            .with_trust(russet_plugin_host::package::Trust::unsigned()),
            store,
            _directory: directory,
        }
    }

    async fn install(&self, settings: Value) -> Result<russet_plugin_host::InstallReport, InstallError> {
        let request = InstallRequest {
            component: Some(artifact("hostile")),
            settings: Some(settings),
            grants: Some(hostile_grants()),
            ..InstallRequest::default()
        };
        self.manager.install(TENANT, request).await
    }

    async fn verdict(&self) -> Result<GateVerdict, russet_hooks::PluginFault> {
        common::verdict(&self.manager.host().pin(TENANT)).await
    }
}

fn labelled(label: &str) -> Value {
    json!({"mode": "label", "label": label})
}

#[tokio::test]
async fn an_installed_plugin_answers() {
    let server = Server::new();
    assert!(!server.manager.host().pin(TENANT).has_gate());
    let report = server.install(labelled("one")).await.unwrap();
    assert_eq!(report.name, "hostile");
    assert_eq!(report.state, InstalledState::Active);
    assert_eq!(report.generation, 1);
    assert!(report.created && report.missing.is_empty());
    assert_eq!(server.verdict().await.unwrap(), label("one"));
    assert!(!server.manager.host().pin("other").has_gate());

    let decision = server
        .manager
        .host()
        .pin(TENANT)
        .check_enrollment(&common::scope(), common::request("C02XY"))
        .await
        .decisions
        .remove(0);
    assert_eq!(Some(decision.revision), report.revision);
}

#[tokio::test]
async fn a_connection_is_for_its_tenants_only() {
    let directory = SilentDirectory::start();
    let mut connections = Connections::default();
    let settings = LdapConnection {
        tenants: Some([TENANT.to_owned()].into()),
        ..directory.settings()
    };
    connections.ldap.insert("corp", settings).unwrap();
    let store = Arc::new(MemoryRevisions::new([TENANT, "other"]));
    let manager = PluginManager::new(
        engine(),
        Arc::new(PluginHost::new()),
        store,
        connections,
        Ports::memory(),
        Limits::default(),
    )
    .with_trust(russet_plugin_host::package::Trust::unsigned());
    let request = InstallRequest {
        component: Some(artifact("hostile")),
        settings: Some(labelled("one")),
        grants: Some(hostile_grants()),
        ..InstallRequest::default()
    };
    manager.install(TENANT, request.clone()).await.unwrap();
    let refused = manager.install("other", request).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            InstallError::Refused(LoadError::UnknownConnection { name, configured, .. })
                if name == "corp" && configured.is_empty()
        ),
        "{refused}"
    );
    assert!(!manager.host().pin("other").has_gate());
}

#[tokio::test]
async fn settings_alone_make_a_new_revision() {
    let server = Server::new();
    let first = server.install(labelled("one")).await.unwrap();
    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        settings: Some(labelled("two")),
        ..InstallRequest::default()
    };
    let second = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(second.digest, first.digest);
    assert_ne!(second.revision, first.revision);
    assert!(!second.created);
    assert_eq!(server.verdict().await.unwrap(), label("two"));

    // And a component alone keeps them.
    let request = InstallRequest {
        component: Some(artifact("hostile")),
        ..InstallRequest::default()
    };
    let third = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(third.revision, second.revision);
    assert_eq!(server.verdict().await.unwrap(), label("two"));
}

#[tokio::test]
async fn a_plugin_waits_for_its_grants() {
    let server = Server::new();
    let request = InstallRequest {
        component: Some(artifact("hostile")),
        settings: Some(labelled("one")),
        grants: Some(grants(&["settings.get"], &[])),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(report.state, InstalledState::Pending);
    assert_eq!(report.revision, None);
    let flags: Vec<&str> = report.missing.iter().map(|missing| missing.flag.as_str()).collect();
    assert_eq!(
        flags,
        ["--grant ldap.search", "--grant log.write", "--connection ldap:NAME"]
    );
    assert!(!server.manager.host().pin(TENANT).has_gate());
    assert_eq!(
        server.manager.get(TENANT, "hostile").await.unwrap().state,
        PluginState::Pending
    );

    // The grants are all that is left to give.
    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        grants: Some(hostile_grants()),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(report.state, InstalledState::Active);
    assert_eq!(server.verdict().await.unwrap(), label("one"));
}

#[tokio::test]
async fn what_is_refused_leaves_the_running_generation_alone() {
    let server = Server::new();
    let before = server.install(labelled("one")).await.unwrap().generation;

    match server
        .install(json!({"mode": "no-such-mode", "extra": "hunter2"}))
        .await
    {
        Err(InstallError::Refused(LoadError::Settings(SettingsError::Invalid(problems)))) => {
            assert!(problems.iter().any(|problem| problem.path == "/mode"), "{problems:?}");
            assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
    let bad_start = InstallRequest {
        component: Some(template_component("unreachable", "unreachable", RENDERED)),
        ..InstallRequest::default()
    };
    assert!(matches!(
        server.manager.install(TENANT, bad_start).await,
        Err(InstallError::Refused(LoadError::Probe(_)))
    ));
    let other_name = InstallRequest {
        plugin: Some("gate".to_owned()),
        component: Some(artifact("hostile")),
        ..InstallRequest::default()
    };
    assert!(matches!(
        server.manager.install(TENANT, other_name).await,
        Err(InstallError::OtherPlugin { .. })
    ));
    let unknown = InstallRequest {
        plugin: Some("gate".to_owned()),
        ..InstallRequest::default()
    };
    assert!(matches!(
        server.manager.install(TENANT, unknown).await,
        Err(InstallError::NoComponent(_))
    ));
    assert!(matches!(
        server.manager.install(TENANT, InstallRequest::default()).await,
        Err(InstallError::NoName)
    ));
    assert!(
        server
            .manager
            .install("nobody", InstallRequest::default())
            .await
            .is_err()
    );

    // A revision that asks for more than it was granted.
    let fewer = InstallRequest {
        plugin: Some("hostile".to_owned()),
        settings: Some(labelled("two")),
        grants: Some(grants(&["settings.get"], &[])),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, fewer).await.unwrap();
    assert_eq!(report.state, InstalledState::Pending);

    assert_eq!(server.manager.host().generation(TENANT), Some(before));
    assert_eq!(server.verdict().await.unwrap(), label("one"));
    let status = server.manager.get(TENANT, "hostile").await.unwrap();
    assert_eq!(status.state, PluginState::Active);
    assert_eq!(status.pending.unwrap().missing.len(), 3);
}

#[tokio::test]
async fn a_disabled_plugin_is_gone_and_can_come_back() {
    let server = Server::new();
    server.install(labelled("one")).await.unwrap();
    let generation = server
        .manager
        .disable(TENANT, "hostile", Actor::default())
        .await
        .unwrap();
    assert_eq!(server.manager.host().generation(TENANT), Some(generation));
    assert!(!server.manager.host().pin(TENANT).has_gate());
    assert_eq!(
        server.manager.list(TENANT).await.unwrap()[0].state,
        PluginState::Disabled
    );
    assert!(
        server
            .manager
            .disable(TENANT, "hostile", Actor::default())
            .await
            .is_err()
    );

    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        ..InstallRequest::default()
    };
    server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(server.verdict().await.unwrap(), label("one"));
}

#[tokio::test]
async fn another_node_catches_up() {
    let here = Server::new();
    let there = Server::on(Arc::clone(&here.store));
    there.manager.load_all().await.unwrap();
    here.install(labelled("one")).await.unwrap();
    assert!(there.manager.sync(TENANT).await.unwrap());
    assert!(!there.manager.sync(TENANT).await.unwrap());
    assert_eq!(there.verdict().await.unwrap(), label("one"));
    assert_eq!(
        there.manager.host().generation(TENANT),
        here.manager.host().generation(TENANT)
    );
}

#[tokio::test]
async fn a_plugin_that_can_not_be_loaded_fails_closed() {
    let server = Server::new();
    server.install(labelled("one")).await.unwrap();
    // The next start finds a component that is damaged.
    let inspection = russet_plugin_host::inspect(&artifact("hostile")).unwrap();
    let id = server
        .store
        .insert(
            TENANT,
            NewRevision {
                plugin: "hostile".to_owned(),
                version: "9.9.9".to_owned(),
                digest: "00".repeat(32),
                component: Some(b"damaged".as_slice().into()),
                manifest: serde_json::to_value(&inspection.manifest).unwrap(),
                settings: mode("allow"),
                grants: serde_json::to_value(hostile_grants()).unwrap(),
                signature: None,
                staging: None,
                revision: None,
                steps: vec![RevisionState::Probed],
                actor: Actor::default(),
            },
        )
        .await
        .unwrap();
    let activation = Activation {
        revision: id,
        actor: Actor::default(),
        force: false,
        watch: None,
    };
    server.store.activate(TENANT, activation).await.unwrap();

    let restarted = Server::on(Arc::clone(&server.store));
    let report = restarted.manager.load_all().await.unwrap();
    assert_eq!(report.loaded, 0);
    assert_eq!(report.failures[0].plugin, "hostile");
    assert!(report.failures[0].reason.contains("digest"), "{:?}", report.failures);
    // The gate is there, and fails.
    assert!(restarted.manager.host().pin(TENANT).has_gate());
    assert_eq!(restarted.verdict().await.unwrap_err().kind, FaultKind::Unusable);
    let status = restarted.manager.get(TENANT, "hostile").await.unwrap();
    assert_eq!(status.state, PluginState::Unusable);
    assert!(status.problem.is_some());
}

#[tokio::test]
async fn a_plugin_whose_component_could_not_be_read_for_a_while_answers_again_by_itself() {
    let server = Server::new();
    let generation = server.install(labelled("one")).await.unwrap().generation;
    let request = InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(json!({"prefix": "C02"})),
        grants: Some(grants(&["log.write", "settings.get"], &[])),
        ..InstallRequest::default()
    };
    let generation = generation.max(server.manager.install(TENANT, request).await.unwrap().generation);

    server.store.take_components_away(true);
    let restarted = Arc::new(Server::on(Arc::clone(&server.store)));
    let report = restarted.manager.load_all().await.unwrap();
    assert_eq!((report.loaded, report.failures.len()), (0, 2));
    assert_eq!(restarted.verdict().await.unwrap_err().kind, FaultKind::Unusable);
    assert_eq!(restarted.manager.host().generation(TENANT), Some(generation));

    let following = Arc::clone(&restarted);
    let following = tokio::spawn(async move { following.manager.run(Arc::default()).await });
    server.store.take_components_away(false);
    let answers = async {
        while restarted.verdict().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.unwrap();
    following.abort();
    assert_eq!(restarted.manager.host().generation(TENANT), Some(generation));
    for plugin in restarted.manager.list(TENANT).await.unwrap() {
        assert_eq!((plugin.state, plugin.problem), (PluginState::Active, None));
    }
    // And nothing is left to do.
    assert!(!restarted.manager.sync(TENANT).await.unwrap());
}

#[tokio::test]
async fn a_quarantined_revision_can_be_installed_again_with_other_limits() {
    let server = Server::new();
    let with = |limits| InstallRequest {
        component: Some(artifact("hostile")),
        settings: Some(labelled("one")),
        grants: Some(Grants {
            limits,
            ..hostile_grants()
        }),
        ..InstallRequest::default()
    };
    let usual = LimitGrants::default();
    let more = LimitGrants {
        memory_bytes: Some(64 << 20),
        ..LimitGrants::default()
    };
    let first = server.manager.install(TENANT, with(usual.clone())).await.unwrap();
    let id = server.store.revisions(TENANT, "hostile").await.unwrap()[0].id;
    let actor = Actor::default().because("memory-limit");
    server.store.quarantine(TENANT, id, actor).await.unwrap();

    let again = server.manager.install(TENANT, with(usual)).await;
    assert!(matches!(again, Err(InstallError::Quarantined(_))), "{again:?}");
    let second = server.manager.install(TENANT, with(more)).await.unwrap();
    assert_eq!(second.state, InstalledState::Active);
    assert_ne!(second.revision, first.revision);
    assert_eq!(
        second.changes.limits.added,
        std::collections::BTreeSet::from(["memory_bytes=67108864".to_owned()])
    );
    assert_eq!(server.verdict().await.unwrap(), label("one"));
}

#[tokio::test]
async fn a_revision_can_be_stored_without_being_used() {
    let server = Server::new();
    server.install(labelled("one")).await.unwrap();
    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        settings: Some(labelled("two")),
        staging: Staging::Keep,
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(report.state, InstalledState::Ready);
    assert!(report.missing.is_empty());
    assert_eq!(server.verdict().await.unwrap(), label("one"));
}

#[tokio::test]
async fn a_restart_loads_every_tenant() {
    let server = Server::new();
    server.install(labelled("one")).await.unwrap();
    let request = InstallRequest {
        component: Some(artifact("hostile")),
        settings: Some(labelled("elsewhere")),
        grants: Some(hostile_grants()),
        ..InstallRequest::default()
    };
    server.manager.install("other", request).await.unwrap();

    let restarted = Server::on(Arc::clone(&server.store));
    let host = Arc::clone(restarted.manager.host());
    // As a server does it: on a task of its own.
    let report = tokio::spawn(async move { restarted.manager.load_all().await })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((report.loaded, report.failures.len()), (2, 0));
    assert_eq!(common::verdict(&host.pin(TENANT)).await.unwrap(), label("one"));
    assert_eq!(common::verdict(&host.pin("other")).await.unwrap(), label("elsewhere"));
}

#[tokio::test]
async fn plugins_are_asked_in_their_order() {
    let server = Server::new();
    server.install(labelled("hostile")).await.unwrap();
    let smallest = InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(json!({"prefix": "C02"})),
        grants: Some(grants(&["log.write", "settings.get"], &[])),
        position: Some(-1),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, smallest).await.unwrap();
    assert_eq!(report.state, InstalledState::Active, "{report:?}");
    let names: Vec<String> = server
        .manager
        .list(TENANT)
        .await
        .unwrap()
        .into_iter()
        .map(|plugin| plugin.name)
        .collect();
    assert_eq!(names, ["smallest-gate", "hostile"]);
    let set = server.manager.host().pin(TENANT);
    let asked: Vec<String> = set
        .check_enrollment(&common::scope(), common::request("C02XY"))
        .await
        .decisions
        .into_iter()
        .map(|decision| decision.plugin)
        .collect();
    assert_eq!(asked, ["smallest-gate", "hostile"]);
}

#[tokio::test]
async fn what_waits_is_granted_by_name_and_the_difference_is_shown() {
    let server = Server::new();
    let smallest = |grants, settings| InstallRequest {
        component: Some(artifact("smallest-gate")),
        settings: Some(settings),
        grants: Some(grants),
        ..InstallRequest::default()
    };
    let all = grants(&["log.write", "settings.get"], &[]);
    let first = server
        .manager
        .install(TENANT, smallest(all, json!({"prefix": "C02"})))
        .await
        .unwrap();
    assert_eq!(first.changes.from, None);
    assert!(
        first.changes.capabilities.added.contains("settings.get"),
        "{:?}",
        first.changes
    );

    let fewer = smallest(grants(&["settings.get"], &[]), json!({"prefix": "XYZ"}));
    let waiting = server.manager.install(TENANT, fewer).await.unwrap();
    assert_eq!(waiting.state, InstalledState::Pending);
    assert_eq!(waiting.changes.from.as_deref(), Some(first.version.as_str()));
    assert!(
        waiting.changes.settings.changed.contains("prefix"),
        "{:?}",
        waiting.changes
    );
    assert!(!waiting.changes.component && waiting.changes.capabilities.is_empty());
    assert!(server.verdict().await.is_ok());
    let status = server.manager.get(TENANT, "smallest-gate").await.unwrap();
    let pending = status.pending.unwrap();
    assert_eq!(pending.missing[0].flag, "--grant log.write");
    assert_eq!(pending.changes.unwrap(), waiting.changes);

    // What is not enough is kept, and what is makes it run.
    let grant = |capability: &str| GrantRequest {
        grants: grants(&[capability], &[]),
        ..GrantRequest::default()
    };
    let still = server
        .manager
        .grant(TENANT, "smallest-gate", grant("clock.now-ms"))
        .await
        .unwrap();
    assert_eq!((still.state, still.missing.len()), (InstalledState::Pending, 1));
    let granted = server
        .manager
        .grant(TENANT, "smallest-gate", grant("log.write"))
        .await
        .unwrap();
    assert_eq!(granted.state, InstalledState::Active);
    assert!(matches!(server.verdict().await, Ok(GateVerdict::Deny(_))));
}

#[tokio::test]
async fn what_waited_when_a_plugin_was_disabled_is_no_base_for_the_next() {
    let server = Server::new();
    server.install(labelled("one")).await.unwrap();
    let request = InstallRequest {
        plugin: Some("hostile".to_owned()),
        settings: Some(labelled("two")),
        grants: Some(grants(&["settings.get"], &[])),
        ..InstallRequest::default()
    };
    let report = server.manager.install(TENANT, request).await.unwrap();
    assert_eq!(report.state, InstalledState::Pending);
    server
        .manager
        .disable(TENANT, "hostile", Actor::default())
        .await
        .unwrap();
    let status = server.manager.get(TENANT, "hostile").await.unwrap();
    assert_eq!((status.state, status.pending), (PluginState::Disabled, None));

    let again = InstallRequest {
        plugin: Some("hostile".to_owned()),
        ..InstallRequest::default()
    };
    assert_eq!(
        server.manager.install(TENANT, again).await.unwrap().state,
        InstalledState::Active
    );
    assert_eq!(server.verdict().await.unwrap(), label("one"));
}

#[tokio::test]
async fn a_revision_that_can_not_start_is_noted_as_rejected() {
    let server = Server::new();
    let bad_start = InstallRequest {
        component: Some(template_component("unreachable", "unreachable", RENDERED)),
        actor: Actor::new("anna"),
        ..InstallRequest::default()
    };
    server.manager.install(TENANT, bad_start).await.unwrap_err();
    let history = server.manager.history(TENANT, "handmade", 10).await.unwrap();
    let steps: Vec<_> = history.iter().rev().map(|event| event.to.as_str()).collect();
    assert_eq!(steps, ["pending", "verified", "compiled", "rejected"]);
    assert_eq!(history[0].by, "anna");
    assert!(
        history[0].reason.as_ref().unwrap().contains("first start"),
        "{history:?}"
    );
    let status = server.manager.get(TENANT, "handmade").await.unwrap();
    assert_eq!(status.state, PluginState::Rejected);
    assert!(status.problem.is_some());
}
