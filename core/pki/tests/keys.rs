//! Private keys and certification requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::openssl;
use russet_pki::csr::{CertificateRequest, CsrError, KeyPolicy};
use russet_pki::key::{KeyError, KeyKind, PrivateKey, PublicKeyKind};
use russet_pki::name::Name;
use russet_pki::oid;

const KINDS: [KeyKind; 4] = [KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::P256, KeyKind::P384];

#[test]
fn keys_survive_pkcs8_and_pem() {
    for kind in KINDS {
        let key = PrivateKey::generate(kind).unwrap();
        assert_eq!(key.kind(), kind);
        for copy in [
            PrivateKey::from_pkcs8(&key.to_pkcs8()).unwrap(),
            PrivateKey::from_pem(&key.to_pem()).unwrap(),
        ] {
            assert_eq!(copy.public_key_der(), key.public_key_der());
            assert_eq!(copy.kind(), kind);
        }
    }
}

#[test]
fn debug_shows_no_key() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey { kind: P256, .. }");
}

#[test]
fn every_pem_form_of_openssl_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let make = |arguments: &[&str]| String::from_utf8(openssl(dir.path(), arguments)).unwrap();
    let pkcs1 = make(&["genrsa", "-traditional", "2048"]);
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"));
    assert_eq!(PrivateKey::from_pem(&pkcs1).unwrap().kind(), KeyKind::Rsa2048);
    // With the curve parameters in front, as this command writes by default.
    let sec1 = make(&["ecparam", "-name", "secp384r1", "-genkey"]);
    assert!(sec1.contains("BEGIN EC PARAMETERS") && sec1.contains("BEGIN EC PRIVATE KEY"));
    assert_eq!(PrivateKey::from_pem(&sec1).unwrap().kind(), KeyKind::P384);
    let pkcs8 = make(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    assert_eq!(PrivateKey::from_pem(&pkcs8).unwrap().kind(), KeyKind::P256);
    let encrypted = make(&["genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x"]);
    assert_eq!(PrivateKey::from_pem(&encrypted).unwrap_err(), KeyError::Encrypted);
    let edwards = make(&["genpkey", "-algorithm", "ED25519"]);
    assert_eq!(PrivateKey::from_pem(&edwards).unwrap_err(), KeyError::Unsupported);
    assert_eq!(PrivateKey::from_pem("no key here").unwrap_err(), KeyError::Malformed);
}

#[test]
fn requests_carry_subject_key_and_challenge() {
    for kind in KINDS {
        let key = PrivateKey::generate(kind).unwrap();
        let subject = Name::new()
            .with(oid::ORGANIZATION, "Example")
            .with(oid::COMMON_NAME, "C02ABC");
        let built = CertificateRequest::build(&subject, Some("one time Ω"), &key).unwrap();
        let parsed = CertificateRequest::parse(built.der(), KeyPolicy::default()).unwrap();
        assert_eq!(parsed.subject(), "CN=C02ABC,O=Example");
        assert_eq!(parsed.common_name().as_deref(), Some("C02ABC"));
        assert_eq!(parsed.challenge_password(), Some("one time Ω"));
        assert_eq!(parsed.public_key().der(), key.public_key_der());
        assert!(!format!("{parsed:?}").contains("one time"));
    }
}

#[test]
fn a_request_is_refused_when_any_octet_changes() {
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let der = CertificateRequest::build(&Name::common("x"), Some("secret"), &key)
        .unwrap()
        .der()
        .to_vec();
    for position in 0..der.len() {
        let mut changed = der.clone();
        changed[position] ^= 1;
        assert!(
            CertificateRequest::parse(&changed, KeyPolicy { legacy: true }).is_err(),
            "octet {position}"
        );
    }
}

#[test]
fn weak_keys_need_the_legacy_policy() {
    let dir = tempfile::tempdir().unwrap();
    let request = |key: &str, digest: &str| {
        let base = [
            "req",
            "-new",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-subj",
            "/CN=x",
            "-outform",
            "DER",
            digest,
        ];
        let mut arguments = base.to_vec();
        arguments.extend(["-newkey", key]);
        openssl(dir.path(), &arguments)
    };
    let legacy = KeyPolicy { legacy: true };
    let rsa1024 = request("rsa:1024", "-sha256");
    assert_eq!(
        CertificateRequest::parse(&rsa1024, KeyPolicy::default()).unwrap_err(),
        CsrError::Key
    );
    let parsed = CertificateRequest::parse(&rsa1024, legacy).unwrap();
    assert_eq!(parsed.public_key().kind(), PublicKeyKind::Rsa { bits: 1024 });
    let sha1 = request("rsa:2048", "-sha1");
    assert!(matches!(
        CertificateRequest::parse(&sha1, KeyPolicy::default()),
        Err(CsrError::Signature(_))
    ));
    assert!(CertificateRequest::parse(&sha1, legacy).is_ok());
    let rsa768 = request("rsa:768", "-sha256");
    assert_eq!(CertificateRequest::parse(&rsa768, legacy).unwrap_err(), CsrError::Key);
}
