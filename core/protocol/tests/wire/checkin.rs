//! Check-in messages, one by one.

use russet_protocol::checkin::{self, CheckIn, CheckInError};
use russet_protocol::{DecodeError, FieldError, KeyError, Limits, SecretBytes, SecretString};

use crate::{document, message, root, strings};

const IDS: &[(&str, &str)] = &[("UDID", "D1")];

fn decode(message_type: &str, ids: &[(&str, &str)], more: &str) -> Result<CheckIn, CheckInError> {
    let entries = format!("{}{}{more}", strings(&[("MessageType", message_type)]), strings(ids));
    CheckIn::decode(&message(&entries), &Limits::default())
}

fn field(message: &'static str, source: FieldError) -> CheckInError {
    CheckInError::Field { message, source }
}

#[test]
fn authenticate_of_a_mac() {
    let more = strings(&[
        ("Topic", "com.apple.mgmt.External.1"),
        ("DeviceName", "Jo's Mac"),
        ("Model", "Mac14,2"),
        ("ModelName", "MacBook Air"),
        ("ProductName", "Mac14,2"),
        ("OSVersion", "26.1"),
        ("BuildVersion", "25B78"),
        ("SerialNumber", "C02XX"),
        ("FutureKey", "ignored"),
    ]);
    let CheckIn::Authenticate(read) = decode("Authenticate", IDS, &more).unwrap() else {
        panic!("another message")
    };
    assert_eq!(read.key.as_str(), "D1");
    assert_eq!(read.topic, "com.apple.mgmt.External.1");
    assert_eq!(read.device_name.as_deref(), Some("Jo's Mac"));
    assert_eq!(
        (read.model.as_deref(), read.model_name.as_deref()),
        (Some("Mac14,2"), Some("MacBook Air"))
    );
    assert_eq!(
        (read.os_version.as_deref(), read.build_version.as_deref()),
        (Some("26.1"), Some("25B78"))
    );
    assert_eq!(
        (read.serial_number.as_deref(), read.product_name.as_deref()),
        (Some("C02XX"), Some("Mac14,2"))
    );
    assert_eq!((read.imei, read.meid), (None, None));
}

#[test]
fn authenticate_needs_a_topic_and_little_else() {
    let ids = &[("EnrollmentID", "E1")];
    assert!(decode("Authenticate", ids, &strings(&[("Topic", "t")])).is_ok());
    let missing = field("Authenticate", FieldError::Missing { key: "Topic" });
    assert_eq!(decode("Authenticate", ids, ""), Err(missing));
    let wrong = field(
        "Authenticate",
        FieldError::WrongType {
            key: "OSVersion",
            expected: "string",
        },
    );
    let more = strings(&[("Topic", "t")]) + "<key>OSVersion</key><real>26.1</real>";
    assert_eq!(decode("Authenticate", ids, &more), Err(wrong));
}

#[test]
fn token_update_of_device_and_user() {
    let push = strings(&[("Topic", "t"), ("PushMagic", "magic")]) + "<key>Token</key><data>AAEC</data>";
    let more = format!("{push}<key>UnlockToken</key><data>/w==</data><key>AwaitingConfiguration</key><true/>");
    let CheckIn::TokenUpdate(device) = decode("TokenUpdate", IDS, &more).unwrap() else {
        panic!("another message")
    };
    assert_eq!(device.token.expose(), [0, 1, 2]);
    assert_eq!(device.push_magic.expose(), "magic");
    assert_eq!(device.unlock_token.as_ref().map(SecretBytes::expose), Some(&[0xff][..]));
    assert!(device.awaiting_configuration && !device.not_on_console);

    let user = [
        ("UDID", "D1"),
        ("UserID", "U1"),
        ("UserShortName", "jo"),
        ("UserLongName", "Jo Doe"),
    ];
    let more = format!("{push}<key>NotOnConsole</key><true/><key>UnlockToken</key><data></data>");
    let CheckIn::TokenUpdate(user) = decode("TokenUpdate", &user, &more).unwrap() else {
        panic!("another message")
    };
    assert_eq!(user.key.as_str(), "D1:U1");
    assert_eq!(
        (user.user_short_name.as_deref(), user.user_long_name.as_deref()),
        (Some("jo"), Some("Jo Doe"))
    );
    assert!(user.not_on_console && !user.awaiting_configuration);
    assert_eq!(user.unlock_token, None, "an empty token is no token");
}

