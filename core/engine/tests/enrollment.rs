//! Who gets in, with which identity, and what re-enrollment and renewal keep.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use russet_engine::settings::WithoutGate;
use russet_engine::{DeviceError, IdentityError, ProfileRefusal, ProfileSource};
use russet_hooks::{Denial, FaultKind, GateStage, GateVerdict, HookSet, SoftwareUpdate};
use russet_pki::cms::{ContentCipher, Signer};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::scep::client::Exchange;
use russet_protocol::plist;
use russet_store::{EnrollmentLookup, EnrollmentState, EscrowKind};

use support::{Device, World, challenge_of, device_information};

#[tokio::test]
async fn without_a_gate_nobody_enrolls_unless_the_setting_says_so() {
    let closed = World::with(support::settings(), HookSet::builder().build(), Default::default()).await;
    let refusal = closed.profile(ProfileSource::Manual, None).await.unwrap_err();
    assert!(
        matches!(refusal, ProfileRefusal::Denied { ref reason, .. } if reason == "no-gate"),
        "{refusal:?}"
    );

    let mut settings = support::settings();
    settings.without_gate = WithoutGate::Allow;
    let open = World::with(settings, HookSet::builder().build(), Default::default()).await;
    open.profile(ProfileSource::Manual, None).await.unwrap();
}

#[tokio::test]
async fn a_gate_decides_at_the_profile_and_again_at_authenticate() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let stages: Vec<_> = world
        .script
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|asked| asked.stage)
        .collect();
    assert_eq!(stages, [GateStage::Profile, GateStage::Authenticate]);

    let denial = GateVerdict::Deny(Denial {
        reason: "serial".into(),
        message: "Not this one.".into(),
    });
    *world.script.gate.lock().unwrap() = Some(Ok(denial));
    let refusal = world.profile(ProfileSource::Manual, None).await.unwrap_err();
    assert!(matches!(refusal, ProfileRefusal::Denied { message, .. } if message == "Not this one."));
    let refusal = world.send(&device, device.authenticate()).await.unwrap_err();
    assert!(matches!(refusal, DeviceError::Denied { reason, .. } if reason == "serial"));

    let decisions = world
        .store
        .decisions(world.store.default_tenant(), None, None, 100)
        .await
        .unwrap()
        .items;
    let verdicts: Vec<_> = decisions.iter().map(|record| record.verdict.as_str()).collect();
    assert_eq!(
        verdicts,
        ["deny", "deny", "allow", "allow"],
        "every decision is on record, refusals too"
    );
}

#[tokio::test]
async fn a_gate_that_fails_closes_and_asks_to_try_again() {
    let world = World::new().await;
    *world.script.gate.lock().unwrap() = Some(Err(FaultKind::Trap));
    assert!(matches!(
        world.profile(ProfileSource::Manual, None).await,
        Err(ProfileRefusal::TryLater { .. })
    ));
}

#[tokio::test]
async fn an_update_can_only_be_required_of_a_device_that_can_do_it() {
    let world = World::new().await;
    let update = SoftwareUpdate {
        os_version: "27.1".into(),
        build_version: None,
        beta: None,
    };
    *world.script.gate.lock().unwrap() = Some(Ok(GateVerdict::RequireSoftwareUpdate(update)));
    let refusal = world.profile(ProfileSource::Manual, None).await.unwrap_err();
    assert!(matches!(refusal, ProfileRefusal::Denied { reason, .. } if reason == "software-update-required"));
}

#[tokio::test]
async fn a_challenge_is_good_once_and_for_the_same_key_again() {
    let world = World::new().await;
    let challenge = challenge_of(&world.profile(ProfileSource::Manual, None).await.unwrap());
    let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let exchange = world.scep_request(&key, &challenge);
    let first = world.scep(&exchange).await.unwrap();
    let again = world.scep(&exchange).await.unwrap();
    assert_eq!(
        first.sha256(),
        again.sha256(),
        "a lost answer is repeated, not issued twice"
    );
    let stolen = world.enroll_identity(&challenge).await.unwrap_err();
    assert!(stolen.contains("used already"), "{stolen}");
    let unknown = world.enroll_identity("guessed").await.unwrap_err();
    assert!(unknown.contains("not known"), "{unknown}");
}

