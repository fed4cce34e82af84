//! Plugins that were compiled for a released version of the contract go on working. What is in `tests/fixtures` is never
//! compiled again: see `wit/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::questions::{Question, set, silent_connections};
use common::{engine, scope, template_component_for, with_manifest};
use russet_hooks::{FaultKind, HookKind, HookSet, HookSource};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    CAPABILITIES, ConnectionGrants, Connections, Contracts, Deprecation, Grants, InspectError, InstallRequest, Limits,
    LoadError, LoadedPlugin, Manifest, MemoryRevisions, PluginHost, PluginManager, PluginSource, ServedContract,
    inspect, inspect_for,
};
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// The released versions of the contract.
const RELEASED: [&str; 1] = ["0.1.0"];

fn fixtures(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(format!("contract-{version}"))
}

async fn load(component: Vec<u8>, settings: Option<Value>) -> Result<LoadedPlugin, LoadError> {
    let mut grants =
        Manifest::read(&component).map_or_else(|_| Grants::default(), |manifest| Grants::all_asked(&manifest));
    grants.connections = ConnectionGrants {
        http: ["corp".to_owned()].into(),
        ldap: ["corp".to_owned()].into(),
    };
    let mut connections = silent_connections();
    let silent = common::SilentDirectory::start();
    connections.ldap.insert("corp", silent.settings()).unwrap();
    LoadedPlugin::load(
        &engine(),
        &connections,
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: component.into(),
            settings,
            grants,
            limits: Limits::default(),
        },
    )
    .await
}

async fn fixture(version: &str, name: &str, settings: Option<Value>) -> LoadedPlugin {
    let path = fixtures(version).join(name).with_extension("wasm");
    let component = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    load(component, settings).await.unwrap()
}

