//! The listener over loopback: certificates of clients, slow clients, the connection cap, new certificates, shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Device, Site};
use axum::Router;
use axum::routing::get;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use russet_http::{AddressRange, BindError, ConnectionLimits, Drained, Peer, Server, ServerSettings, Tls, Transport};
use russet_protocol::codec;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A server on loopback with a certificate of its own.
pub(crate) struct Running {
    address: SocketAddr,
    tls: Tls,
    root: CertificateDer<'static>,
    stop: CancellationToken,
    task: JoinHandle<Drained>,
}

fn own_certificate() -> (CertificateDer<'static>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.der().clone(), made.signing_key.serialize_der())
}

impl Running {
    pub(crate) async fn start(router: Router, limits: ConnectionLimits) -> Self {
        let (root, key) = own_certificate();
        let tls = Tls::from_der(vec![root.to_vec()], &key, &[]).unwrap();
        let settings = ServerSettings {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            transport: Transport::Tls(tls.clone()),
            limits,
        };
        let server = Server::bind(settings).await.unwrap();
        let address = server.address();
        assert_ne!(address.port(), 0);
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(router, stop.clone()));
        Self {
            address,
            tls,
            root,
            stop,
            task,
        }
    }

    pub(crate) async fn connect(&self, device: Option<&Device>, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match device {
            None => builder.with_no_client_auth(),
            Some(device) => {
                let chain = vec![CertificateDer::from(device.certificate.der().to_vec())];
                let key = PrivateKeyDer::try_from(device.key.to_pkcs8().to_vec()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    /// One request on a connection of its own.
    async fn send(
        &self,
        device: Option<&Device>,
        alpn: &str,
        request: Request<Full<&'static [u8]>>,
    ) -> (StatusCode, String) {
        let stream = TokioIo::new(self.connect(device, alpn).await.unwrap());
        let response = if alpn == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

fn short() -> ConnectionLimits {
    ConnectionLimits {
        handshake: Duration::from_millis(200),
        header: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        drain: Duration::from_secs(20),
        ..ConnectionLimits::default()
    }
}

pub(crate) fn hello() -> Router {
    Router::new().route(
        "/",
        get(|peer: axum::Extension<Peer>| async move { format!("certificate: {}", peer.certificate.is_some()) }),
    )
}

fn ask(alpn: &str) -> Request<Full<&'static [u8]>> {
    let uri = if alpn == "h2" { "https://localhost/" } else { "/" };
    Request::get(uri)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

/// Reads until the server closes; panics if it takes unreasonably long.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    // A reset or a missing close_notify is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("the server did not close the connection");
    rest
}

#[tokio::test]
async fn both_versions_of_http_with_and_without_a_client_certificate() {
    let server = Running::start(hello(), ConnectionLimits::default()).await;
    let stranger = Device::stranger();
    for alpn in ["h2", "http/1.1"] {
        let without = server.send(None, alpn, ask(alpn)).await;
        assert_eq!(without, (StatusCode::OK, "certificate: false".to_owned()), "{alpn}");
        let with = server.send(Some(&stranger), alpn, ask(alpn)).await;
        assert_eq!(with, (StatusCode::OK, "certificate: true".to_owned()), "{alpn}");
    }
}

#[tokio::test]
async fn an_unknown_client_certificate_gets_an_answer_and_a_known_one_gets_in() {
    let site = Site::new().await;
    let device = site.enrolled("C02WIRE").await;
    let server = Running::start(site.router.clone(), ConnectionLimits::default()).await;
    let idle = |device: &Device| {
        let body: &'static [u8] = Box::leak(codec::encode(&device.idle()).into_boxed_slice());
        Request::put("/mdm/connect")
            .header("host", "localhost")
            .body(Full::new(body))
            .unwrap()
    };
    let stranger = Device::stranger();
    let (status, body) = server.send(Some(&stranger), "http/1.1", idle(&stranger)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("identity-unknown-authority"), "{body}");
    let (status, body) = server.send(Some(&device), "http/1.1", idle(&device)).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn a_client_that_does_not_have_the_key_of_its_certificate_gets_nowhere() {
    let server = Running::start(hello(), ConnectionLimits::default()).await;
    let (mut thief, victim) = (Device::stranger(), Device::stranger());
    thief.certificate = victim.certificate;
    // rustls refuses to be such a client when asked directly, so it is given the pair by a resolver.
    let certified = rustls::sign::CertifiedKey::new(
        vec![CertificateDer::from(thief.certificate.der().to_vec())],
        rustls::crypto::aws_lc_rs::sign::any_supported_type(
            &PrivateKeyDer::try_from(thief.key.to_pkcs8().to_vec()).unwrap(),
        )
        .unwrap(),
    );
    let mut roots = RootCertStore::empty();
    roots.add(server.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connected = TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await;
    // In TLS 1.3 the client is done before the server has checked; the refusal comes with the first read.
    if let Ok(mut stream) = connected {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(closed(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_is_cut() {
    let server = Running::start(hello(), short()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(closed(&mut stream).await, b"");
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_cut() {
    let server = Running::start(hello(), short()).await;
    let mut stream = server.connect(None, "http/1.1").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    let answer = closed(&mut stream).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_in_both_versions() {
    let server = Running::start(hello(), short()).await;
    for alpn in ["h2", "http/1.1"] {
        let mut stream = server.connect(None, alpn).await.unwrap();
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_body_gets_408() {
    let site = Site::with(russet_http::HttpSettings {
        body_timeout: Duration::from_millis(100),
        ..russet_http::HttpSettings::default()
    })
    .await;
    let server = Running::start(site.router.clone(), short()).await;
    let mut stream = server.connect(None, "http/1.1").await.unwrap();
    let head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nslow";
    stream.write_all(head).await.unwrap();
    let answer = closed(&mut stream).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// Nobody has to wait for a body that nobody will look at, or keep it.
#[tokio::test]
async fn a_stranger_is_refused_before_the_body() {
    let server = Running::start(Site::new().await.router, short()).await;
    let mut stream = server.connect(None, "http/1.1").await.unwrap();
    let head = b"PUT /mdm/connect HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n<plist>";
    stream.write_all(head).await.unwrap();
    let answer = closed(&mut stream).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn heads_up_to_32_kib_are_taken_and_larger_ones_are_not() {
    let server = Running::start(hello(), ConnectionLimits::default()).await;
    for alpn in ["h2", "http/1.1"] {
        let mut request = ask(alpn);
        let base = if alpn == "h2" { "https://localhost/" } else { "/" };
        *request.uri_mut() = format!("{base}?message={}", "A".repeat(16 << 10)).parse().unwrap();
        request
            .headers_mut()
            .insert("x-long", "A".repeat(16 << 10).parse().unwrap());
        assert_eq!(server.send(None, alpn, request).await.0, StatusCode::OK, "{alpn}");
    }
    let mut request = ask("http/1.1");
    request
        .headers_mut()
        .insert("x-long", "A".repeat(100 << 10).parse().unwrap());
    let answer = server.send(None, "http/1.1", request).await;
    assert_eq!(answer.0, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn beyond_the_cap_a_client_waits_until_another_is_gone() {
    let limits = ConnectionLimits {
        connections: 1,
        ..ConnectionLimits::default()
    };
    let server = Running::start(hello(), limits).await;
    let first = server.connect(None, "http/1.1").await.unwrap();
    let mut second = Box::pin(server.connect(None, "http/1.1"));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    tokio::time::timeout(Duration::from_secs(20), second)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let server = Running::start(hello(), ConnectionLimits::default()).await;
    let shown = async || {
        let stream = server.connect(None, "http/1.1").await;
        stream.map(|stream| stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    };
    assert_eq!(shown().await.unwrap(), server.root);
    assert!(server.tls.replace_der(vec![b"hello".to_vec()], b"hello").is_err());
    assert!(server.tls.replace_pem(b"", b"").is_err());
    assert_eq!(shown().await.unwrap(), server.root);
    let (certificate, key) = own_certificate();
    server.tls.replace_der(vec![certificate.to_vec()], &key).unwrap();
    assert!(
        shown().await.is_err(),
        "the client still trusts the old certificate only"
    );
}

#[tokio::test]
async fn a_stop_lets_running_requests_end_and_takes_no_new_connection() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        Router::new().route(
            "/",
            get(async move || {
                entered.notify_one();
                go.notified().await;
                "done"
            }),
        )
    };
    let server = Arc::new(Running::start(router, ConnectionLimits::default()).await);
    let running = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.send(None, "http/1.1", ask("http/1.1")).await }
    });
    entered.notified().await;
    server.stop.cancel();
    // The listener is closed before the last request ends.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert_eq!(running.await.unwrap(), (StatusCode::OK, "done".to_owned()));
    let server = Arc::into_inner(server).unwrap();
    assert_eq!(server.task.await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_is_cut() {
    let entered = Arc::new(Notify::new());
    let router = {
        let entered = Arc::clone(&entered);
        Router::new().route(
            "/",
            get(async move || {
                entered.notify_one();
                std::future::pending::<()>().await;
            }),
        )
    };
    let limits = ConnectionLimits {
        drain: Duration::from_millis(100),
        ..ConnectionLimits::default()
    };
    let server = Running::start(router, limits).await;
    let mut stream = server.connect(None, "http/1.1").await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;
    server.stop.cancel();
    assert_eq!(server.task.await.unwrap(), Drained::Cut { connections: 1 });
    assert_eq!(closed(&mut stream).await, b"");
}

#[tokio::test]
async fn plain_http_is_for_loopback_and_trusted_proxies() {
    let settings = |address: [u8; 4], trusted: Vec<AddressRange>| ServerSettings {
        address: SocketAddr::from((address, 0)),
        transport: Transport::Plain { trusted },
        limits: ConnectionLimits::default(),
    };
    let refused = Server::bind(settings([0, 0, 0, 0], Vec::new())).await.unwrap_err();
    assert!(matches!(refused, BindError::PlainOnNetwork(_)), "{refused}");
    let range = AddressRange::new(crate::support::address("10.0.0.0"), 8).unwrap();
    assert!(Server::bind(settings([0, 0, 0, 0], vec![range])).await.is_ok());

    let server = Server::bind(settings([127, 0, 0, 1], Vec::new())).await.unwrap();
    let taken = ServerSettings {
        address: server.address(),
        ..settings([127, 0, 0, 1], Vec::new())
    };
    assert!(matches!(Server::bind(taken).await, Err(BindError::Address { .. })));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(server.serve(hello(), stop.clone()));
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = closed(&mut stream).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stop.cancel();
    assert_eq!(task.await.unwrap(), Drained::Clean);
}
