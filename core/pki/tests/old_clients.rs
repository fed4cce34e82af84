//! Messages as old and loose clients build them, put together by hand: RSA-1024, SHA-1 and single DES; indefinite
//! lengths and segments; attributes out of order; algorithm parameters NULL or left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{ca, issue, openssl, transport};
use russet_pki::cms::{self, CmsError, ContentCipher, encrypt, verify_detached};
use russet_pki::key::KeyKind;
use russet_pki::scep::{FailInfo, RaContext, Request, ScepError, ScepPolicy};
use russet_pki::{Certificate, ObjectIdentifier, SignaturePolicy, VerifyError};

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag, 0x83];
    out.extend_from_slice(&(content.len() as u32).to_be_bytes()[1..]);
    out.extend(content);
    out
}

/// Minimal lengths, as signed attributes need.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    russet_pki::ber::to_der(&tlv(tag, parts), 16, 1 << 20)
        .unwrap()
        .into_owned()
}

fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80][..], &parts.concat(), &[0, 0]].concat()
}

fn oid(text: &str) -> Vec<u8> {
    der(6, &[ObjectIdentifier::new_unwrap(text).as_bytes()])
}

fn attribute(id: &str, value: &[u8]) -> Vec<u8> {
    der(0x30, &[&oid(id), &der(0x31, &[value])])
}

/// How a signed message is put together.
struct Style {
    digest: &'static str,
    digest_oid: &'static str,
    signature_oid: &'static str,
    /// Parameters of both algorithm identifiers.
    parameters: &'static [u8],
    /// Order of the attributes in what is signed, and in the message.
    signed_sorted: bool,
    sent_sorted: bool,
    /// Indefinite lengths and content in segments of 100 octets.
    segments: bool,
}

const PLAIN: Style = Style {
    digest: "-sha256",
    digest_oid: "2.16.840.1.101.3.4.2.1",
    signature_oid: "1.2.840.113549.1.1.1",
    parameters: &[5, 0],
    signed_sorted: true,
    sent_sorted: true,
    segments: false,
};

/// Signs with `key.pem` in `dir`, identified by `cert.pem`.
fn build(dir: &Path, content: &[u8], mut attributes: Vec<Vec<u8>>, style: &Style) -> Vec<u8> {
    let certificate = Certificate::from_pem(&std::fs::read_to_string(dir.join("cert.pem")).unwrap()).unwrap();
    std::fs::write(dir.join("content"), content).unwrap();
    let digest = openssl(dir, &["dgst", style.digest, "-binary", "content"]);
    attributes.push(attribute("1.2.840.113549.1.9.4", &der(4, &[&digest])));
    attributes.push(attribute("1.2.840.113549.1.9.3", &oid("1.2.840.113549.1.7.1")));
    let order = |sorted: bool| {
        let mut attributes = attributes.clone();
        attributes.sort();
        if !sorted {
            attributes.reverse();
        }
        attributes.concat()
    };
    std::fs::write(dir.join("attributes"), der(0x31, &[&order(style.signed_sorted)])).unwrap();
    let signature = openssl(dir, &["dgst", style.digest, "-sign", "key.pem", "attributes"]);
    // The issuer and serial number are those of a fresh certificate's own fields: read with openssl.
    let issuer_and_serial = issuer_and_serial(&certificate);
    let structure = if style.segments { indefinite } else { tlv };
    let sequence = |parts: &[&[u8]]| structure(0x30, parts);
    let digest_identifier = sequence(&[&oid(style.digest_oid), style.parameters]);
    let signer = sequence(&[
        &[2, 1, 1],
        &issuer_and_serial,
        &digest_identifier,
        &tlv(0xa0, &[&order(style.sent_sorted)]),
        &sequence(&[&oid(style.signature_oid), style.parameters]),
        &tlv(4, &[&signature]),
    ]);
    let octets = if style.segments {
        let segments: Vec<Vec<u8>> = content.chunks(100).map(|chunk| tlv(4, &[chunk])).collect();
        indefinite(0x24, &[&segments.concat()])
    } else {
        tlv(4, &[content])
    };
    sequence(&[
        &oid("1.2.840.113549.1.7.2"),
        &structure(
            0xa0,
            &[&sequence(&[
                &[2, 1, 1],
                &structure(0x31, &[&digest_identifier]),
                &sequence(&[&oid("1.2.840.113549.1.7.1"), &structure(0xa0, &[&octets])]),
                &structure(0xa0, &[certificate.der()]),
                &structure(0x31, &[&signer]),
            ])],
        ),
    ])
}

