//! The queue as a device sees it, profiles made at delivery, and escrow.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use russet_engine::{Audience, CommandSource, DeviceAnswer, DeviceError, EngineError, EnqueueRequest, NewProfile};
use russet_hooks::{EscrowVerdict, FaultKind};
use russet_pki::SignaturePolicy;
use russet_pki::cms;
use russet_protocol::{Limits, codec, plist};
use russet_store::{EnrollmentLookup, EntryState, EscrowKind};
use serde_json::json;

use support::{Device, World, device_information, security_info};

const PROFILE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><plist version=\"1.0\"><dict>\
    <key>PayloadType</key><string>Configuration</string><key>PayloadVersion</key><integer>1</integer>\
    <key>PayloadIdentifier</key><string>com.example.SERIAL</string>\
    <key>PayloadUUID</key><string>2C6E7A4D-4A7C-4C9A-9C55-6E8B7F4B9D11</string>\
    <key>PayloadContent</key><array/></dict></plist>";

#[tokio::test]
async fn commands_go_out_one_by_one_and_a_report_brings_the_next() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let first = world.enqueue(&device, device_information()).await;
    let second = world.enqueue(&device, security_info()).await;
    let (uuid, command) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(uuid, first);
    assert_eq!(
        command.get("RequestType").unwrap().as_string(),
        Some("DeviceInformation")
    );
    let (uuid, _) = world
        .poll(&device, device.report("Acknowledged", &first))
        .await
        .unwrap();
    assert_eq!(uuid, second);
    assert!(
        world
            .poll(&device, device.report("Acknowledged", &second))
            .await
            .is_none()
    );
    assert!(
        world
            .poll(&device, device.report("Acknowledged", &second))
            .await
            .is_none(),
        "a repeated report is taken"
    );
}

#[tokio::test]
async fn a_command_that_is_put_off_waits_for_the_next_round() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let first = world.enqueue(&device, device_information()).await;
    let second = world.enqueue(&device, security_info()).await;
    world.poll(&device, device.idle()).await.unwrap();
    let (uuid, _) = world.poll(&device, device.report("NotNow", &first)).await.unwrap();
    assert_eq!(uuid, second, "the next command that was not put off");
    assert!(
        world
            .poll(&device, device.report("Acknowledged", &second))
            .await
            .is_none()
    );
    let (uuid, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(uuid, first);
}

#[tokio::test]
async fn a_report_on_an_unknown_command_is_taken_so_that_it_is_not_repeated_for_ever() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    for uuid in ["6F1C1B1E-0000-4000-8000-000000000000", "not a uuid"] {
        assert!(world.poll(&device, device.report("Acknowledged", uuid)).await.is_none());
    }
}

#[tokio::test]
async fn a_wrong_command_or_device_queues_nothing_and_says_why() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let ask = |source, devices: &[&str]| EnqueueRequest {
        source,
        audience: Audience::Devices(devices.iter().map(|&device| device.to_owned()).collect()),
        priority: 0,
        not_before: None,
        expires_at: None,
        pace: None,
        administrator: support::administrator("test", 1),
    };
    let request = world.request().await;
    let wrong = CommandSource::Json(json!({"RequestType": "DeviceLock", "Mesage": "x", "PIN": 1}));
    let error = world
        .engine
        .enqueue(&request, ask(wrong, &["C02A"]), world.now)
        .await
        .unwrap_err();
    let EngineError::Invalid { details, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(details.len(), 2, "{details:?}");
    let error = world
        .engine
        .enqueue(&request, ask(security_info(), &["C02A", "C02X"]), world.now)
        .await
        .unwrap_err();
    let EngineError::Invalid { details, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(details, ["C02X: no such device"]);
    assert!(world.poll(&device, device.idle()).await.is_none(), "nothing was queued");
}

#[tokio::test]
async fn a_question_is_not_asked_for_ever_whatever_it_names() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let named = json!({"RequestType": "InstalledApplicationList", "Identifiers": ["org.example.app"]});
    for (command, waits) in [
        (security_info(), false),
        (CommandSource::Json(named), false),
        (CommandSource::Json(json!({"RequestType": "RestartDevice"})), true),
    ] {
        let uuid = world.enqueue(&device, command).await.parse().unwrap();
        let tenant = world.store.default_tenant();
        let (record, _) = world.store.command(tenant, uuid).await.unwrap().unwrap();
        assert_eq!(record.expires_at.is_none(), waits, "{}", record.request_type);
    }
}

#[tokio::test]
async fn a_serial_number_that_two_devices_claim_names_neither() {
    let world = World::new().await;
    world.enrolled("C02A").await;
    let mut liar = world.identified("C02B").await;
    liar.serial = "C02A".into();
    world.send(&liar, liar.authenticate()).await.unwrap();
    world.send(&liar, liar.token_update()).await.unwrap();
    let tenant = world.engine.tenant("default").await.unwrap();
    let error = world.engine.device(&tenant, "C02A").await.unwrap_err();
    assert!(error.to_string().contains("use the enrollment id"), "{error}");
    let found = world.engine.device(&tenant, "UDID-C02A").await.unwrap();
    assert_eq!(found.key, "UDID-C02A");
}

