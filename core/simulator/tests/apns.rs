//! The stand-in of APNs is as strict as APNs: a client of no particular make meets its refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use russet_simulator::apns::{ApnsOptions, ApnsPki, ApnsStandIn, PushCertificatePem, Scripted};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TOPIC: &str = "com.apple.mgmt.External.stand-in";
const BODY: &str = r#"{"mdm":"magic"}"#;
const TOKEN: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(apns: &ApnsStandIn, certificate: Option<&PushCertificatePem>) -> Result<Sender, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(apns.roots_pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = vec![CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(apns.address()).await.unwrap();
    let name = ServerName::try_from(apns.host().to_owned()).unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|error| error.to_string())?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
    let (sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A correct push, for tests to spoil.
fn push() -> http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(format!("https://localhost/3/device/{}", hex::encode(TOKEN)))
        .header("apns-topic", TOPIC)
        .header("apns-push-type", "mdm")
        .header("apns-priority", "10")
        .header("apns-expiration", "0")
}

async fn send(sender: &mut Sender, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let response = tokio::time::timeout(Duration::from_secs(30), sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    assert!(response.headers().contains_key("apns-id"));
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    (
        status,
        body.get("reason")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    )
}

async fn start() -> (ApnsStandIn, Sender) {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
    apns.register(&TOKEN, TOPIC);
    let certificate = apns.issue_push_certificate(TOPIC).unwrap();
    let sender = connect(&apns, Some(&certificate)).await.unwrap();
    (apns, sender)
}

#[tokio::test]
async fn every_mistake_has_its_reason() {
    let (apns, mut sender) = start().await;
    let body = |text: &str| Full::new(Bytes::from(text.to_owned()));
    let replaced = |name: &'static str, value: &'static str| {
        let mut request = push().body(body(BODY)).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let at = |path: &str| push().uri(format!("https://localhost{path}")).body(body(BODY)).unwrap();
    let without_topic = {
        let mut request = push().body(body(BODY)).unwrap();
        request.headers_mut().remove("apns-topic");
        request
    };
    let cases = [
        (
            push().method(Method::PUT).body(body(BODY)).unwrap(),
            405,
            "MethodNotAllowed",
        ),
        (at("/2/device/deadbeef"), 404, "BadPath"),
        (at("/3/device/"), 400, "MissingDeviceToken"),
        (at("/3/device/not-hex"), 400, "BadDeviceToken"),
        (at("/3/device/01020304"), 400, "BadDeviceToken"),
        (without_topic, 400, "MissingTopic"),
        (
            replaced("apns-topic", "com.apple.mgmt.External.other"),
            400,
            "TopicDisallowed",
        ),
        (
            push().header("apns-topic", TOPIC).body(body(BODY)).unwrap(),
            400,
            "DuplicateHeaders",
        ),
        (replaced("apns-push-type", "alert"), 400, "InvalidPushType"),
        (replaced("apns-priority", "7"), 400, "BadPriority"),
        (replaced("apns-expiration", "tomorrow"), 400, "BadExpirationDate"),
        (push().body(body("")).unwrap(), 400, "PayloadEmpty"),
        (push().body(body(r#"{"aps":{}}"#)).unwrap(), 400, "BadMdmPayload"),
        (
            push().body(body(r#"{"mdm":"magic","aps":{}}"#)).unwrap(),
            400,
            "BadMdmPayload",
        ),
        (push().body(body(&" ".repeat(5_000))).unwrap(), 413, "PayloadTooLarge"),
    ];
    let mistakes = cases.len();
    for (request, status, reason) in cases {
        let shown = format!("{} {:?}", request.uri(), request.headers());
        let answer = send(&mut sender, request).await;
        assert_eq!(
            answer,
            (StatusCode::from_u16(status).unwrap(), reason.to_owned()),
            "{shown}"
        );
    }
    assert_eq!(
        send(&mut sender, push().body(body(BODY)).unwrap()).await.0,
        StatusCode::OK
    );
    let counters = apns.counters();
    assert_eq!((counters.delivered, counters.refused), (1, mistakes as u64));
}

#[tokio::test]
async fn nobody_connects_without_a_push_certificate_of_this_service() {
    let (apns, _sender) = start().await;
    let stranger = ApnsPki::generate().unwrap().issue_push_certificate(TOPIC).unwrap();
    for certificate in [None, Some(&stranger)] {
        // In TLS 1.3 the refusal may only show when the connection is used.
        if let Ok(mut sender) = connect(&apns, certificate).await {
            let request = push().body(Full::new(Bytes::from(BODY))).unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(30), sender.send_request(request))
                .await
                .unwrap();
            assert!(answer.is_err());
        }
    }
    let counters = apns.counters();
    assert_eq!(
        (counters.connections, counters.refused_connections, counters.requests),
        (1, 2, 0)
    );
}

#[tokio::test]
async fn the_newest_push_waits_for_the_device_and_observers_see_all() {
    let (apns, mut sender) = start().await;
    let mut observer = apns.subscribe();
    for magic in ["first", "second"] {
        let body = format!(r#"{{"mdm":"{magic}"}}"#);
        let answer = send(&mut sender, push().body(Full::new(Bytes::from(body))).unwrap()).await;
        assert_eq!(answer.0, StatusCode::OK);
        assert_eq!(observer.recv().await.unwrap().magic, magic);
    }
    let wait = || tokio::time::timeout(Duration::from_secs(30), apns.wait_for_push(&TOKEN));
    assert_eq!(wait().await.unwrap().magic, "second");

    // Taken: the next wait is for the next push.
    let (third, pushed) = tokio::join!(wait(), async {
        let body = Full::new(Bytes::from(r#"{"mdm":"third"}"#));
        send(&mut sender, push().body(body).unwrap()).await
    });
    assert_eq!(pushed.0, StatusCode::OK);
    assert_eq!(third.unwrap().magic, "third");
}

#[tokio::test]
async fn scripted_answers_come_in_order_and_only_once() {
    let (apns, mut sender) = start().await;
    apns.answer_next(&TOKEN, Scripted::new(429, "TooManyRequests"));
    apns.answer_next(&TOKEN, Scripted::new(500, "InternalServerError"));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let request = push().body(Full::new(Bytes::from(BODY))).unwrap();
        statuses.push(send(&mut sender, request).await.0.as_u16());
    }
    assert_eq!(statuses, [429, 500, 200]);
}

#[test]
fn the_authorities_survive_being_written_and_read() {
    let pki = ApnsPki::generate().unwrap();
    let text = pki.to_pem();
    let read = ApnsPki::from_pem(&text).unwrap();
    assert_eq!(read.to_pem(), text);
    assert_eq!(read.server_root_pem(), pki.server_root_pem());
    assert!(ApnsPki::from_pem("").is_err());
    assert!(ApnsPki::from_pem(pki.server_root_pem()).is_err());
}