/// Takes IssuerAndSerialNumber out of a message that the library encrypts for the certificate.
fn issuer_and_serial(certificate: &Certificate) -> Vec<u8> {
    let mut serial = vec![2, 0];
    let hex = certificate.serial_hex();
    let octets: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    if octets[0] & 0x80 != 0 {
        serial.push(0);
    }
    serial.extend(&octets);
    serial[1] = u8::try_from(serial.len() - 2).unwrap();
    // CN=old, as every certificate here has it.
    let name = der(
        0x30,
        &[&der(0x31, &[&der(0x30, &[&oid("2.5.4.3"), &der(0x0c, &[b"old"])])])],
    );
    der(0x30, &[&name, &serial])
}

fn client(dir: &Path, key: &str) {
    let make = [
        "req", "-x509", "-newkey", key, "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=old",
    ];
    openssl(dir, &make);
}

#[test]
fn loose_encodings_of_a_signature_verify() {
    let dir = tempfile::tempdir().unwrap();
    client(dir.path(), "rsa:2048");
    let body = vec![b'x'; 1000];
    let styles = [
        ("plain", PLAIN),
        (
            "no parameters",
            Style {
                parameters: &[],
                ..PLAIN
            },
        ),
        (
            "sha256WithRSA",
            Style {
                signature_oid: "1.2.840.113549.1.1.11",
                ..PLAIN
            },
        ),
        (
            "signed sorted, sent unsorted",
            Style {
                sent_sorted: false,
                ..PLAIN
            },
        ),
        (
            "signed and sent unsorted",
            Style {
                signed_sorted: false,
                sent_sorted: false,
                ..PLAIN
            },
        ),
        (
            "indefinite",
            Style {
                segments: true,
                ..PLAIN
            },
        ),
    ];
    for (what, style) in styles {
        let message = build(dir.path(), &body, Vec::new(), &style);
        let (content, _) = cms::verify_attached(&message, &SignaturePolicy::strict())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(content, body);
        assert!(verify_detached(&message, b"other", &SignaturePolicy::strict()).is_err());
    }
    let lying = Style {
        signature_oid: "1.2.840.113549.1.1.13",
        ..PLAIN
    };
    let message = build(dir.path(), &body, Vec::new(), &lying);
    let result = cms::verify_attached(&message, &SignaturePolicy::strict());
    assert_eq!(
        result.unwrap_err(),
        CmsError::Signature(VerifyError::Unsupported),
        "two digests in one signature"
    );
    let twice = build(
        dir.path(),
        &body,
        vec![attribute("1.2.840.113549.1.9.4", &der(4, &[&[0; 32]]))],
        &PLAIN,
    );
    assert!(matches!(
        cms::verify_attached(&twice, &SignaturePolicy::strict()),
        Err(CmsError::Malformed(_))
    ));
}

const SHA1: Style = Style {
    digest: "-sha1",
    digest_oid: "1.3.14.3.2.26",
    segments: true,
    ..PLAIN
};

fn scep_attributes() -> Vec<Vec<u8>> {
    vec![
        attribute("2.16.840.1.113733.1.9.2", &der(0x13, &[b"19"])),
        attribute("2.16.840.1.113733.1.9.7", &der(0x13, &[b"transaction-1"])),
        attribute("2.16.840.1.113733.1.9.5", &der(4, &[&[7; 16]])),
    ]
}

#[test]
fn an_old_client_enrolls_only_under_the_legacy_policy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    client(dir, "rsa:1024");
    let request = [
        "req", "-new", "-key", "key.pem", "-subj", "/CN=old", "-sha1", "-outform", "DER",
    ];
    let csr = openssl(dir, &request);
    let ca = ca(KeyKind::Rsa2048);
    let context = RaContext::from_ca(&ca).unwrap();
    let envelope = encrypt(&csr, ca.certificate(), ContentCipher::DesCbc).unwrap();
    let message = build(dir, &envelope, scep_attributes(), &SHA1);

    let Err(ScepError::Refused(refusal)) = Request::parse(&message, &context, &ScepPolicy::default()) else {
        panic!("accepted without the legacy setting")
    };
    assert_eq!(
        (refusal.transaction_id(), refusal.fail_info()),
        ("transaction-1", FailInfo::BadAlg)
    );

    let legacy = ScepPolicy {
        legacy: true,
        ..ScepPolicy::default()
    };
    let request = Request::parse(&message, &context, &legacy).unwrap();
    let issued = issue(&ca, request.csr());
    let reply = request.success(&issued, &[], &context).unwrap();
    std::fs::write(dir.join("reply.der"), reply).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.certificate().to_pem()).unwrap();
    openssl(
        dir,
        &[
            "cms",
            "-verify",
            "-binary",
            "-noverify",
            "-inform",
            "DER",
            "-in",
            "reply.der",
            "-out",
            "envelope",
        ],
    );
    let open = [
        "cms",
        "-decrypt",
        "-binary",
        "-inform",
        "DER",
        "-in",
        "envelope",
        "-recip",
        "cert.pem",
        "-inkey",
        "key.pem",
        "-provider",
        "legacy",
        "-provider",
        "default",
    ];
    let certificates = cms::certificates(&openssl(dir, &open), &SignaturePolicy::strict()).unwrap();
    assert_eq!(certificates, [issued]);
}

