//! Named HTTP connections against real servers on loopback: what reaches them, and what never does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use russet_plugin_host::{Connections, HttpAuthentication, HttpConnection, HttpConnections, NameResolver};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::probe::{Load, Probe, nowhere};

/// A server that says what it was asked, and misbehaves below some paths.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            seen.lock().unwrap().push(format!("{method} {uri}"));
            async move { answer(address, &method, &uri, &headers, &body).await }
        };
        let routes = Router::new().fallback(any(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn connection(&self) -> HttpConnection {
        HttpConnection {
            base_url: format!("http://{}/base", self.address),
            allow_plaintext: true,
            allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
            ..HttpConnection::default()
        }
    }
}

fn redirect(status: StatusCode, to: &str) -> Response {
    (status, [(header::LOCATION, to)]).into_response()
}

async fn answer(address: SocketAddr, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
    let number = || uri.path().rsplit('/').next().unwrap().parse::<usize>().unwrap();
    match uri.path().strip_prefix("/base/").unwrap_or(uri.path()) {
        "slow" => std::future::pending().await,
        "slow-body" => {
            let pieces = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"begun")) });
            let never = futures::stream::pending();
            Body::from_stream(futures::StreamExt::chain(pieces, never)).into_response()
        }
        path if path.starts_with("large/") => "x".repeat(number()).into_response(),
        // Without a length, so that only the body tells.
        path if path.starts_with("stream/") => {
            let pieces =
                futures::stream::iter((0..number()).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1_000]))));
            Body::from_stream(pieces).into_response()
        }
        path if path.starts_with("status/") => StatusCode::from_u16(number() as u16).unwrap().into_response(),
        "to-here" => redirect(StatusCode::FOUND, "/base/target?x=1"),
        "to-relative" => redirect(StatusCode::MOVED_PERMANENTLY, "target"),
        "to-out" => redirect(StatusCode::FOUND, "/outside"),
        "to-dots" => redirect(StatusCode::FOUND, "/base/../outside"),
        "to-dots-encoded" => redirect(StatusCode::FOUND, "/base/..%2foutside"),
        "to-other" => redirect(StatusCode::FOUND, "http://other.test/base/target"),
        "to-metadata" => redirect(StatusCode::FOUND, "http://169.254.169.254/latest/meta-data/"),
        "to-port" => redirect(StatusCode::FOUND, &format!("http://{}:1/base/target", address.ip())),
        "to-user" => redirect(StatusCode::FOUND, &format!("http://u:p@{address}/base/target")),
        "to-file" => redirect(StatusCode::FOUND, "file:///etc/passwd"),
        "to-itself" => redirect(StatusCode::FOUND, "/base/to-itself"),
        "temporary" => redirect(StatusCode::TEMPORARY_REDIRECT, "/base/target"),
        "see-other" => redirect(StatusCode::SEE_OTHER, "/base/target"),
        "found" => redirect(StatusCode::FOUND, "/base/target"),
        "cookie" => ([(header::SET_COOKIE, "session=1")], "").into_response(),
        _ => {
            let headers: BTreeMap<_, _> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
                .collect();
            let body = String::from_utf8_lossy(body);
            let echo = json!({"method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": body});
            ([("x-echo", "yes")], echo.to_string()).into_response()
        }
    }
}

