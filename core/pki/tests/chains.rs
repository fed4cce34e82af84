//! Issuing certificates and verifying chains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{YEAR, ca, ca_named, device, issue, now, openssl};
use jiff::SignedDuration;
use russet_pki::ca::{BACKDATE, CaError, CertificateAuthority, DeviceCertificate, SignerUse};
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;
use russet_pki::{
    Certificate, CertificateError, ChainError, ChainPolicy, ExtendedKeyUsage, KeyUsage, TrustAnchors, VerifyError, oid,
};

const CA_KINDS: [KeyKind; 3] = [KeyKind::Rsa2048, KeyKind::P256, KeyKind::P384];

fn trust(ca: &CertificateAuthority) -> TrustAnchors {
    TrustAnchors::new(vec![ca.certificate().clone()])
}

#[test]
fn issued_certificates_verify_for_every_pair_of_key_types() {
    for issuer in CA_KINDS {
        let ca = ca(issuer);
        for subject in CA_KINDS {
            let certificate = device(&ca, subject).certificate;
            assert_eq!(
                trust(&ca).verify_chain(&certificate, &[], now()),
                Ok(()),
                "{issuer:?} {subject:?}"
            );
        }
    }
}

#[test]
fn a_device_certificate_says_what_the_server_decided() {
    let ca = ca(KeyKind::P256);
    let key = PrivateKey::generate(KeyKind::Rsa2048).unwrap();
    let csr = CertificateRequest::build(&Name::common("I am root"), Some("x"), &key).unwrap();
    let wanted = DeviceCertificate {
        common_name: "enrollment 7".into(),
        extra: vec![(oid::SERIAL_NUMBER, "C02ABC".into())],
        lifetime: YEAR,
    };
    let issued = ca.issue_device(&csr, &wanted, now()).unwrap();
    let certificate = issued.certificate;
    assert_eq!(certificate.subject(), "CN=enrollment 7,SERIALNUMBER=C02ABC");
    assert_eq!(certificate.issuer(), "CN=Test CA,O=Russet");
    assert_eq!(certificate.attribute(&oid::SERIAL_NUMBER).as_deref(), Some("C02ABC"));
    assert_eq!(certificate.public_key_der(), key.public_key_der());
    assert_eq!(certificate.not_before(), now() - BACKDATE);
    assert_eq!(certificate.not_after(), now() + YEAR);
    assert_eq!(certificate.serial_hex().len(), 32);
    assert!(certificate.allows(ExtendedKeyUsage::ClientAuth) && !certificate.allows(ExtendedKeyUsage::ServerAuth));
    let usage = KeyUsage::DIGITAL_SIGNATURE.and(KeyUsage::KEY_ENCIPHERMENT);
    assert_eq!(certificate.key_usage(), Some(usage));
    assert!(!certificate.is_ca());
    assert_eq!(issued.chain, [ca.certificate().clone()]);
    let again = ca.issue_device(&csr, &wanted, now()).unwrap().certificate;
    assert_ne!(again.serial_hex(), certificate.serial_hex());
}

#[test]
fn an_issued_certificate_never_outlives_its_ca() {
    let ca = ca(KeyKind::P256);
    let key = PrivateKey::generate(KeyKind::P256).unwrap();
    let csr = CertificateRequest::build(&Name::common("x"), None, &key).unwrap();
    let wanted = |lifetime| DeviceCertificate {
        common_name: "x".into(),
        extra: Vec::new(),
        lifetime,
    };
    let long = ca.issue_device(&csr, &wanted(YEAR * 50), now()).unwrap().certificate;
    assert_eq!(long.not_after(), ca.certificate().not_after());
    let after = now() + YEAR * 11;
    assert!(matches!(
        ca.issue_device(&csr, &wanted(YEAR), after),
        Err(CaError::Expired(_))
    ));
    assert_eq!(
        ca.issue_device(&csr, &wanted(SignedDuration::ZERO), now()).unwrap_err(),
        CaError::Lifetime
    );
}

#[test]
fn a_ca_survives_storage_and_rejects_a_stranger_s_key() {
    let ca = ca(KeyKind::P384);
    let key = PrivateKey::from_pkcs8(&ca.key_pkcs8()).unwrap();
    let certificate = Certificate::from_pem(&ca.certificate().to_pem()).unwrap();
    assert_eq!(&certificate, ca.certificate());
    let restored = CertificateAuthority::from_parts(certificate.clone(), key).unwrap();
    assert_eq!(
        trust(&ca).verify_chain(&device(&restored, KeyKind::P256).certificate, &[], now()),
        Ok(())
    );
    let stranger = PrivateKey::generate(KeyKind::P384).unwrap();
    assert_eq!(
        CertificateAuthority::from_parts(certificate, stranger).unwrap_err(),
        CaError::KeyMismatch
    );
    let leaf = device(&ca, KeyKind::P256);
    assert_eq!(
        CertificateAuthority::from_parts(leaf.certificate, leaf.key).unwrap_err(),
        CaError::NotACa
    );
}

