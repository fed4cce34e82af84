//! A plugin that misbehaves gets the fault that names what it did, in bounded time, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{RENDERED, check, engine, hostile, label, mode, template_component, template_component_for};
use russet_hooks::{Blame, FaultKind, GateVerdict, PluginFault};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{Connections, Grants, InspectError, Limits, LoadError, LoadedPlugin, PluginSource};
use serde_json::json;

async fn fault_of(name: &str) -> PluginFault {
    let (plugin, _directory) = hostile(&engine(), mode(name), Limits::default()).await;
    let started = Instant::now();
    let fault = check(&plugin).await.unwrap_err();
    // Far above every limit, far below for ever.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(fault.plugin, "hostile");
    fault
}

#[tokio::test]
async fn an_endless_loop_uses_up_its_processor_time() {
    let fault = fault_of("loop").await;
    assert_eq!(fault.kind, FaultKind::CpuLimit, "{fault}");
    assert_eq!(fault.blame, Blame::Guest);
    assert_eq!(fault.detail, "used more than 50 ms of processor time");
}

#[tokio::test]
async fn a_memory_bomb_is_stopped_when_it_grows() {
    let fault = fault_of("memory").await;
    assert_eq!(fault.kind, FaultKind::MemoryLimit, "{fault}");
    assert!(fault.detail.contains("may have 16777216"), "{fault}");
}

#[tokio::test]
async fn an_exhausted_stack_is_a_trap() {
    let fault = fault_of("stack").await;
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
}

#[tokio::test]
async fn a_panic_is_a_trap_with_its_message() {
    let fault = fault_of("panic").await;
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    assert!(fault.detail.contains("hostile on purpose"), "{fault}");
}