#[test]
fn each_weakness_alone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ca = ca(KeyKind::Rsa2048);
    let context = RaContext::from_ca(&ca).unwrap();
    let parse = |message: &[u8], legacy| {
        Request::parse(
            message,
            &context,
            &ScepPolicy {
                legacy,
                ..ScepPolicy::default()
            },
        )
    };
    let refused = |message: &[u8]| match parse(message, false) {
        Err(ScepError::Refused(refusal)) => refusal.fail_info(),
        other => panic!("{other:?}"),
    };
    for (key, digest, style) in [
        (
            "rsa:1024",
            "-sha256",
            Style {
                segments: true,
                ..PLAIN
            },
        ),
        (
            "rsa:2048",
            "-sha1",
            Style {
                segments: true,
                ..PLAIN
            },
        ),
        ("rsa:2048", "-sha256", SHA1),
    ] {
        client(dir, key);
        let csr = openssl(
            dir,
            &[
                "req", "-new", "-key", "key.pem", "-subj", "/CN=old", digest, "-outform", "DER",
            ],
        );
        let envelope = encrypt(&csr, ca.certificate(), ContentCipher::Aes128Cbc).unwrap();
        let message = build(dir, &envelope, scep_attributes(), &style);
        assert_eq!(refused(&message), FailInfo::BadAlg, "{key} {digest} {}", style.digest);
        assert!(parse(&message, true).is_ok());
    }
    // The same client without a weakness is welcome.
    let csr = openssl(
        dir,
        &["req", "-new", "-key", "key.pem", "-subj", "/CN=old", "-outform", "DER"],
    );
    let envelope = encrypt(&csr, ca.certificate(), ContentCipher::TripleDesCbc).unwrap();
    let message = build(
        dir,
        &envelope,
        scep_attributes(),
        &Style {
            segments: true,
            ..PLAIN
        },
    );
    assert!(parse(&message, false).is_ok());
    // Without a nonce there is nothing to answer to.
    let message = build(dir, &envelope, scep_attributes()[..2].to_vec(), &PLAIN);
    assert_eq!(parse(&message, false).unwrap_err(), ScepError::Attributes);
}

#[test]
fn content_that_is_no_request_looks_like_a_failed_decryption() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    client(dir, "rsa:2048");
    let ca = ca(KeyKind::Rsa2048);
    let context = RaContext::from_ca(&ca).unwrap();
    let refusal = |envelope: &[u8]| {
        let message = build(dir, envelope, scep_attributes(), &PLAIN);
        match Request::parse(&message, &context, &ScepPolicy::default()) {
            Err(ScepError::Refused(refusal)) => (refusal.fail_info(), refusal.to_string()),
            other => panic!("{other:?}"),
        }
    };
    let garbage = encrypt(b"no request", ca.certificate(), ContentCipher::Aes128Cbc).unwrap();
    let certificate = encrypt(ca.certificate().der(), ca.certificate(), ContentCipher::Aes128Cbc).unwrap();
    let mut broken = garbage.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let other_key = {
        // Encrypted for a stranger's key under the CA's name: the padding is bad, a random key goes on.
        let wrapped_at = garbage.windows(4).position(|window| window == [4, 0x82, 1, 0]).unwrap() + 4;
        let stranger = encrypt(
            b"no request",
            &transport(KeyKind::Rsa2048).certificate,
            ContentCipher::Aes128Cbc,
        );
        let stranger = stranger.unwrap();
        let from = stranger
            .windows(4)
            .position(|window| window == [4, 0x82, 1, 0])
            .unwrap()
            + 4;
        let mut forged = garbage.clone();
        forged[wrapped_at..wrapped_at + 256].copy_from_slice(&stranger[from..from + 256]);
        forged
    };
    let expected = refusal(&garbage);
    assert_eq!(expected.0, FailInfo::BadMessageCheck);
    for envelope in [certificate, broken, other_key] {
        assert_eq!(refusal(&envelope), expected);
    }
}
