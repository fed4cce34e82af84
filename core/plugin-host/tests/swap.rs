//! A swap under load: every request sees exactly one generation, and none fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use common::{SilentDirectory, artifact, engine, hostile_grants, label, scope};
use russet_hooks::{Ask, EnrollmentGate, GateHook, GateVerdict, HookSet, HookSource, PluginFault};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::{InstallRequest, Limits, MemoryRevisions, PluginHost, PluginManager};
use serde_json::json;

async fn install(manager: &PluginManager, name: &str) -> u64 {
    let request = InstallRequest {
        component: Some(artifact("hostile")),
        settings: Some(json!({"mode": "label", "label": name})),
        grants: Some(hostile_grants()),
        ..InstallRequest::default()
    };
    manager.install("default", request).await.unwrap().generation
}

fn seen(verdict: &GateVerdict) -> String {
    match verdict {
        GateVerdict::Allow(attributes) => attributes["label"].clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_sees_one_generation_and_none_fails() {
    let directory = SilentDirectory::start();
    let host = Arc::new(PluginHost::new());
    let manager = PluginManager::new(
        engine(),
        Arc::clone(&host),
        Arc::new(MemoryRevisions::new(["default"])),
        directory.connections(),
        Ports::memory(),
        Limits {
            wall_ms: 20_000,
            ..Limits::default()
        },
    )
    .with_trust(russet_plugin_host::package::Trust::unsigned());
    install(&manager, "0").await;

    let done = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let mut requests = Vec::new();
    for _ in 0..8 {
        let (host, done, calls) = (Arc::clone(&host), Arc::clone(&done), Arc::clone(&calls));
        requests.push(tokio::spawn(async move {
            let mut last = 0;
            let mut generations = 0;
            while !done.load(Ordering::Relaxed) {
                // One request: a set is pinned once, and asked several times.
                let set = host.pin("default");
                let mut labels = Vec::new();
                for _ in 0..3 {
                    let outcome = set.check_enrollment(&scope(), common::request("C02XY")).await;
                    labels.push(seen(&outcome.verdict.unwrap()));
                    tokio::task::yield_now().await;
                }
                assert!(labels.iter().all(|label| *label == labels[0]), "{labels:?}");
                // Generations start at 1 with the label 0, and never go back.
                let number: u64 = labels[0].parse().unwrap();
                assert_eq!(number + 1, set.generation());
                assert!(number >= last);
                generations += u64::from(number > last);
                last = number;
                calls.fetch_add(3, Ordering::Relaxed);
            }
            generations
        }));
    }
    for number in 1..=20 {
        let before = calls.load(Ordering::Relaxed);
        assert_eq!(install(&manager, &number.to_string()).await, number + 1);
        // Requests go on between swaps.
        while calls.load(Ordering::Relaxed) < before + 24 {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for request in requests {
        assert!(request.await.unwrap() > 1, "a task never saw a swap");
    }
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_generation_it_pinned() {
    let directory = SilentDirectory::start();
    let host = Arc::new(PluginHost::new());
    let manager = PluginManager::new(
        engine(),
        Arc::clone(&host),
        Arc::new(MemoryRevisions::new(["default"])),
        directory.connections(),
        Ports::memory(),
        Limits::default(),
    )
    .with_trust(russet_plugin_host::package::Trust::unsigned());
    install(&manager, "old").await;
    let pinned = host.pin("default");
    install(&manager, "new").await;
    manager
        .disable("default", "hostile", russet_plugin_host::Actor::default())
        .await
        .unwrap();
    assert_eq!(common::verdict(&pinned).await.unwrap(), label("old"));
    assert!(!host.pin("default").has_gate());
}

struct NativeGate;

#[async_trait]
impl EnrollmentGate for NativeGate {
    async fn check(&self, _ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        Ok(GateVerdict::Allow(BTreeMap::from([(
            "native".to_owned(),
            "yes".to_owned(),
        )])))
    }
}

#[tokio::test]
async fn native_gates_are_asked_beside_plugins_for_every_tenant() {
    let native = HookSet::builder().gate("vendor", NativeGate).build();
    let host = Arc::new(PluginHost::with_native(native));
    let directory = SilentDirectory::start();
    let manager = PluginManager::new(
        engine(),
        Arc::clone(&host),
        Arc::new(MemoryRevisions::new(["default"])),
        directory.connections(),
        Ports::memory(),
        Limits::default(),
    )
    .with_trust(russet_plugin_host::package::Trust::unsigned());
    install(&manager, "one").await;
    let GateVerdict::Allow(both) = common::verdict(&host.pin("default")).await.unwrap() else {
        panic!("not allowed");
    };
    assert_eq!(both.keys().collect::<Vec<_>>(), ["label", "native"]);
    assert!(host.pin("any other").has_gate());
}

#[tokio::test]
async fn an_older_generation_is_not_published() {
    let host = PluginHost::new();
    assert!(host.publish("default", 5, &[]));
    assert!(!host.publish("default", 4, &[]));
    assert_eq!(host.generation("default"), Some(5));
    host.forget("default");
    assert_eq!(host.generation("default"), None);
}
