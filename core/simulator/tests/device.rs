//! Simulated devices against a server in the same process, over real TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use russet_pki::key::KeyKind;
use russet_pki::scep::{FailInfo, MessageType};
use russet_pki::{SignaturePolicy, TrustAnchors, cms, mdm_signature, rfc9440};
use russet_protocol::codec::Limits;
use russet_protocol::forbidden::{BodyFormat, Forbidden, SoftwareUpdateRequired};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{CheckIn, DeviceMessage, MachineInfo, ReportStatus, SecretBytes, connect};
use russet_simulator::SimulatedDevice;
use russet_simulator::apns::ReceivedPush;
use russet_simulator::device::{
    Answer, DeviceBuilder, DeviceError, DeviceEvent, DeviceIdentityCa, IdentityMode, ListenEnd, ProfileRequest,
    ProfileSignature, ScepFailure, ScepMethod, Scripted, ServerTrust, SignatureDigest, UserAuthenticated, UserNames,
    Wake,
};
use support::{TOPIC, TestServer};

fn device(server: &TestServer) -> DeviceBuilder {
    SimulatedDevice::builder()
        .server(server.url())
        .trust(ServerTrust::from_pem(&server.root_pem()).unwrap())
}

fn command(request_type: &str) -> Dictionary {
    Dictionary::from_iter([("RequestType", Value::from(request_type))])
}

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
async fn commands_are_answered_until_the_queue_is_empty() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    let mut information = command("DeviceInformation");
    let queries = ["SerialNumber", "OSVersion", "NoSuchQuery"].map(Value::from).to_vec();
    information.insert("Queries".to_owned(), Value::Array(queries));
    server.enqueue("1", information);
    server.enqueue("2", command("SecurityInfo"));
    server.enqueue("3", command("NoSuchCommand"));
    let session = mac.run_until_idle().await.unwrap();
    let answered: Vec<_> = session
        .answered
        .iter()
        .map(|answered| (answered.command_uuid.as_str(), answered.answer.status_name()))
        .collect();
    assert_eq!(answered, [("1", "Acknowledged"), ("2", "Acknowledged"), ("3", "Error")]);
    assert!(server.state().queue.is_empty());

    let state = server.state();
    let reports: Vec<_> = state
        .received
        .iter()
        .filter_map(|received| match &received.message {
            DeviceMessage::Connect(report) => Some(report),
            DeviceMessage::CheckIn(_) => None,
        })
        .collect();
    assert_eq!(reports[0].status, ReportStatus::Idle);
    let responses = reports[1].result_json();
    assert_eq!(responses["QueryResponses"]["OSVersion"], "26.1");
    assert_eq!(
        responses["QueryResponses"]["SerialNumber"],
        mac.facts().serial_number.as_str()
    );
    assert!(responses["QueryResponses"].get("NoSuchQuery").is_none());
    assert_eq!(
        reports[2].result_json()["SecurityInfo"]["ManagementStatus"]["EnrolledViaDEP"],
        false
    );
    assert_eq!(reports[3].error_chain[0].error_code, 12021);
}

#[tokio::test]
async fn a_report_is_repeated_until_the_server_takes_it() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    server.enqueue("1", command("RestartDevice"));
    let received = mac.poll(&Answer::idle()).await.unwrap().unwrap();
    mac.execute(&received).await;
    server.state().refuse.insert(
        "/mdm/connect",
        (StatusCode::SERVICE_UNAVAILABLE, "text/plain", Vec::new()),
    );
    assert_eq!(mac.run_until_idle().await.unwrap_err().status(), Some(503));
    assert!(mac.answered().is_empty());
    let session = mac.run_until_idle().await.unwrap();
    assert_eq!(session.answered.len(), 1);
    assert_eq!(mac.restarts(), 1, "the command was carried out once");
    assert!(server.state().queue.is_empty());
}

