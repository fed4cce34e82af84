//! How a simulated device carries commands out, without a server: what changes in it, and what its report says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use russet_pki::ca::{CaOptions, CertificateAuthority, SignerUse};
use russet_pki::cms::{self, Signer};
use russet_pki::key::KeyKind;
use russet_protocol::codec::{self, Limits};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{Report, ReportStatus};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{Answer, Platform, ProfileSignature, ReceivedCommand, ServerTrust};
use serde_json::json;

fn device(platform: Platform) -> SimulatedDevice {
    let builder = SimulatedDevice::builder().platform(platform);
    builder.server("https://mdm.example.com").build().unwrap()
}

fn command(value: serde_json::Value) -> ReceivedCommand {
    let Value::Dictionary(command) = codec::from_json(&value).unwrap() else {
        panic!("a command is a dictionary");
    };
    ReceivedCommand {
        uuid: "uuid-1".to_owned(),
        command,
        raw: Vec::new(),
    }
}

/// Carries a command out and reads the report as a server does.
async fn report(device: &SimulatedDevice, value: serde_json::Value) -> Report {
    read(device, &device.execute(&command(value)).await)
}

fn read(device: &SimulatedDevice, answer: &Answer) -> Report {
    let names = Dictionary::from_iter([("UDID", Value::from(device.facts().udid.as_str()))]);
    let report = Report::decode(&answer.encode(&names), &Limits::default()).unwrap();
    assert_eq!(report.key.device_id(), device.facts().udid);
    assert_eq!(report.command_uuid.as_deref(), answer.command_uuid.as_deref());
    report
}

fn wifi_profile(identifier: &str, uuid: &str) -> Vec<u8> {
    let payload = json!({
        "PayloadType": "com.apple.wifi.managed", "PayloadVersion": 1, "PayloadIdentifier": format!("{identifier}.wifi"),
        "PayloadUUID": "1B7B6A3C-1111-4111-8111-111111111111", "SSID_STR": "guests", "Password": "secret",
    });
    let profile = json!({
        "PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": identifier, "PayloadUUID": uuid,
        "PayloadDisplayName": "Wi-Fi", "PayloadContent": [payload],
    });
    codec::encode_value(&codec::from_json(&profile).unwrap())
}

fn install(profile: &[u8]) -> serde_json::Value {
    json!({"RequestType": "InstallProfile", "Payload": codec::to_json(&Value::Data(profile.to_vec()))})
}

/// As [`install`], with the payload as data.
fn install_command(profile: &[u8]) -> ReceivedCommand {
    let mut command = command(json!({"RequestType": "InstallProfile"}));
    command
        .command
        .insert("Payload".to_owned(), Value::Data(profile.to_vec()));
    command
}

#[tokio::test]
async fn profiles_are_installed_listed_replaced_and_removed() {
    let phone = device(Platform::IPhone);
    for uuid in ["UUID-1", "UUID-2"] {
        let answer = phone
            .execute(&install_command(&wifi_profile("com.example.wifi", uuid)))
            .await;
        assert_eq!(read(&phone, &answer).status, ReportStatus::Acknowledged);
    }
    let list = report(&phone, json!({"RequestType": "ProfileList", "ManagedOnly": true}))
        .await
        .result_json();
    let profiles = list["ProfileList"].as_array().unwrap();
    assert_eq!(profiles.len(), 1, "the second replaced the first");
    assert_eq!(profiles[0]["PayloadUUID"], "UUID-2");
    assert_eq!(profiles[0]["IsManaged"], true);
    assert_eq!(
        profiles[0]["PayloadContent"][0]["PayloadType"],
        "com.apple.wifi.managed"
    );
    assert!(
        profiles[0]["PayloadContent"][0].get("Password").is_none(),
        "content is not told"
    );

    let remove = json!({"RequestType": "RemoveProfile", "Identifier": "com.example.wifi"});
    assert_eq!(report(&phone, remove.clone()).await.status, ReportStatus::Acknowledged);
    let again = report(&phone, remove).await;
    assert_eq!(
        (again.status, again.error_chain[0].error_code),
        (ReportStatus::Error, 12075)
    );
    assert!(phone.profiles().is_empty());
}

#[tokio::test]
async fn the_signature_of_a_profile_is_checked() {
    let now = Timestamp::now();
    let options = CaOptions {
        common_name: "Test CA".to_owned(),
        organization: "Tests".to_owned(),
        key: KeyKind::P256,
        lifetime: SignedDuration::from_hours(1),
    };
    let ca = CertificateAuthority::generate(&options, now).unwrap();
    let (certificate, key) = ca
        .issue_signer("Signer", SignerUse::Profiles, SignedDuration::from_mins(30), now)
        .unwrap();
    let profile = wifi_profile("com.example.wifi", "UUID-1");
    let signed = cms::sign_attached(&profile, &Signer::new(certificate.clone(), key)).unwrap();
    let builder = SimulatedDevice::builder().server("https://mdm.example.com");
    let trusting = builder
        .trust(ServerTrust::from_pem(&ca.certificate().to_pem()).unwrap())
        .build()
        .unwrap();
    for (mac, trusted) in [(trusting, true), (device(Platform::Mac), false)] {
        mac.execute(&install_command(&signed)).await;
        let signer = certificate.clone();
        assert_eq!(
            mac.profiles()[0].signature,
            ProfileSignature::Signed { signer, trusted }
        );
    }

    let mac = device(Platform::Mac);
    let mut tampered = signed;
    let position = tampered.windows(6).position(|window| window == b"guests").unwrap();
    tampered[position] ^= 1;
    let answer = mac.execute(&install_command(&tampered)).await;
    let report = read(&mac, &answer);
    assert_eq!(report.status, ReportStatus::Error);
    assert_eq!(report.error_chain[0].error_domain, "MCInstallationErrorDomain");
    assert!(mac.profiles().is_empty());
}