#[test]
fn errors_tell_expired_from_unknown_from_forged() {
    let first = ca(KeyKind::P256);
    let namesake = ca(KeyKind::P256);
    let other = ca_named("Other CA", KeyKind::P256, now());
    let leaf = device(&first, KeyKind::P256).certificate;
    let unknown = |result| matches!(result, Err(ChainError::UnknownIssuer { .. }));
    assert!(unknown(trust(&other).verify_chain(&leaf, &[], now())));
    assert!(
        unknown(trust(&namesake).verify_chain(&leaf, &[], now())),
        "same name, other key"
    );
    assert!(unknown(TrustAnchors::default().verify_chain(&leaf, &[], now())));
    let late = now() + YEAR + SignedDuration::from_secs(1);
    assert!(matches!(
        trust(&first).verify_chain(&leaf, &[], late),
        Err(ChainError::Expired { .. })
    ));
    assert!(
        unknown(trust(&other).verify_chain(&leaf, &[], late)),
        "unknown comes before expired"
    );
    let early = now() - YEAR;
    assert!(matches!(
        trust(&first).verify_chain(&leaf, &[], early),
        Err(ChainError::NotYetValid { .. })
    ));
    // The last octet belongs to the signature.
    let mut der = leaf.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let forged = Certificate::parse(&der).unwrap();
    assert!(matches!(
        trust(&first).verify_chain(&forged, &[], now()),
        Err(ChainError::BadSignature { .. })
    ));
}

#[test]
fn no_octet_of_a_certificate_can_be_changed() {
    let ca = ca(KeyKind::P256);
    let leaf = device(&ca, KeyKind::P256).certificate;
    let trust = trust(&ca);
    for position in 0..leaf.der().len() {
        let mut der = leaf.der().to_vec();
        der[position] ^= 1;
        if let Ok(changed) = Certificate::parse(&der) {
            assert!(trust.verify_chain(&changed, &[], now()).is_err(), "octet {position}");
        }
    }
}

#[test]
fn a_device_cannot_issue_certificates() {
    let ca = ca(KeyKind::P256);
    let device = device(&ca, KeyKind::P256);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("device.pem"), device.certificate.to_pem()).unwrap();
    std::fs::write(dir.path().join("device.key"), device.key.to_pem().as_bytes()).unwrap();
    let request = [
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "x.key", "-subj", "/CN=x", "-out", "x.csr",
    ];
    openssl(dir.path(), &request);
    let sign = [
        "x509",
        "-req",
        "-in",
        "x.csr",
        "-CA",
        "device.pem",
        "-CAkey",
        "device.key",
        "-days",
        "9999",
    ];
    let forged = Certificate::from_pem(&String::from_utf8(openssl(dir.path(), &sign)).unwrap()).unwrap();
    let now = forged.not_before();
    let result = trust(&ca).verify_chain(&forged, std::slice::from_ref(&device.certificate), now);
    assert!(matches!(result, Err(ChainError::NotAnIssuer { .. })), "{result:?}");
}

/// Root, intermediate (path length 0) and a sub-intermediate that must not exist, by the openssl command line.
struct Tower {
    root: Certificate,
    middle: Certificate,
    low: Certificate,
    leaf_of_middle: Certificate,
    leaf_of_low: Certificate,
}

fn tower(digest: &str) -> Tower {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("ca.ext"),
        "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("ca0.ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("leaf.ext"), "basicConstraints=CA:FALSE\n").unwrap();
    let make = |name: &str, issuer: &str, extensions: &str| {
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN={name}");
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let mut arguments = vec!["req", "-new", "-keyout", &key, "-subj", &subject, "-out", &csr];
        arguments.extend(curve);
        openssl(dir.path(), &arguments);
        let (issuer_pem, issuer_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let mut arguments = vec![
            "x509", "-req", "-in", &csr, "-days", "30", "-extfile", extensions, "-out", &pem, digest,
        ];
        if issuer == name {
            arguments.extend(["-signkey", &key]);
        } else {
            arguments.extend(["-CA", &issuer_pem, "-CAkey", &issuer_key]);
        }
        openssl(dir.path(), &arguments);
        Certificate::from_pem(&std::fs::read_to_string(dir.path().join(pem)).unwrap()).unwrap()
    };
    Tower {
        root: make("root", "root", "ca.ext"),
        middle: make("middle", "root", "ca0.ext"),
        low: make("low", "middle", "ca.ext"),
        leaf_of_middle: make("leaf1", "middle", "leaf.ext"),
        leaf_of_low: make("leaf2", "low", "leaf.ext"),
    }
}

