//! Reading push certificates, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use russet_apns::{PushCertificate, PushCertificateError};
use russet_simulator::apns::ApnsPki;
use world::TOPIC;

fn read(certificate: &str, key: &str) -> Result<PushCertificate, PushCertificateError> {
    PushCertificate::from_pem(certificate.as_bytes(), key.as_bytes())
}

fn refused(certificate: &str, key: &str) -> PushCertificateError {
    read(certificate, key).expect_err("this must be refused")
}

#[test]
fn topic_and_validity_come_from_the_certificate() {
    let pki = ApnsPki::generate().unwrap();
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let pem = pki
        .issue_push_certificate_valid(TOPIC, time(1_700_000_000), time(1_731_536_000))
        .unwrap();
    let certificate = read(&pem.certificate, &pem.key).unwrap();
    assert_eq!(certificate.topic(), TOPIC);
    assert_eq!(certificate.not_before(), Timestamp::from_second(1_700_000_000).unwrap());
    assert_eq!(certificate.not_after(), Timestamp::from_second(1_731_536_000).unwrap());
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&certificate.certificate_pem()), lines(&pem.certificate));
}

#[test]
fn one_file_may_hold_certificate_and_key_and_the_key_stays_inside() {
    let pem = ApnsPki::generate().unwrap().issue_push_certificate(TOPIC).unwrap();
    let both = format!("{}{}", pem.key, pem.certificate);
    let certificate = read(&both, &both).unwrap();
    assert!(!certificate.certificate_pem().contains("PRIVATE"));
}

#[test]
fn intermediates_are_kept() {
    let pki = ApnsPki::generate().unwrap();
    let pem = pki.issue_push_certificate(TOPIC).unwrap();
    let chain = format!("{}{}", pem.certificate, pki.server_root_pem());
    let certificate = read(&chain, &pem.key).unwrap();
    assert_eq!(certificate.certificate_pem().matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let pki = ApnsPki::generate().unwrap();
    let (one, other) = (
        pki.issue_push_certificate(TOPIC).unwrap(),
        pki.issue_push_certificate(TOPIC).unwrap(),
    );
    assert_eq!(refused(&one.certificate, &other.key), PushCertificateError::KeyMismatch);
}

#[test]
fn a_certificate_for_something_else_is_refused_with_what_to_do() {
    let pki = ApnsPki::generate().unwrap();
    let app = pki.issue_push_certificate("com.example.app").unwrap();
    let error = refused(&app.certificate, &app.key);
    assert_eq!(
        error,
        PushCertificateError::NotForManagement {
            found: "com.example.app".to_owned()
        }
    );
    assert!(error.to_string().contains("identity.apple.com"), "{error}");

    let bare_prefix = pki.issue_push_certificate("com.apple.mgmt.").unwrap();
    let error = refused(&bare_prefix.certificate, &bare_prefix.key);
    assert_eq!(
        error,
        PushCertificateError::NotForManagement {
            found: "com.apple.mgmt.".to_owned()
        }
    );

    // A line break in the topic could forge a header or a log line.
    let forged = pki.issue_push_certificate("com.apple.mgmt.x\napns-topic: y").unwrap();
    assert_eq!(refused(&forged.certificate, &forged.key), PushCertificateError::NoTopic);

    let key = rcgen::KeyPair::generate().unwrap();
    let plain = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    assert_eq!(
        refused(&plain.pem(), &key.serialize_pem()),
        PushCertificateError::NoTopic
    );
}

#[test]
fn an_encrypted_key_is_refused_with_how_to_decrypt_it() {
    let pem = ApnsPki::generate().unwrap().issue_push_certificate(TOPIC).unwrap();
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIBAA==\n\
                  -----END RSA PRIVATE KEY-----\n";
    for key in [pkcs8, legacy] {
        let error = refused(&pem.certificate, key);
        assert_eq!(error, PushCertificateError::EncryptedKey);
        assert!(error.to_string().contains("openssl pkey"), "{error}");
    }
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let pem = ApnsPki::generate().unwrap().issue_push_certificate(TOPIC).unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nMIIBAA==\n-----END CERTIFICATE-----\n";
    assert_eq!(refused("", &pem.key), PushCertificateError::NoCertificate);
    assert_eq!(refused(&pem.key, &pem.key), PushCertificateError::NoCertificate);
    assert_eq!(refused(broken, &pem.key), PushCertificateError::MalformedCertificate);
    assert_eq!(
        refused(
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            &pem.key
        ),
        PushCertificateError::MalformedCertificate
    );
    assert_eq!(refused(&pem.certificate, ""), PushCertificateError::NoKey);
    assert_eq!(refused(&pem.certificate, &pem.certificate), PushCertificateError::NoKey);
    let weak = "-----BEGIN PRIVATE KEY-----\nMIIBAA==\n-----END PRIVATE KEY-----\n";
    assert_eq!(refused(&pem.certificate, weak), PushCertificateError::UnusableKey);
}

#[test]
fn rsa_keys_work_too() {
    let user_id = rcgen::DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 1]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(user_id, TOPIC);
    let certificate = params.self_signed(&key).unwrap();
    assert_eq!(read(&certificate.pem(), &key.serialize_pem()).unwrap().topic(), TOPIC);
}