/// Knows some names, and counts how often it is asked. A name with several lists of addresses gives one after the other.
#[derive(Debug, Default)]
struct Names {
    known: BTreeMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(known: &[(&'static str, &[&[&str]])]) -> Arc<Self> {
        let addresses = |list: &&[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        let known = known
            .iter()
            .map(|(name, lists)| (*name, lists.iter().map(addresses).collect()));
        Arc::new(Self {
            known: known.collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl NameResolver for Names {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        match self.known.get(host) {
            Some(lists) => Ok(lists[asked.min(lists.len() - 1)].clone()),
            None => Err(std::io::Error::other("no such name")),
        }
    }
}

async fn probe_with(http: HttpConnections) -> Probe {
    let load = Load {
        connections: Connections { http, ..nowhere() },
        ..Load::default()
    };
    load.granted().await
}

async fn probe(connection: HttpConnection) -> Probe {
    let mut http = HttpConnections::new();
    http.insert("api", connection).unwrap();
    probe_with(http).await
}

fn get(path: &str) -> Value {
    json!({"do": "http", "connection": "api", "path": path})
}

fn echoed(given: &Value) -> Value {
    serde_json::from_str(given["body"].as_str().unwrap_or_else(|| panic!("{given}"))).unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    let given = probe
        .one(json!({
            "do": "http", "connection": "api", "method": "POST", "path": "/Users?filter=a%20eq%20%22b%22",
            "headers": [["Content-Type", "application/json"], ["X-Mine", "yes"], ["Authorization", "Bearer mine"]],
            "body": "{\"a\":1}",
        }))
        .await;
    assert_eq!(given["status"], json!(200));
    let headers = given["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-echo", "yes"])), "{given}");
    let echo = echoed(&given);
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["uri"], "/base/Users?filter=a%20eq%20%22b%22");
    assert_eq!(echo["body"], "{\"a\":1}");
    assert_eq!(echo["headers"]["content-type"], "application/json");
    assert_eq!(echo["headers"]["x-mine"], "yes");
    // A connection without credentials leaves the plugin to bring its own.
    assert_eq!(echo["headers"]["authorization"], "Bearer mine");
    for (method, status) in [
        ("GET", 404),
        ("PUT", 201),
        ("PATCH", 409),
        ("DELETE", 204),
        ("HEAD", 500),
    ] {
        let path = format!("/status/{status}");
        let step = json!({"do": "http", "connection": "api", "method": method, "path": path});
        assert_eq!(
            probe.one(step).await["status"],
            json!(status),
            "any status is an answer"
        );
    }
    assert!(!probe.one(get("/cookie")).await.to_string().contains("session"));
}

#[tokio::test]
async fn credentials_are_the_connections_and_never_the_plugins() {
    let server = Server::start().await;
    for (authentication, header, value) in [
        (
            HttpAuthentication::Bearer("token".to_owned().into()),
            "authorization",
            "Bearer token",
        ),
        (
            HttpAuthentication::Basic {
                user_name: "Aladdin".to_owned(),
                password: "open sesame".to_owned().into(),
            },
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        (
            HttpAuthentication::Header {
                name: "X-Api-Key".to_owned(),
                value: "key".to_owned().into(),
            },
            "x-api-key",
            "key",
        ),
    ] {
        let connection = HttpConnection {
            authentication,
            ..server.connection()
        };
        assert!(!format!("{connection:?}").contains(value.split(' ').next_back().unwrap()));
        let probe = probe(connection).await;
        assert_eq!(echoed(&probe.one(get("/x")).await)["headers"][header], value);
        // Also where the connection itself leads on.
        assert_eq!(echoed(&probe.one(get("/to-here")).await)["headers"][header], value);
        let before = server.asked().len();
        let over = json!({
            "do": "http", "connection": "api", "path": "/x", "headers": [[header.to_uppercase(), "mine"]],
        });
        let error = probe.error(over).await;
        assert!(error.starts_with("Invalid") && error.contains(header), "{error}");
        assert_eq!(server.asked().len(), before);
    }
}

#[tokio::test]
async fn what_is_not_well_formed_is_not_sent() {
    let server = Server::start().await;
    let connection = HttpConnection {
        max_request_bytes: 100,
        ..server.connection()
    };
    let probe = probe(connection).await;
    for path in [
        "x",
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/a/..;/outside",
        "/a\r\nHost: other.test\r\n\r\nGET /outside",
        "/a%0d%0aX:y",
        "/a b",
        "/#x",
        "/\\..\\outside",
        "@other.test/",
        ".other.test/",
        "http://other.test/",
    ] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("Invalid"), "{path:?}: {error}");
    }
    for headers in [
        json!([["Host", "other.test"]]),
        json!([["Content-Length", "0"]]),
        json!([["Transfer-Encoding", "chunked"]]),
        json!([["Connection", "upgrade"]]),
        json!([["a", "b\r\nHost: other.test"]]),
        json!([["a\r\nHost", "other.test"]]),
        json!([["", "b"]]),
        json!([["a", "x".repeat(20_000)]]),
        Value::from(vec![json!(["a", "b"]); 65]),
    ] {
        let step = json!({"do": "http", "connection": "api", "path": "/x", "headers": headers});
        let error = probe.error(step).await;
        assert!(error.starts_with("Invalid"), "{headers}: {error}");
    }
    for (method, body) in [
        ("CONNECT", ""),
        ("TRACE", ""),
        ("get", ""),
        ("GET /x HTTP/1.1\r\nX:", ""),
        ("POST", &"x".repeat(101)),
    ] {
        let step = json!({"do": "http", "connection": "api", "method": method, "path": "/x", "body": body});
        let error = probe.error(step).await;
        assert!(error.starts_with("Invalid"), "{method}: {error}");
    }
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn redirects_are_followed_below_the_base_and_nowhere_else() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    assert_eq!(echoed(&probe.one(get("/to-here")).await)["uri"], "/base/target?x=1");
    assert_eq!(echoed(&probe.one(get("/to-relative")).await)["uri"], "/base/target");
    for path in [
        "/to-out",
        "/to-dots",
        "/to-dots-encoded",
        "/to-other",
        "/to-metadata",
        "/to-port",
        "/to-user",
        "/to-file",
    ] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("Forbidden"), "{path}: {error}");
    }
    assert!(probe.error(get("/to-itself")).await.contains("redirects"));
    assert!(
        server.asked().iter().all(|asked| !asked.contains("outside")),
        "{:?}",
        server.asked()
    );

    // What happens to other methods is as RFC 9110 section 15.4 has it; where it leaves a choice, the plugin has it.
    let post = |path: &str| json!({"do": "http", "connection": "api", "method": "POST", "path": path, "body": "b"});
    let echo = echoed(&probe.one(post("/temporary")).await);
    assert_eq!((&echo["method"], &echo["body"]), (&json!("POST"), &json!("b")));
    let echo = echoed(&probe.one(post("/see-other")).await);
    assert_eq!((&echo["method"], &echo["body"]), (&json!("GET"), &json!("")));
    assert_eq!(probe.one(post("/found")).await["status"], json!(302));
}