#[tokio::test]
async fn scripts_decide_single_answers() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    mac.script(Some("SecurityInfo"), Scripted::CommandFormatError);
    mac.answer_not_now_once();
    server.enqueue("1", command("ProfileList"));
    let session = mac.run_until_idle().await.unwrap();
    assert!(session.not_now_last);
    assert_eq!(session.answered[0].answer.status, ReportStatus::NotNow);
    server.enqueue("2", command("SecurityInfo"));
    let session = mac.run_until_idle().await.unwrap();
    let statuses: Vec<_> = session
        .answered
        .iter()
        .map(|answered| answered.answer.status_name())
        .collect();
    assert_eq!(statuses, ["Acknowledged", "CommandFormatError"]);
    assert!(!session.not_now_last);
}

#[tokio::test]
async fn a_401_ends_the_enrollment_and_other_refusals_do_not() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    for status in [
        StatusCode::BAD_REQUEST,
        StatusCode::FORBIDDEN,
        StatusCode::INTERNAL_SERVER_ERROR,
    ] {
        server
            .state()
            .refuse
            .insert("/mdm/connect", (status, "text/plain", Vec::new()));
        assert_eq!(mac.run_until_idle().await.unwrap_err().status(), Some(status.as_u16()));
        assert!(mac.is_enrolled());
    }
    server
        .state()
        .refuse
        .insert("/mdm/connect", (StatusCode::UNAUTHORIZED, "text/plain", Vec::new()));
    mac.run_until_idle().await.unwrap_err();
    assert!(!mac.is_enrolled());
    assert!(mac.profiles().is_empty());

    let phone = device(&server).iphone().build().unwrap();
    phone.enroll().await.unwrap();
    let body = Forbidden::unrecognized_device().encode(BodyFormat::Plist);
    let refusal = (StatusCode::FORBIDDEN, BodyFormat::Plist.content_type(), body);
    server.state().refuse.insert("/mdm/checkin", refusal);
    phone.token_update().await.unwrap_err();
    assert!(!phone.is_enrolled());
    assert!(phone.unenrolled().is_some());
}

#[tokio::test]
async fn erasing_and_removing_the_profile_end_the_enrollment() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    server.enqueue("1", command("EraseDevice"));
    mac.run_until_idle().await.unwrap();
    assert!(mac.is_erased() && !mac.is_enrolled());
    assert!(!server.check_ins().contains(&"CheckOut"));

    mac.enroll().await.unwrap();
    assert!(mac.is_enrolled() && !mac.is_erased());
    let mut remove = command("RemoveProfile");
    remove.insert("Identifier".to_owned(), Value::from("com.example.mdm"));
    server.enqueue("2", remove);
    mac.run_until_idle().await.unwrap();
    assert!(!mac.is_enrolled());
    assert_eq!(server.check_ins().last(), Some(&"CheckOut"));
}