async fn store_template(world: &World) {
    let tenant = world.engine.tenant("default").await.unwrap();
    let profile = NewProfile {
        content: PROFILE.into(),
        template: Some("template".into()),
        variables: json!({}),
    };
    world
        .engine
        .put_profile(&tenant, "wifi", profile, world.now)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_template_is_rendered_for_the_device_and_signed_at_delivery() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    store_template(&world).await;
    world
        .enqueue(&device, CommandSource::StoredProfile("wifi".into()))
        .await;
    let (_, command) = world.poll(&device, device.idle()).await.unwrap();
    let payload = command.get("Payload").unwrap().as_data().unwrap();
    let (content, _) = cms::verify_attached(payload, &SignaturePolicy::strict()).unwrap();
    let profile = codec::decode(&content, &Limits::default()).unwrap();
    assert_eq!(
        profile.get("PayloadIdentifier").unwrap().as_string(),
        Some("com.example.C02A")
    );
}

#[tokio::test]
async fn a_template_that_fails_waits_and_is_shown_and_others_go_out() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    store_template(&world).await;
    *world.script.template.lock().unwrap() = Some(Err(FaultKind::CouldNotDecide));
    world
        .enqueue(&device, CommandSource::StoredProfile("wifi".into()))
        .await;
    let other = world.enqueue(&device, security_info()).await;
    let (uuid, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(uuid, other);
    let tenant = world.store.default_tenant();
    let enrollment = world
        .store
        .enrollment(tenant, EnrollmentLookup::Serial("C02A"))
        .await
        .unwrap()
        .unwrap();
    let queue = world.store.queue(enrollment.id).await.unwrap();
    let waiting = queue
        .iter()
        .find(|entry| entry.request_type == "InstallProfile")
        .unwrap();
    assert_eq!(waiting.state, EntryState::Pending);
    assert!(
        waiting.defer_reason.as_ref().unwrap().contains("could-not-decide"),
        "{waiting:?}"
    );
}

#[tokio::test]
async fn a_command_that_is_taken_back_while_it_is_made_is_passed_over() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    store_template(&world).await;
    let taken_back = world
        .enqueue(&device, CommandSource::StoredProfile("wifi".into()))
        .await;
    let other = world.enqueue(&device, security_info()).await;
    let uuid = taken_back.parse().unwrap();
    *world.script.take_back.lock().unwrap() = Some((world.store.clone(), uuid, world.now));
    *world.script.template.lock().unwrap() = Some(Err(FaultKind::CouldNotDecide));
    let (uuid, _) = world.poll(&device, device.idle()).await.unwrap();
    assert_eq!(uuid, other);
}

#[tokio::test]
async fn what_is_no_profile_is_not_stored() {
    let world = World::new().await;
    let tenant = world.engine.tenant("default").await.unwrap();
    for content in ["", "hello", "<plist><dict/></plist>"] {
        let profile = NewProfile {
            content: content.into(),
            template: None,
            variables: json!({}),
        };
        let error = world
            .engine
            .put_profile(&tenant, "x", profile, world.now)
            .await
            .unwrap_err();
        assert!(matches!(error, EngineError::Invalid { .. }), "{error:?}");
    }
}

fn deposit(device: &Device, token: &[u8]) -> plist::Dictionary {
    let token = plist::Value::Data(token.to_vec());
    device.message(&[("MessageType", "SetBootstrapToken".into()), ("BootstrapToken", token)])
}

fn ask_back(device: &Device) -> plist::Dictionary {
    device.message(&[("MessageType", "GetBootstrapToken".into())])
}

fn token_in(answer: DeviceAnswer) -> Option<Vec<u8>> {
    let DeviceAnswer::Plist(body) = answer else {
        panic!("{answer:?}")
    };
    let answer = codec::decode(&body, &Limits::default()).unwrap();
    answer
        .get("BootstrapToken")
        .map(|token| token.as_data().unwrap().to_vec())
}

#[tokio::test]
async fn a_bootstrap_token_goes_in_and_comes_back_as_the_policy_allows() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    assert_eq!(token_in(world.send(&device, ask_back(&device)).await.unwrap()), None);
    world.send(&device, deposit(&device, b"token")).await.unwrap();
    assert_eq!(
        token_in(world.send(&device, ask_back(&device)).await.unwrap()),
        Some(b"token".to_vec())
    );

    *world.script.escrow.lock().unwrap() = Some(Ok(EscrowVerdict::Deny("not at night".into())));
    assert_eq!(token_in(world.send(&device, ask_back(&device)).await.unwrap()), None);
    let error = world.send(&device, deposit(&device, b"another")).await.unwrap_err();
    assert!(matches!(error, DeviceError::Denied { .. }), "{error:?}");

    *world.script.escrow.lock().unwrap() = None;
    assert_eq!(
        token_in(world.send(&device, ask_back(&device)).await.unwrap()),
        Some(b"token".to_vec())
    );
    world.send(&device, deposit(&device, b"")).await.unwrap();
    assert_eq!(
        token_in(world.send(&device, ask_back(&device)).await.unwrap()),
        None,
        "an empty token clears"
    );
}

#[tokio::test]
async fn a_policy_that_fails_keeps_a_deposit_marked_and_releases_nothing() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    *world.script.escrow.lock().unwrap() = Some(Err(FaultKind::Trap));
    world.send(&device, deposit(&device, b"token")).await.unwrap();
    let tenant = world.store.default_tenant();
    let enrollment = world
        .store
        .enrollment(tenant, EnrollmentLookup::Serial("C02A"))
        .await
        .unwrap()
        .unwrap();
    let info = world
        .store
        .escrow_info(enrollment.id, EscrowKind::BootstrapToken)
        .await
        .unwrap()
        .unwrap();
    assert!(info.held.unwrap().contains("keep-marked"));
    let error = world.send(&device, ask_back(&device)).await.unwrap_err();
    assert!(matches!(error, DeviceError::TryLater { .. }), "{error:?}");
}
