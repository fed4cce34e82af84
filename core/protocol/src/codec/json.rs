//! Property list values as JSON and back, for the API, the store and plugins.
//!
//! To JSON is for reading: data becomes base64 text and a date becomes RFC 3339 text. From JSON is exact only where
//! JSON has the type, so data and dates are written as `{"$data": "<base64>"}` and `{"$date": "2026-01-31T12:00:00Z"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plist::{Date, Dictionary, Value};
use serde_json::{Map, Number, Value as Json};

use super::write::date_text;

/// How deep a JSON document may nest; deeper ones are refused, not followed.
const MAX_DEPTH: usize = 64;

/// Why a JSON document is not a property list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FromJsonError {
    /// Property lists have no null.
    #[error("{path}: property lists have no null; leave the key out")]
    Null {
        /// Where in the document, such as `$.Settings[0].Item`.
        path: String,
    },
    /// A `$data` that is not base64.
    #[error("{path}: $data must be a string of base64 with padding")]
    Data {
        /// Where in the document.
        path: String,
    },
    /// A `$date` that is not a time in UTC.
    #[error("{path}: $date must be a time in UTC such as 2026-01-31T12:00:00Z")]
    Date {
        /// Where in the document.
        path: String,
    },
    /// Nested too deep.
    #[error("the document nests deeper than {limit} levels")]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
}

/// The value as JSON. Data becomes a base64 string, a date an RFC 3339 string, an infinite or undefined real a string.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Dictionary(dictionary) => Json::Object(
            dictionary
                .iter()
                .map(|(key, value)| (key.clone(), to_json(value)))
                .collect(),
        ),
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::Data(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::Date(date) => Json::String(date_text(*date)),
        Value::Integer(number) => number
            .as_signed()
            .map(Number::from)
            .or_else(|| number.as_unsigned().map(Number::from))
            .map_or(Json::Null, Json::Number),
        Value::Real(number) => Number::from_f64(*number).map_or_else(|| Json::String(number.to_string()), Json::Number),
        Value::String(text) => Json::String(text.clone()),
        Value::Uid(uid) => Json::Number(Number::from(uid.get())),
        _ => Json::Null,
    }
}

/// The JSON document as a property list value. Strings stay strings; whole numbers become integers; see the module's
/// description for data and dates.
pub fn from_json(json: &Json) -> Result<Value, FromJsonError> {
    convert(json, &mut Path { segments: Vec::new() })
}

struct Path<'a> {
    segments: Vec<Segment<'a>>,
}

enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        let mut text = String::from("$");
        for segment in &self.segments {
            match segment {
                Segment::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Segment::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }
}

fn convert<'a>(json: &'a Json, path: &mut Path<'a>) -> Result<Value, FromJsonError> {
    if path.segments.len() > MAX_DEPTH {
        return Err(FromJsonError::TooDeep { limit: MAX_DEPTH });
    }
    Ok(match json {
        Json::Null => return Err(FromJsonError::Null { path: path.text() }),
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => Value::from(signed),
            (None, Some(unsigned)) => Value::from(unsigned),
            (None, None) => Value::Real(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => {
            let mut array = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                path.segments.push(Segment::Index(index));
                array.push(convert(item, path)?);
                path.segments.pop();
            }
            Value::Array(array)
        }
        Json::Object(object) => match typed(object, path)? {
            Some(value) => value,
            None => {
                let mut dictionary = Dictionary::new();
                for (key, item) in object {
                    path.segments.push(Segment::Key(key));
                    dictionary.insert(key.clone(), convert(item, path)?);
                    path.segments.pop();
                }
                Value::Dictionary(dictionary)
            }
        },
    })
}

/// `{"$data": …}` and `{"$date": …}`.
fn typed(object: &Map<String, Json>, path: &Path<'_>) -> Result<Option<Value>, FromJsonError> {
    if object.len() != 1 {
        return Ok(None);
    }
    if let Some(data) = object.get("$data") {
        let bytes = data.as_str().and_then(|text| STANDARD.decode(text).ok());
        return bytes
            .map(|bytes| Some(Value::Data(bytes)))
            .ok_or_else(|| FromJsonError::Data { path: path.text() });
    }
    if let Some(date) = object.get("$date") {
        let date = date.as_str().and_then(parse_date);
        return date
            .map(|date| Some(Value::Date(date)))
            .ok_or_else(|| FromJsonError::Date { path: path.text() });
    }
    Ok(None)
}

fn parse_date(text: &str) -> Option<Date> {
    // In UTC only, as in the XML form: an offset could move the date out of the years that can be written.
    text.ends_with('Z').then(|| Date::from_xml_format(text).ok())?
}
