//! Profiles that devices have for good, and the enrollment profile that renews an enrollment.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use jiff::SignedDuration;
use russet_engine::{DeviceError, EngineError, NewProfile};
use russet_hooks::{Denial, GateStage, GateVerdict};
use russet_pki::cms::Signer;
use russet_protocol::plist;
use russet_store::{EnrollmentLookup, EscrowKind};
use serde_json::json;

use support::{Device, World, ada, challenge_of, device_information};

fn mobileconfig(identifier: &str, name: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>PayloadContent</key><array/>
<key>PayloadDisplayName</key><string>{name}</string>
<key>PayloadIdentifier</key><string>{identifier}</string>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadUUID</key><string>4F3E2D1C-0000-4000-8000-000000000001</string>
<key>PayloadVersion</key><integer>1</integer>
</dict></plist>"#
    )
}

async fn put(world: &World, identifier: &str, name: &str, template: bool) -> u64 {
    let tenant = world.engine.tenant("default").await.unwrap();
    let profile = NewProfile {
        content: mobileconfig(identifier, name).into_bytes(),
        template: template.then(|| "template".to_owned()),
        variables: json!({}),
    };
    let stored = world
        .engine
        .put_profile(&tenant, "wifi", profile, world.now)
        .await
        .unwrap();
    stored.reinstalled
}

async fn assign(world: &World, device: &Device) -> bool {
    let tenant = world.engine.tenant("default").await.unwrap();
    let assigned = world
        .engine
        .assign_profile(&tenant, &device.serial, "wifi", &ada(), world.now)
        .await;
    assigned.unwrap()
}

async fn unassign(world: &World, device: &Device) -> bool {
    let tenant = world.engine.tenant("default").await.unwrap();
    let unassigned = world
        .engine
        .unassign_profile(&tenant, &device.serial, "wifi", &ada(), world.now)
        .await;
    unassigned.unwrap()
}

/// Everything that waits, each acknowledged.
async fn session(world: &World, device: &Device) -> Vec<plist::Dictionary> {
    let mut done = Vec::new();
    let mut next = world.poll(device, device.idle()).await;
    while let Some((uuid, command)) = next {
        done.push(command);
        next = world.poll(device, device.report("Acknowledged", &uuid)).await;
    }
    done
}

fn kind(command: &plist::Dictionary) -> &str {
    command["RequestType"].as_string().unwrap()
}

#[tokio::test]
async fn an_assigned_profile_follows_its_changes_and_goes_by_its_identifier() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    put(&world, "com.example.wifi.SERIAL", "one", true).await;
    assert!(assign(&world, &device).await);
    assert!(!assign(&world, &device).await);
    let kinds = |commands: &[plist::Dictionary]| {
        commands
            .iter()
            .map(|command| kind(command).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&session(&world, &device).await), ["InstallProfile"]);

    assert_eq!(put(&world, "com.example.wifi.SERIAL", "two", true).await, 1);
    assert_eq!(put(&world, "com.example.wifi.SERIAL", "two", true).await, 0);
    assert_eq!(kinds(&session(&world, &device).await), ["InstallProfile"]);

    // Another identifier is another profile: the one before would stay for ever.
    assert_eq!(put(&world, "com.example.other", "three", false).await, 1);
    let commands = session(&world, &device).await;
    assert_eq!(kinds(&commands), ["InstallProfile", "RemoveProfile"]);
    assert_eq!(commands[1]["Identifier"].as_string(), Some("com.example.wifi.C02A"));

    assert!(unassign(&world, &device).await);
    assert!(!unassign(&world, &device).await);
    let commands = session(&world, &device).await;
    assert_eq!(kinds(&commands), ["RemoveProfile"]);
    assert_eq!(commands[0]["Identifier"].as_string(), Some("com.example.other"));
    assert_eq!(put(&world, "com.example.other", "four", false).await, 0);
    assert!(session(&world, &device).await.is_empty());
}

/// The enrollment profile that the device gets to renew itself.
async fn renewal(world: &World, device: &Device) -> (String, Vec<u8>) {
    let tenant = world.engine.tenant("default").await.unwrap();
    world
        .engine
        .renew_device(&tenant, &device.serial, &ada(), world.now)
        .await
        .unwrap();
    let again = world
        .engine
        .renew_device(&tenant, &device.serial, &ada(), world.now)
        .await;
    assert!(matches!(again, Err(EngineError::Invalid { .. })), "one at a time");
    let (uuid, command) = world.poll(device, device.idle()).await.unwrap();
    (uuid, command["Payload"].as_data().unwrap().to_vec())
}

