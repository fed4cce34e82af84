//! Bodies, headers and connections that no honest device sends: a clear answer with the right status, one line of log,
//! nothing lost, and never a 401 for a device.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{Answer, IdentityMode, RawResponse, SignatureDigest, UserAuthenticated, UserNames};
use russet_tests::{World, eventually, soon};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAC: &str = "C02HONEST001";

/// A world that takes device messages of up to 256 KiB, and one honest device that signs its messages.
async fn world() -> (World, SimulatedDevice) {
    let world = World::builder()
        .without_gate()
        .set("server.limits.device_body_bytes", 256 * 1024)
        .start()
        .await;
    let mac = world
        .mac(MAC)
        .identity_mode(IdentityMode::MdmSignature)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    (world, mac)
}

/// After whatever was sent: the server serves, and the honest device is as managed as before.
async fn all_is_well(world: &mut World, honest: &SimulatedDevice) {
    assert!(world.server.is_running());
    world.admin.reach().await;
    assert_eq!(honest.unenrolled(), None);
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    honest.run_until_idle().await.unwrap();
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    assert_eq!(world.admin.device(MAC).await["state"], "active");
}

/// The error in the log of a request, which has to be there in one line and no other.
async fn logged(world: &World, answer: &RawResponse) -> String {
    let id = answer
        .headers
        .get("x-request-id")
        .expect("every answer names its request")
        .to_str()
        .unwrap();
    let of_request = |line: &Value| line["span"]["request.id"] == id;
    let line = eventually("the request is in the log", || async {
        world
            .server
            .log_lines()
            .into_iter()
            .find(|line| of_request(line) && line["message"] == "request")
    });
    let line = line.await;
    let others = world.server.log_lines();
    let loud = others
        .iter()
        .filter(|other| of_request(other) && (other["level"] != "INFO" || other["error"].is_string()));
    assert_eq!(
        loud.count(),
        usize::from(line["error"].is_string()),
        "an error is logged once: {others:?}"
    );
    line["error"].as_str().unwrap_or_default().to_owned()
}

fn message(device: &SimulatedDevice, fields: &[(&str, Plist)]) -> Vec<u8> {
    let mut message = Dictionary::from_iter([("UDID", Plist::from(device.facts().udid.as_str()))]);
    message.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    codec::encode(&message)
}

