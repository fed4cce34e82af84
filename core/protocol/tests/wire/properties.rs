//! What holds for every input: decoders answer, and what was written reads back.

use proptest::collection::vec;
use proptest::prelude::*;
use russet_protocol::codec::{decode_value, encode_value, from_json, to_json};
use russet_protocol::ddm::{Endpoint, StatusReport};
use russet_protocol::plist::{Date, Dictionary, Value};
use russet_protocol::profile::Profile;
use russet_protocol::{Channel, CheckIn, Command, DeviceMessage, EnrollmentKey, Limits, MachineInfo, Report};

use crate::{document, message, strings};

/// Text that XML can hold.
fn text() -> impl Strategy<Value = String> {
    vec(
        prop_oneof![
            any::<char>(),
            prop::char::range('\u{20}', '\u{7e}'),
            Just('&'),
            Just('<'),
            Just('\r')
        ],
        0..24,
    )
    .prop_map(|text| text.into_iter().filter(|c| fits_xml(*c)).collect())
}

fn fits_xml(c: char) -> bool {
    !matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn date() -> impl Strategy<Value = Date> {
    (0_u16..10_000, 1_u8..13, 1_u8..29, 0_u8..24, 0_u8..60, 0_u8..60).prop_map(
        |(year, month, day, hour, minute, second)| {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
            Date::from_xml_format(&text).expect("a date")
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("NaN is not equal to itself", |real| !real.is_nan())
            .prop_map(Value::Real),
        any::<bool>().prop_map(Value::from),
        vec(any::<u8>(), 0..40).prop_map(Value::Data),
        date().prop_map(Value::Date),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|map| Value::Dictionary(map.into_iter().collect::<Dictionary>())),
        ]
    })
}

/// Pieces that documents are made of, for documents that are nearly right.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "<dict>",
        "</dict>",
        "<array>",
        "</array>",
        "<dict/>",
        "<key>",
        "</key>",
        "<key>UDID</key>",
        "<string>",
        "</string>",
        "<string>x</string>",
        "<true/>",
        "<integer>1</integer>",
        "<integer>",
        "</integer>",
        "<data>AA==</data>",
        "<date>9999-12-31T23:59:60Z</date>",
        "<date>0000-01-01T00:00:00Z</date>",
        "<real>nan</real>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&amp;",
        "&#x41;",
        "&x;",
        "<!DOCTYPE a>",
        "<!DOCTYPE a [",
        "]>",
        "<?xml version=\"1.0\"?>",
        "<?",
        "?>",
        "<plist>",
        "</plist>",
        " ",
        "text",
        "\u{feff}",
        "bplist00",
        "<key>MessageType</key><string>Authenticate</string>",
        "<key>Status</key><string>Idle</string>",
        "<key>Topic</key>",
        "<x a=\"1\">",
        "</",
        "<",
        ">",
        "&",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => text()]
}

/// Every decoder of the crate.
fn decode_all(bytes: &[u8]) {
    let limits = Limits::default();
    if let Ok(value) = decode_value(bytes, &limits) {
        let written = encode_value(&value);
        let again = decode_value(&written, &limits).expect("what was read can be written and read again");
        assert_eq!(encode_value(&again), written);
        let _ = to_json(&value);
    }
    let _ = DeviceMessage::decode(bytes, &limits);
    let _ = CheckIn::decode(bytes, &limits);
    let _ = Report::decode(bytes, &limits).map(|report| report.result_json());
    let _ = MachineInfo::decode(bytes, &limits);
    let _ = Profile::inspect(bytes, &limits);
    let _ = Command::from_plist(bytes, &limits).map(|validated| validated.command.dictionary());
    if let Ok(report) = StatusReport::decode(bytes, limits.max_bytes) {
        let _ = report.item("a.b");
    }
}

fn valid_messages() -> Vec<Vec<u8>> {
    let push = strings(&[
        ("MessageType", "TokenUpdate"),
        ("UDID", "D1"),
        ("Topic", "t"),
        ("PushMagic", "m"),
    ]);
    let report = strings(&[("UDID", "D1"), ("Status", "Error"), ("CommandUUID", "c-1")]);
    vec![
        message(&(push + "<key>Token</key><data>AAEC</data><key>AwaitingConfiguration</key><true/>")),
        message(
            &(report + "<key>ErrorChain</key><array><dict><key>ErrorCode</key><integer>1</integer></dict></array>"),
        ),
        message(&strings(&[("RequestType", "DeviceLock"), ("PIN", "123456")])),
        message(&strings(&[("PRODUCT", "p"), ("VERSION", "v")])),
        br#"{"StatusItems": {"a": {"b": 1}}, "Errors": [{"StatusItem": "x"}]}"#.to_vec(),
    ]
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
    }

    #[test]
    fn any_pieces_get_an_answer(pieces in vec(piece(), 0..40)) {
        decode_all(pieces.concat().as_bytes());
        decode_all(&document(&pieces.concat()));
        decode_all(&message(&pieces.concat()));
    }

    #[test]
    fn mutated_messages_get_an_answer(
        which in 0_usize..5,
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut bytes = valid_messages().swap_remove(which);
        decode_all(&bytes);
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        decode_all(&bytes);
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_and_below_it_read(depth in 1_usize..80, dictionaries in any::<bool>()) {
        let (open, close) = if dictionaries { ("<dict><key>k</key>", "</dict>") } else { ("<array>", "</array>") };
        let body = document(&format!("{}<true/>{}", open.repeat(depth), close.repeat(depth)));
        let limits = Limits::default();
        prop_assert_eq!(decode_value(&body, &limits).is_ok(), depth <= limits.max_depth);
    }

    #[test]
    fn what_is_written_reads_back(value in value()) {
        let body = encode_value(&value);
        prop_assert_eq!(decode_value(&body, &Limits::default()).expect("must be read"), value);
    }

    #[test]
    fn json_of_a_value_reads_back_as_the_same_json(value in value()) {
        let json = to_json(&value);
        // An object that looks like typed data is read as such; there is no other loss.
        if let Ok(again) = from_json(&json) {
            prop_assert_eq!(to_json(&again), json);
        }
    }

    #[test]
    fn keys_read_back_from_their_text(device in "\\PC{0,40}", user in proptest::option::of("\\PC{0,40}")) {
        for channel in Channel::ALL {
            if let Ok(key) = EnrollmentKey::new(channel, &device, user.as_deref()) {
                prop_assert_eq!(EnrollmentKey::parse(channel, key.as_str()), Ok(key.clone()));
                prop_assert_eq!(key.device_id(), &device);
                prop_assert_eq!(key.user_id(), user.as_deref());
            }
        }
    }

    #[test]
    fn any_endpoint_gets_an_answer(text in ".{0,200}") {
        let _ = Endpoint::parse(&text);
    }
}
