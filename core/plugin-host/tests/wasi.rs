//! The system that run times of other languages see: it is there, and holds nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::questions::template;
use common::{engine, scope, with_manifest};
use russet_hooks::{Answers, Ask, FaultKind, HookInput, PluginFault, RenderedProfile};
use russet_plugin_host::ports::Ports;
use russet_plugin_host::ports::memory::FixedClock;
use russet_plugin_host::{Connections, Grants, Limits, LoadedPlugin, PluginSource, inspect};
use serde_json::json;

/// A template engine that imports WASI. `body` runs when it is called; it has `$random` (fills 8 bytes at 64), `$now`
/// (seconds, at 128), `$environment` and `$preopens` (lists, at 160 and 168) and `$print` (address, length), and answers
/// the 32 bytes at 256.
fn component(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "russet:plugin/context@0.1.0" (instance $context
                (export "template-request" (type (sub resource)))))
            (alias export $context "template-request" (type $request))
            (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
            (alias export $io-error "error" (type $error))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "output-stream" (type $stream (sub resource)))
                (alias outer 1 $error (type $outer-error))
                (export "error" (type $e (eq $outer-error)))
                (type $stream-error (variant (case "last-operation-failed" (own $e)) (case "closed")))
                (export "stream-error" (type $se (eq $stream-error)))
                (export "[method]output-stream.blocking-write-and-flush" (func
                    (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $se)))))))
            (alias export $streams "output-stream" (type $output))
            (import "wasi:cli/stderr@0.2.0" (instance $stderr
                (alias outer 1 $output (type $outer-output))
                (export "output-stream" (type $o (eq $outer-output)))
                (export "get-stderr" (func (result (own $o))))))
            (import "wasi:cli/environment@0.2.0" (instance $environment
                (export "get-environment" (func (result (list (tuple string string)))))
                (export "get-arguments" (func (result (list string))))))
            (import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-u64" (func (result u64)))))
            (import "wasi:clocks/wall-clock@0.2.0" (instance $clock
                (type $datetime (record (field "seconds" u64) (field "nanoseconds" u32)))
                (export "datetime" (type $d (eq $datetime)))
                (export "now" (func (result $d)))))
            (core module $libc
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 4096))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.get $next)
                    (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15))
                        (i32.const -16)))))
            (core instance $libc (instantiate $libc))
            (alias core export $libc "memory" (core memory $memory))
            (alias core export $libc "realloc" (core func $realloc))
            (core func $random-u64 (canon lower (func $random "get-random-u64")))
            (core func $now (canon lower (func $clock "now") (memory $memory)))
            (core func $env (canon lower (func $environment "get-environment") (memory $memory) (realloc $realloc)))
            (core func $args (canon lower (func $environment "get-arguments") (memory $memory) (realloc $realloc)))
            (core func $drop (canon resource.drop $request))
            (core func $get-stderr (canon lower (func $stderr "get-stderr")))
            (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
                (memory $memory) (realloc $realloc)))
            (core module $module
                (import "libc" "memory" (memory 1))
                (import "host" "drop" (func $drop (param i32)))
                (import "wasi" "random" (func $random-u64 (result i64)))
                (import "wasi" "now" (func $wasi-now (param i32)))
                (import "wasi" "env" (func $wasi-env (param i32)))
                (import "wasi" "args" (func $wasi-args (param i32)))
                (import "wasi" "stderr" (func $stderr (result i32)))
                (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
                (data (i32.const 512) "Traceback: it went wrong\n")
                (func $random (i64.store (i32.const 256) (call $random-u64)))
                (func $now (call $wasi-now (i32.const 128)) (i64.store (i32.const 264) (i64.load (i32.const 128))))
                (func $environment
                    (call $wasi-env (i32.const 160)) (i32.store (i32.const 272) (i32.load (i32.const 164)))
                    (call $wasi-args (i32.const 160)) (i32.store (i32.const 276) (i32.load (i32.const 164))))
                (func $print (call $write (call $stderr) (i32.const 512) (i32.const 25) (i32.const 192)))
                (func (export "render") (param i32) (result i32)
                    {body}
                    (call $drop (local.get 0))
                    (i32.store (i32.const 320) (i32.const 0))
                    (i32.store (i32.const 324) (i32.const 256))
                    (i32.store (i32.const 328) (i32.const 32))
                    (i32.const 320)))
            (core instance $core (instantiate $module
                (with "libc" (instance $libc))
                (with "host" (instance (export "drop" (func $drop))))
                (with "wasi" (instance
                    (export "random" (func $random-u64))
                    (export "now" (func $now))
                    (export "env" (func $env))
                    (export "args" (func $args))
                    (export "stderr" (func $get-stderr))
                    (export "write" (func $write))))))
            (func $render (param "request" (borrow $request)) (result (result (list u8) (error string)))
                (canon lift (core func $core "render") (memory $memory) (realloc $realloc)))
            (instance $hook (export "render" (func $render)))
            (export "russet:plugin/profile-template@0.1.0" (instance $hook)))"#
    );
    with_manifest(
        &wat::parse_str(&text).unwrap(),
        &json!({"name": "foreign", "version": "0.1.0", "hooks": ["profile-template"]}),
    )
}

