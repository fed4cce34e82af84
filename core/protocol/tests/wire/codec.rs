//! What the codec takes, and the typed error for each thing that it does not.

use russet_protocol::codec::{decode, decode_value, encode, encode_value};
use russet_protocol::plist::{Date, Dictionary, Value};
use russet_protocol::{DecodeError, Limits};

use crate::{document, message, root};

fn error(bytes: &[u8]) -> DecodeError {
    decode_value(bytes, &Limits::default()).expect_err("must be refused")
}

fn reason(bytes: &[u8]) -> &'static str {
    match error(bytes) {
        DecodeError::Malformed { reason, .. } => reason,
        other => panic!("malformed expected, not {other:?}"),
    }
}

fn value(bytes: &[u8]) -> Value {
    decode_value(bytes, &Limits::default()).expect("must be read")
}

#[test]
fn every_type_is_read() {
    let read = value(&document(
        "<array><string>a &amp; b &lt;&#x263A;&gt;</string><integer>-7</integer><integer>18446744073709551615</integer>\
         <real>1.5</real><true/><false></false><data>\n aGVs\n bG8=\n</data><date>2026-01-31T12:00:00Z</date>\
         <array/><dict/><string/></array>",
    ));
    let date = Date::from_xml_format("2026-01-31T12:00:00Z").unwrap();
    let expected = vec![
        Value::from("a & b <\u{263a}>"),
        Value::from(-7),
        Value::from(u64::MAX),
        Value::Real(1.5),
        Value::from(true),
        Value::from(false),
        Value::Data(b"hello".to_vec()),
        Value::Date(date),
        Value::Array(Vec::new()),
        Value::Dictionary(Dictionary::new()),
        Value::from(""),
    ];
    assert_eq!(read, Value::Array(expected));
}

