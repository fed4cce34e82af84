//! Certificates in a header: from a trusted proxy, and from everybody else.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::{Device, Site, address, client};
use axum::body::Body;
use http::{HeaderName, Request, StatusCode};
use russet_http::{AddressRange, HttpSettings, Peer, ProxySettings};
use russet_protocol::codec;

const PROXY: ([u8; 4], u16) = ([10, 0, 0, 2], 50_000);

async fn behind_proxy(header: &'static str) -> Site {
    let settings = HttpSettings {
        proxy: ProxySettings {
            trusted: vec![AddressRange::new(address("10.0.0.0"), 24).unwrap()],
            certificate_header: HeaderName::from_static(header),
            ..ProxySettings::default()
        },
        ..HttpSettings::default()
    };
    Site::with(settings).await
}

fn idle(device: &Device, peer: Option<Peer>, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::put("/mdm/connect");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(codec::encode(&device.idle()))).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    request
}

fn peer(address: impl Into<SocketAddr>, certificate: Option<&[u8]>) -> Option<Peer> {
    Some(Peer::new(address.into(), certificate.map(Arc::from)))
}

#[tokio::test]
async fn the_header_counts_from_a_trusted_proxy_only() {
    let site = behind_proxy("client-cert").await;
    let device = site.enrolled("C02PROXY").await;
    let header = device.header();
    let header = [("client-cert", header.as_str())];
    let own = Device::stranger();
    let proxy_certificate = Some(own.certificate.der());
    let cases = [
        ("the proxy", idle(&device, peer(PROXY, None), &header), 200),
        (
            "the proxy, with a TLS certificate of its own",
            idle(&device, peer(PROXY, proxy_certificate), &header),
            200,
        ),
        (
            "the proxy over IPv6",
            idle(&device, peer((address("::ffff:10.0.0.9"), 1), None), &header),
            200,
        ),
        ("the proxy without a header", idle(&device, peer(PROXY, None), &[]), 400),
        (
            "another address",
            idle(&device, peer(([10, 0, 1, 2], 1), None), &header),
            400,
        ),
        ("the internet", idle(&device, peer(client(), None), &header), 400),
        ("nobody knows where from", idle(&device, None, &header), 400),
        (
            "another header",
            idle(&device, peer(PROXY, None), &[("x-client-cert", header[0].1)]),
            400,
        ),
        ("twice", idle(&device, peer(PROXY, None), &[header[0], header[0]]), 400),
        (
            "not a certificate",
            idle(&device, peer(PROXY, None), &[("client-cert", ":AAAA:")]),
            400,
        ),
    ];
    for (name, request, status) in cases {
        let answer = site.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_signature_counts_from_everywhere() {
    let site = behind_proxy("x-ssl-client-cert").await;
    let device = site.enrolled("C02SIGNED").await;
    for from in [peer(PROXY, None), peer(client(), None), None] {
        let mut request = device.signed("/mdm/connect", &device.idle());
        // What an attacker sends beside it changes nothing.
        request
            .headers_mut()
            .insert("x-ssl-client-cert", Device::stranger().header().parse().unwrap());
        if let Some(from) = from {
            request.extensions_mut().insert(from);
        }
        assert_eq!(site.send(request).await.status, StatusCode::OK);
    }
}
