//! Who a message is from.

use russet_protocol::enrollment::{MAX_DEVICE_ID, MAX_USER_ID, SHARED_IPAD_USER_ID};
use russet_protocol::{Channel, EnrollmentKey, KeyError};

use crate::{message, read, strings};

fn key(entries: &[(&str, &str)]) -> Result<EnrollmentKey, KeyError> {
    EnrollmentKey::from_message(&read(&message(&strings(entries))))
}

/// The entries of a message, and the channel, text form and parent of the key they make.
type Case<'a> = (&'a [(&'a str, &'a str)], Channel, &'a str, Option<&'a str>);

#[test]
fn each_kind_of_enrollment_is_told_apart() {
    let cases: &[Case] = &[
        (&[("UDID", "D1")], Channel::Device, "D1", None),
        (&[("UDID", "D1"), ("UserID", "")], Channel::Device, "D1", None),
        (
            &[("UDID", "D1"), ("UserID", "U1"), ("UserShortName", "jo")],
            Channel::User,
            "D1:U1",
            Some("D1"),
        ),
        (
            &[
                ("UDID", "D1"),
                ("UserID", SHARED_IPAD_USER_ID),
                ("UserShortName", "jo@example.com"),
            ],
            Channel::SharedIpadUser,
            "D1:jo@example.com",
            Some("D1"),
        ),
        (&[("EnrollmentID", "E1")], Channel::UserEnrollmentDevice, "E1", None),
        (
            &[("EnrollmentID", "E1"), ("EnrollmentUserID", "V1")],
            Channel::UserEnrollmentUser,
            "E1:V1",
            Some("E1"),
        ),
        (&[("UDID", "D1"), ("EnrollmentID", "E1")], Channel::Device, "D1", None),
        (
            &[("UDID", ""), ("EnrollmentID", "E1")],
            Channel::UserEnrollmentDevice,
            "E1",
            None,
        ),
    ];
    for (entries, channel, text, parent) in cases {
        let key = key(entries).unwrap();
        assert_eq!((key.channel(), key.as_str()), (*channel, *text), "{entries:?}");
        assert_eq!(key.parent().as_ref().map(EnrollmentKey::as_str), *parent, "{entries:?}");
        assert_eq!(
            key.parent().map(|parent| parent.channel()),
            channel.parent(),
            "{entries:?}"
        );
        assert_eq!(
            EnrollmentKey::parse(*channel, text).as_ref(),
            Ok(&key),
            "the text form reads back"
        );
    }
}

#[test]
fn parts_are_kept() {
    let key = EnrollmentKey::new(Channel::User, "D1", Some("a:b c")).unwrap();
    assert_eq!((key.device_id(), key.user_id()), ("D1", Some("a:b c")));
    assert_eq!(EnrollmentKey::parse(Channel::User, "D1:a:b c"), Ok(key));
    assert_eq!(EnrollmentKey::device("D1").unwrap().user_id(), None);
}

#[test]
fn bad_identifiers_are_named() {
    let long = "x".repeat(MAX_DEVICE_ID + 1);
    let long_user = "x".repeat(MAX_USER_ID + 1);
    let cases: &[(&[(&str, &str)], KeyError)] = &[
        (
            &[],
            KeyError::Missing {
                key: "UDID or EnrollmentID",
            },
        ),
        (
            &[("EnrollmentUserID", "V1")],
            KeyError::Missing {
                key: "UDID or EnrollmentID",
            },
        ),
        (
            &[("UDID", "D1"), ("UserID", SHARED_IPAD_USER_ID)],
            KeyError::Missing { key: "UserShortName" },
        ),
        (
            &[("UDID", &long)],
            KeyError::TooLong {
                key: "UDID",
                max: MAX_DEVICE_ID,
            },
        ),
        (
            &[("UDID", "D1"), ("UserID", &long_user)],
            KeyError::TooLong {
                key: "UserID",
                max: MAX_USER_ID,
            },
        ),
        (&[("UDID", "D1:U1")], KeyError::Invalid { key: "UDID" }),
        (&[("UDID", "D1\n")], KeyError::Invalid { key: "UDID" }),
        (&[("EnrollmentID", "E 1")], KeyError::Invalid { key: "EnrollmentID" }),
        (
            &[("UDID", "D1"), ("UserID", "a\tb")],
            KeyError::Invalid { key: "UserID" },
        ),
    ];
    for (entries, expected) in cases {
        assert_eq!(key(entries).as_ref(), Err(expected), "{entries:?}");
    }
    let number = read(&message("<key>UDID</key><integer>1</integer>"));
    assert_eq!(
        EnrollmentKey::from_message(&number),
        Err(KeyError::WrongType { key: "UDID" })
    );
}

#[test]
fn a_device_key_takes_no_user_and_a_user_key_needs_one() {
    assert_eq!(
        EnrollmentKey::new(Channel::User, "D1", None),
        Err(KeyError::Missing { key: "UserID" })
    );
    assert_eq!(
        EnrollmentKey::new(Channel::Device, "D1", Some("U")),
        Err(KeyError::Invalid { key: "UserID" })
    );
    assert_eq!(
        EnrollmentKey::parse(Channel::Device, "D1:U1"),
        Err(KeyError::Invalid { key: "UserID" })
    );
    assert_eq!(EnrollmentKey::device(""), Err(KeyError::Missing { key: "UDID" }));
}

#[test]
fn channels_and_keys_have_one_text_form() {
    for channel in Channel::ALL {
        assert_eq!(Channel::parse(channel.as_str()), Some(channel));
        assert_eq!(serde_json::to_value(channel).unwrap(), channel.as_str());
    }
    assert_eq!(Channel::parse("Device"), None);
    let key = EnrollmentKey::new(Channel::User, "D1", Some("U1")).unwrap();
    let json = serde_json::to_value(&key).unwrap();
    assert_eq!(json, serde_json::json!({"channel": "user", "id": "D1:U1"}));
    assert_eq!(serde_json::from_value::<EnrollmentKey>(json).unwrap(), key);
    assert!(serde_json::from_str::<EnrollmentKey>(r#"{"channel": "user", "id": "D1"}"#).is_err());
}
