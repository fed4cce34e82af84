//! The life of an enrolled device: commands, pushes, declarations, users, and the end of it.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use russet_protocol::forbidden::{BodyFormat, Forbidden};
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{CheckIn, DeviceMessage, ReportStatus, connect};
use russet_simulator::apns::ReceivedPush;
use russet_simulator::device::{
    Answer, DeviceError, DeviceEvent, ListenEnd, Scripted, UserAuthenticated, UserNames, Wake,
};

use super::support::TestServer;
use super::{command, device};

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

#[tokio::test]
async fn an_answer_that_was_polled_with_is_not_sent_again() {
    let server = TestServer::start().await;
    let mac = device(&server).build().unwrap();
    mac.enroll().await.unwrap();
    server.enqueue("1", command("RestartDevice"));
    let received = mac.poll(&Answer::idle()).await.unwrap().unwrap();
    let answer = mac.execute(&received).await;
    assert!(mac.poll(&answer).await.unwrap().is_none());
    assert_eq!(mac.answered().len(), 1);
    assert!(mac.run_until_idle().await.unwrap().answered.is_empty());
}
