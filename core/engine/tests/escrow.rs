//! Secrets that are kept for a device, as the escrow policies say.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use russet_engine::{DeviceAnswer, DeviceError, EngineError};
use russet_hooks::{EscrowKind, EscrowOperation, EscrowRequest, EscrowVerdict, FaultKind, Requester, Secret};
use russet_protocol::{Limits, codec, plist};

use support::{Device, World, ada};

const KIND: EscrowKind = EscrowKind::BootstrapToken;

fn wrapped(text: &str) -> Option<Result<EscrowVerdict, FaultKind>> {
    Some(Ok(EscrowVerdict::AllowAs(Secret::new(text.as_bytes()))))
}

fn denied(reason: &str) -> Option<Result<EscrowVerdict, FaultKind>> {
    Some(Ok(EscrowVerdict::Deny(reason.into())))
}

async fn deposit(world: &World, device: &Device, secret: &str) -> Result<DeviceAnswer, DeviceError> {
    let message = device.message(&[
        ("MessageType", "SetBootstrapToken".into()),
        ("BootstrapToken", plist::Value::Data(secret.as_bytes().to_vec())),
    ]);
    world.send(device, message).await
}

/// What the device gets when it asks for its token.
async fn fetched(world: &World, device: &Device) -> Result<Option<Vec<u8>>, DeviceError> {
    let message = device.message(&[("MessageType", "GetBootstrapToken".into())]);
    let DeviceAnswer::Plist(body) = world.send(device, message).await? else {
        panic!("not a property list");
    };
    let answer = codec::decode(&body, &Limits::default()).unwrap();
    Ok(answer
        .get("BootstrapToken")
        .and_then(plist::Value::as_data)
        .map(<[u8]>::to_vec))
}

async fn released(world: &World, device: &Device) -> Result<Vec<u8>, EngineError> {
    let request = world.request().await;
    let secret = world
        .engine
        .release_escrow(&request, &device.serial, KIND, &ada(), world.now)
        .await?;
    Ok(secret.to_vec())
}

fn last_asked(world: &World) -> EscrowRequest {
    world.script.escrow_asked.lock().unwrap().last().cloned().unwrap()
}

async fn decisions(world: &World, device: &Device) -> usize {
    let id = world.key_of(device).await;
    let tenant = world.store.default_tenant();
    let page = world.store.decisions(tenant, Some(id), None, 100).await.unwrap();
    let escrow = page.items.iter().filter(|record| record.hook == "escrow-policy");
    escrow.count()
}

#[tokio::test]
async fn a_secret_is_kept_wrapped_and_handed_out_unwrapped() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    *world.script.escrow.lock().unwrap() = wrapped("wrapped");
    deposit(&world, &device, "plain").await.unwrap();
    let asked = last_asked(&world);
    assert_eq!((asked.operation, asked.age_seconds), (EscrowOperation::Deposit, None));
    assert_eq!(asked.secret.unwrap().expose(), b"plain");

    *world.script.escrow.lock().unwrap() = None;
    assert_eq!(released(&world, &device).await.unwrap(), b"wrapped", "as it is kept");
    let asked = last_asked(&world);
    assert_eq!(asked.requester, Requester::Administrator("ada".into()));
    assert_eq!(asked.secret.unwrap().expose(), b"wrapped");

    *world.script.escrow.lock().unwrap() = wrapped("plain");
    assert_eq!(fetched(&world, &device).await.unwrap().as_deref(), Some(&b"plain"[..]));
    assert_eq!(last_asked(&world).requester, Requester::Device);
    assert_eq!(
        decisions(&world, &device).await,
        3,
        "one for the deposit, one for each release"
    );
}

#[tokio::test]
async fn a_secret_is_removed_only_if_the_policies_agree() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    let clear = || world.send(&device, device.message(&[("MessageType", "SetBootstrapToken".into())]));
    clear().await.unwrap();
    assert_eq!(decisions(&world, &device).await, 0, "there is nothing to decide about");
    deposit(&world, &device, "plain").await.unwrap();

    *world.script.escrow.lock().unwrap() = denied("never");
    let refusal = clear().await.unwrap_err();
    assert!(
        matches!(refusal, DeviceError::Denied { ref message, .. } if message == "never"),
        "{refusal:?}"
    );
    assert_eq!(last_asked(&world).operation, EscrowOperation::Clear);
    assert_eq!(last_asked(&world).secret, None);
    let remove = || async {
        let request = world.request().await;
        world
            .engine
            .remove_escrow(&request, &device.serial, KIND, &ada(), world.now)
            .await
    };
    assert!(matches!(remove().await, Err(EngineError::Refused(_))));
    *world.script.escrow.lock().unwrap() = Some(Err(FaultKind::Trap));
    assert!(matches!(remove().await, Err(EngineError::Undecided)));
    assert!(matches!(clear().await, Err(DeviceError::TryLater { .. })));

    *world.script.escrow.lock().unwrap() = None;
    assert_eq!(released(&world, &device).await.unwrap(), b"plain", "it stayed");
    remove().await.unwrap();
    assert!(matches!(remove().await, Err(EngineError::NotFound(_))));
    assert_eq!(fetched(&world, &device).await.unwrap(), None);
}

#[tokio::test]
async fn a_deposit_that_nobody_could_decide_about_is_decided_before_it_is_handed_out() {
    let world = World::new().await;
    let device = world.enrolled("C02A").await;
    *world.script.escrow.lock().unwrap() = Some(Err(FaultKind::Trap));
    deposit(&world, &device, "plain").await.unwrap();
    let tenant = world.engine.tenant("default").await.unwrap();
    let held = || async { world.engine.held_escrow(&tenant, None, 10).await.unwrap().items };
    assert_eq!(held().await[0].enrollment_key, device.udid);
    let listed = world.engine.escrow_of(&tenant, "C02A").await.unwrap();
    assert!(listed[0].1.held.is_some());

    assert!(matches!(
        fetched(&world, &device).await,
        Err(DeviceError::TryLater { .. })
    ));
    assert!(matches!(released(&world, &device).await, Err(EngineError::Undecided)));
    let accept = || async {
        let request = world.request().await;
        world
            .engine
            .accept_escrow(&request, &device.serial, KIND, &ada(), world.now)
            .await
    };
    *world.script.escrow.lock().unwrap() = denied("no");
    assert!(matches!(accept().await, Err(EngineError::Refused(_))));
    assert_eq!(held().await.len(), 1, "a refusal leaves it to somebody else");

    *world.script.escrow.lock().unwrap() = wrapped("wrapped");
    accept().await.unwrap();
    let asked = last_asked(&world);
    assert_eq!(asked.operation, EscrowOperation::Deposit);
    assert_eq!(asked.requester, Requester::Administrator("ada".into()));
    assert!(held().await.is_empty());
    assert!(matches!(accept().await, Err(EngineError::NotFound(_))));
    *world.script.escrow.lock().unwrap() = None;
    assert_eq!(released(&world, &device).await.unwrap(), b"wrapped");

    // One that is asked for when the policy works again is decided then, and handed out.
    *world.script.escrow.lock().unwrap() = Some(Err(FaultKind::Trap));
    deposit(&world, &device, "second").await.unwrap();
    *world.script.escrow.lock().unwrap() = None;
    assert_eq!(fetched(&world, &device).await.unwrap().as_deref(), Some(&b"second"[..]));
    assert!(held().await.is_empty());
}
