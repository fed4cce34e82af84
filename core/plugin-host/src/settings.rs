//! The settings of a plugin against the schema in its manifest.

use jsonschema::PatternOptions;
use serde::Serialize;
use serde_json::Value;

use crate::Manifest;

/// The largest settings in bytes.
const MAX_SETTINGS: usize = 256 << 10;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 50;
/// The most parts of a schema, counted again wherever a reference leads to them.
const MAX_PARTS: u32 = 20_000;
/// How deep a schema may nest, references followed.
const MAX_DEPTH: u32 = 64;

/// One thing that is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsProblem {
    /// Where, as a JSON pointer; empty for the whole.
    pub path: String,
    /// What.
    pub problem: String,
}

impl std::fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The schema in the manifest can not be used: for the plugin's author.
    #[error("the settings schema in the manifest can not be used: {0}")]
    Schema(String),
    /// The settings do not match it.
    #[error("the settings are not valid: {}", list(.0))]
    Invalid(Vec<SettingsProblem>),
}

fn list(problems: &[SettingsProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Checks settings. The values themselves are not repeated in the errors: they may be secret.
///
/// # Errors
///
/// See [`SettingsError`].
pub fn check_settings(manifest: &Manifest, settings: &Value) -> Result<(), SettingsError> {
    let whole = |problem: String| {
        SettingsError::Invalid(vec![SettingsProblem {
            path: String::new(),
            problem,
        }])
    };
    let Some(object) = settings.as_object() else {
        return Err(whole("not a JSON object".to_owned()));
    };
    if settings.to_string().len() > MAX_SETTINGS {
        return Err(whole(format!("larger than {MAX_SETTINGS} bytes")));
    }
    let Some(schema) = &manifest.settings_schema else {
        if let Some(name) = object.keys().next() {
            return Err(whole(format!("the plugin has no settings, and {name:?} is given")));
        }
        return Ok(());
    };
    measure(schema, schema, MAX_DEPTH, &mut { MAX_PARTS })?;
    let validator = jsonschema::options()
        // Without backtracking: a pattern comes from whoever wrote the plugin.
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| SettingsError::Schema(error.masked().to_string()))?;
    let problems: Vec<SettingsProblem> = validator
        .iter_errors(settings)
        .take(MAX_PROBLEMS)
        .map(|error| SettingsProblem {
            path: error.instance_path().to_string(),
            problem: error.masked().to_string(),
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SettingsError::Invalid(problems))
    }
}

/// Refuses a schema that takes too long to check against: each reference to what refers twice doubles the time, and so
/// does each level of settings if a schema refers to itself. It comes from whoever wrote the plugin.
fn measure(root: &Value, part: &Value, depth: u32, left: &mut u32) -> Result<(), SettingsError> {
    let refused = |problem: String| Err(SettingsError::Schema(problem));
    if depth == 0 {
        return refused("it refers to itself, or nests too deep".to_owned());
    }
    if *left == 0 {
        return refused(format!(
            "it has more than {MAX_PARTS} parts when its references are followed"
        ));
    }
    *left -= 1;
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("$ref", Value::String(reference)) => {
                        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                        let Some(target) = target else {
                            return refused(
                                "it has a $ref that does not lead to a part of it, as in #/$defs/x".to_owned(),
                            );
                        };
                        measure(root, target, depth - 1, left)?;
                    }
                    // They would lead where this does not look.
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                        return refused(format!("{name} is not supported; use $ref"));
                    }
                    ("$id" | "id", Value::String(_)) if !std::ptr::eq(part, root) => {
                        return refused("only the whole may have an $id".to_owned());
                    }
                    _ => measure(root, member, depth - 1, left)?,
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                measure(root, item, depth - 1, left)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, settings: &Value) -> Result<(), SettingsError> {
        let manifest = json!({"name": "x", "version": "1.0.0", "hooks": [], "settings_schema": schema});
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        check_settings(&manifest, settings)
    }

    #[test]
    fn a_schema_may_refer_to_its_parts() {
        let schema = json!({
            "$id": "https://example.com/settings",
            "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name"}, "id": {"type": "integer"}},
            "$defs": {"name": {"type": "string"}},
        });
        assert_eq!(check(&schema, &json!({"a": "x", "b": "y", "id": 1})), Ok(()));
        assert!(matches!(
            check(&schema, &json!({"b": 1})),
            Err(SettingsError::Invalid(_))
        ));
    }

    #[test]
    fn a_schema_that_takes_for_ever_is_refused() {
        // Each level refers twice to the next: 2^60 checks.
        let mut parts = serde_json::Map::from_iter([("d30".to_owned(), json!({"type": "object"}))]);
        for level in 0..30 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            parts.insert(format!("d{level}"), json!({"allOf": [next, next, next, next]}));
        }
        let doubling = json!({"$ref": "#/$defs/d0", "$defs": parts});
        let within = json!({"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
        let anchored = json!({"$dynamicAnchor": "n", "properties": {"a": {"$dynamicRef": "#n"}}});
        let elsewhere = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
        let embedded = json!({"$defs": {"a": {"$id": "https://example.com/a", "not": {"$ref": "#"}}}});
        for schema in [doubling, within, anchored, elsewhere, embedded] {
            let refused = check(&schema, &json!({"a": {}}));
            assert!(matches!(refused, Err(SettingsError::Schema(_))), "{refused:?}");
        }
    }
}