#[tokio::test]
async fn a_profile_of_the_same_identifier_renews_the_identity_or_changes_nothing() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    let first = mac.identity().unwrap();
    server.state().seed = "second".to_owned();
    let mut install = command("InstallProfile");
    install.insert("Payload".to_owned(), Value::Data(server.profile()));
    server.enqueue("1", install.clone());
    let session = mac.run_until_idle().await.unwrap();
    assert_eq!(session.answered[0].answer.status, ReportStatus::Acknowledged);
    let second = mac.identity().unwrap();
    assert_ne!(first.certificate(), second.certificate());
    let check_ins = server.check_ins();
    assert_eq!(&check_ins[check_ins.len() - 2..], ["Authenticate", "TokenUpdate"]);
    assert_eq!(mac.profiles().len(), 1);

    server
        .state()
        .refuse
        .insert("/mdm/checkin", (StatusCode::BAD_REQUEST, "text/plain", Vec::new()));
    server.enqueue("2", install);
    let session = mac.run_until_idle().await.unwrap();
    assert_eq!(session.answered[0].answer.status, ReportStatus::Error);
    assert_eq!(mac.identity().unwrap().certificate(), second.certificate());
    assert!(mac.is_enrolled());
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
async fn users_have_channels_of_their_own() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    let user = mac.user(UserNames {
        user_id: "5F5E8B5C-0B8B-4B8B-9B8B-1B8B2B8B3B8B".to_owned(),
        short_name: "ada".to_owned(),
        long_name: "Ada Lovelace".to_owned(),
        shared_ipad: false,
    });
    assert!(
        matches!(user.authenticate(None).await.unwrap(), UserAuthenticated::Challenge(text) if text == "a challenge")
    );
    assert!(matches!(
        user.authenticate(Some("wrong")).await.unwrap(),
        UserAuthenticated::WrongPassword
    ));
    assert!(matches!(
        user.authenticate(Some("right")).await.unwrap(),
        UserAuthenticated::Token(_)
    ));
    server
        .state()
        .refuse
        .insert("/mdm/checkin", (StatusCode::GONE, "text/plain", Vec::new()));
    assert!(matches!(
        user.authenticate(None).await.unwrap(),
        UserAuthenticated::NotManaged(_)
    ));
    user.token_update().await.unwrap();
    let key = server.state().received.last().unwrap().message.key().clone();
    assert_eq!(key.device_id(), mac.facts().udid);
    assert_eq!(key.user_id(), Some(user.names().user_id.as_str()));
    assert_ne!(
        user.push_credentials().unwrap().token,
        mac.push_credentials().unwrap().token
    );
    server.enqueue("1", command("DeviceLock"));
    let session = user.run_until_idle().await.unwrap();
    assert_eq!(session.answered[0].answer.status, ReportStatus::Error);
    assert!(mac.locked().is_none());
    assert_eq!(
        user.get_token("com.apple.maid", Dictionary::new())
            .await
            .unwrap()
            .as_deref(),
        Some(&b"a token"[..])
    );
}

#[tokio::test]
async fn declarations_are_fetched_once_and_reported() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    let configuration = serde_json::json!({
        "Type": "com.apple.configuration.passcode.settings", "Identifier": "passcode", "ServerToken": "1",
        "Payload": {"RequirePasscode": true},
    });
    server
        .state()
        .declarations
        .push(("declaration/configuration/passcode".to_owned(), configuration));
    server.enqueue("1", command("DeclarativeManagement"));
    mac.run_until_idle().await.unwrap();
    assert_eq!(mac.declarations()["passcode"].payload["RequirePasscode"], true);
    let endpoints = |server: &TestServer| -> Vec<String> {
        let state = server.state();
        let endpoints = state.received.iter().filter_map(|received| match &received.message {
            DeviceMessage::CheckIn(CheckIn::DeclarativeManagement(message)) => Some(message.endpoint.clone()),
            _ => None,
        });
        endpoints.collect()
    };
    let first = [
        "tokens",
        "declaration-items",
        "declaration/configuration/passcode",
        "status",
    ];
    assert_eq!(endpoints(&server), first);
    mac.sync_declarations().await.unwrap();
    assert_eq!(endpoints(&server)[4..], ["tokens", "status"]);
    let report = match &server.state().received.last().unwrap().message {
        DeviceMessage::CheckIn(CheckIn::DeclarativeManagement(message)) => message.data.clone().unwrap(),
        other => panic!("expected a status report, not {other:?}"),
    };
    let report = russet_protocol::ddm::StatusReport::decode(&report, 1 << 20).unwrap();
    let configurations = report.item("management.declarations").unwrap()["configurations"].clone();
    assert_eq!(configurations[0]["identifier"], "passcode");
}

