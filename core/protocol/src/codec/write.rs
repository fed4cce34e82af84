//! Property lists out. Every value can be written: what XML has no way to say is replaced, not refused, so that an
//! answer to a device never fails at the last step.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plist::{Date, Dictionary, Value};

const HEAD: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n",
    "<plist version=\"1.0\">\n",
);

/// Writes a dictionary as an XML property list, keys in their order.
///
/// Characters that XML 1.0 cannot hold (most control characters) become U+FFFD; dates are written in whole seconds.
pub fn encode(dictionary: &Dictionary) -> Vec<u8> {
    let mut out = String::from(HEAD);
    write_dictionary(&mut out, dictionary, 0);
    out.push_str("</plist>\n");
    out.into_bytes()
}

/// Writes any value as an XML property list; see [`encode`].
pub fn encode_value(value: &Value) -> Vec<u8> {
    let mut out = String::from(HEAD);
    write_value(&mut out, value, 0);
    out.push_str("</plist>\n");
    out.into_bytes()
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Dictionary(dictionary) => write_dictionary(out, dictionary, depth),
        Value::Array(items) if items.is_empty() => line(out, depth, "<array/>"),
        Value::Array(items) => {
            line(out, depth, "<array>");
            for item in items {
                write_value(out, item, depth + 1);
            }
            line(out, depth, "</array>");
        }
        Value::Boolean(true) => line(out, depth, "<true/>"),
        Value::Boolean(false) => line(out, depth, "<false/>"),
        Value::Data(bytes) => element(out, depth, "data", &STANDARD.encode(bytes)),
        Value::Date(date) => element(out, depth, "date", &date_text(*date)),
        Value::Integer(number) => element(out, depth, "integer", &number.to_string()),
        Value::Real(number) => element(out, depth, "real", &real_text(*number)),
        Value::String(text) => element(out, depth, "string", text),
        // How Apple's XML writer spells the identifiers of keyed archives.
        Value::Uid(uid) => {
            let uid = Dictionary::from_iter([("CF$UID", Value::from(uid.get()))]);
            write_dictionary(out, &uid, depth);
        }
        // `Value` is open for extension, and the XML form has no other elements than these.
        _ => line(out, depth, "<string/>"),
    }
}

fn write_dictionary(out: &mut String, dictionary: &Dictionary, depth: usize) {
    if dictionary.is_empty() {
        return line(out, depth, "<dict/>");
    }
    line(out, depth, "<dict>");
    for (key, value) in dictionary {
        element(out, depth + 1, "key", key);
        write_value(out, value, depth + 1);
    }
    line(out, depth, "</dict>");
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n('\t', depth));
}

fn line(out: &mut String, depth: usize, text: &str) {
    indent(out, depth);
    out.push_str(text);
    out.push('\n');
}

fn element(out: &mut String, depth: usize, name: &str, text: &str) {
    indent(out, depth);
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape_into(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push_str(">\n");
}

/// Appends `text` as XML character data.
pub(super) fn escape_into(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Readers turn a bare carriage return into a line feed (XML 1.0, section 2.11).
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

/// The date as Apple writes it, in UTC and whole seconds; one outside the years 0 to 9999 becomes the nearest inside.
pub(super) fn date_text(date: Date) -> String {
    let time = std::time::SystemTime::from(date);
    let first = jiff::civil::date(0, 1, 1).at(0, 0, 0, 0);
    let last = jiff::civil::date(9999, 12, 30).at(22, 0, 0, 0);
    let utc = jiff::tz::TimeZone::UTC;
    let civil = match jiff::Timestamp::try_from(time) {
        Ok(timestamp) => utc.to_datetime(timestamp),
        Err(_) if time < std::time::SystemTime::UNIX_EPOCH => first,
        Err(_) => last,
    };
    let civil = if civil < first { first } else { civil };
    civil.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn real_text(number: f64) -> String {
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 {
            "+infinity".to_owned()
        } else {
            "-infinity".to_owned()
        }
    } else {
        number.to_string()
    }
}
