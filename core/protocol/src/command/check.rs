//! Holding a command's keys against their schema, and naming every key that is wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plist::{Dictionary, Value};

use super::schema::{Key, Kind};
use super::{KeyProblem, Source, known};
use crate::fields::printable;

/// Checks `body` against `keys`; what is wrong goes to `problems`. Returns the body with data given as text decoded.
pub(super) fn dictionary(body: Dictionary, keys: &[Key], source: Source, problems: &mut Vec<KeyProblem>) -> Dictionary {
    Check {
        source,
        problems,
        above: String::new(),
    }
    .dictionary(body, keys)
}

struct Check<'a> {
    source: Source,
    problems: &'a mut Vec<KeyProblem>,
    /// The keys above this one, each followed by a dot.
    above: String,
}

impl Check<'_> {
    fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        let key = format!("{}{}", self.above, printable(key));
        self.problems.push(KeyProblem {
            key,
            problem: problem.into(),
        });
    }

    fn dictionary(&mut self, mut body: Dictionary, keys: &[Key]) -> Dictionary {
        let mut checked = Dictionary::new();
        for key in keys {
            match body.remove(key.name) {
                Some(value) => {
                    if let Some(value) = self.value(key, value) {
                        checked.insert(key.name.to_owned(), value);
                    }
                }
                None if key.required => self.wrong(key.name, format!("is required: {}", expected(key.kind))),
                None => {}
            }
        }
        let mut unknown: Vec<&String> = body.keys().collect();
        unknown.sort();
        for unknown in unknown {
            let problem = match known::nearest(unknown, keys.iter().map(|key| key.name)) {
                Some(near) => format!("is unknown; did you mean {near}?"),
                None if keys.is_empty() => "is unknown; this takes no keys".to_owned(),
                None => {
                    format!(
                        "is unknown; known are {}",
                        keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
                    )
                }
            };
            self.wrong(unknown, problem);
        }
        checked
    }

    fn value(&mut self, key: &Key, value: Value) -> Option<Value> {
        let checked = match (key.kind, value) {
            (Kind::Boolean, Value::Boolean(flag)) => Some(Value::Boolean(flag)),
            (Kind::Data { max }, value) => self.bytes(value).filter(|bytes| fits(bytes, max)).map(Value::Data),
            (Kind::Text, Value::String(text)) if !text.is_empty() => Some(Value::String(text)),
            (Kind::Pin, Value::String(pin)) if pin.chars().count() == 6 => Some(Value::String(pin)),
            (Kind::OneOf(names), Value::String(text)) if names.contains(&text.as_str()) => Some(Value::String(text)),
            (Kind::Texts, Value::Array(items)) if is_texts(&items) => Some(Value::Array(items)),
            (Kind::Dictionary(keys), Value::Dictionary(body)) => {
                let above = self.above.len();
                self.above.push_str(key.name);
                self.above.push('.');
                let body = self.dictionary(body, keys);
                self.above.truncate(above);
                Some(Value::Dictionary(body))
            }
            _ => None,
        };
        if checked.is_none() {
            self.wrong(key.name, format!("must be {}", expected(key.kind)));
        }
        checked
    }

    fn bytes(&self, value: Value) -> Option<Vec<u8>> {
        match value {
            Value::Data(bytes) => Some(bytes),
            Value::String(text) if self.source == Source::Json => STANDARD.decode(text).ok(),
            _ => None,
        }
    }
}

fn fits(bytes: &[u8], max: Option<usize>) -> bool {
    !bytes.is_empty() && max.is_none_or(|max| bytes.len() <= max)
}

fn is_texts(items: &[Value]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| item.as_string().is_some_and(|text| !text.is_empty()))
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Data { max: None } => "data that is not empty (in JSON: a base64 string)".to_owned(),
        Kind::Data { max: Some(max) } => format!("data of 1 to {max} bytes (in JSON: a base64 string)"),
        Kind::Text => "a string that is not empty".to_owned(),
        Kind::Pin => "a string of six characters".to_owned(),
        Kind::Texts => "a list of one or more strings".to_owned(),
        Kind::OneOf(names) => format!("one of {}", names.join(", ")),
        Kind::Dictionary(_) => "a dictionary".to_owned(),
    }
}
