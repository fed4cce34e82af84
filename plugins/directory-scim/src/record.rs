//! What is read of a person's record, which is JSON in both services.

use std::collections::BTreeMap;

use serde_json::Value;

/// A text member that is not empty.
pub(crate) fn text(record: &Value, name: &str) -> Option<String> {
    let text = record.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The attributes that the settings ask for. What a record does not have is left out.
pub(crate) fn attributes(record: &Value, wanted: &BTreeMap<String, String>) -> Vec<(String, Vec<String>)> {
    wanted
        .iter()
        .filter_map(|(name, path)| {
            let found = path.split('/').try_fold(record, |value, level| value.get(level))?;
            let values = values(found);
            (!values.is_empty()).then(|| (name.clone(), values))
        })
        .collect()
}

fn values(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(yes) => vec![yes.to_string()],
        Value::Array(all) => all.iter().flat_map(values).collect(),
        // SCIM writes many values as objects with a `value`.
        Value::Object(object) => object.get("value").map(values).unwrap_or_default(),
        Value::Null => Vec::new(),
    }
}