#[test]
fn intermediates_are_found_in_any_order_and_path_length_holds() {
    let Tower {
        root,
        middle,
        low,
        leaf_of_middle,
        leaf_of_low,
    } = tower("-sha256");
    let now = leaf_of_low.not_before();
    let anchors = TrustAnchors::new(vec![root]);
    let pool = [low.clone(), leaf_of_low.clone(), middle.clone()];
    assert_eq!(anchors.verify_chain(&leaf_of_middle, &pool, now), Ok(()));
    assert_eq!(anchors.verify_chain(&leaf_of_low, &pool, now), Err(ChainError::TooLong));
    let missing = anchors.verify_chain(&leaf_of_middle, &[], now);
    assert_eq!(
        missing,
        Err(ChainError::UnknownIssuer {
            issuer: "CN=middle".into()
        })
    );
    let short = anchors.with_policy(ChainPolicy {
        max_intermediates: 0,
        ..ChainPolicy::default()
    });
    assert_eq!(
        short.verify_chain(&leaf_of_middle, &pool, now),
        Err(ChainError::TooLong)
    );
    // An intermediate may itself be the anchor; then it is the end of the path.
    assert_eq!(
        TrustAnchors::new(vec![low]).verify_chain(&leaf_of_low, &[], now),
        Ok(())
    );
}

#[test]
fn sha1_in_a_chain_needs_the_policy() {
    let Tower {
        root,
        middle,
        leaf_of_middle,
        ..
    } = tower("-sha1");
    let now = leaf_of_middle.not_before();
    let strict = TrustAnchors::new(vec![root]);
    let result = strict.verify_chain(&leaf_of_middle, std::slice::from_ref(&middle), now);
    assert!(
        matches!(
            result,
            Err(ChainError::Algorithm {
                source: VerifyError::Weak("SHA-1"),
                ..
            })
        ),
        "{result:?}"
    );
    let legacy = strict.with_policy(ChainPolicy {
        legacy: true,
        ..ChainPolicy::default()
    });
    assert_eq!(legacy.verify_chain(&leaf_of_middle, &[middle], now), Ok(()));
}

#[test]
fn server_certificates_name_hosts_and_addresses() {
    let ca = ca(KeyKind::Rsa2048);
    let names = ["mdm.example.com".to_owned(), "localhost".to_owned()];
    let addresses = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let (chain, key) = ca.issue_tls_server(&names, &addresses, YEAR, now()).unwrap();
    assert_eq!(chain[0].dns_names(), names);
    assert_eq!(chain[0].ip_addresses(), addresses);
    assert_eq!(chain[0].public_key_der(), key.public_key_der());
    assert!(chain[0].allows(ExtendedKeyUsage::ServerAuth) && !chain[0].allows(ExtendedKeyUsage::ClientAuth));
    assert_eq!(trust(&ca).verify_chain(&chain[0], &[], now()), Ok(()));
    assert_eq!(ca.issue_tls_server(&[], &[], YEAR, now()).unwrap_err(), CaError::Names);
    let alone = ca.issue_tls_server(&[], &addresses, YEAR, now()).unwrap().0;
    assert_eq!(alone[0].common_name().as_deref(), Some("127.0.0.1"));
}

#[test]
fn openssl_verifies_what_the_ca_issues() {
    let dir = tempfile::tempdir().unwrap();
    for kind in CA_KINDS {
        let ca = ca(kind);
        let (chain, _) = ca
            .issue_tls_server(&["mdm.example.com".into()], &[], YEAR, now())
            .unwrap();
        let (signer, _) = ca.issue_signer("Profiles", SignerUse::Profiles, YEAR, now()).unwrap();
        let device = device(&ca, KeyKind::P256).certificate;
        std::fs::write(dir.path().join("ca.pem"), ca.certificate().to_pem()).unwrap();
        let at = now().as_second().to_string();
        for (certificate, purpose) in [(&chain[0], "sslserver"), (&signer, "smimesign"), (&device, "sslclient")] {
            std::fs::write(dir.path().join("leaf.pem"), certificate.to_pem()).unwrap();
            let base = [
                "verify",
                "-x509_strict",
                "-CAfile",
                "ca.pem",
                "-attime",
                &at,
                "-purpose",
                purpose,
                "leaf.pem",
            ];
            openssl(dir.path(), &base);
        }
    }
}

#[test]
fn pem_chains_keep_their_order_and_skip_other_sections() {
    let ca = ca(KeyKind::P256);
    let device = device(&ca, KeyKind::P256);
    let text = format!(
        "bag attributes\n{}{}{}",
        device.certificate.to_pem(),
        device.key.to_pem().as_str(),
        ca.certificate().to_pem()
    );
    let chain = Certificate::chain_from_pem(&text).unwrap();
    assert_eq!(chain, [device.certificate, ca.certificate().clone()]);
    assert_eq!(Certificate::from_pem("nothing").unwrap_err(), CertificateError::NoPem);
    assert_eq!(
        issue(
            &ca,
            &CertificateRequest::build(&Name::common("x"), None, &device.key).unwrap()
        )
        .subject(),
        "CN=device"
    );
}