#[tokio::test]
async fn answers_have_a_size_and_a_time() {
    let server = Server::start().await;
    let patient = HttpConnection {
        max_response_bytes: 10_000,
        ..server.connection()
    };
    let impatient = HttpConnection {
        timeout: Duration::from_millis(300),
        ..server.connection()
    };
    let mut http = HttpConnections::new();
    http.insert("api", patient).unwrap();
    http.insert("impatient", impatient).unwrap();
    let probe = probe_with(http).await;
    assert_eq!(
        probe.one(get("/large/10000")).await["body"].as_str().unwrap().len(),
        10_000
    );
    assert_eq!(
        probe.one(get("/stream/10")).await["body"].as_str().unwrap().len(),
        10_000
    );
    for path in ["/large/10001", "/stream/11", "/stream/10000000"] {
        let error = probe.error(get(path)).await;
        assert!(error.starts_with("TooLarge"), "{path}: {error}");
    }
    let impatiently = |path: &str| json!({"do": "http", "connection": "impatient", "path": path});
    for path in ["/slow", "/slow-body"] {
        let error = probe.error(impatiently(path)).await;
        assert!(
            error.starts_with("Unavailable") && error.contains("in time"),
            "{path}: {error}"
        );
    }
    // The call goes on after all of that.
    let given = probe.run(json!([impatiently("/slow"), get("/x")])).await;
    assert_eq!(given[1]["status"], json!(200));
}