#[tokio::test]
async fn a_certificate_speaks_for_its_own_enrollment_only() {
    let world = World::new().await;
    let mine = world.enrolled("C02A").await;
    let theirs = world.enrolled("C02B").await;
    let forged = Device {
        udid: theirs.udid.clone(),
        serial: theirs.serial.clone(),
        signer: mine.signer.clone(),
    };
    for message in [forged.idle(), forged.token_update(), forged.authenticate()] {
        let error = world.send(&forged, message).await.unwrap_err();
        assert!(
            matches!(error, DeviceError::Identity(IdentityError::OtherEnrollment)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let tenant = world.engine.tenant("default").await.unwrap();
    let sha256 = device.signer.certificate.sha256();
    world
        .engine
        .revoke_certificate(&tenant, &sha256, "stolen", world.now)
        .await
        .unwrap();
    let error = world.send(&device, device.idle()).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::Revoked)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_out_of_time_is_refused() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let other = World::new().await;
    let error = other.send(&device, device.idle()).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::UnknownAuthority)),
        "{error:?}"
    );
    let late = world.now + jiff::SignedDuration::from_hours(24 * 400);
    let error = world.send_at(&device, device.idle(), late).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::NotValidNow)),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_identity_from_a_clock_that_was_ahead_is_good_when_the_clock_is_right() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    for days in [30, 31] {
        let before = world.now - jiff::SignedDuration::from_hours(24 * days);
        world.send_at(&device, device.idle(), before).await.unwrap();
    }
    let other = World::new().await;
    let before = other.now - jiff::SignedDuration::from_hours(24 * 30);
    let error = other.send_at(&device, device.idle(), before).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::UnknownAuthority)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_renewed_identity_keeps_the_queue_and_the_escrow_and_a_new_enrollment_does_not() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let token = plist::Value::Data(b"bootstrap".to_vec());
    let deposit = device.message(&[("MessageType", "SetBootstrapToken".into()), ("BootstrapToken", token)]);
    world.send(&device, deposit).await.unwrap();
    world.enqueue(&device, device_information()).await;

    let renewed = renewed(&world, &device).await;
    world.send(&renewed, renewed.authenticate()).await.unwrap();
    world.send(&renewed, renewed.token_update()).await.unwrap();
    let stages: Vec<_> = world
        .script
        .asked
        .lock()
        .unwrap()
        .iter()
        .skip(2)
        .map(|asked| asked.stage)
        .collect();
    assert_eq!(stages, [GateStage::Renewal, GateStage::Renewal]);
    let tenant = world.store.default_tenant();
    let record = world
        .store
        .enrollment(tenant, EnrollmentLookup::Key(&device.udid))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.state, EnrollmentState::Active);
    assert!(
        world
            .store
            .escrow_info(record.id, EscrowKind::BootstrapToken)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        world.poll(&device, device.idle()).await.is_some(),
        "a device whose renewal failed goes on as it was"
    );

    let fresh = world.identified("C02A").await;
    world.send(&fresh, fresh.authenticate()).await.unwrap();
    world.send(&fresh, fresh.token_update()).await.unwrap();
    assert!(
        world
            .store
            .escrow_info(record.id, EscrowKind::BootstrapToken)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        world.poll(&fresh, fresh.idle()).await.is_none(),
        "the queue of the old enrollment is gone"
    );
    for before in [&device, &renewed] {
        let error = world.send(before, before.idle()).await.unwrap_err();
        assert!(
            matches!(error, DeviceError::Identity(IdentityError::Superseded)),
            "the identities of the old enrollment are, too: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_identity_that_a_renewal_fell_back_to_is_renewed_again() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let token = plist::Value::Data(b"bootstrap".to_vec());
    let deposit = device.message(&[("MessageType", "SetBootstrapToken".into()), ("BootstrapToken", token)]);
    world.send(&device, deposit).await.unwrap();
    let key = EnrollmentLookup::Key(&device.udid);
    let id = world
        .store
        .enrollment(world.store.default_tenant(), key)
        .await
        .unwrap()
        .unwrap()
        .id;
    let keeps_escrow = async || {
        let info = world.store.escrow_info(id, EscrowKind::BootstrapToken).await.unwrap();
        info.is_some()
    };
    let last_stage = || world.script.asked.lock().unwrap().last().unwrap().stage;

    // The server takes the new identity for the device's; the device could not keep it, twice.
    for _ in 0..2 {
        let lost = renewed(&world, &device).await;
        world.send(&lost, lost.authenticate()).await.unwrap();
        assert_eq!(last_stage(), GateStage::Renewal);
    }
    world.send(&device, device.idle()).await.unwrap();
    let kept = renewed(&world, &device).await;
    world.send(&kept, kept.authenticate()).await.unwrap();
    world.send(&kept, kept.token_update()).await.unwrap();
    assert_eq!(last_stage(), GateStage::Renewal);
    assert!(keeps_escrow().await);

    // An identity from before a new enrollment brings nothing back of it.
    let fresh = world.identified("C02A").await;
    world.send(&fresh, fresh.authenticate()).await.unwrap();
    world.send(&fresh, fresh.token_update()).await.unwrap();
    let token = plist::Value::Data(b"another".to_vec());
    let deposit = fresh.message(&[("MessageType", "SetBootstrapToken".into()), ("BootstrapToken", token)]);
    world.send(&fresh, deposit).await.unwrap();
    let old = renewed(&world, &kept).await;
    world.send(&old, old.authenticate()).await.unwrap();
    assert_eq!(
        last_stage(),
        GateStage::Authenticate,
        "what it was enrolled with is another line"
    );
    world.send(&old, old.token_update()).await.unwrap();
    assert!(!keeps_escrow().await);
}

#[tokio::test]
async fn a_device_whose_new_enrollment_failed_goes_back_to_its_identity() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let fresh = world.identified("C02A").await;
    world.send(&fresh, fresh.authenticate()).await.unwrap();
    world.send(&device, device.token_update()).await.unwrap();
    assert!(world.poll(&device, device.idle()).await.is_none());
    let error = world.send(&fresh, fresh.idle()).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::Superseded)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_renewed_identity_enrolls_nobody_else() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let theirs = world.enrolled("C02B").await;
    let renewed = renewed(&world, &device).await;
    for (udid, serial) in [(theirs.udid.as_str(), "C02B"), ("UDID-NEW", "C02NEW")] {
        let forged = Device {
            udid: udid.into(),
            serial: serial.into(),
            signer: renewed.signer.clone(),
        };
        let error = world.send(&forged, forged.authenticate()).await.unwrap_err();
        assert!(
            matches!(error, DeviceError::Identity(IdentityError::OtherEnrollment)),
            "{error:?}"
        );
    }
    assert!(world.poll(&theirs, theirs.idle()).await.is_none());
}