#[test]
fn comments_marks_and_missing_heads_are_tolerated() {
    let with_mark = [b"\xef\xbb\xbf\n", &*message("<key>a</key><!-- <array> --><true/>")].concat();
    assert_eq!(
        value(&with_mark).as_dictionary().unwrap().get("a"),
        Some(&Value::from(true))
    );
    assert_eq!(value(b"<plist><string>x</string></plist>"), Value::from("x"));
    assert_eq!(
        value(b"<dict><key>a</key><string>b<!-- c -->d</string></dict>")
            .as_dictionary()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn cdata_is_text_and_not_lost() {
    let read = value(&message(
        "<key><![CDATA[a&b]]></key><string>1 <![CDATA[<b>&amp;</b>]]> 2<![CDATA[]]></string>\
         <key>c</key><string>d</string>",
    ));
    let expected = Dictionary::from_iter([("a&b", Value::from("1 <b>&amp;</b> 2")), ("c", Value::from("d"))]);
    assert_eq!(read, Value::Dictionary(expected));
}

#[test]
fn size_depth_and_count_are_limited() {
    let limits = Limits {
        max_bytes: 400,
        max_depth: 3,
        max_elements: 5,
    };
    let refused = |bytes: &[u8]| {
        let error = decode_value(bytes, &limits).expect_err("must be refused");
        assert!(error.is_limit(), "{error:?}");
        error
    };
    assert!(decode_value(&document("<array><array><array/></array></array>"), &limits).is_ok());
    let deep = document("<array><array><array><array/></array></array></array>");
    assert_eq!(refused(&deep), DecodeError::TooDeep { limit: 3 });
    assert!(decode_value(&document(&format!("<array>{}</array>", "<true/>".repeat(4))), &limits).is_ok());
    let many = document(&format!("<array>{}</array>", "<true/>".repeat(5)));
    assert_eq!(refused(&many), DecodeError::TooManyElements { limit: 5 });
    let large = document(&format!("<string>{}</string>", "x".repeat(400)));
    assert_eq!(refused(&large), DecodeError::TooLarge { limit: 400 });
}

#[test]
fn deep_nesting_does_not_overflow_a_small_stack() {
    // 180 KB of arrays abort a process whose parser recurses; a thread with little stack shows that nothing does.
    let nested = |name: &str, between: &str| {
        let open = format!("<{name}>{between}").repeat(20_000);
        message(&format!("<key>UDID</key><string>x</string><key>Unknown</key>{open}"))
    };
    for body in [nested("array", ""), nested("dict", "<key>k</key>")] {
        assert!(body.len() > 140_000);
        let read = move || decode(&body, &Limits::default());
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(read).unwrap();
        assert_eq!(thread.join().unwrap(), Err(DecodeError::TooDeep { limit: 32 }));
    }
}

#[test]
fn the_deepest_document_allowed_is_read_on_a_small_stack() {
    let limits = Limits::default();
    let body = document(&format!(
        "{}{}",
        "<array>".repeat(limits.max_depth),
        "</array>".repeat(limits.max_depth)
    ));
    let round = move || encode_value(&decode_value(&body, &limits).unwrap()).len();
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(round).unwrap();
    assert!(thread.join().unwrap() > 0);
}

#[test]
fn entities_cannot_be_declared_or_used() {
    let laughs = "<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
        <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><plist><string>&c;</string></plist>";
    assert!(matches!(error(laughs.as_bytes()), DecodeError::InternalDtd { .. }));
    let file = "<!DOCTYPE plist [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><plist><string>&x;</string></plist>";
    assert!(matches!(error(file.as_bytes()), DecodeError::InternalDtd { .. }));
    assert!(matches!(
        error(&document("<string>&nbsp;</string>")),
        DecodeError::Entity { .. }
    ));
    assert!(matches!(
        error(&document("<string>&#xD800;</string>")),
        DecodeError::Entity { .. }
    ));
    assert!(matches!(
        error(&document("<string>&#0;</string>")),
        DecodeError::Entity { .. }
    ));
}

#[test]
fn binary_property_lists_are_refused_unread() {
    // An array whose every element is the array below it: 2^32 values in a few dozen bytes.
    let mut bomb = b"bplist00".to_vec();
    for object in 0..32_u8 {
        bomb.extend([0xa2, object + 1, object + 1]);
    }
    assert_eq!(error(&bomb), DecodeError::Binary);
    assert_eq!(error(b"bplist"), DecodeError::Binary);
}

#[test]
fn what_is_not_xml_is_named() {
    assert_eq!(error(b""), DecodeError::Empty);
    assert_eq!(error(b"{\"MessageType\": \"Authenticate\"}"), DecodeError::NotXml);
    assert_eq!(error(b"\xff\xfe<\x00p\x00"), DecodeError::NotXml);
    assert_eq!(error(b"   "), DecodeError::NotXml);
    assert_eq!(
        decode(&document("<array/>"), &Limits::default()),
        Err(DecodeError::NotDictionary)
    );
}

#[test]
fn duplicate_keys_are_refused_however_they_are_spelt() {
    for entries in [
        "<key>UDID</key><string>a</string><key>UDID</key><string>b</string>",
        "<key>UDID</key><string>a</string><key>UDI&#68;</key><string>b</string>",
        "<key>UDID</key><string>a</string><key>UD<!-- -->ID</key><string>b</string>",
        "<key>UDID</key><string>a</string><key><![CDATA[UDID]]></key><string>b</string>",
        "<key>x</key><dict><key>a</key><true/><key>a</key><true/></dict>",
    ] {
        assert!(
            matches!(error(&message(entries)), DecodeError::DuplicateKey { .. }),
            "{entries}"
        );
    }
    let apart = "<key>a</key><dict><key>a</key><true/></dict><key>b</key><dict><key>a</key><true/></dict>";
    assert!(decode(&message(apart), &Limits::default()).is_ok());
}

#[test]
fn malformed_structure_is_named() {
    for (body, expected) in [
        ("<dict><key>a</key></dict>", "a key without a value"),
        ("<dict><key>a</key><key>b</key></dict>", "a key without a value"),
        ("<dict><true/></dict>", "a value without a key"),
        ("<array><key>a</key></array>", "a key outside a dictionary"),
        ("<key>a</key>", "a key outside a dictionary"),
        ("<dict><key>UDI\0</key><true/></dict>", "a key with a control character"),
        (
            "<dict><key>UDI&#7;D</key><true/></dict>",
            "a key with a control character",
        ),
        ("<dict/><dict/>", "a second root value"),
        ("<string>a<true/></string>", "an element inside a simple value"),
        ("<array>text</array>", "text between elements"),
        ("<true>no</true>", "text between elements"),
        ("<set/>", "an element that property lists do not have"),
        ("<x:array></x:array>", "an element that property lists do not have"),
        ("<plist><true/></plist>", "a second plist element"),
        ("<dict>", "not well-formed XML"),
        ("<array></dict>", "not well-formed XML"),
        ("<array><![CDATA[x]]></array>", "a CDATA section outside a string"),
        ("<integer>&#49;</integer>", "a character reference outside a string"),
        (
            "<date>9999-12-31T23:59:59-23:59</date>",
            "a date that is not in UTC, such as 2026-01-31T12:00:00Z",
        ),
        (
            "<date>0000-01-01T00:00:00+23:59</date>",
            "a date that is not in UTC, such as 2026-01-31T12:00:00Z",
        ),
    ] {
        assert_eq!(reason(&document(body)), expected, "{body}");
    }
    assert_eq!(reason(b"<plist><true/></plist><true/>"), "a second root value");
    assert_eq!(reason(b"<plist></plist>"), "it ends before the last element is closed");
    assert_eq!(reason(b"<!-- nothing -->"), "it ends before the last element is closed");
    assert_eq!(
        reason(b"<true/><!DOCTYPE plist>"),
        "a document type after the first element"
    );
}

#[test]
fn values_that_do_not_parse_are_named_without_content() {
    for body in [
        "<integer>hunter2</integer>",
        "<data>hunter2!</data>",
        "<real>hunter2</real>",
        "<date>hunter2Z</date>",
    ] {
        let error = error(&document(body));
        assert!(matches!(error, DecodeError::InvalidValue { .. }), "{body}: {error:?}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn written_as_apple_writes() {
    let body = encode(&Dictionary::from_iter([
        ("Text", Value::from("a < b & c\r\n")),
        ("Number", Value::from(-1)),
        ("Real", Value::Real(0.25)),
        ("Flags", Value::Array(vec![Value::from(true), Value::from(false)])),
        ("Data", Value::Data(b"hello".to_vec())),
        (
            "Date",
            Value::Date(Date::from_xml_format("2026-01-31T12:00:00.5Z").unwrap()),
        ),
        ("Empty", Value::Dictionary(Dictionary::new())),
    ]));
    insta::assert_snapshot!(root(&body), @r"
    <dict>
      <key>Text</key>
      <string>a &lt; b &amp; c&#13;
    </string>
      <key>Number</key>
      <integer>-1</integer>
      <key>Real</key>
      <real>0.25</real>
      <key>Flags</key>
      <array>
        <true/>
        <false/>
      </array>
      <key>Data</key>
      <data>aGVsbG8=</data>
      <key>Date</key>
      <date>2026-01-31T12:00:00Z</date>
      <key>Empty</key>
      <dict/>
    </dict>
    ");
}

#[test]
fn what_xml_cannot_hold_is_replaced_and_not_refused() {
    let far = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 50);
    let before = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1 << 50);
    let body = encode_value(&Value::Array(vec![
        Value::from("bell\u{7}nul\u{0}\u{ffff}"),
        Value::Date(Date::from(far)),
        Value::Date(Date::from(before)),
        Value::Real(f64::NEG_INFINITY),
    ]));
    insta::assert_snapshot!(root(&body), @r"
    <array>
      <string>bell�nul��</string>
      <date>9999-12-30T22:00:00Z</date>
      <date>0000-01-01T00:00:00Z</date>
      <real>-infinity</real>
    </array>
    ");
    assert!(decode_value(&body, &Limits::default()).is_ok());
}