#[tokio::test]
async fn a_new_profile_with_a_challenge_of_its_enrollment_is_a_renewal() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let id = world.key_of(&device).await;
    let secret = b"token".to_vec().into();
    world
        .store
        .escrow_put(
            id,
            russet_store::EscrowKind::BootstrapToken,
            secret,
            None,
            Default::default(),
            world.now,
        )
        .await
        .unwrap();
    let (uuid, profile) = renewal(&world, &device).await;
    world.script.asked.lock().unwrap().clear();

    let (certificate, key) = world.enroll_identity(&challenge_of(&profile)).await.unwrap();
    let renewed = Device {
        udid: device.udid.clone(),
        serial: device.serial.clone(),
        signer: Signer::new(certificate, key),
    };
    // The identity before stays good until the new one is in use: a renewal that fails goes back to it.
    world.send(&device, device.idle()).await.unwrap();
    let queued = world.enqueue(&device, device_information()).await;
    world.send(&renewed, renewed.authenticate()).await.unwrap();
    world.send(&renewed, renewed.token_update()).await.unwrap();
    let asked = world.script.asked.lock().unwrap().clone();
    assert!(
        asked
            .iter()
            .all(|asked| asked.stage == GateStage::Renewal && asked.replaces.is_none())
    );
    assert_eq!(asked.len(), 2, "for the certificate, and when it is used first");

    let record = world
        .store
        .enrollment(world.store.default_tenant(), EnrollmentLookup::Id(id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.certificate_sha256, Some(renewed.signer.certificate.sha256()));
    assert!(record.push.is_some());
    let kept = world.store.escrow_get(id, EscrowKind::BootstrapToken).await.unwrap();
    assert_eq!(kept.unwrap().0.as_slice(), b"token");
    let next = world
        .poll(&renewed, renewed.report("Acknowledged", &uuid))
        .await
        .unwrap();
    assert_eq!(next.0, queued, "the queue goes on");
}

#[tokio::test]
async fn a_renewal_is_not_put_off_for_a_database_that_fails_for_a_moment() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let tenant = world.engine.tenant("default").await.unwrap();
    let serial = device.serial.as_str();
    world
        .engine
        .renew_device(&tenant, serial, &ada(), world.now)
        .await
        .unwrap();

    let tables = world.tables().await;
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    tables.change(&rename("scep_challenges", "gone")).await.unwrap();
    let refused = world.send(&device, device.idle()).await;
    assert!(
        matches!(refused, Err(DeviceError::Store(_))),
        "it is told to come again: {refused:?}"
    );
    tables.change(&rename("gone", "scep_challenges")).await.unwrap();

    // The time at which a command was delivered is never the time at which it is offered again.
    let later = world.now + SignedDuration::from_secs(1);
    let (_, command) = world.poll_at(&device, device.idle(), later).await.unwrap();
    assert_eq!(command["RequestType"].as_string(), Some("InstallProfile"));
}

#[tokio::test]
async fn a_gate_may_refuse_a_renewal_by_profile() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let (_, profile) = renewal(&world, &device).await;
    *world.script.gate.lock().unwrap() = Some(Ok(GateVerdict::Deny(Denial {
        reason: "retired".into(),
        message: "Bring it back.".into(),
    })));
    let challenge = challenge_of(&profile);
    let refused = world.enroll_identity(&challenge).await.unwrap_err();
    assert!(refused.contains("gate does not allow"), "{refused}");
    world.send(&device, device.idle()).await.unwrap();
}

#[tokio::test]
async fn a_renewal_is_for_its_enrollment_and_nobody_else() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let other = world.enrolled("C02B").await;
    let (_, profile) = renewal(&world, &device).await;
    let (certificate, key) = world.enroll_identity(&challenge_of(&profile)).await.unwrap();
    let thief = Device {
        udid: other.udid.clone(),
        serial: other.serial.clone(),
        signer: Signer::new(certificate, key),
    };
    assert!(world.send(&thief, thief.authenticate()).await.is_err());
    world.send(&other, other.idle()).await.unwrap();
}

#[tokio::test]
async fn a_gate_is_told_which_enrollment_would_be_replaced() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let again = world.identified("C02A").await;
    world.send(&again, again.authenticate()).await.unwrap();
    let asked = world.script.asked.lock().unwrap().clone();
    let replaces: Vec<_> = asked
        .iter()
        .filter(|asked| asked.stage == GateStage::Authenticate)
        .map(|asked| asked.replaces.as_deref())
        .collect();
    assert_eq!(replaces, [None, Some(device.udid.as_str())]);
}
