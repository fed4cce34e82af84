//! What a schema says of conditions is what this crate reads, in each of the copies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use russet_plugin::condition::{Condition, JSON_SCHEMA};
use serde_json::{Value, json};

fn definitions() -> Value {
    serde_json::from_str::<Value>(JSON_SCHEMA).unwrap()["$defs"].clone()
}

/// The names between backticks in what serde says of a name that it does not know, without that one.
fn expected_names(error: &str) -> BTreeSet<String> {
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn names(values: impl IntoIterator<Item = impl ToString>) -> BTreeSet<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

#[test]
fn the_schema_has_the_members_that_are_read() {
    let schema = definitions()["condition"].clone();
    let properties = schema["properties"].as_object().unwrap().clone();
    let error = serde_json::from_value::<Condition>(json!({"colour": 1})).unwrap_err();
    assert_eq!(names(properties.keys()), expected_names(&error.to_string()));
    assert_eq!(schema["additionalProperties"], false);

    let error = serde_json::from_value::<Condition>(json!({"family": ["Newton"]})).unwrap_err();
    let families = properties["family"]["items"]["enum"].as_array().unwrap();
    let families = families.iter().map(|family| family.as_str().unwrap());
    assert_eq!(names(families), expected_names(&error.to_string()));
    // Each member in a form that the schema lets through is read.
    for (name, schema) in &properties {
        let value = match schema["$ref"].as_str().or(schema["type"].as_str()).unwrap() {
            "#/$defs/patterns" => json!(["a*"]),
            "#/$defs/values" => json!({"role": ["a*"]}),
            "#/$defs/version" => json!("27.1"),
            "#/$defs/condition" => json!({"serial": ["C02"]}),
            "boolean" => json!(true),
            "array" if schema["items"]["enum"].is_array() => json!([schema["items"]["enum"][0]]),
            "array" => json!([{"serial": ["C02"]}]),
            other => panic!("{name}: {other}"),
        };
        let read = serde_json::from_value::<Condition>(json!({ name: value })).unwrap();
        assert_ne!(read, Condition::default(), "{name}");
    }
}

#[test]
fn the_bundled_plugins_have_copies_of_it() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(plugins).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(path.join("settings.schema.json")) else {
            continue;
        };
        let schema: Value = serde_json::from_str(&text).unwrap();
        if schema["$defs"]["condition"].is_null() {
            continue;
        }
        for (name, definition) in definitions().as_object().unwrap() {
            let mut copy = schema["$defs"][name].clone();
            let mut definition = definition.clone();
            // An example decides nothing.
            for each in [&mut copy, &mut definition] {
                each.as_object_mut().unwrap().remove("examples");
            }
            assert_eq!(copy, definition, "{name} in {}", path.display());
        }
        copies.push(path.file_name().unwrap().to_owned().into_string().unwrap());
    }
    copies.sort();
    assert_eq!(
        copies,
        ["command-guard", "enrollment-gate", "escrow-policy", "os-update-policy"]
    );
}
