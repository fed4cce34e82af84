//! Enrollment: profile, identity, check-in, and how a device shows who it is.

use std::sync::{Arc, Mutex};

use http::{HeaderName, Method, StatusCode};
use russet_pki::key::KeyKind;
use russet_pki::scep::{FailInfo, MessageType};
use russet_pki::{SignaturePolicy, TrustAnchors, cms, mdm_signature, rfc9440};
use russet_protocol::codec::Limits;
use russet_protocol::forbidden::{BodyFormat, Forbidden, SoftwareUpdateRequired};
use russet_protocol::{CheckIn, DeviceMessage, MachineInfo, SecretBytes};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{
    DeviceError, DeviceEvent, DeviceIdentityCa, IdentityMode, ProfileRequest, ProfileSignature, ScepFailure,
    ScepMethod, ServerTrust, SignatureDigest,
};

use super::support::{TOPIC, TestServer};
use super::{command, device};

#[tokio::test]
async fn a_mac_enrolls_by_hand_and_deposits_its_bootstrap_token() {
    let server = TestServer::start().await;
    let mac = device(&server).serial_number("C02TEST0001").build().unwrap();
    mac.enroll().await.unwrap();

    assert!(mac.is_enrolled());
    assert_eq!(server.check_ins(), ["Authenticate", "TokenUpdate", "SetBootstrapToken"]);
    let identity = mac.identity().unwrap();
    assert_eq!(identity.certificate().common_name().as_deref(), Some("C02TEST0001"));
    let profile = mac.enrollment_profile().unwrap();
    assert!(matches!(
        profile.profile.signature,
        ProfileSignature::Signed { trusted: true, .. }
    ));
    assert_eq!(server.state().scep_requests, [(Method::POST, MessageType::PkcsReq)]);

    let deposited = {
        let state = server.state();
        let DeviceMessage::CheckIn(CheckIn::Authenticate(authenticate)) = &state.received[0].message else {
            panic!("the first message must be Authenticate");
        };
        assert_eq!(authenticate.serial_number.as_deref(), Some("C02TEST0001"));
        assert_eq!(authenticate.topic, TOPIC);
        let DeviceMessage::CheckIn(CheckIn::TokenUpdate(update)) = &state.received[1].message else {
            panic!("the second message must be TokenUpdate");
        };
        let push = mac.push_credentials().unwrap();
        assert_eq!((&update.token, &update.push_magic), (&push.token, &push.magic));
        assert_eq!(update.unlock_token, None);
        // As a real device: signed because the profile says so, and with the client certificate because TLS asked.
        assert!(
            state
                .received
                .iter()
                .all(|received| received.headers.contains_key("mdm-signature"))
        );
        assert_eq!(state.received[0].client.as_ref(), Some(identity.certificate()));
        state.bootstrap_token.clone()
    };
    assert_eq!(
        deposited.as_deref(),
        mac.bootstrap_token().as_ref().map(SecretBytes::expose)
    );
    assert_eq!(mac.get_bootstrap_token().await.unwrap(), mac.bootstrap_token());
    mac.clear_bootstrap_token().await.unwrap();
    assert_eq!(mac.get_bootstrap_token().await.unwrap(), None);
}

