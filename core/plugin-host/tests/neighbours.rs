//! The hostile corpus beside well-behaved plugins: each hostile call ends in the fault that names what it did, within its
//! deadline, and every innocent call that ran beside it was answered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::questions::{Question, load, set, silent_ports, template};
use common::{
    RENDERED, SilentDirectory, artifact, engine, engine_for, hostile_grants, label, mode, scope, template_component,
    verdict, with_manifest,
};
use russet_hooks::{Ask, FaultKind, HookSource};
use russet_plugin_host::package::Trust;
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{
    Connections, Grants, InstallRequest, Limits, LoadError, LoadedPlugin, MemoryRevisions, PluginEngine, PluginHost,
    PluginManager, PluginSource,
};
use serde_json::json;
use tokio::task::JoinSet;

/// What a hostile call may take beside its own limit: the machine has other work, and builds are not optimised.
const SLACK: Duration = Duration::from_secs(10);

/// Every way in which the plugin misbehaves, and the fault that it ends in.
const CORPUS: [(&str, FaultKind); 11] = [
    ("loop", FaultKind::CpuLimit),
    ("memory", FaultKind::MemoryLimit),
    ("stack", FaultKind::Trap),
    ("panic", FaultKind::Trap),
    ("host-call-flood", FaultKind::HostCallLimit),
    ("huge-answer", FaultKind::HostCallLimit),
    ("hang", FaultKind::Deadline),
    ("effect-flood", FaultKind::CouldNotDecide),
    ("other-http", FaultKind::CouldNotDecide),
    ("bad-answer", FaultKind::BadAnswer),
    ("effect-and-panic", FaultKind::Trap),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_call_ends_and_no_innocent_one_is_lost() {
    let engine = engine();
    let limits = Limits {
        wall_ms: 2_000,
        ..Limits::default()
    };
    let innocent = set(&load(&engine, "answer", Limits::default(), &Ports::memory())
        .await
        .unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let mut beside = JoinSet::new();
    for question in [Question::Gate, Question::Find, Question::Plan] {
        let (innocent, over) = (Arc::clone(&innocent), Arc::clone(&over));
        beside.spawn(async move {
            let mut answered = 0;
            while answered == 0 || !over.load(Ordering::Relaxed) {
                let asked = question.ask(&innocent, &scope()).await;
                assert_eq!(asked.record.fault, None, "{question:?}");
                answered += 1;
            }
            answered
        });
    }

    let mut hostile = JoinSet::new();
    for (mode, expected) in CORPUS {
        let engine = engine.clone();
        let limits = limits.clone();
        hostile.spawn(async move {
            let plugin = set(&load(&engine, mode, limits, &silent_ports()).await.unwrap());
            for question in [Question::Gate, Question::Destructive] {
                let asked = question.ask(&plugin, &scope()).await;
                let fault = asked.record.fault.unwrap();
                assert_eq!(fault.kind, expected, "{mode}: {fault}");
                assert!(asked.record.duration < Duration::from_secs(2) + SLACK, "{mode}");
                assert_eq!(asked.record.effects, [], "{mode}");
            }
        });
    }
    // And some that misbehave before they are ever called.
    for start in ["(loop (br 0))", "unreachable", "(call $start)"] {
        let engine = engine.clone();
        hostile.spawn(async move {
            let loaded = handmade(&engine, template_component(start, "unreachable", RENDERED)).await;
            assert!(matches!(loaded, Err(LoadError::Probe(_))), "{start}: {loaded:?}");
        });
    }
    while let Some(done) = hostile.join_next().await {
        done.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    while let Some(answered) = beside.join_next().await {
        assert!(answered.unwrap() > 10);
    }
}

async fn handmade(engine: &PluginEngine, component: Vec<u8>) -> Result<LoadedPlugin, LoadError> {
    LoadedPlugin::load(
        engine,
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

/// A template engine with two memories, which grow by so many pages (of 64 KiB) when it is called; then it traps.
fn two_memories(first: u32, second: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "russet:plugin/context@0.1.0" (instance $context
                (export "template-request" (type (sub resource)))))
            (alias export $context "template-request" (type $request))
            (core module $other
                (memory 1)
                (func (export "grow") (drop (memory.grow (i32.const {second})))))
            (core instance $other (instantiate $other))
            (core module $module
                (import "other" "grow" (func $grow))
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "render") (param i32) (result i32)
                    (drop (memory.grow (i32.const {first})))
                    (call $grow)
                    unreachable))
            (core instance $core (instantiate $module (with "other" (instance $other))))
            (func $render (param "request" (borrow $request)) (result {RENDERED})
                (canon lift (core func $core "render")
                    (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (instance $hook (export "render" (func $render)))
            (export "russet:plugin/profile-template@0.1.0" (instance $hook)))"#
    );
    with_manifest(
        &wat::parse_str(&text).unwrap(),
        &json!({"name": "two-memories", "version": "0.1.0", "hooks": ["profile-template"]}),
    )
}

#[tokio::test]
async fn memory_is_summed_over_the_memories_of_a_component() {
    // The limit is 256 pages.
    for (first, second, expected) in [
        (100, 100, FaultKind::Trap),
        (300, 0, FaultKind::MemoryLimit),
        (0, 300, FaultKind::MemoryLimit),
        // Neither is over the limit, and both together are.
        (150, 150, FaultKind::MemoryLimit),
    ] {
        let plugin = handmade(&engine(), two_memories(first, second)).await.unwrap();
        let ask = Ask::new(scope(), Arc::new(template()));
        let (answer, record) = plugin.template().unwrap().ask(ask).await;
        assert_eq!(answer.unwrap_err().kind, expected, "{first} and {second} pages");
        assert!(record.usage.memory_bytes <= 256 * 65_536, "{record:?}");
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_the_call_answered() {
    let plugin = load(&engine(), "log-flood", patient(), &Ports::memory()).await.unwrap();
    let asked = Question::Gate.ask(&set(&plugin), &scope()).await;
    assert!(asked.answered, "{asked:?}");
}

#[tokio::test]
async fn a_tenant_whose_calls_all_hang_leaves_places_for_the_others() {
    // Four places: three are a tenant's share.
    let engine = engine_for(4);
    let directory = SilentDirectory::start();
    let limits = Limits {
        wall_ms: 20_000,
        ..Limits::default()
    };
    let manager = PluginManager::new(
        engine.clone(),
        Arc::new(PluginHost::new()),
        Arc::new(MemoryRevisions::new(["greedy", "modest"])),
        directory.connections(),
        Ports::memory(),
        limits,
    )
    .with_trust(Trust::unsigned());
    for (tenant, settings) in [
        ("greedy", mode("slow-ldap")),
        ("modest", json!({"mode": "label", "label": "here"})),
    ] {
        let request = InstallRequest {
            component: Some(artifact("hostile")),
            settings: Some(settings),
            grants: Some(hostile_grants()),
            ..InstallRequest::default()
        };
        manager.install(tenant, request).await.unwrap();
    }

    let (greedy, modest) = (manager.host().pin("greedy"), manager.host().pin("modest"));
    let mut hanging = JoinSet::new();
    for _ in 0..12 {
        let greedy = Arc::clone(&greedy);
        hanging.spawn(async move { verdict(&greedy).await });
    }
    let free = |places: usize| format!("{engine:?}").contains(&format!("free: {places},"));
    while !free(1) {
        tokio::task::yield_now().await;
        assert!(
            hanging.try_join_next().is_none(),
            "a call ended before its share was full"
        );
    }
    for _ in 0..20 {
        assert_eq!(verdict(&modest).await.unwrap(), label("here"));
    }
    // Nothing ended meanwhile: what the other tenant got was never the greedy one's.
    assert!(hanging.try_join_next().is_none() && free(1));
}

/// Ten thousand lines are as many host calls.
fn patient() -> Limits {
    Limits {
        cpu_ms: 2_000,
        wall_ms: 20_000,
        host_calls: 20_000,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_connection_that_was_not_granted_is_named_with_the_flag_to_add() {
    let plugin = load(&engine(), "other-http", Limits::default(), &Ports::memory())
        .await
        .unwrap();
    let asked = Question::Run.ask(&set(&plugin), &scope()).await;
    let detail = asked.record.fault.unwrap().detail;
    assert!(detail.contains("--connection http:other"), "{detail}");
}

#[tokio::test]
async fn what_is_not_granted_is_named_with_the_flag_to_add() {
    let mut source = common::questions::source("answer", Limits::default());
    source.grants.capabilities.remove("effects.push");
    source.grants.connections.http.clear();
    let connections = common::questions::silent_connections();
    let refused = LoadedPlugin::load(&engine(), &connections, &Ports::memory(), source).await;
    let Err(LoadError::Grants(error)) = refused else {
        panic!("{refused:?}");
    };
    let text = error.to_string();
    assert!(text.contains("effects.push (add --grant effects.push)"), "{text}");
    assert!(text.contains("--connection http:NAME"), "{text}");
}
