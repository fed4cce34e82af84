//! What a template can read.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::Serde;
use russet_plugin::template::TemplateRequest;
use russet_plugin::{Device, Error, Person};
use serde_json::{Map, Value as Json};

/// The values of a template: `device`, `person`, `settings`, `vars` and `tenant`. What is not known is not there, so that a
/// template that needs it fails with its name, and one that does not can ask `is defined`.
pub(crate) fn of(settings: Map<String, Json>, request: &TemplateRequest) -> Result<Value, Error> {
    let variables: Map<String, Json> = serde_json::from_str(&request.variables())
        .map_err(|error| Error::new(format_args!("the profile's variables are no JSON object: {error}")))?;
    let mut values = BTreeMap::from([
        ("device", device(&request.device())),
        ("settings", Value::from(Serde(settings))),
        ("tenant", request.tenant().into()),
        ("vars", Value::from(Serde(variables))),
    ]);
    if let Some(who) = request.person() {
        values.insert("person", person(&who));
    }
    Ok(Value::from_pairs(values))
}

fn device(device: &Device) -> Value {
    let texts = [
        ("udid", device.udid()),
        ("serial_number", device.serial_number()),
        ("product_name", device.product_name()),
        ("model", device.model()),
        ("model_name", device.model_name()),
        ("device_name", device.device_name()),
        ("os_version", device.os_version()),
        ("build_version", device.build_version()),
        ("imei", device.imei()),
        ("meid", device.meid()),
        ("language", device.language()),
        ("enrollment_id", device.enrollment_id()),
    ];
    let attributes = Value::from_pairs(device.attributes());
    Value::from_pairs(known(texts).chain([("attributes", attributes)]))
}

fn person(person: &Person) -> Value {
    let texts = [
        ("id", Some(person.id())),
        ("user_name", Some(person.user_name())),
        ("full_name", person.full_name()),
        ("email", person.email()),
    ];
    let attributes = Value::from_pairs(
        person
            .attributes()
            .into_iter()
            .map(|(name, values)| (name, Value::from(values))),
    );
    let groups = Value::from(person.groups());
    Value::from_pairs(known(texts).chain([("attributes", attributes), ("groups", groups)]))
}

fn known<const N: usize>(texts: [(&'static str, Option<String>); N]) -> impl Iterator<Item = (&'static str, Value)> {
    texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, Value::from(text?))))
}
