//! What is refused before anything runs, and what is said about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{RENDERED, artifact, template_component, with_manifest};
use russet_hooks::{HookKind, Schedule, ScheduleTime};
use russet_plugin_host::{CAPABILITIES, InspectError, Manifest, ManifestError, component_digest, inspect};
use serde_json::{Value, json};

fn manifest() -> Value {
    json!({"name": "handmade", "version": "0.1.0", "hooks": ["profile-template"]})
}

fn component(text: &str) -> Vec<u8> {
    with_manifest(&wat::parse_str(text).unwrap(), &manifest())
}

fn refusal(component: &[u8]) -> String {
    inspect(component).unwrap_err().to_string()
}

#[test]
fn a_bundled_component_tells_what_it_is() {
    let bytes = artifact("hostile");
    let inspection = inspect(&bytes).unwrap();
    assert_eq!(inspection.manifest.name, "hostile");
    assert_eq!(inspection.hooks, BTreeSet::from([HookKind::EnrollmentGate]));
    assert_eq!(
        inspection.capabilities,
        ["ldap.search", "log.write", "settings.get"].map(str::to_owned).into()
    );
    assert!(
        inspection.reads.contains("device.serial-number"),
        "{:?}",
        inspection.reads
    );
    assert_eq!(inspection.size, bytes.len());
    assert_eq!(inspection.digest, component_digest(&bytes));
    assert_eq!(inspection.digest.len(), 64);
}

#[test]
fn what_is_no_component_is_refused() {
    assert!(matches!(
        inspect(b"not wasm at all"),
        Err(InspectError::Manifest(ManifestError::NotWasm(_)))
    ));
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(
        inspect(&module),
        Err(InspectError::Manifest(ManifestError::CoreModule))
    ));
    let plain = wat::parse_str("(component)").unwrap();
    assert!(matches!(
        inspect(&plain),
        Err(InspectError::Manifest(ManifestError::Missing))
    ));
    let twice = with_manifest(&with_manifest(&plain, &manifest()), &manifest());
    assert!(matches!(
        inspect(&twice),
        Err(InspectError::Manifest(ManifestError::Repeated))
    ));
    let mut cut = artifact("hostile");
    cut.truncate(cut.len() / 2);
    assert!(inspect(&cut).is_err());
}

#[test]
fn a_manifest_hidden_in_a_nested_module_does_not_count() {
    let text = r#"(component (core module (@custom "russet-manifest" "{}")))"#;
    let bytes = wat::parse_str(text).unwrap();
    assert!(matches!(
        inspect(&bytes),
        Err(InspectError::Manifest(ManifestError::Missing))
    ));
}

#[test]
fn a_manifest_is_read_strictly() {
    for (change, expected) in [
        (json!({"name": "Has Spaces"}), "the name"),
        (json!({"name": "x".repeat(65)}), "the name"),
        (json!({"name": ""}), "the name"),
        (json!({"version": "1"}), "unexpected end"),
        (json!({"hooks": []}), "no hook"),
        (json!({"hooks": ["enrolment-gate"]}), "unknown variant"),
        (json!({"capabilities": ["files.read"]}), "known are log.write"),
        (json!({"settings_schema": true}), "settings_schema"),
        (json!({"defaults": []}), "defaults"),
        (json!({"publisher": "me"}), "unknown field"),
    ] {
        let mut document = manifest();
        document
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let error = Manifest::parse(document.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{document}: {error}");
    }
    assert_eq!(
        Manifest::parse(manifest().to_string().as_bytes()).unwrap().name,
        "handmade"
    );
}

#[test]
fn wasi_that_nobody_offers_is_refused_by_name() {
    for import in [
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:keyvalue/store@0.2.0",
    ] {
        let text = refusal(&component(&format!(
            r#"(component (import "{import}" (instance (export "go" (func)))))"#
        )));
        assert!(text.contains(import) && text.contains("sockets of 0.2"), "{text}");
    }
}

#[test]
fn every_function_of_the_contract_is_a_capability_and_no_other() {
    let mut interface = String::new();
    let mut functions = BTreeSet::new();
    for line in include_str!("../../../wit/capabilities.wit").lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("interface ") {
            interface = name.trim_end_matches(" {").to_owned();
        } else if let Some((name, _)) = line.split_once(": func(") {
            functions.insert(format!("{interface}.{name}"));
        }
    }
    let known: BTreeSet<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(functions, known);
    assert_eq!(known.len(), CAPABILITIES.len(), "one is listed twice");
}