#[tokio::test]
async fn floods_of_host_calls_are_counted() {
    for name in ["host-call-flood", "getter-flood", "handle-flood"] {
        let fault = fault_of(name).await;
        assert_eq!(fault.kind, FaultKind::HostCallLimit, "{name}: {fault}");
        assert_eq!(fault.detail, "called the host more than 1000 times", "{name}");
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_taken() {
    assert_eq!(fault_of("huge-answer").await.kind, FaultKind::HostCallLimit);
    let fault = fault_of("many-attributes").await;
    assert!(
        matches!(fault.kind, FaultKind::HostCallLimit | FaultKind::BadAnswer),
        "{fault}"
    );
}

#[tokio::test]
async fn a_huge_line_of_log_is_not_taken_whole() {
    let (plugin, _directory) = hostile(&engine(), mode("huge-log"), Limits::default()).await;
    assert_eq!(check(&plugin).await.unwrap(), GateVerdict::Allow(BTreeMap::new()));
}

#[tokio::test]
async fn a_directory_that_hangs_ends_with_the_deadline() {
    let limits = Limits {
        wall_ms: 300,
        ..Limits::default()
    };
    let (plugin, _directory) = hostile(&engine(), mode("slow-ldap"), limits).await;
    let started = Instant::now();
    let fault = check(&plugin).await.unwrap_err();
    let took = started.elapsed();
    // The host call and the layer over the plugin end at the same time; whichever is first, the call is over.
    assert!(
        matches!(fault.kind, FaultKind::Deadline | FaultKind::CouldNotDecide),
        "{fault}"
    );
    assert!(
        took >= Duration::from_millis(250) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test]
async fn waiting_costs_no_processor_time() {
    // Ten times the processor time passes while the directory is silent.
    let limits = Limits {
        cpu_ms: 10,
        wall_ms: 20_000,
        ..Limits::default()
    };
    let silent = common::SilentDirectory::start();
    let mut registry = Connections::default();
    registry
        .ldap
        .insert(
            "corp",
            russet_plugin_host::LdapConnection {
                timeout: Duration::from_millis(150),
                ..silent.settings()
            },
        )
        .unwrap();
    let plugin = LoadedPlugin::load(
        &engine(),
        &registry,
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: common::artifact("hostile").into(),
            settings: Some(mode("slow-ldap")),
            grants: common::hostile_grants(),
            limits,
        },
    )
    .await
    .unwrap();
    let fault = check(&plugin).await.unwrap_err();
    // The plugin ran on after the wait, and said that its directory is not there.
    assert_eq!(fault.kind, FaultKind::CouldNotDecide, "{fault}");
}

#[tokio::test]
async fn a_plugin_that_says_it_can_not_decide_is_believed() {
    let fault = fault_of("error").await;
    assert_eq!(fault.kind, FaultKind::CouldNotDecide);
    assert!(fault.detail.contains("on purpose"), "{fault}");
}

#[tokio::test]
async fn a_connection_that_is_not_granted_is_refused_with_the_flag_to_add() {
    let (plugin, _directory) = hostile(&engine(), mode("other-ldap"), Limits::default()).await;
    let GateVerdict::Allow(attributes) = check(&plugin).await.unwrap() else {
        panic!("not allowed");
    };
    assert!(
        attributes["answer"].contains("--connection ldap:other"),
        "{attributes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on_while_plugins_misbehave() {
    let engine = engine();
    let (good, _directory) = hostile(&engine, json!({"mode": "label", "label": "good"}), Limits::default()).await;
    let mut misbehaving = Vec::new();
    for name in [
        "loop",
        "memory",
        "panic",
        "stack",
        "getter-flood",
        "loop",
        "loop",
        "loop",
    ] {
        let (plugin, directory) = hostile(&engine, mode(name), Limits::default()).await;
        misbehaving.push(tokio::spawn(async move {
            let _directory = directory;
            for _ in 0..3 {
                check(&plugin).await.unwrap_err();
            }
        }));
    }
    let mut answered = 0;
    while !misbehaving.iter().all(tokio::task::JoinHandle::is_finished) || answered == 0 {
        assert_eq!(check(&good).await.unwrap(), label("good"));
        answered += 1;
    }
    for task in misbehaving {
        task.await.unwrap();
    }
    assert!(answered > 10, "only {answered} calls went through");
}

#[tokio::test]
async fn every_call_has_a_place_in_the_pool_or_is_told_that_all_are_taken() {
    let engine = russet_plugin_host::PluginEngine::new(&russet_plugin_host::EngineConfig {
        concurrent_calls: 1,
        ..russet_plugin_host::EngineConfig::default()
    })
    .unwrap();
    let wall = |wall_ms| Limits {
        wall_ms,
        ..Limits::default()
    };
    let (slow, _directory) = hostile(&engine, mode("slow-ldap"), wall(1_500)).await;
    let (good, _other) = hostile(&engine, json!({"mode": "label", "label": "good"}), wall(300)).await;
    let holds = check(&slow);
    let waits = check(&good);
    let (held, waited) = futures::future::join(holds, waits).await;
    assert!(held.is_err());
    assert_eq!(waited.unwrap_err().kind, FaultKind::Busy);
    // The place is free again.
    assert_eq!(check(&good).await.unwrap(), label("good"));
}

async fn load_handmade(component: Vec<u8>) -> Result<LoadedPlugin, LoadError> {
    LoadedPlugin::load(
        &engine(),
        &Connections::default(),
        &Ports::memory(),
        PluginSource {
            tenant: "default".into(),
            component: component.into(),
            settings: None,
            grants: Grants::default(),
            limits: Limits::default(),
        },
    )
    .await
}

#[tokio::test]
async fn a_plugin_that_fails_at_its_start_is_never_loaded() {
    load_handmade(template_component("", "unreachable", RENDERED))
        .await
        .unwrap();
    for (start, kind) in [
        ("(loop (br 0))", FaultKind::CpuLimit),
        ("unreachable", FaultKind::Trap),
        ("(call $start)", FaultKind::Trap),
        ("(drop (memory.grow (i32.const 1000)))", FaultKind::MemoryLimit),
    ] {
        match load_handmade(template_component(start, "unreachable", RENDERED)).await {
            Err(LoadError::Probe(fault)) => assert_eq!(fault.kind, kind, "{start}: {fault}"),
            other => panic!("{start}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_plugin_for_a_later_patch_of_the_contract_runs_and_one_for_another_minor_does_not() {
    let component = template_component_for("0.1.7", "", "unreachable", RENDERED);
    assert_eq!(load_handmade(component).await.unwrap().name(), "handmade");
    let component = template_component_for("0.2.0", "", "unreachable", RENDERED);
    assert!(matches!(
        load_handmade(component).await,
        Err(LoadError::Inspect(InspectError::Contract { .. }))
    ));
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_for_what_it_is_and_not_as_the_compiler_sees_it() {
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let mut cut = template_component("", "unreachable", RENDERED);
    cut.truncate(cut.len() / 2);
    for file in [b"damaged".to_vec(), core_module, cut] {
        let refused = load_handmade(file).await;
        assert!(matches!(refused, Err(LoadError::Inspect(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn an_export_of_another_shape_is_found_before_it_is_called() {
    let component = template_component("", "unreachable", "(result (list u32) (error string))");
    match load_handmade(component).await {
        Err(LoadError::Probe(fault)) => assert_eq!(fault.kind, FaultKind::Unusable, "{fault}"),
        other => panic!("{other:?}"),
    }
}
