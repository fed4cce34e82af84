//! Plugins in the real host, as their authors test them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use russet_plugin_build::artifact;
use russet_plugin_test::cases::CaseFile;
use russet_plugin_test::replay::{Recorded, Replayed};
use russet_plugin_test::{
    Called, Device, EffectAction, Error, FaultKind, FoundDevice, GateStage, GateVerdict, Grants, HookKind,
    HttpResponse, LdapEntry, Person, Plugin, Question, RenderedProfile, Running, json, plain,
};
use serde_json::Value;

fn smallest() -> Plugin {
    Plugin::from_file(artifact("smallest-gate"))
        .unwrap()
        .settings(json!({"prefix": "C02"}))
}

fn device(serial: &str) -> russet_plugin_test::EnrollmentRequest {
    let mut request = plain::enrollment();
    request.stage = GateStage::Authenticate;
    request.device.serial_number = Some(serial.to_owned());
    request
}

/// What the plugin `probe` finds out by these steps.
async fn probe(plugin: Plugin, steps: Value) -> Value {
    let running = plugin.settings(json!({})).start().await.unwrap();
    let called = running.template(plain::template(steps.to_string())).await.unwrap();
    let RenderedProfile(answer) = called.verdict.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

fn probing() -> Plugin {
    Plugin::from_file(artifact("probe")).unwrap()
}

/// The plugin with every hook, in one of its modes.
async fn hostile(mode: &str) -> Running {
    Plugin::from_file(artifact("hostile-hooks"))
        .unwrap()
        .settings(json!({"mode": mode}))
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_crate_is_built_and_asked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/smallest-gate");
    let plugin = Plugin::build(folder).unwrap().settings(json!({"prefix": "C02"}));
    let running = plugin.start().await.unwrap();
    let allowed = running.gate(device("C02XK1")).await.unwrap();
    assert_eq!(allowed.verdict, Ok(GateVerdict::Allow(Default::default())));
    assert!(allowed.usage().host_calls > 0 && allowed.usage().memory_bytes > 0);
    let denied = running.gate(device("F4K9Z2")).await.unwrap();
    assert_eq!((denied.name(), denied.reason()), ("deny", Some("serial-prefix")));
}

#[tokio::test]
async fn what_a_server_would_not_run_does_not_run_here() {
    let wrong = smallest().settings(json!({"prefix": 1})).start().await.unwrap_err();
    assert!(wrong.to_string().contains("/prefix"), "{wrong}");
    let nothing_granted = smallest().grants(Grants::default()).start().await.unwrap_err();
    assert!(
        nothing_granted.to_string().contains("--grant settings.get"),
        "{nothing_granted}"
    );
    let other_hook = smallest().start().await.unwrap().plan(plain::plan()).await.unwrap_err();
    assert!(
        matches!(&other_hook, Error::NoHook { hook: HookKind::DeclarationPlanner, implemented }
            if implemented == &[HookKind::EnrollmentGate]),
        "{other_hook}"
    );
}

#[tokio::test]
async fn the_stores_the_clock_and_the_inventory_are_scripted() {
    let ada = Person {
        id: "1".to_owned(),
        user_name: "ada".to_owned(),
        ..Person::default()
    };
    let mac = Device {
        enrollment_id: Some("E1".to_owned()),
        serial_number: Some("C02XK1".to_owned()),
        ..Device::default()
    };
    let plugin = probing()
        .clock("2026-01-31T08:00:00Z".parse().unwrap())
        .random(7)
        .kv("color", "red")
        .secret("api", "hunter2")
        .device(mac, Some(ada));
    let steps = json!([
        {"do": "now"},
        {"do": "random", "count": 4},
        {"do": "kv-get", "key": "color"},
        {"do": "secret-get", "name": "api"},
        {"do": "find-device", "name": "C02XK1"},
        {"do": "devices-of-person", "user_name": "ada"},
        {"do": "seal-and-open", "value": "sealed"},
        {"do": "hmac", "secret": "api", "message": "hello"},
    ]);
    let once = probe(plugin.clone(), steps.clone()).await;
    assert_eq!(once[0], 1_769_846_400_000_u64);
    assert_eq!(once[2], "red");
    assert_eq!(once[3], "hunter2");
    assert_eq!(once[4], json!(["C02XK1", "ada"]));
    assert_eq!(once[5], json!(["C02XK1"]));
    assert_eq!(once[6], "sealed");
    let again = probe(plugin, steps).await;
    assert_eq!(once[1], again[1], "the same seed gives the same numbers");
    assert_eq!(once[1].as_str().map(str::len), Some(8));
    // HMAC-SHA-256 of `hello` under `hunter2`, as `openssl dgst -sha256 -hmac` gives it.
    assert_eq!(once[7], again[7]);
    assert_eq!(once[7].as_str().map(str::len), Some(64));
}

#[tokio::test]
async fn what_a_call_keeps_the_next_one_finds() {
    let running = probing().settings(json!({})).start().await.unwrap();
    let steps =
        json!([{"do": "kv-set", "key": "seen", "value": "yes"}, {"do": "secret-put", "name": "s", "value": "t"}]);
    running.template(plain::template(steps.to_string())).await.unwrap();
    assert_eq!(running.kv("seen").await.unwrap().as_deref(), Some(b"yes".as_slice()));
    assert_eq!(running.secret("s").await.unwrap().as_deref(), Some(b"t".as_slice()));
    let called = running
        .template(plain::template(json!([{"do": "kv-get", "key": "seen"}]).to_string()))
        .await
        .unwrap();
    assert_eq!(called.shown, json!({"rendered": "[\"yes\"]"}));
}

#[tokio::test]
async fn connections_are_scripted_and_others_are_not_granted() {
    let plugin = probing()
        .http("scim", |request| {
            Ok(HttpResponse {
                status: 200,
                headers: Vec::new(),
                body: format!("{} {}", request.method, request.path).into_bytes(),
            })
        })
        .ldap_search("corp", |search| {
            Ok(vec![LdapEntry {
                dn: format!("uid={}", search.values[0]),
                attributes: vec![("mail".to_owned(), vec!["ada@example.org".to_owned()])],
            }])
        })
        .ldap_bind("corp", |dn, password| Ok((dn, password) == ("uid=ada", "engine")));
    let told = probe(
        plugin,
        json!([
            {"do": "http", "connection": "scim", "path": "/Users?x=1"},
            {"do": "http", "connection": "other", "path": "/"},
            {"do": "ldap-search", "connection": "corp", "filter": "(uid={0})", "values": ["ada"], "attribute": "mail", "limit": 5},
            {"do": "ldap-bind", "connection": "corp", "dn": "uid=ada", "password": "engine"},
            {"do": "ldap-bind", "connection": "corp", "dn": "uid=ada", "password": "x"},
            {"do": "ldap-bind", "connection": "corp", "dn": "uid=ada", "password": ""},
        ]),
    )
    .await;
    assert_eq!(told[0]["body"], "GET /Users?x=1");
    assert!(told[1]["error"].as_str().unwrap().starts_with("NotGranted"), "{told}");
    assert_eq!(told[2], json!(["ada@example.org"]));
    assert_eq!(
        (&told[3], &told[4], &told[5]),
        (&json!(true), &json!(false), &json!(false))
    );
}

#[tokio::test]
async fn every_hook_is_asked() {
    let running = hostile("answer").await;
    for hook in HookKind::ALL {
        let question = Question::from_json(hook, &Question::sample(hook)).unwrap();
        let called = running.ask(question).await.unwrap();
        assert!(called.verdict.is_ok(), "{hook}: {:?}", called.verdict);
        assert!(!called.shown.is_null(), "{hook}");
        assert_eq!(called.record.hook, hook);
    }
}

#[tokio::test]
async fn effects_are_collected_and_dropped_with_a_call_that_fails() {
    let called = hostile("effects").await.gate(plain::enrollment()).await.unwrap();
    assert_eq!(called.effects().len(), 12);
    assert_eq!(called.effects()[0].target.as_deref(), Some("UDID-1"));
    assert!(matches!(&called.effects()[0].action, EffectAction::SetAttribute { name, .. } if name == "fleet"));
    let failed: Called<GateVerdict> = hostile("effect-and-panic")
        .await
        .gate(plain::enrollment())
        .await
        .unwrap();
    assert!(failed.effects().is_empty());
    let fault = failed.verdict.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);
    assert!(fault.detail.contains("hostile on purpose"), "{fault}");
    assert!(
        failed
            .log
            .iter()
            .any(|line| line.level == "error" && line.message.contains("hostile on purpose")),
        "{:?}",
        failed.log
    );
}

