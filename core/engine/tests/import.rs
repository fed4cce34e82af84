//! Devices of another server: taken over without a gate, bound to the certificate that they come with, and at work.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::ops::{Deref, DerefMut};

use jiff::SignedDuration;
use russet_engine::{DeviceAnswer, DeviceError, EngineError, IdentityError, ImportOptions, ImportReport};
use russet_hooks::EscrowVerdict;
use russet_pki::Certificate;
use russet_pki::ca::{CaOptions, CertificateAuthority, DeviceCertificate};
use russet_pki::cms::Signer;
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{CheckIn, codec};
use russet_store::{EnrollmentState, EscrowKind, Imported};

use support::{Device, TOPIC, World, ada, security_info};

/// A server that devices come from: its authority.
struct OldServer(CertificateAuthority);

/// A device of the old server, with the certificate that it has from there.
struct Old {
    device: Device,
    certificate: Certificate,
}

impl Deref for Old {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl DerefMut for Old {
    fn deref_mut(&mut self) -> &mut Device {
        &mut self.device
    }
}

impl OldServer {
    fn new(world: &World) -> Self {
        let options = CaOptions {
            common_name: "Old SCEP CA".to_owned(),
            organization: "Old".to_owned(),
            key: KeyKind::Rsa2048,
            lifetime: SignedDuration::from_hours(1000),
        };
        Self(CertificateAuthority::generate(&options, world.now).unwrap())
    }

    /// A device with an identity of this server.
    fn device(&self, world: &World, serial: &str) -> Old {
        let key = PrivateKey::generate(KeyKind::P256).unwrap();
        let csr = CertificateRequest::build(&Name::common("old device"), None, &key).unwrap();
        let wanted = DeviceCertificate {
            common_name: format!("old-{serial}"),
            extra: Vec::new(),
            lifetime: SignedDuration::from_hours(500),
        };
        let issued = self.0.issue_device(&csr, &wanted, world.now).unwrap();
        Old {
            certificate: issued.certificate.clone(),
            device: Device {
                udid: format!("UDID-{serial}"),
                serial: serial.into(),
                signer: Signer::new(issued.certificate, key),
            },
        }
    }