#[tokio::test]
async fn a_plugin_that_implements_every_hook_answers_and_asks_for_effects() {
    for version in RELEASED {
        for mode in ["answer", "read", "effects"] {
            let hooks = set(&fixture(version, "every-hook", Some(json!({"mode": mode}))).await);
            for question in Question::ALL {
                let asked = question.ask(&hooks, &scope()).await;
                assert_eq!(asked.record.fault, None, "{version} {mode} {question:?}");
                assert_eq!(
                    asked.record.effects.len() == 12,
                    mode == "effects",
                    "{version} {mode} {question:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_plugin_that_imports_every_function_is_linked_and_called() {
    for version in RELEASED {
        let plugin = fixture(version, "every-function", None).await;
        assert_eq!(plugin.hooks().len(), HookKind::ALL.len());
        let hooks = set(&plugin);
        for question in Question::ALL {
            // It is made of nothing but types: that it comes to run, and traps, is all that it can show.
            let fault = question.ask(&hooks, &scope()).await.record.fault.unwrap();
            assert_eq!(fault.kind, FaultKind::Trap, "{version} {question:?}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_small_plugin_of_each_kind_that_was_released_still_decides() {
    for version in RELEASED {
        let plugin = fixture(version, "smallest-gate", Some(json!({"prefix": "C02"}))).await;
        let hooks = HookSet::builder().add_gate(plugin.gate().unwrap().clone()).build();
        let asked = Question::Gate.ask(&hooks, &scope()).await;
        assert_eq!(asked.record.fault, None, "{version}");
        let directory = fixture(version, "directory-ldap", Some(json!({"connection": "corp"}))).await;
        let hooks = HookSet::builder()
            .add_directory(directory.directory().unwrap().clone())
            .build();
        // Its directory is silent: it asked, and says that there was no answer.
        let fault = Question::Find.ask(&hooks, &scope()).await.record.fault.unwrap();
        assert!(
            matches!(fault.kind, FaultKind::CouldNotDecide | FaultKind::Deadline),
            "{version}: {fault}"
        );
    }
}

#[tokio::test]
async fn a_later_patch_of_the_contract_runs_unless_something_new_is_called() {
    let rendered = common::RENDERED;
    let loaded = load(template_component_for("0.1.1", "", "unreachable", rendered), None).await;
    assert_eq!(loaded.unwrap().name(), "handmade");
    // Something of 0.1.1 that this server does not have is named.
    let newer =
        wat::parse_str(r#"(component (import "russet:plugin/log@0.1.1" (instance (export "flush" (func)))))"#).unwrap();
    let manifest = json!({"name": "newer", "version": "0.1.0", "hooks": ["observer"], "events": ["*"]});
    match inspect(&with_manifest(&newer, &manifest)) {
        Err(InspectError::UnknownImports(names)) => assert_eq!(names, ["log.flush"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_minor_version_of_the_contract_is_refused_by_its_number() {
    let error = load(
        template_component_for("0.2.0", "", "unreachable", common::RENDERED),
        None,
    )
    .await
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("russet:plugin@0.2.0") && error.contains("this server speaks russet:plugin@0.1"),
        "{error}"
    );
}

/// A table of versions as a later release has it: 0.1 is replaced by 0.2.
fn later() -> Contracts {
    let deprecated = Deprecation {
        since: "0.9.0".parse().unwrap(),
        removed_in: Some("0.12.0".parse().unwrap()),
    };
    Contracts::new([
        ServedContract {
            version: (0, 1),
            deprecated: Some(deprecated),
        },
        ServedContract {
            version: (0, 2),
            deprecated: None,
        },
    ])
}

#[test]
fn a_component_says_which_version_it_speaks() {
    let speaking = |version: &str| template_component_for(version, "", "unreachable", common::RENDERED);
    let inspected = inspect(&speaking("0.1.3")).unwrap();
    assert_eq!(inspected.contract.to_string(), "0.1.3");
    assert_eq!(Contracts::default().of(&inspected.contract).deprecated, None);
    let known = later().of(&inspected.contract);
    assert_eq!(
        known.warning().unwrap(),
        "it is built for russet:plugin@0.1.3, which is deprecated since russet 0.9.0, not served from russet 0.12.0 on; \
         rebuild it with the current SDK"
    );
    let newer = inspect_for(&speaking("0.2.0"), &later()).unwrap();
    assert_eq!(later().of(&newer.contract).warning(), None);
    let error = inspect_for(&speaking("0.3.0"), &later()).unwrap_err().to_string();
    assert!(
        error.contains("built for russet:plugin@0.3.0, this server speaks russet:plugin@0.1 and russet:plugin@0.2"),
        "{error}"
    );
    // One plugin speaks one version.
    let mixed = wat::parse_str(
        r#"(component (import "russet:plugin/log@0.1.0" (instance)) (import "russet:plugin/clock@0.2.0" (instance)))"#,
    );
    let manifest = json!({"name": "mixed", "version": "0.1.0", "hooks": ["observer"], "events": ["*"]});
    let mixed = inspect_for(&with_manifest(&mixed.unwrap(), &manifest), &later());
    assert!(matches!(mixed, Err(InspectError::MixedContracts(..))), "{mixed:?}");
}

#[tokio::test]
async fn a_plugin_for_a_version_that_was_replaced_runs_and_is_marked() {
    let manager = |contracts: Contracts| {
        PluginManager::new(
            engine(),
            Arc::new(PluginHost::new()),
            Arc::new(MemoryRevisions::new(["default"])),
            Connections::default(),
            Ports::memory(),
            Limits::default(),
        )
        .with_trust(russet_plugin_host::package::Trust::unsigned())
        .with_contracts(contracts)
    };
    for (contracts, since) in [(Contracts::default(), None), (later(), Some("0.9.0"))] {
        let manager = manager(contracts);
        let component = common::artifact("smallest-gate");
        let request = InstallRequest {
            grants: Some(Grants::all_asked(&Manifest::read(&component).unwrap())),
            component: Some(component),
            settings: Some(json!({"prefix": "C02"})),
            ..InstallRequest::default()
        };
        let report = manager.install("default", request).await.unwrap();
        let warned = report
            .warnings
            .iter()
            .any(|warning| warning.contains("is deprecated since russet 0.9.0"));
        assert_eq!(warned, since.is_some(), "{:?}", report.warnings);
        let listed = json!(manager.list("default").await.unwrap());
        assert_eq!(listed[0]["state"], "active");
        assert_eq!(listed[0]["contract"]["version"], "0.1.0");
        assert_eq!(listed[0]["contract"]["deprecated"]["since"], json!(since), "{listed}");
        let asked = Question::Gate.ask(&manager.host().pin("default"), &scope()).await;
        assert_eq!(asked.record.fault, None);
    }
}

/// A component that is made of nothing but the types of the contract: it imports every function and exports every hook.
fn every_function() -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve
        .push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit"))
        .unwrap();
    let exports: String = HookKind::ALL
        .iter()
        .map(|hook| format!("export russet:plugin/{hook}@0.1.0;"))
        .collect();
    let package = resolve
        .push_str(
            "whole.wit",
            &format!("package russet:whole; world whole {{ include russet:plugin/capabilities@0.1.0; {exports} }}"),
        )
        .unwrap();
    let world = resolve.select_world(&[package], Some("whole")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, true).unwrap();
    let component = ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap();
    with_manifest(
        &component,
        &json!({
            "name": "hostile-hooks",
            "version": "0.1.0",
            "hooks": HookKind::ALL,
            "capabilities": &CAPABILITIES[..],
            "events": ["*"],
        }),
    )
}

#[tokio::test]
async fn the_host_offers_every_function_of_the_contract_and_calls_every_hook() {
    let plugin = load(every_function(), None).await.unwrap();
    assert_eq!(plugin.hooks().len(), HookKind::ALL.len());
    let hooks: Arc<HookSet> = set(&plugin);
    for question in Question::ALL {
        let fault = question.ask(&hooks, &scope()).await.record.fault.unwrap();
        assert_eq!(fault.kind, FaultKind::Trap, "{question:?}: {fault}");
    }
}

/// Keeps what is built now as the fixtures of a version: run once, when it is released.
#[test]
#[ignore = "writes the fixtures of a version that is about to be released"]
fn keep_fixtures() {
    let version = RELEASED[RELEASED.len() - 1];
    let folder = fixtures(version);
    std::fs::create_dir_all(&folder).unwrap();
    let keep = |name: &str, component: Vec<u8>| {
        let path = folder.join(name).with_extension("wasm");
        assert!(component.len() < 150 << 10, "{name} has {} bytes", component.len());
        std::fs::write(path, component).unwrap();
    };
    keep("every-function", every_function());
    keep("every-hook", common::artifact("hostile-hooks"));
    keep("smallest-gate", common::artifact("smallest-gate"));
    keep("directory-ldap", common::artifact("directory-ldap"));
}