#[tokio::test]
async fn an_iphone_enrolls_automatically_with_machine_information_signed_at_the_factory() {
    let server = TestServer::start().await;
    let factory = DeviceIdentityCa::generate().unwrap();
    let phone = device(&server)
        .iphone()
        .made_by(&factory)
        .awaiting_configuration()
        .build()
        .unwrap();
    phone.enroll().await.unwrap();

    let body = server.state().enroll_bodies[0].clone();
    let (content, verified) = cms::verify_attached(&body, &SignaturePolicy::strict()).unwrap();
    let anchors = TrustAnchors::new(vec![russet_pki::Certificate::from_pem(&factory.anchors_pem()).unwrap()]);
    anchors
        .verify_chain(&verified.signer, &verified.certificates, jiff::Timestamp::now())
        .unwrap();
    assert_eq!(
        verified.signer.common_name().as_deref(),
        Some(phone.facts().udid.as_str())
    );
    let info = MachineInfo::decode(&content, &Limits::default()).unwrap();
    assert_eq!(info.serial.as_deref(), Some(phone.facts().serial_number.as_str()));
    assert_eq!(info.imei, phone.facts().imei);
    assert!(info.can_request_software_update);

    assert_eq!(server.check_ins(), ["Authenticate", "TokenUpdate"]);
    let update = match &server.state().received[1].message {
        DeviceMessage::CheckIn(CheckIn::TokenUpdate(update)) => update.clone(),
        other => panic!("expected TokenUpdate, not {other:?}"),
    };
    assert_eq!(update.unlock_token, phone.unlock_token());
    assert!(update.awaiting_configuration);

    server.enqueue("1", command("DeviceConfigured"));
    phone.run_until_idle().await.unwrap();
    assert!(!phone.is_awaiting_configuration());
    assert_eq!(server.check_ins().last(), Some(&"TokenUpdate"));
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_answer() {
    let server = TestServer::start().await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let mac = device(&server)
        .observe(move |_, event| seen.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    let update = SoftwareUpdateRequired {
        os_version: "26.2".to_owned(),
        ..SoftwareUpdateRequired::default()
    };
    for format in [BodyFormat::Json, BodyFormat::Plist] {
        let body = Forbidden::software_update_required(update.clone())
            .with_message("Update first")
            .encode(format);
        server
            .state()
            .refuse
            .insert("/enroll", (StatusCode::FORBIDDEN, format.content_type(), body));
        let error = mac.enroll().await.unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.status(), 403);
        assert_eq!(refusal.code().as_deref(), Some("com.apple.softwareupdate.required"));
        assert_eq!(refusal.message().as_deref(), Some("Update first"));
        assert_eq!(refusal.field("OSVersion").as_deref(), Some("26.2"));
    }
    assert!(!mac.is_enrolled());
    assert!(matches!(
        events.lock().unwrap()[0],
        DeviceEvent::EnrollmentRefused { status: 403, .. }
    ));
}

#[tokio::test]
async fn credentials_are_sent_when_the_server_asks() {
    let server = TestServer::start().await;
    let credentials = russet_simulator::device::Credentials::new("ada", "secret");
    let mac = device(&server).credentials(credentials).build().unwrap();
    server
        .state()
        .refuse
        .insert("/enroll", (StatusCode::UNAUTHORIZED, "text/plain", Vec::new()));
    mac.enroll().await.unwrap();
    assert!(mac.is_enrolled());

    let stranger = device(&server).build().unwrap();
    server
        .state()
        .refuse
        .insert("/enroll", (StatusCode::UNAUTHORIZED, "text/plain", Vec::new()));
    assert_eq!(stranger.enroll().await.unwrap_err().status(), Some(401));
}

#[tokio::test]
async fn scep_works_by_get_with_elliptic_keys_and_checks_the_fingerprint() {
    let server = TestServer::start().await;
    let fingerprint = server.state().ca.certificate().sha1().to_vec();
    server.state().fingerprint = Some(fingerprint);
    let mac = device(&server)
        .key_kind(KeyKind::P256)
        .scep_method(ScepMethod::Get)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    assert_eq!(mac.identity().unwrap().key().kind(), KeyKind::P256);
    assert_eq!(server.state().scep_requests[0].0, Method::GET);
    let renewed = mac.renew_identity().await.unwrap();
    assert_eq!(server.state().scep_requests[1].1, MessageType::RenewalReq);
    assert_eq!(mac.identity().unwrap().certificate(), renewed.certificate());

    server.state().fingerprint = Some(vec![7; 20]);
    let stray = device(&server).build().unwrap();
    let error = stray.enroll().await.unwrap_err();
    assert!(matches!(error, DeviceError::Scep(ScepFailure::Fingerprint)), "{error}");
}

#[tokio::test]
async fn scep_without_capabilities_falls_back_and_a_foreign_renewal_is_refused() {
    let server = TestServer::start().await;
    server.state().capabilities = "SHA-256\n".to_owned();
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    // Without POSTPKIOperation by GET, without AES with Triple DES.
    assert_eq!(server.state().scep_requests[0].0, Method::GET);
    let stranger = TestServer::start().await;
    let other = device(&stranger).build().unwrap();
    other.enroll().await.unwrap();
    // Without the client certificate, which TLS would refuse before SCEP sees the request.
    let signing = device(&server)
        .identity_mode(IdentityMode::MdmSignature)
        .build()
        .unwrap();
    signing.enroll().await.unwrap();
    signing.set_identity(other.identity().unwrap()).unwrap();
    let error = signing.renew_identity().await.unwrap_err();
    let DeviceError::Scep(ScepFailure::Refused { fail_info, text }) = error else {
        panic!("unexpected {error}");
    };
    assert_eq!(
        (fail_info, text.as_deref()),
        (Some(FailInfo::BadRequest), Some("not allowed"))
    );
}

#[tokio::test]
async fn each_identity_mode_shows_what_it_says() {
    let server = TestServer::start().await;
    let header = HeaderName::from_static("client-cert");
    let modes = [
        (IdentityMode::ClientCertificate, true, false, false),
        (IdentityMode::MdmSignature, false, true, false),
        (IdentityMode::ProxyHeader(header.clone()), false, false, true),
        (IdentityMode::None, false, false, false),
    ];
    for (mode, tls, signature, proxy) in modes {
        let mac = device(&server).identity_mode(mode.clone()).build().unwrap();
        mac.enroll().await.unwrap();
        let state = server.state();
        let last = state.received.last().unwrap();
        assert_eq!(last.client.is_some(), tls, "{mode:?}");
        assert_eq!(last.headers.contains_key("mdm-signature"), signature, "{mode:?}");
        if proxy {
            let value = last.headers[&header].to_str().unwrap();
            let shown = rfc9440::parse_client_cert(value).unwrap();
            assert_eq!(&shown, mac.identity().unwrap().certificate());
        }
    }
}

#[tokio::test]
async fn sha1_signatures_verify_only_under_the_legacy_policy() {
    let server = TestServer::start().await;
    let mac = device(&server)
        .identity_mode(IdentityMode::MdmSignature)
        .signature_digest(SignatureDigest::Sha1)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    let state = server.state();
    let last = state.received.last().unwrap();
    let value = last.headers["mdm-signature"].to_str().unwrap();
    let signer = mdm_signature::verify(value, &last.body, &SignaturePolicy::legacy()).unwrap();
    assert_eq!(&signer, mac.identity().unwrap().certificate());
    assert!(mdm_signature::verify(value, &last.body, &SignaturePolicy::strict()).is_err());
    assert!(mdm_signature::verify(value, b"another body", &SignaturePolicy::legacy()).is_err());
}

#[tokio::test]
async fn a_user_enrollment_hides_the_hardware() {
    let server = TestServer::start().await;
    let phone = device(&server)
        .iphone()
        .user_enrollment("enrollment-1")
        .build()
        .unwrap();
    phone.enroll().await.unwrap();
    let received = server.state().received.clone();
    for received in &received {
        let body = String::from_utf8(received.body.to_vec()).unwrap();
        assert_eq!(received.message.key().device_id(), "enrollment-1");
        assert!(!body.contains(&phone.facts().udid) && !body.contains(&phone.facts().serial_number));
    }
}

#[tokio::test]
async fn an_untrusted_server_and_a_tampered_profile_are_not_accepted() {
    let server = TestServer::start().await;
    let stranger = TestServer::start().await;
    let trust = ServerTrust::from_pem(&stranger.root_pem()).unwrap();
    let mac = device(&server).trust(trust).build().unwrap();
    let error = mac.fetch_profile(&ProfileRequest::Manual(None)).await.unwrap_err();
    assert!(matches!(error, DeviceError::Transport { .. }), "{error}");

    let mut profile = server.profile();
    let position = profile.windows(10).position(|window| window == b"Management").unwrap();
    profile[position] ^= 1;
    assert!(matches!(
        mac.install_enrollment_profile(&profile),
        Err(DeviceError::Profile(_))
    ));
    // Signed by somebody whom the device does not know: installed, and shown as not verified.
    let installed = mac.install_enrollment_profile(&server.profile()).unwrap();
    assert!(matches!(
        installed.profile.signature,
        ProfileSignature::Signed { trusted: false, .. }
    ));
}

#[test]
fn a_device_needs_a_server_and_readable_trust() {
    assert!(matches!(SimulatedDevice::builder().build(), Err(DeviceError::Setup(_))));
    assert!(ServerTrust::from_pem("no certificate").is_err());
}