#[test]
fn token_update_needs_what_a_push_needs() {
    for (entries, key) in [
        (
            strings(&[("PushMagic", "m")]) + "<key>Token</key><data>AA==</data>",
            "Topic",
        ),
        (
            strings(&[("Topic", "t")]) + "<key>Token</key><data>AA==</data>",
            "PushMagic",
        ),
        (strings(&[("Topic", "t"), ("PushMagic", "m")]), "Token"),
    ] {
        assert_eq!(
            decode("TokenUpdate", IDS, &entries),
            Err(field("TokenUpdate", FieldError::Missing { key }))
        );
    }
    let text = strings(&[("Topic", "t"), ("PushMagic", "m"), ("Token", "AA==")]);
    let wrong = field(
        "TokenUpdate",
        FieldError::WrongType {
            key: "Token",
            expected: "data",
        },
    );
    assert_eq!(decode("TokenUpdate", IDS, &text), Err(wrong));
}

#[test]
fn secrets_do_not_show() {
    let push = strings(&[("Topic", "t"), ("PushMagic", "hunter2")]) + "<key>Token</key><data>aHVudGVyMg==</data>";
    let messages = [
        decode(
            "TokenUpdate",
            IDS,
            &format!("{push}<key>UnlockToken</key><data>aHVudGVyMg==</data>"),
        ),
        decode(
            "SetBootstrapToken",
            IDS,
            "<key>BootstrapToken</key><data>aHVudGVyMg==</data>",
        ),
        decode(
            "UserAuthenticate",
            &[("UDID", "D1"), ("UserID", "U1")],
            &strings(&[("DigestResponse", "hunter2")]),
        ),
        decode(
            "DeclarativeManagement",
            IDS,
            &(strings(&[("Endpoint", "status")]) + "<key>Data</key><data>aHVudGVyMg==</data>"),
        ),
    ];
    let bytes = format!("{:?}", b"hunter2");
    for message in messages {
        let shown = format!("{:?}", message.unwrap());
        assert!(
            !shown.contains("hunter2") && !shown.contains(bytes.trim_matches(['[', ']'])),
            "{shown}"
        );
    }
}

#[test]
fn check_out() {
    let CheckIn::CheckOut(read) = decode("CheckOut", IDS, &strings(&[("Topic", "t")])).unwrap() else {
        panic!("another message")
    };
    assert_eq!((read.key.as_str(), read.topic.as_deref()), ("D1", Some("t")));
    assert!(decode("CheckOut", IDS, "").is_ok(), "there is no second attempt");
}

#[test]
fn bootstrap_tokens_are_set_cleared_and_asked_for() {
    let set = |more: &str| match decode("SetBootstrapToken", IDS, more).unwrap() {
        CheckIn::SetBootstrapToken(read) => read.bootstrap_token.map(|token| token.expose().to_vec()),
        other => panic!("another message: {other:?}"),
    };
    assert_eq!(set("<key>BootstrapToken</key><data>AQI=</data>"), Some(vec![1, 2]));
    assert_eq!(set("<key>BootstrapToken</key><data></data>"), None);
    assert_eq!(set(""), None);
    let get = decode("GetBootstrapToken", IDS, "<key>AwaitingConfiguration</key><true/>").unwrap();
    assert!(matches!(get, CheckIn::GetBootstrapToken(read) if read.awaiting_configuration));
}

#[test]
fn user_authenticate_comes_twice() {
    let ids = &[("UDID", "D1"), ("UserID", "U1")];
    let digest = |more: &str| match decode("UserAuthenticate", ids, more).unwrap() {
        CheckIn::UserAuthenticate(read) => read.digest_response.map(|digest| digest.expose().to_owned()),
        other => panic!("another message: {other:?}"),
    };
    assert_eq!(digest(""), None);
    assert_eq!(digest(&strings(&[("DigestResponse", "")])), None);
    assert_eq!(digest(&strings(&[("DigestResponse", "d")])), Some("d".to_owned()));
}