#[tokio::test]
async fn a_request_ends_with_the_deadline_of_its_call() {
    let server = Server::start().await;
    let probe = probe(server.connection()).await;
    let began = std::time::Instant::now();
    let scope = russet_hooks::Scope::new("default", "test", Duration::from_millis(300));
    let (answer, _) = probe
        .ask(scope, &json!([get("/slow")]), russet_hooks::Answers::Live)
        .await;
    match answer {
        Ok(answer) => assert!(String::from_utf8(answer.0).unwrap().contains("Unavailable")),
        Err(fault) => assert_eq!(fault.kind, russet_hooks::FaultKind::Deadline),
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the connection's own limit is 10 seconds"
    );
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_unless_named() {
    let server = Server::start().await;
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
    ] {
        let connection = HttpConnection {
            base_url: format!("http://{host}:{port}/base"),
            allowed_networks: Vec::new(),
            ..server.connection()
        };
        let error = probe(connection).await.error(get("/x")).await;
        assert!(error.starts_with("Forbidden"), "{host}: {error}");
        assert!(error.contains("allowed_networks"), "it says what to do: {error}");
    }
    assert_eq!(server.asked(), [""; 0]);
    // The same address, named.
    let connection = HttpConnection {
        base_url: format!("http://127.1:{port}/base"),
        ..server.connection()
    };
    assert_eq!(probe(connection).await.one(get("/x")).await["status"], json!(200));
}

