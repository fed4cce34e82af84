//! The bodies of refusals that a device acts on.

use russet_protocol::content_type;
use russet_protocol::forbidden::{BetaProgram, BodyFormat, Forbidden, Reason, SoftwareUpdateRequired};
use serde_json::{Value as Json, json};

use crate::root;

fn as_json(refusal: &Forbidden) -> Json {
    serde_json::from_slice(&refusal.encode(BodyFormat::Json)).unwrap()
}

#[test]
fn software_update_required() {
    let refusal = Forbidden::software_update_required(SoftwareUpdateRequired {
        os_version: "26.1".to_owned(),
        build_version: Some("23B85".to_owned()),
        require_beta_program: Some(BetaProgram {
            description: "Seed".to_owned(),
            token: "secret".to_owned().into(),
        }),
    })
    .with_message("Update first")
    .with_description("gate: minimum 26.1");
    let expected = json!({
        "code": "com.apple.softwareupdate.required",
        "description": "gate: minimum 26.1",
        "message": "Update first",
        "details": {
            "OSVersion": "26.1",
            "BuildVersion": "23B85",
            "RequireBetaProgram": {"Description": "Seed", "Token": "secret"},
        },
    });
    assert_eq!(as_json(&refusal), expected);
    assert!(!format!("{refusal:?}").contains("secret"));
}

#[test]
fn what_is_not_given_is_left_out() {
    let update = SoftwareUpdateRequired {
        os_version: "26.1".to_owned(),
        ..Default::default()
    };
    let refusal = Forbidden::software_update_required(update);
    let expected = json!({"code": "com.apple.softwareupdate.required", "details": {"OSVersion": "26.1"}});
    assert_eq!(as_json(&refusal), expected);
    assert_eq!(
        as_json(&Forbidden::unrecognized_device()),
        json!({"code": "com.apple.unrecognized.device"})
    );
    let well_known = Forbidden::new(Reason::WellKnownFailed);
    assert_eq!(as_json(&well_known), json!({"code": "com.apple.well-known.failed"}));
}

#[test]
fn the_same_as_a_property_list() {
    let reason = Reason::WatchPairingTokenMissing {
        security_token: "t-1".to_owned(),
    };
    insta::assert_snapshot!(root(&Forbidden::new(reason).encode(BodyFormat::Plist)), @r"
    <dict>
      <key>code</key>
      <string>com.apple.watch.pairing.token.missing</string>
      <key>details</key>
      <dict>
        <key>security-token</key>
        <string>t-1</string>
      </dict>
    </dict>
    ");
    assert_eq!(BodyFormat::Plist.content_type(), content_type::PLIST);
    assert_eq!(BodyFormat::Json.content_type(), "application/json");
}