#[test]
fn declarative_management_and_get_token() {
    let more = strings(&[("Endpoint", "status")]) + "<key>Data</key><data>e30=</data>";
    let CheckIn::DeclarativeManagement(read) = decode("DeclarativeManagement", IDS, &more).unwrap() else {
        panic!("another message")
    };
    assert_eq!(
        (read.endpoint.as_str(), read.data.as_deref()),
        ("status", Some(&b"{}"[..]))
    );
    let missing = field("DeclarativeManagement", FieldError::Missing { key: "Endpoint" });
    assert_eq!(decode("DeclarativeManagement", IDS, ""), Err(missing));

    let parameters = strings(&[("SecurityToken", "s"), ("PhoneUDID", "P1"), ("WatchUDID", "W1")]);
    let more = strings(&[("TokenServiceType", "com.apple.watch.pairing")])
        + &format!("<key>TokenParameters</key><dict>{parameters}</dict>");
    let CheckIn::GetToken(read) = decode("GetToken", IDS, &more).unwrap() else {
        panic!("another message")
    };
    assert_eq!(read.token_service_type, "com.apple.watch.pairing");
    assert_eq!(
        read.token_parameters.security_token.as_ref().map(SecretString::expose),
        Some("s")
    );
    assert_eq!(read.token_parameters.phone_udid.as_deref(), Some("P1"));
    assert_eq!(read.token_parameters.watch_udid.as_deref(), Some("W1"));
    let plain = decode("GetToken", IDS, &strings(&[("TokenServiceType", "com.apple.maid")])).unwrap();
    assert_eq!(plain.message_type(), "GetToken");
}

#[test]
fn errors_are_told_apart() {
    let limits = Limits::default();
    assert_eq!(
        CheckIn::decode(b"", &limits),
        Err(CheckInError::Plist(DecodeError::Empty))
    );
    assert_eq!(
        CheckIn::decode(&document("<dict/>"), &limits),
        Err(CheckInError::MissingMessageType)
    );
    let number = message("<key>MessageType</key><integer>1</integer>");
    assert_eq!(CheckIn::decode(&number, &limits), Err(CheckInError::MissingMessageType));
    let unknown = CheckInError::UnknownMessageType {
        name: "ReturnToService".to_owned(),
    };
    assert_eq!(decode("ReturnToService", IDS, ""), Err(unknown));
    let source = KeyError::Missing {
        key: "UDID or EnrollmentID",
    };
    assert_eq!(
        decode("CheckOut", &[], ""),
        Err(CheckInError::Enrollment {
            message: "CheckOut",
            source
        })
    );
}

#[test]
fn an_unknown_type_is_named_safely() {
    let error = decode(&format!("evil\n\u{202e}{}", "x".repeat(10_000)), IDS, "").unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.len() < 150 && shown.contains("evil??xxx") && shown.is_ascii(),
        "{shown}"
    );
}

#[test]
fn answers() {
    insta::assert_snapshot!(root(&checkin::bootstrap_token_response(Some(b"hello"))), @r"
    <dict>
      <key>BootstrapToken</key>
      <data>aGVsbG8=</data>
    </dict>
    ");
    insta::assert_snapshot!(root(&checkin::bootstrap_token_response(None)), @"<dict/>");
    insta::assert_snapshot!(root(&checkin::digest_challenge_response("")), @r"
    <dict>
      <key>DigestChallenge</key>
      <string></string>
    </dict>
    ");
    insta::assert_snapshot!(root(&checkin::auth_token_response("t<1>")), @r"
    <dict>
      <key>AuthToken</key>
      <string>t&lt;1&gt;</string>
    </dict>
    ");
    insta::assert_snapshot!(root(&checkin::get_token_response(b"jwt")), @r"
    <dict>
      <key>TokenData</key>
      <data>and0</data>
    </dict>
    ");
}
