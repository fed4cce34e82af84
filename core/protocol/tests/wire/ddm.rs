//! Declarative management: endpoints, answers, status reports.

use russet_protocol::ddm::{
    Declaration, DeclarationItems, DeclarationKind, Endpoint, ManifestItem, StatusReport, StatusReportError,
    TokensResponse,
};
use serde_json::{Value as Json, json};

fn json_of(body: &[u8]) -> Json {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn endpoints() {
    let declaration = |kind, identifier: &str| Endpoint::Declaration {
        kind,
        identifier: identifier.to_owned(),
    };
    for (text, expected) in [
        ("tokens", Endpoint::Tokens),
        ("declaration-items", Endpoint::DeclarationItems),
        ("status", Endpoint::Status),
        (
            "declaration/activation/a",
            declaration(DeclarationKind::Activation, "a"),
        ),
        ("declaration/asset/a/b", declaration(DeclarationKind::Asset, "a/b")),
        (
            "declaration/configuration/com.example.1",
            declaration(DeclarationKind::Configuration, "com.example.1"),
        ),
        (
            "declaration/management/m",
            declaration(DeclarationKind::Management, "m"),
        ),
        (
            "declaration/configuration/",
            Endpoint::Unknown("declaration/configuration/".to_owned()),
        ),
        (
            "declaration/other/a",
            Endpoint::Unknown("declaration/other/a".to_owned()),
        ),
        ("Tokens", Endpoint::Unknown("Tokens".to_owned())),
        ("", Endpoint::Unknown(String::new())),
    ] {
        assert_eq!(Endpoint::parse(text), expected);
    }
}

#[test]
fn empty_answers_are_complete_and_agree() {
    let tokens = json_of(&TokensResponse::empty().encode());
    assert_eq!(
        tokens,
        json!({"SyncTokens": {"DeclarationsToken": "none", "Timestamp": "1970-01-01T00:00:00Z"}})
    );
    let items = json_of(&DeclarationItems::empty().encode());
    let expected = json!({
        "Declarations": {"Activations": [], "Assets": [], "Configurations": [], "Management": []},
        "DeclarationsToken": "none",
    });
    assert_eq!(items, expected);
}

#[test]
fn answers_with_declarations() {
    let mut items = DeclarationItems::empty();
    let item = ManifestItem {
        identifier: "com.example.1".to_owned(),
        server_token: "t1".to_owned(),
    };
    for kind in DeclarationKind::ALL {
        items.declarations.of_mut(kind).push(item.clone());
    }
    let body = json_of(&items.encode());
    for list in ["Activations", "Assets", "Configurations", "Management"] {
        assert_eq!(
            body["Declarations"][list],
            json!([{"Identifier": "com.example.1", "ServerToken": "t1"}])
        );
    }
    let payload = json!({"Echo": "hello"}).as_object().unwrap().clone();
    let declaration = Declaration {
        declaration_type: "com.apple.configuration.management.test".to_owned(),
        identifier: "com.example.1".to_owned(),
        server_token: "t1".to_owned(),
        payload,
    };
    let expected = json!({
        "Type": "com.apple.configuration.management.test",
        "Identifier": "com.example.1",
        "ServerToken": "t1",
        "Payload": {"Echo": "hello"},
    });
    assert_eq!(json_of(&declaration.encode()), expected);
    let timestamp = "2026-01-31T12:00:00.75Z".parse().unwrap();
    assert_eq!(
        json_of(&TokensResponse::new("x", timestamp).encode())["SyncTokens"]["Timestamp"],
        "2026-01-31T12:00:00Z"
    );
}

fn report(json: &Json) -> StatusReport {
    StatusReport::decode(json.to_string().as_bytes(), 1024 * 1024).unwrap()
}

#[test]
fn a_status_report_is_read() {
    let report = report(&json!({
        "StatusItems": {"device": {"operating-system": {"version": "26.1"}}},
        "Errors": [{"StatusItem": "a.b", "Reasons": [{"Code": "Error.UnsupportedStatusItem", "Details": {"x": 1}}]}],
        "FullReport": true,
    }));
    assert_eq!(report.item("device.operating-system.version"), Some(&json!("26.1")));
    assert_eq!(
        report.item("device.operating-system"),
        Some(&json!({"version": "26.1"}))
    );
    assert_eq!(report.item("device.model.family"), None);
    assert_eq!(report.item("device.operating-system.version.major"), None);
    assert_eq!(report.errors[0].reasons[0].code, "Error.UnsupportedStatusItem");
    assert!(report.full_report && report.problems.is_empty());
    assert!(!format!("{report:?}").contains("26.1"), "status does not show");
}

#[test]
fn a_bad_status_report_is_read_as_far_as_it_can_be() {
    let read =
        report(&json!({"StatusItems": {"a": 1}, "Errors": [{"StatusItem": "x"}, 7], "FullReport": "yes", "New": 1}));
    assert_eq!(read.item("a"), Some(&json!(1)));
    assert_eq!(read.errors.len(), 1);
    assert_eq!(
        read.problems,
        [
            "Errors[1] is not a status error",
            "FullReport is not a boolean",
            "New is not a known key"
        ]
    );
    assert_eq!(report(&json!({})).problems, ["StatusItems is missing"]);
    assert_eq!(
        report(&json!({"StatusItems": []})).problems,
        ["StatusItems is not an object"]
    );
}

#[test]
fn what_is_no_report_is_refused() {
    assert_eq!(StatusReport::decode(b"[]", 10), Err(StatusReportError::NotObject));
    assert_eq!(
        StatusReport::decode(b"{} ", 2),
        Err(StatusReportError::TooLarge { limit: 2 })
    );
    let not_json = StatusReport::decode(b"{\n\"hunter2", 100).unwrap_err();
    assert!(
        matches!(not_json, StatusReportError::NotJson { line: 2, .. }),
        "{not_json:?}"
    );
    assert!(!not_json.to_string().contains("hunter2"));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        StatusReport::decode(deep.as_bytes(), 1 << 20),
        Err(StatusReportError::NotJson { .. })
    ));
}
