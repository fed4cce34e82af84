//! Keys from environment variables: `RUSSET_` and the path of the key in capitals, with `__` between its parts, such as
//! `RUSSET_SERVER__PUBLIC_URL`.
//!
//! Only variables with `__`, and those of top-level keys, are the configuration's: `RUSSET_TOKEN` and its like belong to
//! the command line.

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::settings::{SectionDescription, Shape};

const PREFIX: &str = "RUSSET_";
const SEPARATOR: &str = "__";

/// The variables that set a key.
pub(super) struct Environment {
    values: Dict,
}

impl Environment {
    /// Picks the variables that set a key out of `variables`.
    ///
    /// Text stays as it is, so that a password of digits is not taken for a number; a list is written with commas.
    pub(super) fn read(
        variables: impl IntoIterator<Item = (String, String)>,
        description: &SectionDescription,
    ) -> Self {
        let mut values = Dict::new();
        for (name, text) in variables {
            let Some(name) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            let path: Vec<&str> = name.split(SEPARATOR).collect();
            let key = description.key(&path);
            if path.len() == 1 && key.is_none() {
                continue;
            }
            // An unknown key is passed on, so that it is refused like one in the file.
            let value = key.map_or_else(|| Value::from(text.as_str()), |key| shaped(key.shape, &text));
            insert(&mut values, &path, value);
        }
        Self { values }
    }
}

/// A text as its key wants it. What does not fit stays text and is refused with the key's name later.
fn shaped(shape: Shape, text: &str) -> Value {
    let trimmed = text.trim();
    match shape {
        Shape::Integer => trimmed.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        Shape::Boolean => trimmed.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Shape::List => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
        Shape::Text => Value::from(text),
    }
}

fn insert(values: &mut Dict, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => {
            values.insert((*name).to_owned(), value);
        }
        [name, rest @ ..] => {
            let entry = values
                .entry((*name).to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            } else {
                let mut inner = Dict::new();
                insert(&mut inner, rest, value);
                *entry = Value::from(inner);
            }
        }
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment").interpolater(|_, keys| variable(keys))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The variable that sets the key at this path.
pub(super) fn variable(path: &[&str]) -> String {
    format!("{PREFIX}{}", path.join(SEPARATOR).to_ascii_uppercase())
}