#[tokio::test]
async fn a_push_wakes_only_the_device_that_it_is_for() {
    let server = TestServer::start().await;
    let (answered, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mac = device(&server)
        .retry_after(Duration::from_millis(5))
        .observe(move |_, event| {
            let _ = answered.send(event.clone());
        })
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    while events.try_recv().is_ok() {}
    let (pushes, source) = tokio::sync::mpsc::channel(8);
    let listening = tokio::spawn({
        let mac = mac.clone();
        async move { mac.listen(source).await }
    });
    let push = mac.push_credentials().unwrap();
    let wake = |token: &[u8], magic: &str| Wake::Push {
        token: token.to_vec(),
        magic: magic.to_owned(),
    };
    server.enqueue("1", command("ProfileList"));
    pushes.send(wake(b"another token", push.magic.expose())).await.unwrap();
    pushes.send(wake(push.token.expose(), "another magic")).await.unwrap();
    assert_eq!(events.recv().await, Some(DeviceEvent::PushIgnored));
    assert!(mac.answered().is_empty());
    // The first answer is "not now": the device comes back by itself.
    mac.answer_not_now_once();
    pushes
        .send(wake(push.token.expose(), push.magic.expose()))
        .await
        .unwrap();
    assert_eq!(events.recv().await, Some(DeviceEvent::Woken));
    for status in ["NotNow", "Acknowledged"] {
        let expected = DeviceEvent::Answered {
            request_type: "ProfileList".to_owned(),
            status,
        };
        assert_eq!(events.recv().await, Some(expected));
    }
    drop(pushes);
    assert_eq!(listening.await.unwrap(), ListenEnd::SourceClosed);
}

#[tokio::test]
async fn a_device_stops_listening_when_it_is_not_managed_any_more() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    let (pushes, source) = tokio::sync::broadcast::channel(8);
    let listening = tokio::spawn({
        let mac = mac.clone();
        async move { mac.listen(source).await }
    });
    server.enqueue("1", command("EraseDevice"));
    let push = mac.push_credentials().unwrap();
    let received = ReceivedPush {
        token: push.token.expose().to_vec(),
        magic: push.magic.expose().to_owned(),
        topic: push.topic,
        expiration: 0,
        priority: 10,
        apns_id: "1".to_owned(),
    };
    pushes.send(received).unwrap();
    assert_eq!(listening.await.unwrap(), ListenEnd::Unenrolled);
    assert!(mac.is_erased());
}

#[tokio::test]
async fn bad_input_can_be_sent_and_changes_nothing() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    assert!(matches!(mac.token_update().await, Err(DeviceError::NotReady { .. })));
    mac.enroll().await.unwrap();
    assert_eq!(
        mac.raw_connect(*b"garbage").await.unwrap().status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        mac.raw_check_in(Vec::new()).await.unwrap().status,
        StatusCode::BAD_REQUEST
    );
    let response = mac
        .raw_request(Method::DELETE, "/nowhere", HeaderMap::new(), "x")
        .await
        .unwrap();
    assert_eq!(
        (response.status, response.text().as_str()),
        (StatusCode::NOT_FOUND, "no such page")
    );
    server
        .state()
        .refuse
        .insert("/mdm/connect", (StatusCode::UNAUTHORIZED, "text/plain", Vec::new()));
    assert_eq!(
        mac.raw_connect(*b"garbage").await.unwrap().status,
        StatusCode::UNAUTHORIZED
    );
    assert!(mac.is_enrolled());
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

#[tokio::test]
async fn a_command_envelope_of_the_protocol_crate_is_read_back() {
    let server = TestServer::start().await;
    let mac = device(&server).without_content_type().build().unwrap();
    mac.enroll().await.unwrap();
    let wanted = command("CertificateList");
    server.enqueue("uuid-1", wanted.clone());
    let received = mac.poll(&Answer::idle()).await.unwrap().unwrap();
    assert_eq!(received.raw, connect::command_envelope("uuid-1", &wanted));
    assert_eq!(
        (received.uuid.as_str(), received.request_type()),
        ("uuid-1", "CertificateList")
    );
    assert!(mac.answer(&received).await.unwrap().is_none());
    assert!(
        server
            .state()
            .received
            .iter()
            .all(|received| !received.headers.contains_key("content-type"))
    );
    let answer = mac.answered()[0].answer.clone();
    let certificates = answer.result.get("CertificateList").and_then(Value::as_array).unwrap();
    let data = certificates[0]
        .as_dictionary()
        .unwrap()
        .get("Data")
        .and_then(Value::as_data)
        .unwrap();
    assert_eq!(data, mac.identity().unwrap().certificate().der());
}

#[test]
fn a_device_needs_a_server_and_readable_trust() {
    assert!(matches!(SimulatedDevice::builder().build(), Err(DeviceError::Setup(_))));
    assert!(ServerTrust::from_pem("no certificate").is_err());
}