#[tokio::test]
async fn what_is_not_a_profile_is_an_error() {
    let mac = device(Platform::Mac);
    for payload in [&b"garbage"[..], b"", &[0x30, 0x80], b"<plist><dict/></plist>"] {
        let answer = mac.execute(&install_command(payload)).await;
        assert_eq!(answer.status, ReportStatus::Error, "{payload:?}");
    }
    // A payload that is text instead of data.
    assert_eq!(report(&mac, install(b"x")).await.status, ReportStatus::Error);
}

#[tokio::test]
async fn a_mac_needs_a_pin_to_be_locked_and_a_phone_reports_on_the_message() {
    let mac = device(Platform::Mac);
    for pin in [json!(null), json!("12345"), json!("12345a")] {
        let mut lock = json!({"RequestType": "DeviceLock"});
        if !pin.is_null() {
            lock["PIN"] = pin;
        }
        assert_eq!(report(&mac, lock).await.status, ReportStatus::Error);
        assert!(mac.locked().is_none());
    }
    let lock = json!({"RequestType": "DeviceLock", "PIN": "123456", "Message": "Lost"});
    let locked = report(&mac, lock).await;
    assert_eq!(locked.status, ReportStatus::Acknowledged);
    assert!(locked.result_json().get("MessageResult").is_none());
    assert_eq!(mac.locked().unwrap().message.as_deref(), Some("Lost"));

    let phone = device(Platform::IPhone);
    let lock = json!({"RequestType": "DeviceLock", "Message": "Lost"});
    assert_eq!(report(&phone, lock).await.result_json()["MessageResult"], "Success");
    let mut clear = command(json!({"RequestType": "ClearPasscode"}));
    clear
        .command
        .insert("UnlockToken".to_owned(), Value::Data(b"wrong".to_vec()));
    assert_eq!(phone.execute(&clear).await.status, ReportStatus::Error);
    let token = phone.unlock_token().unwrap().expose().to_vec();
    clear.command.insert("UnlockToken".to_owned(), Value::Data(token));
    assert_eq!(phone.execute(&clear).await.status, ReportStatus::Acknowledged);
    assert!(phone.locked().is_none());
}

#[tokio::test]
async fn information_has_the_types_of_the_schema() {
    for platform in [Platform::Mac, Platform::IPhone, Platform::IPad] {
        let device = device(platform);
        let queries = [
            "UDID",
            "DeviceCapacity",
            "IsSupervised",
            "IMEI",
            "IsAppleSilicon",
            "AwaitingConfiguration",
        ];
        let answer = device
            .execute(&command(
                json!({"RequestType": "DeviceInformation", "Queries": queries}),
            ))
            .await;
        let responses = answer
            .result
            .get("QueryResponses")
            .and_then(Value::as_dictionary)
            .unwrap();
        let mac = platform.is_mac();
        assert_eq!(
            responses.get("UDID").and_then(Value::as_string),
            Some(device.facts().udid.as_str())
        );
        assert!(responses.get("DeviceCapacity").and_then(Value::as_real).unwrap() > 0.0);
        assert_eq!(responses.get("IsSupervised").and_then(Value::as_boolean), Some(true));
        assert_eq!(responses.contains_key("IMEI"), platform == Platform::IPhone);
        assert_eq!(
            responses.get("IsAppleSilicon").and_then(Value::as_boolean),
            mac.then_some(true)
        );
        let default = report(&device, json!({"RequestType": "DeviceInformation"}))
            .await
            .result_json();
        assert_eq!(
            default["QueryResponses"]["SerialNumber"],
            device.facts().serial_number.as_str()
        );

        let security = report(&device, json!({"RequestType": "SecurityInfo"}))
            .await
            .result_json();
        let security = &security["SecurityInfo"];
        assert_eq!(security["ManagementStatus"]["IsUserEnrollment"], false);
        assert_eq!(security.get("FDE_Enabled").is_some(), mac);
        assert_eq!(security.get("PasscodePresent").is_some(), !mac);
    }
}

#[tokio::test]
async fn every_setting_gets_its_own_result() {
    let phone = device(Platform::IPhone);
    let settings = json!([{"Item": "DeviceName", "DeviceName": "Pool 7"}, {"Item": "Wallpaper"}]);
    let report = report(&phone, json!({"RequestType": "Settings", "Settings": settings})).await;
    let results = report.result_json()["Settings"].clone();
    assert_eq!(results[0], json!({"Item": "DeviceName", "Status": "Acknowledged"}));
    assert_eq!(results[1]["Item"], "Wallpaper");
}

#[tokio::test]
async fn what_a_device_does_not_know_it_says() {
    let mac = device(Platform::Mac);
    let unknown = report(&mac, json!({"RequestType": "MakeCoffee"})).await;
    assert_eq!(
        (unknown.status, unknown.error_chain[0].error_code),
        (ReportStatus::Error, 12021)
    );
    let nameless = report(&mac, json!({"Queries": []})).await;
    assert_eq!(nameless.status, ReportStatus::CommandFormatError);
}

#[test]
fn an_idle_report_names_no_command() {
    let mac = device(Platform::Mac);
    let report = read(&mac, &Answer::idle());
    assert_eq!((report.status, report.command_uuid), (ReportStatus::Idle, None));
}
