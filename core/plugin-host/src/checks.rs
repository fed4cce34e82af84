//! Checks of what plugins hand over.

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

/// Whether a text is a JSON object and nothing else. Nothing of it is kept.
pub(crate) fn is_json_object(text: &str) -> bool {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(())
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_any(Object).is_ok() && reader.end().is_ok()
}

/// Whether a text is a UUID in its usual form (RFC 9562).
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a text can name an enrollment: whether there is one, the server finds out.
pub(crate) fn is_enrollment(text: &str) -> bool {
    (1..=512).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text is a name of at most so many bytes.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text can be part of the kind of an event: words of `a-z`, `0-9` and `-` with dots between them.
pub(crate) fn is_event_kind(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.split('.').all(|word| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::{is_event_kind, is_json_object, is_uuid};

    #[test]
    fn an_object_is_whole_and_alone() {
        assert!(is_json_object(r#" {"a": [1, {"b": null}]} "#));
        for bad in ["", "[]", "null", "{", "{} {}", r#"{"a":}"#, r#""{}""#] {
            assert!(!is_json_object(bad), "{bad}");
        }
    }

    #[test]
    fn a_uuid_has_its_form() {
        assert!(is_uuid("0195F9D4-7c3e-7000-8000-0123456789ab"));
        assert!(!is_uuid("0195F9D4-7c3e-7000-8000-0123456789a"));
        assert!(!is_uuid("0195F9D4x7c3e-7000-8000-0123456789ab"));
        assert!(!is_uuid("0195F9D4-7c3e-7000-8000-0123456789ag"));
    }

    #[test]
    fn the_kind_of_an_event_is_words_and_dots() {
        assert!(is_event_kind("device.moved-out"));
        for bad in ["", ".", "a.", ".a", "a..b", "A", "a b"] {
            assert!(!is_event_kind(bad), "{bad}");
        }
    }
}
