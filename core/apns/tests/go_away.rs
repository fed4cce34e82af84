//! A service that says GOAWAY before it has looked at a push, frame by frame: no HTTP/2 library does that on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::sync::Arc;

use russet_apns::{ClientOptions, Push, PushClient, Roots};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn};
use rustls::crypto::aws_lc_rs;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use world::{MAGIC, TOPIC, World, endpoint_of, soon};

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;

/// `SETTINGS_MAX_CONCURRENT_STREAMS` = 1.
const ONE_STREAM: [u8; 6] = [0, 3, 0, 0, 0, 1];

/// A frame on stream 0 without flags (RFC 9113 section 4.1).
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, 0, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Takes one connection, waits for a request and says with GOAWAY that no request has been looked at.
async fn turn_away(tcp: TcpStream, tls: Arc<ServerConfig>) {
    let mut stream = TlsAcceptor::from(tls).accept(tcp).await.unwrap();
    stream.write_all(&frame(SETTINGS, &ONE_STREAM)).await.unwrap();
    stream.flush().await.unwrap();
    stream.read_exact(&mut [0; PREFACE]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    // Last stream 0, no error.
    stream.write_all(&frame(GO_AWAY, &[0; 8])).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

/// A TLS configuration with a certificate of its own, and that certificate.
fn own_tls() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The certificate must be usable as a root, or the test would test nothing.
    RootCertStore::empty().add(certificate.clone()).unwrap();
    (Arc::new(config), certificate)
}

/// The first `rude` connections are turned away, later ones go on to the stand-in.
async fn doorkeeper(apns: &ApnsStandIn, rude: usize) -> PushClient {
    let (tls, certificate) = own_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let behind = apns.address();
    tokio::spawn(async move {
        for _ in 0..rude {
            let (tcp, _) = listener.accept().await.unwrap();
            turn_away(tcp, Arc::clone(&tls)).await;
        }
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut onward = TcpStream::connect(behind).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut tcp, &mut onward).await;
    });
    let stand_in_root = CertificateDer::from_pem_slice(apns.roots_pem().as_bytes()).unwrap();
    let endpoint = endpoint_of(apns)
        .with_address(address)
        .with_roots(Roots::Custom(vec![certificate, stand_in_root]));
    let pem = apns.issue_push_certificate(TOPIC).unwrap();
    let certificate = russet_apns::PushCertificate::from_pem(pem.certificate.as_bytes(), pem.key.as_bytes()).unwrap();
    PushClient::new(endpoint, Arc::new(certificate), ClientOptions::default())
}

#[tokio::test]
async fn a_push_that_go_away_leaves_out_is_sent_on_a_new_connection() {
    let World { apns, .. } = World::new().await;
    let device = world::token(1);
    apns.register(&device, TOPIC);
    let client = doorkeeper(&apns, 1).await;
    soon(client.push(&Push::new(device.clone(), MAGIC))).await.unwrap();
    assert_eq!(soon(apns.wait_for_push(&device)).await.magic, MAGIC);
    assert_eq!(apns.counters().delivered, 1);
}

#[tokio::test]
async fn a_service_that_turns_everybody_away_is_not_tried_for_ever() {
    let apns = ApnsStandIn::start(ApnsOptions::default()).await.unwrap();
    let device = world::token(1);
    apns.register(&device, TOPIC);
    let client = doorkeeper(&apns, 10).await;
    // Each connection takes one push and loses it; those that wait their turn would see all ten connections end.
    let pushes: Vec<_> = (0..8)
        .map(|_| {
            let (client, push) = (client.clone(), Push::new(device.clone(), MAGIC));
            tokio::spawn(async move { client.push(&push).await })
        })
        .collect();
    for push in pushes {
        let error = soon(push).await.unwrap().unwrap_err();
        assert!(matches!(error, russet_apns::PushError::Retry { .. }), "{error:?}");
    }
    assert_eq!(apns.counters().requests, 0);
}
