//! No input makes a parser panic, overflow a small stack or take long: arbitrary bytes, and real messages changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::LazyLock;

use proptest::prelude::*;
use russet_pki::cms::{self, ContentCipher, DecryptPolicy, Signer};
use russet_pki::csr::{CertificateRequest, KeyPolicy};
use russet_pki::key::{KeyKind, PrivateKey, PublicKey};
use russet_pki::name::Name;
use russet_pki::scep::client::{Exchange, parse_ca_certificates};
use russet_pki::scep::{CA_CERT_TYPE, RaContext, Request, ScepPolicy};
use russet_pki::{Certificate, SignaturePolicy, ber, mdm_signature, rfc9440};

struct Samples {
    signer: Signer,
    context: RaContext,
    exchange: Exchange,
    real: Vec<Vec<u8>>,
}

static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let ca = common::ca(KeyKind::Rsa2048);
    let context = RaContext::from_ca(&ca).unwrap();
    let signer = common::transport(KeyKind::P256);
    let csr = CertificateRequest::build(&Name::common("x"), Some("secret"), &signer.key).unwrap();
    let exchange = Exchange::enroll(&csr, signer.clone(), ca.certificate(), ContentCipher::Aes128Cbc).unwrap();
    let request = Request::parse(exchange.message(), &context, &ScepPolicy::default()).unwrap();
    let reply = request.success(ca.certificate(), ca.chain(), &context).unwrap();
    let real = vec![
        signer.certificate.der().to_vec(),
        csr.der().to_vec(),
        cms::sign_attached(b"body", &signer).unwrap(),
        cms::sign_detached(b"body", &signer).unwrap(),
        cms::encrypt(b"body", &signer.certificate, ContentCipher::Aes256Cbc).unwrap(),
        cms::encrypt(b"body", ca.certificate(), ContentCipher::TripleDesCbc).unwrap(),
        exchange.message().to_vec(),
        reply,
    ];
    Samples {
        signer,
        context,
        exchange,
        real,
    }
});

/// Feeds bytes to every parser.
fn everything(bytes: &[u8]) {
    let samples = &*SAMPLES;
    let policy = SignaturePolicy::legacy();
    let _ = ber::to_der(bytes, usize::MAX, usize::MAX);
    if let Ok(certificate) = Certificate::parse(bytes) {
        let _ = (
            certificate.serial_hex(),
            certificate.common_name(),
            format!("{certificate:?}"),
            certificate.to_pem(),
        );
        let _ = russet_pki::TrustAnchors::new(vec![certificate.clone()]).verify_chain(
            &samples.signer.certificate,
            &[certificate],
            common::now(),
        );
    }
    let _ = CertificateRequest::parse(bytes, KeyPolicy { legacy: true });
    let _ = PublicKey::parse(bytes);
    let _ = PrivateKey::from_pkcs8(bytes);
    let _ = cms::verify_attached(bytes, &policy);
    let _ = cms::verify_detached(bytes, b"body", &policy);
    let _ = cms::certificates(bytes, &policy);
    let decrypt = DecryptPolicy {
        legacy: true,
        ..DecryptPolicy::default()
    };
    let _ = cms::decrypt(bytes, &samples.signer.certificate, &samples.signer.key, &decrypt);
    if let Err(russet_pki::scep::ScepError::Refused(refusal)) = Request::parse(
        bytes,
        &samples.context,
        &ScepPolicy {
            legacy: true,
            ..ScepPolicy::default()
        },
    ) {
        refusal.reply(&samples.context).unwrap();
    }
    let _ = samples.exchange.read(bytes, &[]);
    let _ = parse_ca_certificates(CA_CERT_TYPE, bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = mdm_signature::verify(&text, b"body", &policy);
    let _ = rfc9440::parse_client_cert(&text);
    let _ = Certificate::chain_from_pem(&text);
    let _ = PrivateKey::from_pem(&text);
}

/// One change to a message.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (index(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        2 => (index(), prop::sample::select(vec![0x00, 0x80, 0x84, 0xff, 0x30, 0x24, 0xa0, 0x1f]))
            .prop_map(|(at, value)| Change::Set(at, value)),
        1 => index().prop_map(Change::Cut),
        1 => index().prop_map(Change::Remove),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (index(), index(), 1..64_usize).prop_map(|(from, to, length)| Change::Copy(from, to, length)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Set(at, value) => {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Change::Remove(at) => {
            bytes.remove(at.index(bytes.len()));
        }
        Change::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Change::Copy(from, to, length) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(to..to, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_only_errors(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        everything(&bytes);
    }

    #[test]
    fn changed_messages_are_only_errors(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut bytes = SAMPLES.real[which.index(SAMPLES.real.len())].clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        everything(&bytes);
    }

    #[test]
    fn der_comes_out_of_ber_unchanged_and_converting_twice_changes_nothing(
        bytes in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 4, 5, 0x24, 0x30, 0x31, 0x80, 0xa0]), 0..60),
    ) {
        if let Ok(once) = ber::to_der(&bytes, 16, 1000) {
            let twice = ber::to_der(&once, 16, 1000).unwrap();
            prop_assert_eq!(&once, &twice);
        }
    }
}

#[test]
fn nesting_bombs_do_not_reach_the_stack() {
    LazyLock::force(&SAMPLES);
    let test = || {
        for opening in [
            &[0x30, 0x80][..],
            &[0x24, 0x80],
            &[0xa0, 0x80],
            &[0x31, 0x84, 0, 0, 0xff, 0xf0],
        ] {
            everything(&opening.repeat(60_000));
        }
        // Definite and well-formed to the last octet.
        let mut nested = Vec::new();
        while nested.len() < 60_000 {
            let mut outer = vec![0x30, 0x83];
            outer.extend_from_slice(&(nested.len() as u32).to_be_bytes()[1..]);
            outer.extend_from_slice(&nested);
            nested = outer;
        }
        everything(&nested);
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}