fn plist(inside: &str) -> Vec<u8> {
    format!(r#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0">{inside}</plist>"#).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_message_are_refused_with_what_is_wrong() {
    let (mut world, mac) = world().await;
    let udid = &mac.facts().udid;
    let honest = message(&mac, &[("Status", "Idle".into())]);
    let mut binary = Vec::new();
    plist::to_writer_binary(
        &mut binary,
        &Plist::Dictionary(Dictionary::from_iter([("Status", Plist::from("Idle"))])),
    )
    .unwrap();
    let deep = format!(
        "<dict><key>UDID</key><string>{udid}</string><key>Status</key><string>Idle</string><key>X</key>{}{}</dict>",
        "<array>".repeat(11_000),
        "</array>".repeat(11_000)
    );
    let bomb = br#"<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
        <!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
        <plist version="1.0"><dict><key>Status</key><string>&c;</string></dict></plist>"#;
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", Vec::new(), 400, "the body is empty"),
        ("no XML", b"\xff\xfeStatus=Idle".to_vec(), 400, ""),
        ("JSON", br#"{"Status": "Idle"}"#.to_vec(), 400, ""),
        ("a message cut off", honest[..honest.len() - 30].to_vec(), 400, ""),
        ("180 KB of nesting", plist(&deep), 400, "nests deeper"),
        ("an entity bomb", bomb.to_vec(), 400, "document type"),
        ("a binary list", binary, 400, "binary"),
        ("an array", plist("<array/>"), 400, ""),
        ("neither type nor status", message(&mac, &[]), 400, ""),
        (
            "an unknown type",
            message(&mac, &[("MessageType", "Hello".into())]),
            400,
            "Hello",
        ),
        (
            "no device",
            plist("<dict><key>Status</key><string>Idle</string></dict>"),
            400,
            "",
        ),
        (
            "numbers for names",
            message(&mac, &[("MessageType", 7_i64.into())]),
            400,
            "",
        ),
        ("300 KB", vec![b' '; 300 * 1024], 413, "larger than 262144 bytes"),
    ];
    for (what, body, status, reason) in cases {
        for answer in [
            mac.raw_check_in(body.clone()).await.unwrap(),
            mac.raw_connect(body.clone()).await.unwrap(),
        ] {
            assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
            assert!(answer.text().contains(reason), "{what}: {}", answer.text());
            let error = logged(&world, &answer).await;
            assert!(!error.is_empty() && error.contains(reason), "{what}: {error}");
        }
    }
    all_is_well(&mut world, &mac).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_ask_for_what_is_not_there_are_answered_as_the_protocol_says() {
    let (mut world, mac) = world().await;
    // Tokens of Apple's services that this server does not have.
    let refusal = mac.get_token("com.apple.unknown", Dictionary::new()).await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");
    // Users of the network are not managed, unless the setting says so.
    let names = UserNames {
        user_id: "3F2504E0-4F89-11D3-9A0C-0305E82C3301".to_owned(),
        short_name: "ada".to_owned(),
        long_name: "Ada Example".to_owned(),
        shared_ipad: false,
    };
    let managed = mac.user(names).authenticate(None).await.unwrap();
    assert!(matches!(managed, UserAuthenticated::NotManaged(_)), "{managed:?}");
    // Reports that nobody waits for are taken, or the device would repeat them for ever.
    let unknown = Answer::acknowledged("3F2504E0-4F89-11D3-9A0C-0305E82C3301", Dictionary::new());
    assert_eq!(mac.poll(&unknown).await.unwrap(), None);
    assert_eq!(
        mac.poll(&Answer::acknowledged("no UUID", Dictionary::new()))
            .await
            .unwrap(),
        None
    );
    let odd = message(&mac, &[("Status", "Puzzled".into()), ("CommandUUID", "no UUID".into())]);
    assert_eq!(mac.raw_connect(odd).await.unwrap().status.as_u16(), 200);
    all_is_well(&mut world, &mac).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_does_not_read_loses_no_command() {
    let (world, mac) = world().await;
    let uuid = world
        .admin
        .command(&[MAC], json!({"RequestType": "SecurityInfo"}))
        .await;
    let command = mac.poll(&Answer::idle()).await.unwrap().unwrap();
    let report = message(
        &mac,
        &[
            ("Status", "Acknowledged".into()),
            ("CommandUUID", command.uuid.as_str().into()),
        ],
    );
    let answer = mac.raw_connect(report[..report.len() - 20].to_vec()).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    assert_eq!(world.admin.show_command(&uuid).await["devices"][0]["state"], "sent");
    // The device repeats what was not taken, and a repetition of what was taken does no harm.
    mac.answer(&command).await.unwrap();
    assert_eq!(world.admin.finished(&uuid).await["devices"][0]["state"], "acknowledged");
    assert_eq!(mac.raw_connect(report).await.unwrap().status.as_u16(), 200);
    let done = world.admin.finished(&uuid).await;
    assert!(
        done["devices"][0]["result"]["SecurityInfo"].is_object(),
        "the first answer stays: {done}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_addresses_take_both_kinds_of_message_with_any_content_type() {
    let (mut world, mac) = world().await;
    let update = message(&mac, &[("MessageType", "GetBootstrapToken".into())]);
    let idle = message(&mac, &[("Status", "Idle".into())]);
    for path in ["/mdm/checkin", "/mdm/connect"] {
        for body in [&update, &idle] {
            let kinds = [
                None,
                Some("text/csv"),
                Some("application/x-apple-aspen-mdm"),
                Some("application/x-apple-aspen-mdm-checkin; charset=UTF-8"),
            ];
            for kind in kinds {
                let answer = signed(&mac, path, kind, body).await;
                assert_eq!(answer.status.as_u16(), 200, "{path} {kind:?}: {}", answer.text());
            }
        }
    }
    world
        .mac("C02SILENT01")
        .without_content_type()
        .build()
        .unwrap()
        .enroll()
        .await
        .unwrap();
    all_is_well(&mut world, &mac).await;
}

async fn signed(device: &SimulatedDevice, path: &str, content_type: Option<&str>, body: &[u8]) -> RawResponse {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    }
    let identity = device.identity().unwrap();
    let signature = russet_simulator::device::signature_header(&identity, SignatureDigest::Sha256, body).unwrap();
    headers.insert(HeaderName::from_static("mdm-signature"), signature.parse().unwrap());
    device
        .raw_request(Method::PUT, path, headers, body.to_vec())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_methods_that_are_not_there_are_never_a_401() {
    let (mut world, mac) = world().await;
    let cases = [
        (Method::POST, "/mdm/checkin", 405),
        (Method::GET, "/mdm/connect", 405),
        (Method::PUT, "/mdm/other", 404),
        (Method::PUT, "/mdm/", 404),
        (Method::PUT, "/t/unknown/mdm/connect", 404),
        (Method::GET, "/", 404),
        (Method::DELETE, "/enroll", 405),
        (Method::PUT, "/mdm/checkin", 400),
        (Method::GET, "/scep", 400),
        (Method::GET, "/scep?operation=GetNextCACert", 400),
        (Method::GET, "/scep?operation=PKIOperation", 400),
        (Method::GET, "/scep?operation=PKIOperation&message=%%%", 400),
        (Method::GET, "/scep?operation=PKIOperation&message=bm8gQ01T", 400),
    ];
    for (method, path, status) in cases {
        let answer = mac
            .raw_request(method.clone(), path, HeaderMap::new(), Vec::new())
            .await
            .unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        logged(&world, &answer).await;
    }
    let huge = HeaderValue::from_str(&"x".repeat(100 * 1024)).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("mdm-signature"), huge);
    // Either an answer that says so, or a connection that ends: not a server that reads on.
    if let Ok(answer) = mac.raw_request(Method::PUT, "/mdm/connect", headers, Vec::new()).await {
        assert_eq!(answer.status.as_u16(), 431, "{}", answer.text());
    }
    all_is_well(&mut world, &mac).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bodies_that_are_none_are_refused_where_profiles_and_identities_come_from() {
    let (mut world, mac) = world().await;
    let mut pkcs7 = HeaderMap::new();
    pkcs7.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs7-signature"));
    let unsigned = mac.facts().clone();
    let unsigned = russet_simulator::device::machine_info(&unsigned);
    let bodies: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("text", b"no CMS".to_vec()),
        ("an endless length", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("nesting", [0x30, 0x80].repeat(10_000)),
        ("a list that nobody signed", unsigned),
    ];
    for (what, body) in bodies {
        let enroll = mac
            .raw_request(Method::POST, "/enroll", pkcs7.clone(), body.clone())
            .await
            .unwrap();
        assert_eq!(enroll.status.as_u16(), 400, "/enroll, {what}: {}", enroll.text());
        logged(&world, &enroll).await;
        let scep = mac
            .raw_request(Method::POST, "/scep?operation=PKIOperation", HeaderMap::new(), body)
            .await
            .unwrap();
        assert_eq!(scep.status.as_u16(), 400, "/scep, {what}: {}", scep.text());
        logged(&world, &scep).await;
    }
    for path in ["/enroll", "/scep?operation=PKIOperation"] {
        let answer = mac
            .raw_request(Method::POST, path, pkcs7.clone(), vec![0; 300 * 1024])
            .await
            .unwrap();
        assert_eq!(answer.status.as_u16(), 413, "{path}: {}", answer.text());
    }
    let mut web_view = HeaderMap::new();
    web_view.insert(
        HeaderName::from_static("x-apple-aspen-deviceinfo"),
        HeaderValue::from_static("***"),
    );
    let answer = mac
        .raw_request(Method::GET, "/enroll", web_view, Vec::new())
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.text());
    all_is_well(&mut world, &mac).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_their_time_are_cut_off() {
    let world = World::builder()
        .without_gate()
        .set("server.limits.handshake_timeout_seconds", 1)
        .set("server.limits.header_timeout_seconds", 1)
        .set("server.limits.body_timeout_seconds", 1)
        .start()
        .await;
    let address = world.server.address();

    let mut silent = TcpStream::connect(address).await.unwrap();
    let read = soon("a connection without a handshake ends", async move {
        silent.read(&mut [0; 64]).await
    });
    assert!(matches!(read.await, Ok(0) | Err(_)));

    let mut half = tls(&world).await;
    half.write_all(b"PUT /mdm/connect HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        .await
        .unwrap();
    let mut said = Vec::new();
    let read = soon("half a head ends the connection", async {
        half.read_to_end(&mut said).await
    });
    let _ = read.await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");

    let mut half = tls(&world).await;
    half.write_all(b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    let mut said = Vec::new();
    let read = soon("half a body ends the request", async {
        half.read_to_end(&mut said).await
    });
    let _ = read.await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("did not arrive in time"), "{said}");
    world.enrolled(MAC).await;
}

async fn tls(world: &World) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_slice(world.server.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(world.server.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let connecting = connector.connect("localhost".try_into().unwrap(), tcp);
    tokio::time::timeout(Duration::from_secs(30), connecting)
        .await
        .unwrap()
        .unwrap()
}
