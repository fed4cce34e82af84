//! Certificates and signatures that do not stand for the device that a message names: refused clearly, in every way of
//! showing an identity, and never so that an honest device undoes its enrollment. And SCEP challenges that were used.

use http::header::HeaderName;
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use russet_pki::Certificate;
use russet_pki::ca::{CaOptions, CertificateAuthority, DeviceCertificate};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_protocol::codec;
use russet_protocol::plist::{Dictionary, Value as Plist};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{
    DeviceError, Identity, IdentityMode, ProfileRequest, ScepFailure, SignatureDigest, signature_header,
};
use russet_store::{MasterKey, SecretKind, Store, StoreConfig};
use russet_tests::World;
use serde_json::json;

const MAC: &str = "C02HONEST001";

/// A poll that the server must refuse, and the device survive.
async fn refused(device: &SimulatedDevice, reason: &str) {
    let refusal = device.run_until_idle().await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");
    assert!(refusal.to_string().contains(reason), "{refusal}");
    assert_eq!(device.unenrolled(), None);
}

fn issued_by(authority: &CertificateAuthority, now: Timestamp) -> Identity {
    let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let request = CertificateRequest::build(&Name::common("device"), None, &key).unwrap();
    let device = DeviceCertificate {
        common_name: "device".to_owned(),
        extra: Vec::new(),
        lifetime: SignedDuration::from_hours(2),
    };
    Identity::new(authority.issue_device(&request, &device, now).unwrap().certificate, key)
}

fn foreign_authority() -> CertificateAuthority {
    let options = CaOptions {
        common_name: "Russet Device CA".to_owned(),
        organization: "Example Orchard".to_owned(),
        key: KeyKind::Rsa2048,
        lifetime: SignedDuration::from_hours(24),
    };
    CertificateAuthority::generate(&options, Timestamp::now()).unwrap()
}