async fn load(body: &str, ports: &Ports) -> LoadedPlugin {
    LoadedPlugin::load(
        &engine(),
        &Connections::default(),
        ports,
        PluginSource {
            tenant: "default".into(),
            component: component(body).into(),
            settings: None,
            grants: Grants::default(),
            limits: Limits::default(),
        },
    )
    .await
    .unwrap()
}

async fn render(plugin: &LoadedPlugin) -> Result<RenderedProfile, PluginFault> {
    let ask = Ask::new(scope(), Arc::new(template()));
    plugin.template().unwrap().ask(ask).await.0
}

const READ_ALL: &str = "(call $random) (call $now) (call $environment)";

#[test]
fn what_it_imports_of_wasi_is_listed_and_needs_no_grant() {
    let inspection = inspect(&component(READ_ALL)).unwrap();
    assert!(inspection.wasi.contains("wasi:random/random@0.2.0"), "{inspection:?}");
    assert!(inspection.capabilities.is_empty());
}

#[tokio::test]
async fn the_environment_is_empty_and_the_clock_is_the_server_s() {
    let ports = Ports {
        clock: Arc::new(FixedClock::at("2027-03-04T05:06:07Z".parse().unwrap())),
        ..Ports::memory()
    };
    let plugin = load(READ_ALL, &ports).await;
    let RenderedProfile(bytes) = render(&plugin).await.unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(number(8), 1_804_136_767);
    assert_eq!(number(16), 0, "no variables and no arguments");
    let RenderedProfile(again) = render(&plugin).await.unwrap();
    assert_ne!(bytes[..8], again[..8], "random numbers differ from call to call");
}

#[tokio::test]
async fn a_call_that_is_run_again_sees_the_same_time_and_random_numbers() {
    let plugin = load(READ_ALL, &Ports::memory()).await;
    let input = HookInput::ProfileTemplate(Arc::new(template()));
    let live = plugin
        .answer(scope().recording(true), input.clone(), Answers::Live)
        .await
        .unwrap();
    assert_eq!(live.fault, None);
    let recorded = Answers::Recorded {
        entries: live.journal.clone().into(),
        strict: true,
    };
    let replayed = plugin.answer(scope(), input.clone(), recorded).await.unwrap();
    assert_eq!(replayed.verdict_json, live.verdict_json);
    let fresh = plugin.answer(scope(), input, Answers::Live).await.unwrap();
    assert_ne!(fresh.verdict_json, live.verdict_json);
}

#[tokio::test]
async fn what_it_prints_last_is_in_the_fault() {
    let plugin = load("(call $print) unreachable", &Ports::memory()).await;
    let fault = render(&plugin).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    assert!(fault.detail.contains("Traceback: it went wrong"), "{fault}");
}

#[tokio::test]
async fn printing_for_ever_ends_with_the_processor_time() {
    let plugin = load("(loop (call $print) (br 0))", &Ports::memory()).await;
    let fault = render(&plugin).await.unwrap_err();
    assert!(
        matches!(fault.kind, FaultKind::CpuLimit | FaultKind::Trap | FaultKind::BadAnswer),
        "{fault}"
    );
}
