//! The settings that the operator gave the plugin. They are no place for secrets: connections hold those.

use std::any::TypeId;

use serde::de::DeserializeOwned;

use crate::Error;

/// The settings, parsed. The hooks get them as an argument already; this is for a plugin that wants another view of them.
///
/// For `()` nothing is asked of the host, so a plugin without settings needs no grant for them.
///
/// # Errors
///
/// If they do not fit the type; the text names the key. The server checks them against the plugin's JSON Schema when they
/// are set, so a good schema keeps this from happening.
pub fn get<S: DeserializeOwned + 'static>() -> Result<S, Error> {
    if TypeId::of::<S>() == TypeId::of::<()>() {
        return Ok(serde_json::from_str("null")?);
    }
    parse(&text()?)
}

#[cfg(target_family = "wasm")]
fn text() -> Result<String, Error> {
    Ok(crate::bindings::russet::plugin::settings::get())
}

#[cfg(not(target_family = "wasm"))]
fn text() -> Result<String, Error> {
    crate::testing::backend::settings::get()
}

/// Parses settings as the host gives them: a JSON object.
///
/// # Errors
///
/// If they do not fit the type; the text names the key.
///
/// ```
/// #[derive(Debug, serde::Deserialize)]
/// struct Settings {
///     days: u32,
/// }
/// let error = russet_plugin::settings::parse::<Settings>(r#"{"days": "two"}"#).unwrap_err();
/// assert_eq!(error.to_string(), "settings: `days`: invalid type: string \"two\", expected u32");
/// ```
pub fn parse<S: DeserializeOwned>(text: &str) -> Result<S, Error> {
    serde_json::from_str(text).map_err(|error| {
        let shown = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let shown = shown.strip_suffix(place.as_str()).unwrap_or(&shown);
        match path_at(text, error.line(), error.column()) {
            path if path.is_empty() => Error::new(format_args!("settings: {shown}")),
            path => Error::new(format_args!("settings: `{path}`: {shown}")),
        }
    })
}

/// The key that a place (both counted from 1, the column in bytes) in a JSON text lies in, such as `rules[2].days`.
fn path_at(text: &str, line: usize, column: usize) -> String {
    enum Level<'a> {
        Object(Option<&'a str>),
        Array(usize),
    }
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let end = (before + column).min(text.len());
    let bytes = text.as_bytes();
    let mut levels = Vec::new();
    let mut at = 0;
    while at < end {
        match bytes[at] {
            // The end of a value is reported at its closing bracket: that value is still meant.
            b'}' | b']' if at + 1 == end => break,
            b'{' => levels.push(Level::Object(None)),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' if at + 1 < end => match levels.last_mut() {
                Some(Level::Array(index)) => *index += 1,
                Some(Level::Object(key)) => *key = None,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(Level::Object(key @ None)) = levels.last_mut() {
                    *key = text.get(start..at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object(Some(key)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Level::Object(None) => {}
            Level::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[serde(default)]
        rules: Vec<Rule>,
        #[serde(default)]
        names: BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    struct Rule {
        days: u32,
    }

    fn refused(text: &str) -> String {
        parse::<Settings>(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_key() {
        assert_eq!(
            refused("{\"rules\": [{\"days\": 1},\n {\"days\": -1}]}"),
            "settings: `rules[1].days`: invalid value: integer `-1`, expected u32"
        );
        assert_eq!(
            refused(r#"{"names": {"a\"}": 1, "b": "x"}}"#),
            "settings: `names.b`: invalid type: string \"x\", expected u8"
        );
        assert_eq!(
            refused(r#"{"rules": [{"days": 1}, {}]}"#),
            "settings: `rules[1]`: missing field `days`"
        );
        assert_eq!(
            refused(r#"{"rules": [], "role": 1}"#),
            "settings: `role`: unknown field `role`, expected `rules` or `names`"
        );
        assert!(refused("{").starts_with("settings: "), "{}", refused("{"));
    }

    #[test]
    fn no_settings_ask_nothing_of_the_host() {
        assert_eq!(get::<()>(), Ok(()));
        assert!(get::<BTreeMap<String, u8>>().is_err(), "no host is scripted");
    }

    #[test]
    fn good_settings_parse() {
        let settings: Settings = parse(r#"{"rules": [{"days": 3}], "names": {"a": 7}}"#).unwrap();
        assert_eq!((settings.rules[0].days, settings.names["a"]), (3, 7));
    }
}