async fn whose_certificate(mode: IdentityMode) {
    let world = World::builder()
        .without_gate()
        .set("server.proxy.trusted", vec!["127.0.0.1".to_owned()]);
    let world = match mode {
        // A peer that is trusted as a proxy shows its own certificate in TLS.
        IdentityMode::ProxyHeader(_) => world,
        _ => world.set("server.proxy.trusted", Vec::<String>::new()),
    };
    let world = world.start().await;
    let enrolled = async |serial: &str| {
        let device = world.mac(serial).identity_mode(mode.clone()).build().unwrap();
        device.enroll().await.unwrap();
        device
    };
    let (mac, other) = (enrolled(MAC).await, enrolled("C02OTHER0001").await);
    let own = mac.identity().unwrap();

    mac.set_identity(other.identity().unwrap()).unwrap();
    refused(&mac, "belongs to another enrollment").await;
    assert_eq!(mac.authenticate().await.unwrap_err().status(), Some(400));
    mac.set_identity(issued_by(&foreign_authority(), Timestamp::now()))
        .unwrap();
    refused(&mac, "was not issued by this server").await;

    mac.set_identity(own.clone()).unwrap();
    mac.run_until_idle().await.unwrap();
    let sha256 = hex::encode(own.certificate().sha256());
    world
        .admin
        .post(&format!("/certificates/{sha256}/revoke"), &json!({"reason": "lost"}))
        .await
        .ok();
    refused(&mac, "was revoked").await;
    let renewal = mac.renew_identity().await.unwrap_err();
    assert!(
        matches!(renewal, DeviceError::Scep(ScepFailure::Refused { .. })),
        "{renewal}"
    );
    other.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_a_foreign_and_a_revoked_certificate_sign_nothing() {
    whose_certificate(IdentityMode::MdmSignature).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_a_foreign_and_a_revoked_client_certificate_get_an_answer_that_says_so() {
    whose_certificate(IdentityMode::ClientCertificate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ones_a_foreign_and_a_revoked_certificate_from_a_proxy_are_refused() {
    whose_certificate(IdentityMode::ProxyHeader(HeaderName::from_static("client-cert"))).await;
}

/// Signs in the server's name what it never would: with its own key, from its own database.
async fn authority_of(world: &World) -> CertificateAuthority {
    let data = world.server.data_dir();
    let master = MasterKey::load_or_create(&data.join("master.key")).unwrap();
    let url = format!("sqlite://{}", data.join("russet.sqlite").display());
    let store = Store::open(StoreConfig::new(url), &master).await.unwrap();
    let pem = store
        .secret(store.default_tenant(), SecretKind::CaKey, "devices")
        .await
        .unwrap()
        .unwrap();
    store.close().await.unwrap();
    let pem = std::str::from_utf8(&pem).unwrap();
    CertificateAuthority::from_parts(Certificate::from_pem(pem).unwrap(), PrivateKey::from_pem(pem).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_and_an_unrecorded_certificate_are_refused() {
    let mut world = World::builder().without_gate().at_a_lasting_address().start().await;
    let mac = world.enrolled(MAC).await;
    let own = mac.identity().unwrap();
    world.server.kill();
    let authority = authority_of(&world).await;
    world.server.resume().await.unwrap();

    let days_ago = Timestamp::now() - SignedDuration::from_hours(48);
    mac.set_identity(issued_by(&authority, days_ago)).unwrap();
    refused(&mac, "not valid at this time").await;
    // Even a certificate by the right key, which no enrollment ever asked for.
    mac.set_identity(issued_by(&authority, Timestamp::now())).unwrap();
    refused(&mac, "not known here").await;
    mac.set_identity(own).unwrap();
    mac.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_do_not_hold_are_refused() {
    let world = World::builder().without_gate().start().await;
    let mac = world
        .mac(MAC)
        .identity_mode(IdentityMode::MdmSignature)
        .build()
        .unwrap();
    mac.enroll().await.unwrap();
    let report = Dictionary::from_iter([
        ("UDID", Plist::from(mac.facts().udid.as_str())),
        ("Status", "Idle".into()),
    ]);
    let body = codec::encode(&report);
    let identity = mac.identity().unwrap();
    let good = signature_header(&identity, SignatureDigest::Sha256, &body).unwrap();
    let sha1 = signature_header(&identity, SignatureDigest::Sha1, &body).unwrap();
    let tampered = String::from_utf8(body.clone())
        .unwrap()
        .replace("Idle", "NotNow")
        .into_bytes();
    let swapped = format!("{}{}", &good[good.len() / 2..], &good[..good.len() / 2]);
    let cases: [(&str, Vec<&str>, &[u8], u16); 9] = [
        ("as it should be", vec![&good], &body, 200),
        ("none", vec![], &body, 400),
        ("an empty one", vec![""], &body, 400),
        ("no base64", vec!["***"], &body, 400),
        ("base64 of nothing that is signed", vec!["bm8gQ01T"], &body, 400),
        ("halves in the wrong order", vec![&swapped], &body, 400),
        ("another body", vec![&good], &tampered, 400),
        ("two", vec![&good, &good], &body, 400),
        ("SHA-1, which is not allowed", vec![&sha1], &body, 400),
    ];
    for (what, signatures, body, status) in cases {
        let mut headers = HeaderMap::new();
        for signature in signatures {
            headers.append(HeaderName::from_static("mdm-signature"), signature.parse().unwrap());
        }
        let answer = mac
            .raw_request(Method::PUT, "/mdm/connect", headers, body.to_vec())
            .await
            .unwrap();
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
    }
    mac.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_devices_sign_with_sha_1_where_the_setting_lets_them() {
    let world = World::builder()
        .without_gate()
        .set("enrollment.legacy_algorithms", true)
        .start()
        .await;
    let old = world.iphone("DNPOLD000001").identity_mode(IdentityMode::MdmSignature);
    let old = old.signature_digest(SignatureDigest::Sha1).build().unwrap();
    old.enroll().await.unwrap();
    old.run_until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_never_let_in_is_told_so() {
    let world = World::builder().without_gate().start().await;
    let mac = world.mac(MAC).build().unwrap();
    mac.fetch_profile(&ProfileRequest::Automated(None)).await.unwrap();
    mac.enroll_identity().await.unwrap();
    for refusal in [
        mac.run_until_idle().await.err(),
        mac.token_update().await.err(),
        mac.check_out().await.err(),
    ] {
        let refusal = refusal.unwrap();
        assert_eq!(refusal.status(), Some(400), "{refusal}");
        assert!(refusal.to_string().contains("not enrolled here"), "{refusal}");
    }
    mac.authenticate().await.unwrap();
    mac.token_update().await.unwrap();
    mac.check_out().await.unwrap();
    assert_eq!(
        mac.run_until_idle().await.unwrap_err().status(),
        Some(400),
        "it said goodbye"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_good_for_one_key_and_a_certificate_for_one_device() {
    let world = World::builder().without_gate().start().await;
    let mac = world.mac(MAC).build().unwrap();
    let answer = mac.request_profile(&ProfileRequest::Automated(None)).await.unwrap();
    mac.install_enrollment_profile(&answer.body).unwrap();
    mac.enroll_identity().await.unwrap();

    // The same profile on another device: the challenge in it was used.
    let thief = world.mac("C02THIEF0001").build().unwrap();
    thief.install_enrollment_profile(&answer.body).unwrap();
    match thief.enroll_identity().await.unwrap_err() {
        DeviceError::Scep(ScepFailure::Refused { text: Some(text), .. }) => {
            assert!(text.contains("used already"), "{text}");
        }
        other => panic!("{other}"),
    }
    // A certificate that was issued for the machine that signed the request is of no use to another.
    thief.set_identity(mac.identity().unwrap()).unwrap();
    let refusal = thief.authenticate().await.unwrap_err();
    assert_eq!(refusal.status(), Some(400), "{refusal}");
    assert!(refusal.to_string().contains("issued for another device"), "{refusal}");
    mac.authenticate().await.unwrap();
    mac.token_update().await.unwrap();
    assert_eq!(world.admin.list("/devices").await.len(), 1);
}
