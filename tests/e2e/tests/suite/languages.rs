//! The smallest plugin in JavaScript and in Python: built by their toolchains from the same WIT, installed, and asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use russet_tests::{Cli, World, program, workspace};
use serde_json::{Value, json};

/// Where `tests/setup/install` puts the toolchains.
fn toolchains() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    workspace().join(target).join("toolchains")
}

/// Builds an example as its README says; the plugin's file.
fn build(example: &str, out: &Path) -> PathBuf {
    let toolchains = toolchains();
    let own = [
        toolchains.join("javascript/node_modules/.bin"),
        toolchains.join("python/bin"),
    ];
    for folder in &own {
        assert!(
            folder.is_dir(),
            "{} is missing; run `make setup-test`",
            folder.display()
        );
    }
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&usual))).unwrap();
    let output = Command::new(program("russet"))
        .args(["plugin", "build", "--out"])
        .arg(out)
        .arg(workspace().join("examples").join(example))
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.join(example).with_extension("wasm")
}

/// Installs it with the limits that its run time needs, and enrolls a device of the company's and another.
async fn decides(example: &str, memory: &str) {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = build(example, folder.path()).display().to_string();
    let inspected = Cli::offline(&["plugin", "inspect", &file, "--json"], folder.path())
        .ok()
        .json();
    let uses: Vec<&str> = inspected["component"]["capabilities"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(uses, ["settings.get"], "its world is its own, and narrow");

    let settings = folder.path().join("settings.json");
    std::fs::write(&settings, r#"{"prefix": "C02"}"#).unwrap();
    let settings = settings.display().to_string();
    let install = ["plugin", "install", &file, "--grant-asked", "--settings", &settings];
    let limits = ["--memory", memory, "--cpu-ms", "5000"];
    world.server.cli(&[&install[..], &limits].concat()).ok();
    let shown = world.admin.get(&format!("/plugins/{example}")).await.ok();
    let memory: u64 = memory.parse().unwrap();
    assert_eq!(
        shown["grants"]["limits"],
        json!({"memory_bytes": memory << 20, "cpu_ms": 5_000}),
        "{shown}"
    );

    world.enrolled("C02LANGUAGE1").await;
    let refusal = world.mac("F4KLANGUAGE1").build().unwrap().enroll().await.unwrap_err();
    assert!(
        refusal.to_string().contains("does not belong to the company"),
        "{refusal}"
    );
    // By hand, nothing is known of the device when it asks for its profile.
    world.by_hand("C02LANGUAGE2").build().unwrap().enroll().await.unwrap();
    let refusal = world
        .by_hand("F4KLANGUAGE2")
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap_err();
    assert_eq!(refusal.status(), Some(403), "{refusal}");

    // Other settings, the same component and grants.
    let settings = json!({"settings": {"prefix": "F4K"}});
    world.admin.put(&format!("/plugins/{example}"), &settings).await.ok();
    world.enrolled("F4KLANGUAGE3").await;
    let decisions = world.admin.decisions().await;
    assert!(
        decisions.iter().all(|decision| decision["fault"].is_null()),
        "{decisions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_javascript_decides() {
    decides("smallest-gate-js", "32").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_python_decides() {
    decides("smallest-gate-python", "64").await;
}