#[tokio::test]
async fn every_address_of_a_name_is_checked() {
    let server = Server::start().await;
    let named: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new(&[
        ("named.test", named),
        ("private.test", &[&["10.1.2.3"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("mapped.test", &[&["::ffff:10.1.2.3"]]),
        ("nat64.test", &[&["64:ff9b::10.1.2.3"]]),
        ("local6.test", &[&["fe80::1"]]),
        // One that is public does not excuse the other, whichever comes first.
        ("mixed.test", &[&["93.184.216.34", "10.1.2.3"]]),
        ("mixed2.test", &[&["127.0.0.1", "127.0.0.2"]]),
    ]);
    let mut http = HttpConnections::with_resolver(names);
    for name in [
        "named", "private", "metadata", "mapped", "nat64", "local6", "mixed", "mixed2", "unknown",
    ] {
        let connection = HttpConnection {
            base_url: format!("http://{name}.test:{}/base", server.address.port()),
            ..server.connection()
        };
        http.insert(name, connection).unwrap();
    }
    let probe = probe_with(http).await;
    let to = |name: &str| json!({"do": "http", "connection": name, "path": "/x"});
    let given = probe.one(to("named")).await;
    assert_eq!(
        echoed(&given)["headers"]["host"],
        format!("named.test:{}", server.address.port())
    );
    for name in ["private", "metadata", "mapped", "nat64", "local6", "mixed", "mixed2"] {
        let error = probe.error(to(name)).await;
        assert!(error.starts_with("Forbidden"), "{name}: {error}");
    }
    let error = probe.error(to("unknown")).await;
    assert!(error.starts_with("Unavailable"), "{error}");
    assert_eq!(server.asked(), ["GET /base/x"]);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_looked_up_once() {
    let server = Server::start().await;
    // Fine when it is checked, and somewhere else when it would be asked again.
    let names = Names::new(&[("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let mut http = HttpConnections::with_resolver(Arc::clone(&names) as Arc<dyn NameResolver>);
    let connection = HttpConnection {
        base_url: format!("http://rebind.test:{}/base", server.address.port()),
        ..server.connection()
    };
    http.insert("api", connection).unwrap();
    let probe = probe_with(http).await;
    assert_eq!(probe.one(get("/x")).await["status"], json!(200));
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.asked(), ["GET /base/x"]);
}

#[tokio::test]
async fn a_plugin_sends_so_many_requests_in_a_minute() {
    let server = Server::start().await;
    let mut http = HttpConnections::new();
    let connection = HttpConnection {
        requests_per_minute: 3,
        ..server.connection()
    };
    http.insert("api", connection).unwrap();
    let load = |tenant| Load {
        tenant,
        connections: Connections {
            http: http.clone(),
            ..nowhere()
        },
        ..Load::default()
    };
    let probe = load("default").granted().await;
    let given = probe.run(json!([get("/1"), get("/2"), get("/3"), get("/4")])).await;
    assert_eq!(given[2]["status"], json!(200));
    let error = given[3]["error"].as_str().unwrap();
    assert!(error.starts_with("Unavailable") && error.contains("minute"), "{error}");
    // Another plugin (here: of another tenant) has its own.
    let other = load("other").granted().await;
    assert_eq!(other.one(get("/5")).await["status"], json!(200));
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn tls_trusts_whom_the_connection_names() {
    let key = rcgen::generate_simple_self_signed(vec!["secure.test".to_owned()]).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let other = rcgen::generate_simple_self_signed(vec!["secure.test".to_owned()]).unwrap();
    let loopback: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new(&[("secure.test", loopback), ("wrong.test", loopback)]);
    let mut http = HttpConnections::with_resolver(names);
    for (name, host, trusted) in [
        ("right", "secure.test", key.cert.pem()),
        ("other-ca", "secure.test", other.cert.pem()),
        ("other-name", "wrong.test", key.cert.pem()),
    ] {
        let connection = HttpConnection {
            base_url: format!("https://{host}:{port}"),
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ca_pem: Some(trusted),
            ..HttpConnection::default()
        };
        http.insert(name, connection).unwrap();
    }
    let probe = probe_with(http).await;
    let to = |name: &str| json!({"do": "http", "connection": name, "path": "/"});
    assert_eq!(probe.one(to("right")).await["body"], "ok");
    for name in ["other-ca", "other-name"] {
        let error = probe.error(to(name)).await;
        assert!(error.starts_with("Unavailable"), "{name}: {error}");
    }
}

#[test]
fn a_connection_is_checked_before_it_is_used() {
    use russet_plugin_host::HttpConfigError as Wrong;
    let with = |change: &dyn Fn(&mut HttpConnection)| {
        let mut connection = HttpConnection {
            base_url: "https://a.example/b".to_owned(),
            ..HttpConnection::default()
        };
        change(&mut connection);
        HttpConnections::new().insert("api", connection)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    for url in [
        "",
        "a.example",
        "ftp://a.example",
        "https://",
        "https://u@a.example",
        "https://a.example/?q",
        "https://a.example/#f",
        "file:///etc/passwd",
        "https://a.example/a/..%2fb",
    ] {
        assert_eq!(
            with(&|connection| url.clone_into(&mut connection.base_url)),
            Err(Wrong::Url(url.to_owned()))
        );
    }
    assert_eq!(
        with(&|connection| "http://a.example".clone_into(&mut connection.base_url)),
        Err(Wrong::Plaintext)
    );
    assert_eq!(with(&|connection| connection.requests_per_minute = 0), Err(Wrong::Zero));
    assert_eq!(
        with(&|connection| connection.timeout = Duration::ZERO),
        Err(Wrong::Zero)
    );
    assert!(matches!(
        with(&|connection| connection.ca_pem = Some("no certificate".to_owned())),
        Err(Wrong::Trust(_))
    ));
    for authentication in [
        HttpAuthentication::Bearer("a\nb".to_owned().into()),
        HttpAuthentication::Basic {
            user_name: "a:b".to_owned(),
            password: "c".to_owned().into(),
        },
        HttpAuthentication::Header {
            name: "a b".to_owned(),
            value: "c".to_owned().into(),
        },
    ] {
        assert!(matches!(
            with(&|connection| connection.authentication = authentication.clone()),
            Err(Wrong::Credentials(_))
        ));
    }
}