#[tokio::test]
async fn a_gate_cannot_change_how_a_device_enrolled() {
    let world = World::new().await;
    let forged = [("enrollment-method".to_owned(), "automated".to_owned())];
    *world.script.gate.lock().unwrap() = Some(Ok(GateVerdict::Allow(forged.into())));
    world.enrolled("C02A").await;
    let record = world
        .store
        .enrollment(world.store.default_tenant(), EnrollmentLookup::Serial("C02A"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.attributes["enrollment-method"], "manual");
}

#[tokio::test]
async fn an_identity_for_one_device_is_not_for_one_that_does_not_say_which_it_is() {
    let world = World::new().await;
    let challenge = "for C02A only";
    let new = russet_store::NewChallenge {
        challenge_sha256: russet_pki::fingerprint::sha256(challenge.as_bytes()),
        tenant: world.store.default_tenant(),
        person: None,
        attributes: serde_json::json!({}),
        bound_serial: Some("C02A".into()),
        bound_udid: Some("UDID-C02A".into()),
        renews: None,
        expires_at: world.now + jiff::SignedDuration::from_hours(1),
    };
    world.store.create_challenge(new, Vec::new(), world.now).await.unwrap();
    let (certificate, key) = world.enroll_identity(challenge).await.unwrap();
    let device = Device {
        udid: "UDID-C02A".into(),
        serial: "C02A".into(),
        signer: Signer::new(certificate, key),
    };
    let mut unnamed = device.authenticate();
    unnamed.remove("UDID");
    unnamed.remove("SerialNumber");
    unnamed.insert("EnrollmentID".to_owned(), "E1".into());
    let error = world.send(&device, unnamed).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::OtherDevice)),
        "{error:?}"
    );
    let mut without_serial = device.authenticate();
    without_serial.remove("SerialNumber");
    world.send(&device, without_serial).await.unwrap();
}

