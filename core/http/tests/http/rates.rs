//! What one client may ask for, and what another does not notice of it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Request, StatusCode};
use russet_http::{AddressRange, ConnectionLimits, HttpSettings, Peer, ProxySettings, RateLimits};
use tokio::io::AsyncReadExt;

use crate::listener::{Running, hello};
use crate::support::{Answer, Site, address};

const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);
const OTHER: ([u8; 4], u16) = ([192, 0, 2, 2], 40_000);
const PROXY: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);

fn rates(change: impl FnOnce(&mut RateLimits)) -> HttpSettings {
    let mut settings = HttpSettings::default();
    change(&mut settings.rates);
    settings
}

async fn send(site: &Site, from: impl Into<SocketAddr>, mut request: Request<Body>) -> Answer {
    request.extensions_mut().insert(Peer::new(from.into(), None));
    site.send(request).await
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn assert_too_many(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text());
    let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
}

#[tokio::test]
async fn a_stranger_has_a_budget_for_enrollment_and_no_other_address_pays_for_it() {
    let site = Site::with(rates(|rates| rates.enrollments_per_minute = NonZeroU32::new(2))).await;
    assert_eq!(send(&site, CLIENT, get("/enroll")).await.status, StatusCode::OK);
    let authority = get("/scep?operation=GetCACert");
    assert_eq!(send(&site, CLIENT, authority).await.status, StatusCode::OK);
    assert_too_many(&send(&site, CLIENT, get("/enroll")).await);
    assert_too_many(&send(&site, CLIENT, get("/t/default/enroll")).await);
    assert_eq!(send(&site, OTHER, get("/enroll")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn clients_behind_a_proxy_are_told_apart_by_what_it_says() {
    let mut settings = rates(|rates| rates.enrollments_per_minute = NonZeroU32::new(1));
    settings.proxy = ProxySettings {
        trusted: vec![AddressRange::new(address("10.0.0.0"), 24).unwrap()],
        address_header: Some(HeaderName::from_static("x-forwarded-for")),
        ..ProxySettings::default()
    };
    let site = Site::with(settings).await;
    let ask = |forwarded: &'static str| {
        let request = Request::get("/enroll").header("x-forwarded-for", forwarded);
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(send(&site, PROXY, ask("192.0.2.7")).await.status, StatusCode::OK);
    assert_too_many(&send(&site, PROXY, ask("6.6.6.6, 192.0.2.7")).await);
    assert_eq!(send(&site, PROXY, ask("192.0.2.8")).await.status, StatusCode::OK);
    // From anywhere else the header says nothing.
    assert_eq!(send(&site, CLIENT, ask("192.0.2.9")).await.status, StatusCode::OK);
    assert_too_many(&send(&site, CLIENT, ask("192.0.2.10")).await);
}

#[tokio::test]
async fn passwords_are_not_guessed_quickly_even_from_many_addresses() {
    let site = Site::with(rates(|rates| rates.sign_ins_per_minute = NonZeroU32::new(3))).await;
    let attempt = |name: &str, password: &str| {
        let credentials = STANDARD.encode(format!("{name}:{password}"));
        let request = Request::get("/enroll").header("authorization", format!("Basic {credentials}"));
        request.body(Body::empty()).unwrap()
    };
    for guess in 0..3_u8 {
        let from = ([192, 0, 2, guess], 1);
        let answer = send(&site, from, attempt("anna", "guess")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    // Even the right one: an answer would say that it is.
    assert_too_many(&send(&site, OTHER, attempt("Anna", "secret:word")).await);
    let nobody = send(&site, OTHER, attempt("bert", "guess")).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_are_not_guessed_quickly_and_good_ones_go_on() {
    let site = Site::with(rates(|rates| rates.wrong_tokens_per_minute = NonZeroU32::new(2))).await;
    let with = |token: &str| {
        let request = Request::get("/v1/tenants/default/devices").header("authorization", format!("Bearer {token}"));
        request.body(Body::empty()).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(
            send(&site, CLIENT, with("wrong")).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_too_many(&send(&site, CLIENT, with("wrong")).await);
    assert_eq!(send(&site, CLIENT, with(&site.token)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_with_too_many_connections_gets_no_more_of_them() {
    let limits = ConnectionLimits {
        connections_per_address: 2,
        idle: Duration::from_secs(60),
        ..ConnectionLimits::default()
    };
    let server = Running::start(hello(), limits).await;
    let first = server.connect(None, "http/1.1").await.unwrap();
    let _second = server.connect(None, "http/1.1").await.unwrap();
    assert!(server.connect(None, "http/1.1").await.is_err(), "the third was let in");
    drop(first);
    // The server notices the end of the first when it reads it.
    let again = async {
        loop {
            if let Ok(stream) = server.connect(None, "http/1.1").await {
                return stream;
            }
        }
    };
    let mut stream = tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    let mut nothing = [0; 1];
    let open = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut nothing)).await;
    assert!(open.is_err(), "the connection was closed");
}