#[tokio::test]
async fn recorded_decisions_are_asked_again() {
    let plugin = Plugin::from_file(artifact("smallest-gate")).unwrap();
    let before = plugin.clone().settings(json!({"prefix": "C02"})).start().await.unwrap();
    let mut lines = String::new();
    for serial in ["C02XK1", "F4K9Z2", "C03AAA"] {
        let called = before.gate(device(serial)).await.unwrap();
        let line = Recorded::line(&called.record).unwrap();
        lines.push_str(&format!("{line}\n\n"));
    }
    lines.push_str(r#"{"hook": "enrollment-gate", "plugin": "smallest-gate", "subject": "old", "verdict": "allow"}"#);
    let recorded: Vec<Recorded> = Recorded::read(lines.as_bytes()).map(Result::unwrap).collect();
    assert_eq!(recorded.len(), 4);
    for decision in &recorded[..3] {
        assert!(matches!(before.replay(decision, true).await.unwrap(), Replayed::Same));
        assert_eq!(decision.revision.as_deref(), Some(before.loaded().revision()));
    }
    assert!(matches!(
        before.replay(&recorded[3], true).await.unwrap(),
        Replayed::NotKept
    ));

    let narrower = plugin.settings(json!({"prefix": "C03"})).start().await.unwrap();
    let mut changed = Vec::new();
    for decision in &recorded[..3] {
        if let Replayed::Differs(called) = narrower.replay(decision, false).await.unwrap() {
            changed.push((
                decision.subject.clone(),
                decision.verdict.clone(),
                called.name().to_owned(),
            ));
        }
    }
    let change = |subject: &str, from: &str, to: &str| (subject.to_owned(), from.to_owned(), to.to_owned());
    assert_eq!(
        changed,
        [change("C02XK1", "allow", "deny"), change("C03AAA", "deny", "allow")]
    );
}

#[tokio::test]
async fn a_replayed_call_gets_the_answers_of_then() {
    let steps = json!([{"do": "kv-get", "key": "color"}, {"do": "now"}]).to_string();
    let then = probing().settings(json!({})).kv("color", "red").start().await.unwrap();
    let called = then.template(plain::template(steps)).await.unwrap();
    assert_eq!(called.record.journal.len(), 2);
    let line = Recorded::line(&called.record).unwrap();
    let recorded = Recorded::parse(&line).unwrap();
    let now = probing().settings(json!({})).kv("color", "blue").start().await.unwrap();
    assert!(matches!(now.replay(&recorded, true).await.unwrap(), Replayed::Same));
}

#[tokio::test]
async fn a_recorded_decision_is_asked_again_for_its_tenant() {
    let hooks = Plugin::from_file(artifact("hostile-hooks"))
        .unwrap()
        .settings(json!({"mode": "read"}));
    let then = hooks.clone().tenant("acme").start().await.unwrap();
    let called = then.gate(device("C02XK1")).await.unwrap();
    let mut line: Value = serde_json::from_str(&Recorded::line(&called.record).unwrap()).unwrap();
    line["tenant"] = json!("acme");
    let recorded = Recorded::parse(&line.to_string()).unwrap();
    let now = hooks.start().await.unwrap();
    let again = now.replay(&recorded, true).await.unwrap();
    assert!(matches!(again, Replayed::Same), "{again:?}");
    // Where the line does not say, the plugin's own tenant is meant.
    line["tenant"] = Value::Null;
    let recorded = Recorded::parse(&line.to_string()).unwrap();
    assert!(matches!(
        now.replay(&recorded, true).await.unwrap(),
        Replayed::Differs(_)
    ));
    assert!(matches!(then.replay(&recorded, true).await.unwrap(), Replayed::Same));
}

#[tokio::test]
async fn lines_that_are_no_decisions_are_named() {
    let lines = "\n{\"hook\": \"gate\"}\n";
    let error = Recorded::read(lines.as_bytes()).next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("line 2 is no decision: "), "{error}");
}

