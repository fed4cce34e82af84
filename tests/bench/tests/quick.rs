//! A quick run measures everything that it says it measures. How fast anything is, no test looks at.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The sections of a quick run of these subjects.
fn sections(only: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_russet-bench"))
        .args(["--quick", "--json", "--only", only])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections = report["sections"].as_array().unwrap().clone();
    for section in &sections {
        assert!(!section["method"].as_str().unwrap().is_empty());
        for figure in section["figures"].as_array().unwrap() {
            assert!(figure["samples"].as_u64().unwrap() > 0, "{figure}");
            for value in figure["values"].as_array().unwrap() {
                // A difference of two loads that are over in a moment may be anything.
                let difference = figure["what"].as_str().unwrap().starts_with("cost of ");
                assert!(difference || value["value"].as_f64().unwrap() >= 0.0, "{figure}");
                // What counts itself, such as statements, has no unit.
                let (name, unit) = (value["name"].as_str().unwrap(), value["unit"].as_str().unwrap());
                assert!(!name.is_empty() || !unit.is_empty(), "{figure}");
            }
        }
    }
    sections
}

fn has(section: &Value, what: &str) -> bool {
    let figures = section["figures"].as_array().unwrap();
    figures
        .iter()
        .any(|figure| figure["what"].as_str().unwrap().contains(what))
}

#[test]
fn hooks_are_measured_as_plugin_and_as_native_code() {
    let sections = sections("hooks,push");
    assert_eq!(sections.len(), 2);
    for what in [
        "`enrollment-gate` plugin",
        "native Rust hook, 2 tasks",
        "ratio: plugin to native",
        "one host call",
    ] {
        assert!(has(&sections[0], what), "{what}: {}", sections[0]);
    }
    assert!(has(&sections[1], "100 at once"), "{}", sections[1]);
}

#[test]
fn the_server_is_measured_from_outside() {
    let sections = sections("start,sqlite");
    assert!(has(&sections[0], "start, warm cache"), "{}", sections[0]);
    for what in [
        "enrollments",
        "idle polls",
        "command round trips",
        "plugin swap",
        "memory",
    ] {
        assert!(has(&sections[1], what), "{what}: {}", sections[1]);
    }
}

#[test]
fn swaps_shadows_and_loads_are_measured() {
    let sections = sections("swap,shadow,compile");
    assert_eq!(sections.len(), 3);
    for (section, what) in [
        (0, "memory over"),
        (0, "calls during swaps"),
        (1, "hook calls with a shadow"),
        (1, "hook calls: ratio with to without"),
        (1, "enrollments: ratio with to without"),
        (2, "`profile-template`, from the cache"),
    ] {
        assert!(has(&sections[section], what), "{what}: {}", sections[section]);
    }
}

#[test]
fn the_page_is_not_written_by_a_run_of_parts() {
    let output = Command::new(env!("CARGO_BIN_EXE_russet-bench"))
        .args(["--quick", "--write"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--write is for a whole run"));
}

/// A row's name without its numbers: a quick run has other ones.
fn without_numbers(name: &str) -> String {
    let words = name.split_whitespace();
    let words = words.map(|word| {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            "N"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_counted_is_what_the_page_on_scale_says() {
    let sections = sections("tenfold");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../core/docs/scale.md");
    let page = std::fs::read_to_string(page).unwrap();
    let names = |line: &str| {
        let name = line.strip_prefix("| ")?.split(" | ").next()?;
        Some(without_numbers(name))
    };
    let shown: BTreeSet<String> = page.lines().filter_map(names).collect();
    for figure in sections[0]["figures"].as_array().unwrap() {
        let what = without_numbers(figure["what"].as_str().unwrap());
        assert!(shown.contains(&what), "core/docs/scale.md does not show: {what}");
    }
    for what in [
        "idle poll",
        "command: its whole life",
        "network: a push",
        "rows of a tenant that moved",
    ] {
        assert!(
            std::env::var("RUSSET_TEST_SKIP_POSTGRES").is_ok() || has(&sections[0], what),
            "{what}"
        );
    }
}