/// The device with a renewed identity that it has not used yet.
async fn renewed(world: &World, device: &Device) -> Device {
    let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let csr = CertificateRequest::build(&Name::common("device"), None, &key).unwrap();
    let renewal = Exchange::renew(
        &csr,
        device.signer.clone(),
        &world.authority(),
        ContentCipher::Aes128Cbc,
    )
    .unwrap();
    let certificate = world.scep(&renewal).await.unwrap();
    Device {
        udid: device.udid.clone(),
        serial: device.serial.clone(),
        signer: Signer::new(certificate, key),
    }
}

#[tokio::test]
async fn a_removed_device_is_not_enrolled_and_is_told_so() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    world
        .send(&device, device.message(&[("MessageType", "CheckOut".into())]))
        .await
        .unwrap();
    let error = world.send(&device, device.idle()).await.unwrap_err();
    assert!(matches!(error, DeviceError::NotEnrolled), "{error:?}");
}

#[tokio::test]
async fn a_user_channel_belongs_to_its_device() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let user = [
        ("UserID", plist::Value::from("USER-1")),
        ("UserShortName", "ada".into()),
    ];
    let mut update = device.token_update();
    update.extend(user.clone().map(|(key, value)| (key.to_owned(), value)));
    world.send(&device, update).await.unwrap();
    let mut idle = device.idle();
    idle.extend(user.map(|(key, value)| (key.to_owned(), value)));
    assert!(world.poll(&device, idle.clone()).await.is_none());
    let other = world.enrolled("C02B").await;
    let error = world.send(&other, idle).await.unwrap_err();
    assert!(
        matches!(error, DeviceError::Identity(IdentityError::OtherEnrollment)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_new_device_is_asked_who_it_is_and_one_in_setup_is_released_last() {
    let mut settings = support::settings();
    settings.on_enrollment.device_information = true;
    settings.without_gate = WithoutGate::Allow;
    let world = World::with(settings, HookSet::builder().build(), Default::default()).await;
    let device = world.identified("C02A").await;
    world.send(&device, device.authenticate()).await.unwrap();
    let mut update = device.token_update();
    update.insert("AwaitingConfiguration".to_owned(), true.into());
    // A device repeats what it got no answer to.
    for _ in 0..2 {
        world.send(&device, update.clone()).await.unwrap();
    }
    let mut asked = Vec::new();
    let mut report = device.idle();
    while let Some((uuid, command)) = world.poll(&device, report).await {
        asked.push(command.get("RequestType").unwrap().as_string().unwrap().to_owned());
        report = device.report("Acknowledged", &uuid);
    }
    assert_eq!(asked, ["DeviceInformation", "DeviceConfigured"]);
    let lookup = EnrollmentLookup::Key(&device.udid);
    let record = world
        .store
        .enrollment(world.store.default_tenant(), lookup)
        .await
        .unwrap()
        .unwrap();
    assert!(!record.awaiting_configuration, "it was let go on");
}
