//! The author's verbs of the command line, without a server: from an empty folder to what another revision would change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use russet_plugin_build::artifact;
use russet_plugin_test::replay::Recorded;
use russet_plugin_test::{Plugin, plain};
use serde_json::{Value, json};
use tempfile::TempDir;

const HOOKS: [&str; 8] = [
    "enrollment-gate",
    "directory",
    "escrow-policy",
    "profile-template",
    "command-policy",
    "declaration-planner",
    "observer",
    "scheduled",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Where the plugins of these tests are built: the dependencies once, and only what changed in the next run.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    repository().join(target).join("plugin-new")
}

fn russet(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_russet"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("RUSSET_CONFIG")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let words = text(&output.stderr);
    // With `--json`, the last line is the error.
    let line = words.lines().last().unwrap_or_default();
    if let Ok(told) = serde_json::from_str::<Value>(line) {
        return told["error"]["message"].as_str().unwrap().to_owned();
    }
    // What went wrong stands after the cross, in lines that are broken to the terminal's width; progress stands before.
    let (_, words) = words.split_once('×').unwrap_or_else(|| panic!("{words}"));
    let words = words
        .split_whitespace()
        .filter(|word| !matches!(*word, "│" | "╰─▶" | "├─▶"));
    words.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn parsed(output: &Output) -> Value {
    let text = ok(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Makes a plugin of a hook.
/// Makes a plugin from a template. Each test has names of its own: cargo tells packages in one target folder by their names.
fn made(folder: &Path, name: &str, hook: &str) -> PathBuf {
    let sdk = repository().join("plugin-sdk/rust");
    let new = [
        "plugin",
        "new",
        name,
        "--hook",
        hook,
        "--sdk",
        sdk.to_str().unwrap(),
        "--json",
    ];
    let answer = parsed(&russet(folder, &new));
    assert_eq!(answer["folder"], name);
    let made = folder.join(name);
    // The versions that this workspace is tested with.
    std::fs::copy(repository().join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
    made
}

fn cargo(made: &Path, arguments: &[&str]) -> Output {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .current_dir(made)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap()
}

#[test]
fn every_template_is_a_plugin_that_passes_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let (target, out) = (target(), folder.path().join("built"));
    let (target, out) = (target.to_str().unwrap(), out.to_str().unwrap());
    for hook in HOOKS {
        let made = made(folder.path(), hook, hook);
        let test = ["plugin", "test", hook, "--target-dir", target, "--out", out, "--json"];
        let tested = parsed(&russet(folder.path(), &test));
        assert_eq!(tested["native"]["passed"], true, "{hook}: {tested}");
        assert_eq!(tested["native"]["count"], 2, "{hook}: {tested}");
        let cases = tested["cases"].as_array().unwrap();
        assert!(cases.len() >= 2, "{hook}: {tested}");
        assert!(
            cases.iter().all(|case| case["problems"] == json!([])),
            "{hook}: {tested}"
        );

        let checked = parsed(&russet(
            folder.path(),
            &["plugin", "check", &format!("built/{hook}.wasm"), "--json"],
        ));
        assert_eq!(checked["hooks"], json!([hook]), "{checked}");
        assert_eq!(checked["without_using"], json!([]), "{hook}: {checked}");

        // Machines without the two tools leave the checks out everywhere, loudly: see the Makefile.
        if std::env::var_os("RUSSET_TEST_SKIP_LINT").is_none() {
            ok(&cargo(&made, &["fmt", "--check"]));
            ok(&cargo(
                &made,
                &["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"],
            ));
        }
    }
}

#[test]
fn a_plugin_that_fails_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let made = made(folder.path(), "failing-gate", "enrollment-gate");
    let (target, out) = (target(), folder.path().join("built"));
    let test = |more: &[&str]| {
        let usual = [
            "plugin",
            "test",
            "failing-gate",
            "--target-dir",
            target.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        russet(folder.path(), &[&usual, more].concat())
    };
    let edit = |file: &str, from: &str, to: &str| {
        let path = made.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };

    edit("tests/host.toml", "verdict = \"deny\"", "verdict = \"allow\"");
    let failed = test(&["--host-only"]);
    let told = text(&failed.stdout);
    assert!(told.contains("in the real host: 1 passed, 1 failed"), "{told}");
    assert!(told.contains("FAILED any other device is refused"), "{told}");
    assert!(told.contains("expected allow, got deny"), "{told}");
    assert_eq!(refused(&failed), "the plugin fails a case in the real host");

    // The capability that is used and not asked for is named with the line to write.
    edit("plugin.toml", "\"log.write\", ", "");
    let told = refused(&test(&["--host-only"]));
    assert!(
        told.contains("the plugin uses log.write, which plugin.toml does not ask for"),
        "{told}"
    );
    assert!(
        told.contains("write `capabilities = [\"log.write\", \"settings.get\"]`"),
        "{told}"
    );
    edit("plugin.toml", "capabilities = [", "capabilities = [\"log.write\", ");

    edit("src/lib.rs", "\"C02XK1\"", "\"X02XK1\"");
    let failed = test(&[]);
    assert!(
        text(&failed.stdout).contains("the_serial_number_decides"),
        "{}",
        text(&failed.stdout)
    );
    assert!(
        refused(&failed).starts_with("the plugin fails its own tests"),
        "{}",
        refused(&failed)
    );
}

/// A folder with the smallest gate, its settings and an input.
fn gate() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(artifact("smallest-gate"), folder.path().join("gate.wasm")).unwrap();
    let write = |name: &str, value: Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    write("settings.json", json!({"prefix": "C02"}));
    write("narrower.json", json!({"prefix": "C02X"}));
    write(
        "input.json",
        json!({"stage": "authenticate", "device": {"serial_number": "F4K9Z2"}}),
    );
    folder
}

const RUN: [&str; 7] = [
    "plugin",
    "run",
    "gate.wasm",
    "--settings",
    "settings.json",
    "--input",
    "input.json",
];

#[test]
fn a_component_is_run_with_an_input() {
    let folder = gate();
    let ran = parsed(&russet(folder.path(), &[&RUN[..], &["--json"]].concat()));
    assert_eq!(
        (&ran["verdict"], &ran["reason"]),
        (&json!("deny"), &json!("serial-prefix"))
    );
    assert_eq!(ran["answer"]["deny"]["reason"], "serial-prefix");
    assert!(ran["usage"]["host_calls"].as_u64() > Some(0), "{ran}");
    let told = ok(&russet(folder.path(), &RUN));
    assert!(told.starts_with("verdict  deny\nreason   serial-prefix\n"), "{told}");

    let sample = parsed(&russet(
        folder.path(),
        &["plugin", "run", "--hook", "enrollment-gate", "--sample"],
    ));
    assert_eq!(sample["stage"], "profile");
    std::fs::write(folder.path().join("input.json"), r#"{"serial": "F4"}"#).unwrap();
    let told = refused(&russet(folder.path(), &RUN));
    assert!(told.contains("`serial` is not known; known are"), "{told}");
}

#[test]
fn a_call_that_fails_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(artifact("hostile"), folder.path().join("gate.wasm")).unwrap();
    std::fs::write(folder.path().join("settings.json"), r#"{"mode": "panic"}"#).unwrap();
    let failed = russet(
        folder.path(),
        &["plugin", "run", "gate.wasm", "--settings", "settings.json", "--json"],
    );
    let told: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(told["fault"]["kind"], "trap");
    assert!(
        told["log"][0]["message"]
            .as_str()
            .unwrap()
            .contains("hostile on purpose"),
        "{told}"
    );
    assert!(refused(&failed).contains("hostile on purpose"), "{}", refused(&failed));
}

#[test]
fn a_component_is_checked_and_looked_into() {
    let folder = gate();
    let checked = parsed(&russet(folder.path(), &["plugin", "check", "gate.wasm", "--json"]));
    assert_eq!(checked["install_flags"], json!(["--grant-asked", "--settings FILE"]));
    assert!(checked["settings"].as_str().unwrap().contains("the least"), "{checked}");
    let told = ok(&russet(
        folder.path(),
        &["plugin", "check", "gate.wasm", "--settings", "settings.json"],
    ));
    assert!(told.starts_with("smallest-gate 0.1.0: a server runs it\n"), "{told}");
    std::fs::write(folder.path().join("settings.json"), r#"{"prefix": ""}"#).unwrap();
    let told = refused(&russet(
        folder.path(),
        &["plugin", "check", "gate.wasm", "--settings", "settings.json"],
    ));
    assert!(told.contains("/prefix"), "{told}");
    std::fs::write(folder.path().join("broken.wasm"), "no wasm").unwrap();
    let told = refused(&russet(folder.path(), &["plugin", "check", "broken.wasm"]));
    assert!(told.contains("not a WebAssembly component"), "{told}");

    let told = ok(&russet(folder.path(), &["plugin", "inspect", "gate.wasm"]));
    for part in [
        "enrollment-gate",
        "log.write, settings.get",
        "device.serial-number",
        "nobody",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    std::fs::copy(artifact("hostile-hooks"), folder.path().join("all.wasm")).unwrap();
    let told = ok(&russet(folder.path(), &["plugin", "inspect", "all.wasm"]));
    for part in ["nightly: daily at 02:00 UTC", "events"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_component_is_measured() {
    let folder = gate();
    let bench = [
        "plugin",
        "bench",
        "gate.wasm",
        "--settings",
        "settings.json",
        "--seconds",
        "1",
        "--json",
    ];
    let measured = parsed(&russet(folder.path(), &bench));
    assert!(measured["calls"].as_u64() > Some(0), "{measured}");
    assert!(measured["p99_us"].as_f64() >= measured["p50_us"].as_f64(), "{measured}");
    assert!(measured["memory_bytes"].as_u64() > Some(0), "{measured}");
}

/// Decisions of the smallest gate with the prefix `C02`, as a server exports them.
fn decisions(folder: &Path, serials: &[&str]) {
    let mut lines = String::new();
    for serial in serials {
        let input = json!({"stage": "authenticate", "device": {"serial_number": serial}});
        std::fs::write(folder.join("input.json"), input.to_string()).unwrap();
        let ran = parsed(&russet(
            folder,
            &[&RUN[..], &["--json", "--record", "decisions.jsonl"]].concat(),
        ));
        assert!(ran["verdict"].is_string());
    }
    lines.push_str(
        r#"{"hook": "enrollment-gate", "plugin": "smallest-gate", "subject": "old", "verdict": "allow"}
{"hook": "enrollment-gate", "plugin": "another", "subject": "x", "verdict": "allow"}
"#,
    );
    let path = folder.join("decisions.jsonl");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, before + &lines).unwrap();
}

#[test]
fn the_same_revision_decides_the_same_and_another_shows_what_it_changes() {
    let folder = gate();
    decisions(folder.path(), &["C02XK1", "C02AAA", "F4K9Z2"]);
    let verb = |verb: &str, settings: &str, more: &[&str]| {
        let usual = ["plugin", verb, "gate.wasm", "decisions.jsonl", "--settings", settings];
        russet(folder.path(), &[&usual, more].concat())
    };
    let told = ok(&verb("replay", "settings.json", &[]));
    assert_eq!(
        told,
        "3 of 3 decisions are the same, byte for byte (1 are not kept any more; 1 are of other plugins)\n"
    );

    let differing = verb("replay", "narrower.json", &["--json"]);
    let told: Value = serde_json::from_slice(&differing.stdout).unwrap();
    assert_eq!((&told["asked"], &told["same"]), (&json!(3), &json!(2)), "{told}");
    assert_eq!(told["differences"][0]["subject"], "C02AAA");
    assert!(
        refused(&differing).starts_with("1 of 3 decisions are not as they were"),
        "{}",
        refused(&differing)
    );
    assert!(text(&differing.stderr).contains("3 of the decisions were made by another revision"));

    let told = ok(&verb("diff", "narrower.json", &[]));
    assert!(told.starts_with("1 of 3 would be refused\n"), "{told}");
    let row = told.lines().last().unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells,
        ["enrollment-gate", "allow", "deny", "1", "serial-prefix", "C02AAA"],
        "{told}"
    );
    let told = parsed(&verb("diff", "narrower.json", &["--json"]));
    assert_eq!(
        (&told["newly_refused"], &told["no_longer_refused"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(told["changes"][0]["samples"], json!(["C02AAA"]));

    std::fs::write(folder.path().join("decisions.jsonl"), "").unwrap();
    let told = refused(&verb("replay", "settings.json", &[]));
    assert!(
        told.contains("holds no decision that this plugin could be asked again"),
        "{told}"
    );
}

#[tokio::test]
async fn the_decisions_of_another_tenant_are_the_same_too() {
    let settings = json!({"mode": "read"});
    let plugin = Plugin::from_file(artifact("hostile-hooks")).unwrap();
    let running = plugin.settings(settings.clone()).tenant("acme").start().await.unwrap();
    let called = running.gate(plain::enrollment()).await.unwrap();
    let mut line: Value = serde_json::from_str(&Recorded::line(&called.record).unwrap()).unwrap();
    line["tenant"] = json!("acme");

    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(artifact("hostile-hooks"), folder.path().join("hooks.wasm")).unwrap();
    std::fs::write(folder.path().join("settings.json"), settings.to_string()).unwrap();
    std::fs::write(folder.path().join("decisions.jsonl"), format!("{line}\n")).unwrap();
    let replay = [
        "plugin",
        "replay",
        "hooks.wasm",
        "decisions.jsonl",
        "--settings",
        "settings.json",
    ];
    assert_eq!(
        ok(&russet(folder.path(), &replay)),
        "1 of 1 decisions are the same, byte for byte\n"
    );
}
