//! Endpoints and trust roots as an operator configures them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use russet_apns::{ClientOptions, Endpoint, Push, PushClient, PushError, Roots, RootsError, Scope};
use rustls_pki_types::CertificateDer;
use world::{MAGIC, World, endpoint_of, soon};

#[test]
fn apples_service_is_the_default_and_its_port_can_be_set() {
    let apple = Endpoint::apple();
    assert_eq!(apple.to_string(), "api.push.apple.com:443");
    assert!(matches!(apple.roots, Roots::System));
    let address: SocketAddr = "192.0.2.7:2197".parse().unwrap();
    let other = apple.with_port(2197).with_address(address);
    assert_eq!(other.to_string(), "api.push.apple.com:2197 at 192.0.2.7:2197");
}

#[test]
fn trust_roots_that_are_none_are_refused_when_they_are_read() {
    assert_eq!(Roots::from_pem(b"").unwrap_err(), RootsError::Empty);
    assert_eq!(Roots::from_pem(b"plain text").unwrap_err(), RootsError::Empty);
    let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    assert_eq!(Roots::from_pem(broken).unwrap_err(), RootsError::Malformed);
}

#[tokio::test]
async fn unusable_trust_roots_are_a_matter_of_configuration_not_a_stranger_to_trust() {
    let world = World::new().await;
    let device = world.device(1);
    let broken = CertificateDer::from(vec![0x30, 0x00]);
    for (roots, said) in [
        (vec![], "trust roots are empty"),
        (vec![broken], "trust root cannot be read"),
    ] {
        let endpoint = endpoint_of(&world.apns).with_roots(Roots::Custom(roots));
        let certificate = Arc::clone(world.client.certificate());
        let client = PushClient::new(endpoint, certificate, ClientOptions::default());
        let error = soon(client.push(&Push::new(device.clone(), MAGIC))).await.unwrap_err();
        assert!(matches!(error, PushError::Configuration { .. }), "{error:?}");
        assert_eq!(error.scope(), Scope::AllPushes);
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(world.apns.counters().connections, 0);
}