    async fn trusted_by(&self, world: &World) {
        let tenant = world.engine.tenant("default").await.unwrap();
        let trusted = world
            .engine
            .trust_authorities(&tenant, &self.0.certificate().to_pem(), &ada(), world.now)
            .await
            .unwrap();
        assert_eq!(trusted[0].sha256, self.0.certificate().sha256());
    }
}

async fn import_with(world: &World, message: Dictionary, options: ImportOptions) -> Result<ImportReport, EngineError> {
    let message = CheckIn::from_dictionary(message).unwrap();
    let request = world.request().await;
    world
        .engine
        .import_check_in(&request, message, options, world.now)
        .await
}

async fn import(world: &World, message: Dictionary) -> ImportReport {
    import_with(world, message, ImportOptions::default()).await.unwrap()
}

/// A token update as the old server has it, with another token than the device's next one here.
fn old_token(device: &Device) -> Dictionary {
    device.message(&[
        ("MessageType", "TokenUpdate".into()),
        ("Topic", TOPIC.into()),
        ("Token", Value::Data(vec![7; 32])),
        ("PushMagic", "old".into()),
        ("UnlockToken", Value::Data(b"unlock".to_vec())),
    ])
}

fn bootstrap_token(device: &Device, token: &[u8]) -> Dictionary {
    device.message(&[
        ("MessageType", "SetBootstrapToken".into()),
        ("BootstrapToken", Value::Data(token.to_vec())),
    ])
}

async fn bootstrap_token_of(world: &World, device: &Device) -> Option<Vec<u8>> {
    let ask = device.message(&[("MessageType", "GetBootstrapToken".into())]);
    let DeviceAnswer::Plist(answer) = world.send(device, ask).await.unwrap() else {
        panic!("no token is an answer, too");
    };
    let answer = codec::decode(&answer, &russet_protocol::Limits::default()).unwrap();
    answer
        .get("BootstrapToken")
        .and_then(Value::as_data)
        .map(<[u8]>::to_vec)
}

fn refusal(answer: Result<DeviceAnswer, DeviceError>) -> IdentityError {
    match answer {
        Err(DeviceError::Identity(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_imported_device_goes_on_with_its_old_certificate() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    let mac = old.device(&world, "A");

    // Before: nobody knows it, nor the authority.
    let error = refusal(world.send(&mac, mac.idle()).await);
    assert!(matches!(error, IdentityError::UnknownAuthority), "{error:?}");
    let warned = import(&world, mac.authenticate()).await;
    assert!(
        warned.warnings[0].contains("russet import trust"),
        "{:?}",
        warned.warnings
    );
    old.trusted_by(&world).await;

    let report = import(&world, old_token(&mac)).await;
    assert_eq!((report.outcome, report.warnings.len()), (Imported::Created, 0));
    let report = import(&world, bootstrap_token(&mac, b"bootstrap")).await;
    assert_eq!(report.outcome, Imported::Created);
    assert!(world.script.asked.lock().unwrap().is_empty(), "no gate is asked");
    let device = world.engine.device(&world.request().await.tenant, "A").await.unwrap();
    assert_eq!(device.state, EnrollmentState::Active);

    // A command that is queued before it comes is what it gets first.
    let uuid = world.enqueue(&mac, security_info()).await;
    let (first, _) = world.poll(&mac, mac.idle()).await.unwrap();
    assert_eq!(first, uuid);
    assert!(world.poll(&mac, mac.report("Acknowledged", &uuid)).await.is_none());
    assert_eq!(
        bootstrap_token_of(&world, &mac).await.as_deref(),
        Some(&b"bootstrap"[..])
    );
    let device = world.engine.device(&world.request().await.tenant, "A").await.unwrap();
    assert_eq!(device.certificate_sha256, Some(mac.certificate.sha256()));

    // What it says here goes over what the old server still has.
    world.send(&mac, mac.token_update()).await.unwrap();
    world.send(&mac, bootstrap_token(&mac, b"newer")).await.unwrap();
    for message in [mac.authenticate(), old_token(&mac), bootstrap_token(&mac, b"stale")] {
        assert_eq!(import(&world, message).await.outcome, Imported::HasComeItself);
    }
    assert_eq!(bootstrap_token_of(&world, &mac).await.as_deref(), Some(&b"newer"[..]));
}

#[tokio::test]
async fn another_certificate_of_the_old_server_does_not_speak_for_it() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    old.trusted_by(&world).await;
    let (one, mut thief) = (old.device(&world, "A"), old.device(&world, "B"));
    for device in [&one, &thief] {
        import(&world, device.authenticate()).await;
        import(&world, old_token(device)).await;
    }
    world.send(&one, one.idle()).await.unwrap();
    // B's certificate, A's name: A is bound.
    thief.udid.clone_from(&one.udid);
    let error = refusal(world.send(&thief, thief.idle()).await);
    assert!(matches!(error, IdentityError::OtherEnrollment), "{error:?}");
    // A's certificate is A's, so B stays free for its own.
    let mut liar = old.device(&world, "C");
    liar.signer = one.signer.clone();
    liar.udid = "UDID-B".into();
    let error = refusal(world.send(&liar, liar.idle()).await);
    assert!(matches!(error, IdentityError::OtherEnrollment), "{error:?}");
    thief.udid = "UDID-B".into();
    world.send(&thief, thief.idle()).await.unwrap();

    // An authority that is trusted says nothing for devices that enrolled here, nor for unknown ones.
    let own = world.enrolled("D").await;
    let mut other = old.device(&world, "E");
    other.udid.clone_from(&own.udid);
    let error = refusal(world.send(&other, other.idle()).await);
    assert!(matches!(error, IdentityError::Unknown), "{error:?}");
    let error = refusal(world.send(&other, other.authenticate()).await);
    assert!(matches!(error, IdentityError::Unknown), "{error:?}");
    other.udid = "UDID-NOBODY".into();
    let error = refusal(world.send(&other, other.authenticate()).await);
    assert!(matches!(error, IdentityError::Unknown), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_was_named_is_bound_at_once() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    old.trusted_by(&world).await;
    let (mac, first) = (old.device(&world, "A"), old.device(&world, "A"));
    let named = ImportOptions {
        certificate_sha256: Some(mac.certificate.sha256()),
        ..ImportOptions::default()
    };
    import_with(&world, mac.authenticate(), named).await.unwrap();
    import(&world, old_token(&mac)).await;
    let error = refusal(world.send(&first, first.idle()).await);
    assert!(
        matches!(error, IdentityError::OtherEnrollment),
        "the first to come is not the named one: {error:?}"
    );
    world.send(&mac, mac.idle()).await.unwrap();
    let error = import_with(&world, old.device(&world, "B").authenticate(), named)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another enrollment"), "{error}");
}

#[tokio::test]
async fn an_authority_is_trusted_in_its_tenant_until_it_is_taken_back() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    old.trusted_by(&world).await;
    let mac = old.device(&world, "A");
    let other = world.engine.create_tenant("other", world.now).await.unwrap();
    let elsewhere = world.engine.begin("other", "test").await.unwrap();
    let message = CheckIn::from_dictionary(mac.authenticate()).unwrap();
    let report = world
        .engine
        .import_check_in(&elsewhere, message, ImportOptions::default(), world.now)
        .await
        .unwrap();
    assert_eq!(report.outcome, Imported::Created);
    assert!(!report.warnings.is_empty(), "the other tenant trusts nobody");
    let body = codec::encode(&mac.idle());
    let header = russet_pki::mdm_signature::sign(&body, &mac.signer).unwrap();
    let signature = world.engine.signature(&header, world.now).unwrap();
    let identity = world
        .engine
        .identity_from_signature(signature, &body, world.now)
        .unwrap();
    let message = russet_protocol::DeviceMessage::decode(&body, &russet_protocol::Limits::default()).unwrap();
    let answer = world.engine.handle(&elsewhere, &identity, message, world.now).await;
    assert!(
        matches!(refusal(answer), IdentityError::Unknown),
        "its authority is another tenant's"
    );

    import(&world, mac.authenticate()).await;
    world.send(&mac, mac.idle()).await.unwrap();
    let tenant = world.engine.tenant("default").await.unwrap();
    let sha256 = old.0.certificate().sha256();
    let missing = world.engine.distrust_authority(&other, &sha256).await;
    assert!(matches!(missing, Err(EngineError::NotFound(_))), "{missing:?}");
    world.engine.distrust_authority(&tenant, &sha256).await.unwrap();
    let error = refusal(world.send(&mac, mac.idle()).await);
    assert!(matches!(error, IdentityError::UnknownAuthority), "{error:?}");
    // Another node takes it back: this one looks.
    old.trusted_by(&world).await;
    world.store.remove_identity_authority(tenant.id, &sha256).await.unwrap();
    world.send(&mac, mac.idle()).await.unwrap();
    assert!(world.engine.follow_authorities().await.unwrap());
    refusal(world.send(&mac, mac.idle()).await);
    assert!(!world.engine.follow_authorities().await.unwrap());
}

#[tokio::test]
async fn what_is_no_authority_is_not_trusted() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    let tenant = world.engine.tenant("default").await.unwrap();
    let leaf = old.device(&world, "A").certificate.to_pem();
    let own = world.authority().to_pem();
    for (pem, says) in [
        (leaf.as_str(), "not a certificate of an authority"),
        (&own, "own authority"),
        ("x", "PEM"),
    ] {
        let error = world
            .engine
            .trust_authorities(&tenant, pem, &ada(), world.now)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(world.engine.trusted_authorities(&tenant).await.unwrap().is_empty());
}

#[tokio::test]
async fn other_messages_and_wrong_orders_are_told() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    let mac = old.device(&world, "A");
    let check_out = mac.message(&[("MessageType", "CheckOut".into()), ("Topic", TOPIC.into())]);
    let options = ImportOptions::default();
    let error = import_with(&world, check_out, options).await.unwrap_err().to_string();
    assert!(error.contains("this one is CheckOut"), "{error}");
    for early in [old_token(&mac), bootstrap_token(&mac, b"x")] {
        let error = import_with(&world, early, options).await.unwrap_err().to_string();
        assert!(error.contains("import its Authenticate message first"), "{error}");
    }
    import(&world, mac.authenticate()).await;
    let mut elsewhere = old_token(&mac);
    elsewhere.insert("Topic".into(), "com.apple.mgmt.External.other".into());
    let report = import(&world, elsewhere).await;
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("com.apple.mgmt.External.other")),
        "{:?}",
        report.warnings
    );
}

