//! Named HTTP connections against real servers on loopback: what reaches them, and what never does.

mod addresses;
mod limits;
mod requests;
mod trust;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use russet_plugin_host::{Connections, HttpConnection, HttpConnections, NameResolver};
use serde_json::{Value, json};
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