#[tokio::test]
async fn cases_of_a_file_are_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.toml");
    std::fs::write(
        &path,
        r#"
        [settings]
        prefix = "C02"

        [[case]]
        name = "ours"
        input = { stage = "authenticate", device = { serial_number = "C02XK1" } }
        expect = { verdict = "allow", effects = [], log = [] }

        [[case]]
        name = "wrong expectations are all told"
        input = { stage = "authenticate", device = { serial_number = "F4" } }
        expect = { verdict = "allow", reason = "x", answer = { deny = { message = "y" } }, log = ["z"] }

        [[case]]
        name = "a fault that nobody expects"
        settings = { prefix = 1 }
        expect = {}
        "#,
    )
    .unwrap();
    let file = CaseFile::read(&path).unwrap();
    let plugin = Plugin::from_file(artifact("smallest-gate")).unwrap();
    let mut results = Vec::new();
    for case in &file.cases {
        results.push(file.run(&plugin, case).await.problems);
    }
    assert_eq!(results[0], [] as [&str; 0]);
    assert_eq!(results[1].len(), 4, "{:?}", results[1]);
    assert!(
        results[1][0].starts_with("expected allow, got deny"),
        "{:?}",
        results[1]
    );
    assert_eq!(results[1][1], "expected the reason x, got serial-prefix");
    assert!(results[2][0].contains("/prefix"), "{:?}", results[2]);

    for (text, expected) in [
        ("", "write one with `[[case]]`"),
        ("[[case]]\nname = 'x'\nexpected = {}", "unknown field `expected`"),
        (
            "[[case]]\nname = 'x'\nexpect = {}\n[[case]]\nname = 'x'\nexpect = {}",
            "two cases are named `x`",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = CaseFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_script_can_hold_what_was_found() {
    // What the tests script is what the server finds.
    let found: FoundDevice = serde_json::from_value(json!({"device": {"enrollment_id": "E1"}})).unwrap();
    assert_eq!(found.device.enrollment_id.as_deref(), Some("E1"));
}