#[tokio::test]
async fn the_escrow_policy_decides_about_imported_secrets() {
    let world = World::new().await;
    let old = OldServer::new(&world);
    old.trusted_by(&world).await;
    let mac = old.device(&world, "A");
    import(&world, mac.authenticate()).await;
    *world.script.escrow.lock().unwrap() = Some(Ok(EscrowVerdict::Deny("not ours".into())));
    let report = import(&world, old_token(&mac)).await;
    assert_eq!(
        report.outcome,
        Imported::Created,
        "the push token is in hand whatever the policy says"
    );
    assert!(report.warnings[0].contains("not ours"), "{:?}", report.warnings);
    let id = world.key_of(&mac).await;
    assert_eq!(
        world.store.escrow_info(id, EscrowKind::UnlockToken).await.unwrap(),
        None
    );
    *world.script.escrow.lock().unwrap() = None;
    // Where there is none, one is kept, also from a message that changes nothing else.
    let report = import(&world, old_token(&mac)).await;
    assert_eq!((report.outcome, report.warnings.len()), (Imported::Unchanged, 0));
    assert!(
        world
            .store
            .escrow_info(id, EscrowKind::UnlockToken)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        import(&world, bootstrap_token(&mac, b"one")).await.outcome,
        Imported::Created
    );
    assert_eq!(
        import(&world, bootstrap_token(&mac, b"two")).await.outcome,
        Imported::Updated
    );
    assert_eq!(bootstrap_token_of(&world, &mac).await.as_deref(), Some(&b"two"[..]));
}
