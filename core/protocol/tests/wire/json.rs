//! Property lists as JSON and back.

use russet_protocol::codec::{FromJsonError, from_json, to_json};
use russet_protocol::plist::Value;
use serde_json::json;

use crate::{message, read};

#[test]
fn data_and_dates_become_text() {
    let body = message(
        "<key>Token</key><data>aGVsbG8=</data><key>Since</key><date>2026-01-31T12:00:00Z</date>\
         <key>Level</key><real>0.5</real><key>Big</key><integer>18446744073709551615</integer>\
         <key>List</key><array><true/><integer>-1</integer></array>",
    );
    let expected = json!({
        "Token": "aGVsbG8=",
        "Since": "2026-01-31T12:00:00Z",
        "Level": 0.5,
        "Big": u64::MAX,
        "List": [true, -1],
    });
    assert_eq!(to_json(&Value::Dictionary(read(&body))), expected);
    assert_eq!(to_json(&Value::Real(f64::INFINITY)), json!("inf"));
}

#[test]
fn types_that_json_lacks_are_written_as_objects() {
    let json = json!({"a": {"$data": "aGVsbG8="}, "b": {"$date": "2026-01-31T12:00:00Z"}, "c": "aGVsbG8=", "d": 7});
    let value = from_json(&json).unwrap();
    let dictionary = value.as_dictionary().unwrap();
    assert_eq!(dictionary.get("a").and_then(Value::as_data), Some(&b"hello"[..]));
    assert!(dictionary.get("b").and_then(Value::as_date).is_some());
    assert_eq!(dictionary.get("c").and_then(Value::as_string), Some("aGVsbG8="));
    assert_eq!(dictionary.get("d").and_then(Value::as_signed_integer), Some(7));
    let more_keys = from_json(&json!({"$data": "aGVsbG8=", "other": 1})).unwrap();
    assert!(
        more_keys.as_dictionary().is_some(),
        "only an object of that one key is data"
    );
}

#[test]
fn errors_name_the_place() {
    let path = |json| from_json(&json).unwrap_err();
    assert_eq!(
        path(json!({"a": [1, null]})),
        FromJsonError::Null {
            path: "$.a[1]".to_owned()
        }
    );
    assert_eq!(
        path(json!({"a": {"$data": "??"}})),
        FromJsonError::Data { path: "$.a".to_owned() }
    );
    assert_eq!(
        path(json!({"$date": "2026-01-31T12:00:00+01:00"})),
        FromJsonError::Date { path: "$".to_owned() }
    );
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(path(deep), FromJsonError::TooDeep { limit: 64 });
}
