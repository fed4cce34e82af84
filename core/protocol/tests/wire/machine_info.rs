//! What a device says before it enrolls.

use russet_protocol::{DecodeError, FieldError, Limits, MachineInfo, MachineInfoError, SecretBytes};

use crate::{message, strings};

fn decode(entries: &str) -> Result<MachineInfo, MachineInfoError> {
    MachineInfo::decode(&message(entries), &Limits::default())
}

#[test]
fn a_device_of_today() {
    let entries = strings(&[
        ("UDID", "D1"),
        ("SERIAL", "C02XX"),
        ("PRODUCT", "iPhone16,1"),
        ("VERSION", "23B85"),
        ("OS_VERSION", "26.1"),
        ("SUPPLEMENTAL_BUILD_VERSION", "23B85a"),
        ("SUPPLEMENTAL_OS_VERSION_EXTRA", "(a)"),
        ("LANGUAGE", "en"),
        ("SOFTWARE_UPDATE_DEVICE_ID", "iPhone16,1"),
        ("FUTURE_KEY", "ignored"),
    ]) + "<key>MDM_CAN_REQUEST_SOFTWARE_UPDATE</key><true/><key>PAIRING_TOKEN</key><data>AA==</data>";
    let info = decode(&entries).unwrap();
    assert_eq!(
        (info.udid.as_deref(), info.serial.as_deref()),
        (Some("D1"), Some("C02XX"))
    );
    assert_eq!(
        (info.product.as_str(), info.build_version.as_str()),
        ("iPhone16,1", "23B85")
    );
    assert_eq!(info.os_version.as_deref(), Some("26.1"));
    assert_eq!(info.supplemental_os_version_extra.as_deref(), Some("(a)"));
    assert!(info.can_request_software_update);
    assert!(!info.can_request_psso_config && !info.mandatory_software_update_required);
    assert_eq!(info.pairing_token.as_ref().map(SecretBytes::expose), Some(&[0][..]));
    let json = serde_json::to_value(&info).unwrap();
    assert_eq!(json["serial"], "C02XX");
    assert!(json.get("pairing_token").is_none(), "the token stays here");
}

#[test]
fn a_personal_device_names_nothing_but_its_kind() {
    let info = decode(&strings(&[("PRODUCT", "iPhone16,1"), ("VERSION", "23B85")])).unwrap();
    assert_eq!((info.udid, info.serial, info.os_version), (None, None, None));
}

#[test]
fn bad_information_is_named() {
    assert_eq!(decode(""), Err(FieldError::Missing { key: "PRODUCT" }.into()));
    assert_eq!(
        decode(&strings(&[("PRODUCT", "p")])),
        Err(FieldError::Missing { key: "VERSION" }.into())
    );
    let text = strings(&[
        ("PRODUCT", "p"),
        ("VERSION", "v"),
        ("MDM_CAN_REQUEST_SOFTWARE_UPDATE", "yes"),
    ]);
    let wrong = FieldError::WrongType {
        key: "MDM_CAN_REQUEST_SOFTWARE_UPDATE",
        expected: "boolean",
    };
    assert_eq!(decode(&text), Err(wrong.into()));
    assert_eq!(
        MachineInfo::decode(b"", &Limits::default()),
        Err(MachineInfoError::Plist(DecodeError::Empty))
    );
}
