//! The settings of a plugin against the schema in its manifest.

use jsonschema::PatternOptions;
use serde::Serialize;
use serde_json::Value;

use crate::Manifest;

/// The largest settings in bytes.
const MAX_SETTINGS: usize = 256 << 10;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 50;
/// The most parts of a schema.
const MAX_PARTS: u32 = 20_000;
/// How deep a schema may nest.
const MAX_DEPTH: u32 = 64;
/// The most parts of a schema that are applied to settings, each counted as often as it is.
const MAX_WORK: u32 = 200_000;
/// How deep the applying may nest, references followed.
const MAX_APPLIED: u32 = 256;

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
    form(schema, schema, MAX_DEPTH, &mut { MAX_PARTS })?;
    let mut work = Work {
        root: schema,
        left: MAX_WORK,
    };
    work.apply(schema, settings, MAX_APPLIED)?;
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

/// Refuses a schema that can not be measured. It comes from whoever wrote the plugin.
fn form(root: &Value, part: &Value, depth: u32, left: &mut u32) -> Result<(), SettingsError> {
    let refused = |problem: String| Err(SettingsError::Schema(problem));
    if depth == 0 {
        return refused("it nests too deep".to_owned());
    }
    if *left == 0 {
        return refused(format!("it has more than {MAX_PARTS} parts"));
    }
    *left -= 1;
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("$ref", Value::String(reference)) => {
                        if target(root, reference).is_none() {
                            return refused(
                                "it has a $ref that does not lead to a part of it, as in #/$defs/x".to_owned(),
                            );
                        }
                    }
                    // They would lead where this does not look.
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                        return refused(format!("{name} is not supported; use $ref"));
                    }
                    ("$id" | "id", Value::String(_)) if !std::ptr::eq(part, root) => {
                        return refused("only the whole may have an $id".to_owned());
                    }
                    _ => form(root, member, depth - 1, left)?,
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                form(root, item, depth - 1, left)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
}

/// Refuses settings that would take too long to check: a schema may refer to itself, as conditions of conditions do, and
/// one that does so twice doubles the work with each level of the settings. Counts each part of the schema where the
/// validator would apply it, and a little more.
struct Work<'a> {
    root: &'a Value,
    left: u32,
}

impl Work<'_> {
    fn apply(&mut self, schema: &Value, settings: &Value, depth: u32) -> Result<(), SettingsError> {
        let Value::Object(keywords) = schema else {
            return Ok(());
        };
        if depth == 0 {
            return Err(SettingsError::Schema("it refers to itself without an end".to_owned()));
        }
        if self.left == 0 {
            return Err(SettingsError::Schema(format!(
                "checking these settings takes more than {MAX_WORK} steps"
            )));
        }
        self.left -= 1;
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    if let Some(target) = target(self.root, reference) {
                        self.apply(target, settings, depth - 1)?;
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                    for schema in schemas {
                        self.apply(schema, settings, depth - 1)?;
                    }
                }
                ("not" | "if" | "then" | "else", schema) => self.apply(schema, settings, depth - 1)?,
                ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                    for schema in schemas.values() {
                        self.apply(schema, settings, depth - 1)?;
                    }
                }
                ("properties", Value::Object(schemas)) => {
                    for (name, schema) in schemas {
                        if let Some(member) = settings.get(name) {
                            self.apply(schema, member, depth - 1)?;
                        }
                    }
                }
                ("patternProperties", Value::Object(schemas)) => {
                    for schema in schemas.values() {
                        self.apply_to_all(schema, settings, depth)?;
                    }
                }
                ("prefixItems", Value::Array(schemas)) => {
                    for schema in schemas {
                        self.apply_to_all(schema, settings, depth)?;
                    }
                }
                // Before draft 2020-12 there were several of them in an array.
                ("items", Value::Array(schemas)) => {
                    for schema in schemas {
                        self.apply_to_all(schema, settings, depth)?;
                    }
                }
                (
                    "items"
                    | "additionalItems"
                    | "unevaluatedItems"
                    | "contains"
                    | "additionalProperties"
                    | "unevaluatedProperties"
                    | "propertyNames",
                    schema,
                ) => self.apply_to_all(schema, settings, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Applies a schema to each member or element.
    fn apply_to_all(&mut self, schema: &Value, settings: &Value, depth: u32) -> Result<(), SettingsError> {
        match settings {
            Value::Object(members) => members
                .values()
                .try_for_each(|member| self.apply(schema, member, depth - 1)),
            Value::Array(items) => items.iter().try_for_each(|item| self.apply(schema, item, depth - 1)),
            _ => Ok(()),
        }
    }
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
    fn a_schema_may_refer_to_itself_as_conditions_of_conditions_do() {
        let schema = json!({
            "properties": {"when": {"$ref": "#/$defs/condition"}},
            "$defs": {"condition": {
                "type": "object",
                "properties": {
                    "all": {"type": "array", "items": {"$ref": "#/$defs/condition"}},
                    "any": {"type": "array", "items": {"$ref": "#/$defs/condition"}},
                    "not": {"$ref": "#/$defs/condition"},
                    "serial": {"type": "string"},
                },
                "additionalProperties": false,
            }},
        });
        let nested = (0..20).fold(
            json!({"serial": "C02*"}),
            |inner, _| json!({"all": [inner, {"not": {"serial": "X"}}]}),
        );
        assert_eq!(check(&schema, &json!({ "when": nested })), Ok(()));
        assert!(matches!(
            check(&schema, &json!({"when": {"any": [{"not": {"serial": 3}}]}})),
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
        let endless = json!({"allOf": [{"$ref": "#"}]});
        // As deep as the doubling needs to be of any effect.
        let deep = (0..40).fold(json!({}), |settings, _| json!({ "a": settings }));
        let anchored = json!({"$dynamicAnchor": "n", "properties": {"a": {"$dynamicRef": "#n"}}});
        let elsewhere = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
        let embedded = json!({"$defs": {"a": {"$id": "https://example.com/a", "not": {"$ref": "#"}}}});
        for schema in [doubling, within, endless, anchored, elsewhere, embedded] {
            let refused = check(&schema, &deep);
            assert!(matches!(refused, Err(SettingsError::Schema(_))), "{refused:?}");
        }
    }
}