#[test]
fn events_and_schedules_belong_to_their_hooks() {
    let with = |hooks: Value, change: Value| {
        let mut document = manifest();
        document["hooks"] = hooks;
        document
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        Manifest::parse(document.to_string().as_bytes()).map_err(|error| error.to_string())
    };
    let observer = || json!(["observer"]);
    let scheduled = || json!(["scheduled"]);
    assert!(with(observer(), json!({"events": ["*", "enrollment.", "command.answered"]})).is_ok());
    for (hooks, change, expected) in [
        (observer(), json!({}), "name their kinds"),
        (json!(["directory"]), json!({"events": ["*"]}), "this plugin is none"),
        (observer(), json!({"events": ["Has Spaces"]}), "kind of event"),
        (observer(), json!({"events": [""]}), "kind of event"),
        (observer(), json!({"events": vec!["a"; 101]}), "more than 100"),
        (
            json!(["directory"]),
            json!({"schedules": [{"name": "a", "every_minutes": 5}]}),
            "implement `scheduled`",
        ),
        (scheduled(), json!({"schedules": [{"name": "a"}]}), "needs either"),
        (
            scheduled(),
            json!({"schedules": [{"name": "a", "every_minutes": 0}]}),
            "needs either",
        ),
        (
            scheduled(),
            json!({"schedules": [{"name": "a", "every_minutes": 5, "daily_at": "02:00"}]}),
            "needs either",
        ),
        (
            scheduled(),
            json!({"schedules": [{"name": "a", "daily_at": "24:00"}]}),
            "needs either",
        ),
        (
            scheduled(),
            json!({"schedules": [{"name": "a", "every_minutes": 5}, {"name": "a", "every_minutes": 6}]}),
            "used twice",
        ),
    ] {
        let error = with(hooks, change.clone()).unwrap_err();
        assert!(error.contains(expected), "{change}: {error}");
    }
    let manifest = with(
        scheduled(),
        json!({"schedules": [{"name": "often", "every_minutes": 5}, {"name": "nightly", "daily_at": "02:30"}]}),
    )
    .unwrap();
    assert_eq!(
        manifest.schedules(),
        [
            Schedule {
                name: "often".to_owned(),
                when: ScheduleTime::EveryMinutes(5),
            },
            Schedule {
                name: "nightly".to_owned(),
                when: ScheduleTime::DailyAt { hour: 2, minute: 30 },
            },
        ]
    );
}

#[test]
fn unknown_imports_are_refused_by_name() {
    for (import, expected) in [
        (
            r#"(import "acme:thing/api@1.0.0" (instance (export "go" (func))))"#,
            "acme:thing/api@1.0.0",
        ),
        (
            r#"(import "russet:plugin/files@0.1.0" (instance (export "read" (func))))"#,
            "files.read",
        ),
        (
            r#"(import "russet:plugin/log@0.1.0" (instance (export "erase" (func))))"#,
            "log.erase",
        ),
        (r#"(import "go" (func))"#, "go"),
    ] {
        let text = refusal(&component(&format!("(component {import})")));
        assert!(text.contains("does not offer") && text.contains(expected), "{text}");
    }
}

#[test]
fn another_version_of_the_contract_is_refused() {
    let text = refusal(&component(
        r#"(component (import "russet:plugin/clock@0.2.0" (instance (export "now-ms" (func (result u64))))))"#,
    ));
    assert!(text.contains("russet:plugin@0.2.0"), "{text}");
}

#[test]
fn an_import_that_the_manifest_does_not_ask_for_is_refused() {
    let text = refusal(&component(
        r#"(component (import "russet:plugin/clock@0.1.0" (instance (export "now-ms" (func (result u64))))))"#,
    ));
    assert!(text.contains("clock.now-ms") && text.contains("plugin.toml"), "{text}");
}

#[test]
fn hooks_are_named_and_exported() {
    let text = refusal(&component("(component)"));
    assert!(
        text.contains("profile-template") && text.contains("not exported"),
        "{text}"
    );

    let good = template_component("", "unreachable", RENDERED);
    assert_eq!(
        inspect(&good).unwrap().hooks,
        BTreeSet::from([HookKind::ProfileTemplate])
    );
}
