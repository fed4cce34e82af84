//! Commands as an API client sends them, and as a device gets them.

use russet_protocol::command::{Command, CommandError, Validated};
use russet_protocol::{Limits, codec};
use serde_json::{Value as Json, json};

use crate::{message, root, strings};

fn valid(json: Json) -> Validated {
    Command::from_json(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn problems(json: Json) -> Vec<String> {
    match Command::from_json(&json) {
        Err(CommandError::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{json}: problems expected, not {other:?}"),
    }
}

#[test]
fn typed_commands_keep_every_key() {
    for command in [
        json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion", "SerialNumber"]}),
        json!({"RequestType": "DeviceInformation", "Queries": ["DevicePropertiesAttestation"],
               "DeviceAttestationNonce": "bm9uY2U="}),
        json!({"RequestType": "SecurityInfo"}),
        json!({"RequestType": "ProfileList", "ManagedOnly": true}),
        json!({"RequestType": "InstallProfile", "Payload": "PHBsaXN0Lz4="}),
        json!({"RequestType": "RemoveProfile", "Identifier": "com.example.wifi"}),
        json!({"RequestType": "DeviceLock", "Message": "Please return me", "PhoneNumber": "555", "PIN": "123456"}),
        json!({"RequestType": "EraseDevice", "PreserveDataPlan": true, "DisallowProximitySetup": false, "PIN": "123456",
               "ObliterationBehavior": "DoNotObliterate",
               "ReturnToService": {"Enabled": true, "WiFiProfileData": "AA==", "MDMProfileData": "AQ==",
                                   "BootstrapToken": "Ag==", "ShouldRetryEnrollment": true}}),
    ] {
        let validated = valid(command.clone());
        assert_eq!(validated.warnings, Vec::<String>::new(), "{command}");
        assert_eq!(validated.command.request_type(), command["RequestType"]);
        let written = validated.command.dictionary();
        assert_eq!(codec::to_json(&written.clone().into()), command);
        let read = Command::from_plist(&codec::encode(&written), &Limits::default()).unwrap();
        assert_eq!(read, validated, "the property list reads back");
    }
}

#[test]
fn data_is_data_on_the_wire() {
    let command = valid(json!({"RequestType": "InstallProfile", "Payload": "PHBsaXN0Lz4="})).command;
    insta::assert_snapshot!(root(&codec::encode(&command.dictionary())), @r"
    <dict>
      <key>RequestType</key>
      <string>InstallProfile</string>
      <key>Payload</key>
      <data>PHBsaXN0Lz4=</data>
    </dict>
    ");
    let as_text = strings(&[("RequestType", "InstallProfile"), ("Payload", "PHBsaXN0Lz4=")]);
    let error = Command::from_plist(&message(&as_text), &Limits::default()).unwrap_err();
    assert!(
        error.to_string().contains("Payload: must be data"),
        "text stays text in a property list: {error}"
    );
}

#[test]
fn every_wrong_key_is_named_with_what_is_expected() {
    assert_eq!(
        problems(json!({"RequestType": "DeviceLock", "PIN": 123_456, "Mesage": "x", "Colour": 1})),
        [
            "PIN: must be a string of six characters",
            "Colour: is unknown; known are Message, PhoneNumber, PIN",
            "Mesage: is unknown; did you mean Message?",
        ]
    );
    assert_eq!(
        problems(json!({"RequestType": "DeviceLock", "PIN": "12345"})),
        ["PIN: must be a string of six characters"]
    );
    assert_eq!(
        problems(json!({"RequestType": "SecurityInfo", "All": true})),
        ["All: is unknown; this takes no keys"]
    );
    assert_eq!(
        problems(json!({"RequestType": "InstallProfile"})),
        ["Payload: is required: data that is not empty (in JSON: a base64 string)"]
    );
    assert_eq!(
        problems(json!({"RequestType": "InstallProfile", "Payload": "not base64!"})),
        ["Payload: must be data that is not empty (in JSON: a base64 string)"]
    );
    assert_eq!(
        problems(json!({"RequestType": "EraseDevice", "ObliterationBehavior": "Never",
                        "ReturnToService": {"WifiProfileData": "AA=="}})),
        [
            "ObliterationBehavior: must be one of Default, DoNotObliterate, ObliterateWithWarning, Always",
            "ReturnToService.Enabled: is required: true or false",
            "ReturnToService.WifiProfileData: is unknown; did you mean WiFiProfileData?",
        ]
    );
    for queries in [json!([]), json!("OSVersion"), json!([1]), json!([""])] {
        assert_eq!(
            problems(json!({"RequestType": "DeviceInformation", "Queries": queries})),
            ["Queries: must be a list of one or more strings"]
        );
    }
    assert_eq!(
        problems(
            json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"], "DeviceAttestationNonce": "AA=="})
        ),
        ["DeviceAttestationNonce: needs the query DevicePropertiesAttestation"]
    );
    let long_nonce = json!({"RequestType": "DeviceInformation", "Queries": ["DevicePropertiesAttestation"],
                            "DeviceAttestationNonce": "A".repeat(44)});
    assert_eq!(
        problems(long_nonce),
        ["DeviceAttestationNonce: must be data of 1 to 32 bytes (in JSON: a base64 string)"]
    );
}

#[test]
fn the_error_lists_all_problems_in_one_text() {
    let error = Command::from_json(&json!({"RequestType": "DeviceLock", "PIN": "1", "Message": ""})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the DeviceLock command is wrong: Message: must be a string that is not empty; \
         PIN: must be a string of six characters"
    );
}

#[test]
fn other_commands_pass_through_with_a_warning() {
    let warning = |request_type: &str| {
        let validated = valid(json!({"RequestType": request_type, "Anything": [1, {"$data": "AA=="}]}));
        assert_eq!(validated.command.request_type(), request_type);
        assert_eq!(validated.command.dictionary().len(), 2);
        let [warning] = &validated.warnings[..] else {
            panic!("one warning expected: {:?}", validated.warnings)
        };
        warning.clone()
    };
    assert_eq!(
        warning("Settings"),
        "Settings is passed on as it is: its keys are not checked"
    );
    assert_eq!(
        warning("DeviceLok"),
        "DeviceLok is not a known request type and is passed on; did you mean DeviceLock?"
    );
    assert_eq!(
        warning("FutureCommand"),
        "FutureCommand is not a known request type and is passed on"
    );
    for removed in [
        "AvailableOSUpdates",
        "OSUpdateStatus",
        "ScheduleOSUpdate",
        "ScheduleOSUpdateScan",
    ] {
        assert!(warning(removed).contains("was removed in OS 27"), "{removed}");
    }
}

#[test]
fn doubtful_queries_and_payloads_are_warned_about() {
    let warnings = |json| valid(json).warnings;
    let queries = json!(["OSVersion", "OsVersion", "SoftwareUpdateSettings", "Horoscope"]);
    assert_eq!(
        warnings(json!({"RequestType": "DeviceInformation", "Queries": queries})),
        [
            "the query OsVersion is unknown; did you mean OSVersion?",
            "the query SoftwareUpdateSettings was removed in OS 27: such devices do not answer it",
            "the query Horoscope is unknown",
        ]
    );
    assert_eq!(
        warnings(json!({"RequestType": "InstallProfile", "Payload": "aGVsbG8="})),
        ["Payload looks like neither a profile in XML nor a signed one"]
    );
    assert!(
        warnings(json!({"RequestType": "InstallProfile", "Payload": "MIIB"})).is_empty(),
        "a signed one"
    );
}

#[test]
fn a_command_in_its_envelope_is_unwrapped() {
    let inner = format!("<dict>{}</dict>", strings(&[("RequestType", "SecurityInfo")]));
    let body = message(&format!(
        "<key>Command</key>{inner}<key>CommandUUID</key><string>mine</string>"
    ));
    let validated = Command::from_plist(&body, &Limits::default()).unwrap();
    assert_eq!(validated.command, Command::SecurityInfo);
    assert_eq!(
        validated.warnings,
        ["CommandUUID is not used: the server gives each command its own"]
    );
    assert_eq!(
        valid(json!({"Command": {"RequestType": "SecurityInfo"}})).command,
        Command::SecurityInfo
    );
}

#[test]
fn what_is_no_command_is_refused() {
    let refused = |json: Json| Command::from_json(&json).unwrap_err();
    assert_eq!(refused(json!([])), CommandError::NotObject);
    for no_type in [
        json!({}),
        json!({"RequestType": 1}),
        json!({"RequestType": ""}),
        json!({"RequestType": "Device Lock"}),
        json!({"RequestType": "A".repeat(65)}),
        json!({"Command": "DeviceLock"}),
    ] {
        assert_eq!(refused(no_type), CommandError::RequestType);
    }
    assert!(matches!(
        refused(json!({"RequestType": "Settings", "Settings": null})),
        CommandError::Json(_)
    ));
    assert!(matches!(
        Command::from_plist(b"", &Limits::default()),
        Err(CommandError::Plist(_))
    ));
}

#[test]
fn a_question_is_one_whatever_it_names() {
    let asks = |json| valid(json).command.is_query();
    for question in [
        json!({"RequestType": "SecurityInfo"}),
        json!({"RequestType": "ProfileList", "ManagedOnly": true}),
        json!({"RequestType": "DeviceInformation", "Queries": ["DevicePropertiesAttestation"],
               "DeviceAttestationNonce": "AA=="}),
        json!({"RequestType": "InstalledApplicationList", "Identifiers": ["a"]}),
        json!({"RequestType": "DeclarativeManagement"}),
    ] {
        assert!(asks(question.clone()), "{question}");
    }
    for other in [
        json!({"RequestType": "DeclarativeManagement", "Data": "AA=="}),
        json!({"RequestType": "RestartDevice"}),
        json!({"RequestType": "Settings", "Settings": []}),
    ] {
        assert!(!asks(other.clone()), "{other}");
    }
}

#[test]
fn queries_share_an_answer_and_actions_do_not() {
    let key = |json| valid(json).command.dedupe_key();
    let info = |queries: Json| key(json!({"RequestType": "DeviceInformation", "Queries": queries}));
    assert_eq!(
        info(json!(["OSVersion", "UDID"])),
        info(json!(["UDID", "OSVersion", "UDID"]))
    );
    assert_ne!(info(json!(["OSVersion"])), info(json!(["UDID"])));
    assert_eq!(
        key(
            json!({"RequestType": "DeviceInformation", "Queries": ["DevicePropertiesAttestation"],
                   "DeviceAttestationNonce": "AA=="})
        ),
        None
    );
    assert_eq!(
        key(json!({"RequestType": "ProfileList"})),
        key(json!({"RequestType": "ProfileList", "ManagedOnly": false}))
    );
    assert_ne!(
        key(json!({"RequestType": "ProfileList"})),
        key(json!({"RequestType": "ProfileList", "ManagedOnly": true}))
    );
    assert_eq!(
        key(json!({"RequestType": "SecurityInfo"})).as_deref(),
        Some("SecurityInfo")
    );
    assert_eq!(
        key(json!({"RequestType": "CertificateList"})).as_deref(),
        Some("CertificateList")
    );
    assert_eq!(
        key(json!({"RequestType": "InstalledApplicationList", "Identifiers": ["a"]})),
        None
    );
    for action in [
        json!({"RequestType": "DeviceLock"}),
        json!({"RequestType": "EraseDevice"}),
        json!({"RequestType": "RestartDevice"}),
        json!({"RequestType": "RemoveProfile", "Identifier": "a"}),
        json!({"RequestType": "InstallProfile", "Payload": "PHBsaXN0Lz4="}),
    ] {
        assert_eq!(key(action.clone()), None, "{action}");
    }
}

#[test]
fn destructive_commands_are_known() {
    for (request_type, destructive) in [
        ("EraseDevice", true),
        ("DeviceLock", true),
        ("ClearPasscode", true),
        ("DeleteUser", true),
        ("SecurityInfo", false),
        ("RestartDevice", false),
        ("CertificateList", false),
    ] {
        assert_eq!(
            valid(json!({"RequestType": request_type})).command.is_destructive(),
            destructive,
            "{request_type}"
        );
    }
}

#[test]
fn commands_do_not_show_what_they_carry() {
    for command in [
        json!({"RequestType": "DeviceLock", "PIN": "hunter"}),
        json!({"RequestType": "SetRecoveryLock", "NewPassword": "hunter"}),
    ] {
        let shown = format!("{:?}", valid(command).command);
        assert!(!shown.contains("hunter"), "{shown}");
    }
    let Command::DeviceLock(lock) = valid(json!({"RequestType": "DeviceLock", "PIN": "hunter"})).command else {
        panic!("another command")
    };
    assert!(!format!("{lock:?}").contains("hunter"));
}
