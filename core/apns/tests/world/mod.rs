//! A push service stand-in and a client that trusts it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use russet_apns::{ClientOptions, Endpoint, PushCertificate, PushClient, Roots};
use russet_simulator::apns::{ApnsOptions, ApnsStandIn, PushCertificatePem};

pub(crate) const TOPIC: &str = "com.apple.mgmt.External.2f1c1b1e-9f5e-4d61-a2d5-0d9a3e0e7a55";
pub(crate) const MAGIC: &str = "8AA7E0C5-1F0B-4D8F-A5D2-7B3B7E0C9C11";

/// Long enough for any step of a healthy test; reaching it means that something waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) apns: ApnsStandIn,
    pub(crate) client: PushClient,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(ApnsOptions::default(), ClientOptions::default()).await
    }

    pub(crate) async fn with(apns: ApnsOptions, client: ClientOptions) -> Self {
        let apns = ApnsStandIn::start(apns).await.unwrap();
        let certificate = apns.issue_push_certificate(TOPIC).unwrap();
        let client = client_of(&apns, &certificate, client);
        Self { apns, client }
    }

    /// A living token.
    pub(crate) fn device(&self, number: u32) -> Vec<u8> {
        let token = token(number);
        self.apns.register(&token, TOPIC);
        token
    }
}

pub(crate) fn token(number: u32) -> Vec<u8> {
    let mut token = vec![0xa5; 32];
    token[28..].copy_from_slice(&number.to_be_bytes());
    token
}

pub(crate) fn endpoint_of(apns: &ApnsStandIn) -> Endpoint {
    let roots = Roots::from_pem(apns.roots_pem().as_bytes()).unwrap();
    Endpoint::new(apns.host(), 443, roots).with_address(apns.address())
}

pub(crate) fn client_of(apns: &ApnsStandIn, certificate: &PushCertificatePem, options: ClientOptions) -> PushClient {
    let certificate = PushCertificate::from_pem(certificate.certificate.as_bytes(), certificate.key.as_bytes());
    PushClient::new(endpoint_of(apns), Arc::new(certificate.unwrap()), options)
}

/// Fails the test where it would otherwise hang.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("this should not take so long")
}
