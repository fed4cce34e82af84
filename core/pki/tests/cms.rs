//! CMS: signing, verifying, enveloping; both with ourselves and with the openssl command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{ca, device, now, openssl, transport, try_openssl};
use russet_pki::cms::{
    self, CmsError, ContentCipher, DecryptError, DecryptPolicy, Signer, decrypt, encrypt, sign_attached, sign_detached,
    verify_attached, verify_detached,
};
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::{Certificate, Digest, SignaturePolicy, VerifyError, mdm_signature};

const KINDS: [KeyKind; 4] = [KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::P256, KeyKind::P384];
const CIPHERS: [ContentCipher; 4] = [
    ContentCipher::Aes128Cbc,
    ContentCipher::Aes192Cbc,
    ContentCipher::Aes256Cbc,
    ContentCipher::TripleDesCbc,
];
const BODY: &[u8] = b"<plist><dict><key>MessageType</key><string>TokenUpdate</string></dict></plist>";

fn strict() -> SignaturePolicy {
    SignaturePolicy::strict()
}

fn write_signer(dir: &Path, signer: &Signer) {
    std::fs::write(dir.join("cert.pem"), signer.certificate.to_pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signer.key.to_pem().as_bytes()).unwrap();
    std::fs::write(dir.join("body"), BODY).unwrap();
}

#[test]
fn signatures_round_trip_with_every_key_type() {
    for kind in KINDS {
        let signer = transport(kind).at(now());
        let detached = sign_detached(BODY, &signer).unwrap();
        let verified = verify_detached(&detached, BODY, &strict()).unwrap();
        assert_eq!(verified.signer, signer.certificate);
        assert_eq!(verified.signed_attributes.signing_time(), Some(now()));
        let attached = sign_attached(BODY, &signer).unwrap();
        let (content, verified) = verify_attached(&attached, &strict()).unwrap();
        assert_eq!(
            (content.as_slice(), verified.signer),
            (BODY, signer.certificate.clone())
        );
        assert_eq!(verify_attached(&detached, &strict()).unwrap_err(), CmsError::NoContent);
        assert!(
            verify_detached(&attached, BODY, &strict()).is_ok(),
            "embedding the same content is harmless"
        );
        assert_eq!(
            verify_detached(&attached, b"other", &strict()).unwrap_err(),
            CmsError::OtherContent
        );
    }
}

#[test]
fn the_chain_travels_in_the_order_given() {
    let ca = ca(KeyKind::P256);
    let signer = device(&ca, KeyKind::P256).with_chain(vec![ca.certificate().clone()]);
    let (_, verified) = verify_attached(&sign_attached(BODY, &signer).unwrap(), &strict()).unwrap();
    assert_eq!(verified.certificates, [signer.certificate, ca.certificate().clone()]);
}

#[test]
fn no_octet_of_body_or_signature_can_be_changed() {
    let signer = transport(KeyKind::P256);
    let signature = sign_detached(BODY, &signer).unwrap();
    for position in 0..BODY.len() {
        let mut body = BODY.to_vec();
        body[position] ^= 1;
        assert_eq!(
            verify_detached(&signature, &body, &strict()).unwrap_err(),
            CmsError::DigestMismatch
        );
    }
    for position in 0..signature.len() {
        let mut changed = signature.clone();
        changed[position] ^= 1;
        // A changed certificate or an unsigned field may still verify; never with the certificate that signed and
        // another body, and never as another certificate of somebody's.
        if let Ok(verified) = verify_detached(&changed, BODY, &strict()) {
            assert_eq!(
                verified.signer.public_key_der(),
                signer.certificate.public_key_der(),
                "octet {position}"
            );
            assert!(verify_detached(&changed, b"other", &strict()).is_err());
        }
    }
}

#[test]
fn another_certificate_s_key_does_not_sign() {
    // RSA, so that both certificates have the same length.
    let signer = transport(KeyKind::Rsa2048);
    let other = transport(KeyKind::Rsa2048);
    let mixed = Signer::new(signer.certificate.clone(), other.key.clone());
    assert_eq!(sign_detached(BODY, &mixed).unwrap_err(), cms::SignError::KeyMismatch);
    // The signature of one under the identity of the other: certificate and serial number swapped in the message.
    let genuine = sign_detached(BODY, &other).unwrap();
    let swapped = replace(&genuine, other.certificate.der(), signer.certificate.der());
    assert_eq!(
        verify_detached(&swapped, BODY, &strict()).unwrap_err(),
        CmsError::SignerNotFound
    );
    let claimed = replace(&swapped, &serial(&other.certificate), &serial(&signer.certificate));
    assert_eq!(
        verify_detached(&claimed, BODY, &strict()).unwrap_err(),
        CmsError::Signature(VerifyError::Mismatch)
    );
}

fn serial(certificate: &Certificate) -> Vec<u8> {
    let text = certificate.serial_hex();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn replace(haystack: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = haystack.windows(from.len()).position(|window| window == from).unwrap();
    assert_eq!(from.len(), to.len());
    [&haystack[..at], to, &haystack[at + from.len()..]].concat()
}

#[test]
fn openssl_verifies_our_signatures() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let signer = transport(kind);
        write_signer(dir.path(), &signer);
        std::fs::write(dir.path().join("detached.der"), sign_detached(BODY, &signer).unwrap()).unwrap();
        std::fs::write(dir.path().join("attached.der"), sign_attached(BODY, &signer).unwrap()).unwrap();
        let common = ["cms", "-verify", "-binary", "-inform", "DER", "-noverify"];
        let detached = [&common[..], &["-in", "detached.der", "-content", "body"]].concat();
        assert_eq!(openssl(dir.path(), &detached), BODY);
        let attached = [&common[..], &["-in", "attached.der"]].concat();
        assert_eq!(openssl(dir.path(), &attached), BODY);
    }
}

#[test]
fn we_verify_every_form_that_openssl_signs() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let signer = transport(kind);
        write_signer(dir.path(), &signer);
        let common = [
            "cms", "-sign", "-binary", "-in", "body", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER",
        ];
        let forms: [(&[&str], Digest); 7] = [
            (&["-nodetach"], Digest::Sha256),
            (&["-nodetach", "-md", "sha384"], Digest::Sha384),
            (&["-nodetach", "-md", "sha512"], Digest::Sha512),
            (&["-nodetach", "-keyid"], Digest::Sha256),
            (&["-nodetach", "-noattr"], Digest::Sha256),
            // Indefinite lengths and the content in segments.
            (&["-nodetach", "-indef", "-stream"], Digest::Sha256),
            (&["-nodetach", "-nosmimecap"], Digest::Sha256),
        ];
        for (form, digest) in forms {
            let signed = openssl(dir.path(), &[&common[..], form].concat());
            let (content, verified) =
                verify_attached(&signed, &strict()).unwrap_or_else(|error| panic!("{kind:?} {form:?}: {error}"));
            assert_eq!((content.as_slice(), verified.digest), (BODY, digest));
            assert_eq!(verified.signer, signer.certificate);
        }
        let detached = openssl(dir.path(), &common);
        assert!(verify_detached(&detached, BODY, &strict()).is_ok());
    }
}

#[test]
fn rsa_pss_signatures_verify() {
    let dir = tempfile::tempdir().unwrap();
    write_signer(dir.path(), &transport(KeyKind::Rsa2048));
    let signed = openssl(
        dir.path(),
        &[
            "cms",
            "-sign",
            "-binary",
            "-in",
            "body",
            "-signer",
            "cert.pem",
            "-inkey",
            "key.pem",
            "-outform",
            "DER",
            "-nodetach",
            "-keyopt",
            "rsa_padding_mode:pss",
            "-keyopt",
            "rsa_pss_saltlen:digest",
        ],
    );
    assert_eq!(verify_attached(&signed, &strict()).unwrap().0, BODY);
}

#[test]
fn sha1_and_small_keys_need_the_legacy_policy() {
    let dir = tempfile::tempdir().unwrap();
    write_signer(dir.path(), &transport(KeyKind::Rsa2048));
    let sha1 = [
        "cms", "-sign", "-binary", "-in", "body", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-md",
        "sha1",
    ];
    let sha1 = openssl(dir.path(), &sha1);
    assert_eq!(
        verify_detached(&sha1, BODY, &strict()).unwrap_err(),
        CmsError::Signature(VerifyError::Weak("SHA-1"))
    );
    let verified = verify_detached(&sha1, BODY, &SignaturePolicy::legacy()).unwrap();
    assert_eq!(verified.digest, Digest::Sha1);

    let small = [
        "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=x",
    ];
    openssl(dir.path(), &small);
    let sign = [
        "cms", "-sign", "-binary", "-in", "body", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER",
    ];
    let small = openssl(dir.path(), &sign);
    assert!(matches!(
        verify_detached(&small, BODY, &strict()),
        Err(CmsError::Signature(VerifyError::Weak(_)))
    ));
    assert!(verify_detached(&small, BODY, &SignaturePolicy::legacy()).is_ok());
}

#[test]
fn zero_and_two_signers_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let signer = transport(KeyKind::Rsa2048);
    write_signer(dir.path(), &signer);
    let none = cms::certs_only(std::slice::from_ref(&signer.certificate));
    assert_eq!(verify_detached(&none, BODY, &strict()).unwrap_err(), CmsError::NoSigner);
    let found = cms::certificates(&none, &strict()).unwrap();
    assert_eq!(found, std::slice::from_ref(&signer.certificate));
    let second = transport(KeyKind::P256);
    std::fs::write(
        dir.path().join("second.pem"),
        second.certificate.to_pem() + &second.key.to_pem(),
    )
    .unwrap();
    let two = [
        "cms",
        "-sign",
        "-binary",
        "-in",
        "body",
        "-signer",
        "cert.pem",
        "-inkey",
        "key.pem",
        "-signer",
        "second.pem",
        "-outform",
        "DER",
    ];
    let two = openssl(dir.path(), &two);
    assert_eq!(
        verify_detached(&two, BODY, &strict()).unwrap_err(),
        CmsError::SeveralSigners(2)
    );
}

#[test]
fn caps_on_size_and_certificates_hold() {
    let signer = transport(KeyKind::P256);
    let extra: Vec<Certificate> = (0..3).map(|_| transport(KeyKind::P256).certificate).collect();
    let signed = sign_attached(BODY, &signer.with_chain(extra)).unwrap();
    let few = SignaturePolicy {
        max_certificates: 3,
        ..strict()
    };
    assert_eq!(
        verify_attached(&signed, &few).unwrap_err(),
        CmsError::TooManyCertificates
    );
    let small = SignaturePolicy {
        max_len: signed.len() - 1,
        ..strict()
    };
    assert!(matches!(verify_attached(&signed, &small), Err(CmsError::Encoding(_))));
    assert!(
        verify_attached(
            &signed,
            &SignaturePolicy {
                max_certificates: 4,
                max_len: signed.len(),
                ..strict()
            }
        )
        .is_ok()
    );
}

#[test]
fn mdm_signatures_round_trip() {
    let signer = transport(KeyKind::Rsa2048);
    let header = mdm_signature::sign(BODY, &signer).unwrap();
    assert_eq!(
        mdm_signature::verify(&header, BODY, &strict()).unwrap(),
        signer.certificate
    );
    let folded = header
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8_lossy(line))
        .collect::<Vec<_>>()
        .join("\r\n ");
    assert!(mdm_signature::verify(&folded, BODY, &strict()).is_ok());
    assert!(mdm_signature::verify(&header, b"another body", &strict()).is_err());
    assert_eq!(
        mdm_signature::verify("not base64!", BODY, &strict()).unwrap_err(),
        mdm_signature::MdmSignatureError::Base64
    );
    let long = "A".repeat(mdm_signature::MAX_HEADER_LEN + 1);
    assert_eq!(
        mdm_signature::verify(&long, BODY, &strict()).unwrap_err(),
        mdm_signature::MdmSignatureError::TooLong
    );
}

#[test]
fn envelopes_round_trip_for_every_key_and_cipher() {
    for kind in KINDS {
        let recipient = transport(kind);
        for cipher in CIPHERS {
            for length in [0, 1, 15, 16, 5000] {
                let content = vec![0x5a; length];
                let sealed = encrypt(&content, &recipient.certificate, cipher).unwrap();
                let opened = decrypt(
                    &sealed,
                    &recipient.certificate,
                    &recipient.key,
                    &DecryptPolicy::default(),
                );
                assert_eq!(opened.unwrap().as_slice(), content, "{kind:?} {cipher:?} {length}");
            }
        }
    }
}

#[test]
fn single_des_needs_the_legacy_policy() {
    let recipient = transport(KeyKind::Rsa2048);
    let sealed = encrypt(BODY, &recipient.certificate, ContentCipher::DesCbc).unwrap();
    let open = |policy: &DecryptPolicy| decrypt(&sealed, &recipient.certificate, &recipient.key, policy);
    assert!(matches!(open(&DecryptPolicy::default()), Err(DecryptError::Cipher(_))));
    let legacy = DecryptPolicy {
        legacy: true,
        ..DecryptPolicy::default()
    };
    assert_eq!(open(&legacy).unwrap().as_slice(), BODY);
}

#[test]
fn openssl_opens_our_envelopes() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let recipient = transport(kind);
        write_signer(dir.path(), &recipient);
        for cipher in CIPHERS {
            let sealed = encrypt(BODY, &recipient.certificate, cipher).unwrap();
            std::fs::write(dir.path().join("sealed.der"), sealed).unwrap();
            let open = [
                "cms",
                "-decrypt",
                "-in",
                "sealed.der",
                "-inform",
                "DER",
                "-recip",
                "cert.pem",
                "-inkey",
                "key.pem",
            ];
            assert_eq!(openssl(dir.path(), &open), BODY, "{kind:?} {cipher:?}");
        }
    }
}

#[test]
fn a_small_rsa_key_can_be_encrypted_to() {
    let dir = tempfile::tempdir().unwrap();
    for bits in ["rsa:1024", "rsa:1536"] {
        let make = [
            "req", "-x509", "-newkey", bits, "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=x",
        ];
        openssl(dir.path(), &make);
        let recipient = Certificate::from_pem(&std::fs::read_to_string(dir.path().join("cert.pem")).unwrap()).unwrap();
        std::fs::write(
            dir.path().join("sealed.der"),
            encrypt(BODY, &recipient, ContentCipher::Aes128Cbc).unwrap(),
        )
        .unwrap();
        let open = [
            "cms",
            "-decrypt",
            "-in",
            "sealed.der",
            "-inform",
            "DER",
            "-recip",
            "cert.pem",
            "-inkey",
            "key.pem",
        ];
        assert_eq!(openssl(dir.path(), &open), BODY);
    }
}

#[test]
fn we_open_every_envelope_that_openssl_seals() {
    let dir = tempfile::tempdir().unwrap();
    let forms: [&[&str]; 6] = [
        &["cms", "-encrypt", "-aes128"],
        &["cms", "-encrypt", "-aes192"],
        &["cms", "-encrypt", "-aes256", "-stream", "-indef"],
        &["cms", "-encrypt", "-des3", "-stream"],
        &["cms", "-encrypt", "-aes256", "-keyid"],
        // PKCS#7 instead of CMS; RSA only.
        &["smime", "-encrypt", "-des3"],
    ];
    for kind in KINDS {
        let recipient = transport(kind);
        write_signer(dir.path(), &recipient);
        for form in forms {
            let ec = matches!(kind, KeyKind::P256 | KeyKind::P384);
            // PKCS#7 has no key agreement; with these ciphers openssl wraps the key with AES-192 or triple DES, which
            // aws-lc-rs does not have.
            if ec && (form[0] == "smime" || form.contains(&"-aes192") || form.contains(&"-des3")) {
                continue;
            }
            let sealed = openssl(
                dir.path(),
                &[form, &["-binary", "-in", "body", "-outform", "DER", "cert.pem"]].concat(),
            );
            let opened = decrypt(
                &sealed,
                &recipient.certificate,
                &recipient.key,
                &DecryptPolicy::default(),
            )
            .unwrap_or_else(|error| panic!("{kind:?} {form:?}: {error}"));
            assert_eq!(opened.as_slice(), BODY);
        }
        if matches!(kind, KeyKind::P256 | KeyKind::P384) {
            for digest in ["sha256", "sha384", "sha512"] {
                let option = format!("ecdh_kdf_md:{digest}");
                let base = [
                    "cms", "-encrypt", "-aes128", "-binary", "-in", "body", "-outform", "DER",
                ];
                let sealed = openssl(
                    dir.path(),
                    &[&base[..], &["-recip", "cert.pem", "-keyopt", &option]].concat(),
                );
                let opened = decrypt(
                    &sealed,
                    &recipient.certificate,
                    &recipient.key,
                    &DecryptPolicy::default(),
                );
                assert_eq!(opened.unwrap().as_slice(), BODY, "{kind:?} {digest}");
            }
        }
    }
}

#[test]
fn an_envelope_for_another_is_refused() {
    let (ours, theirs) = (transport(KeyKind::Rsa2048), transport(KeyKind::Rsa2048));
    let sealed = encrypt(BODY, &theirs.certificate, ContentCipher::Aes128Cbc).unwrap();
    let open =
        |certificate: &Certificate, key: &PrivateKey| decrypt(&sealed, certificate, key, &DecryptPolicy::default());
    assert_eq!(open(&ours.certificate, &ours.key).unwrap_err(), DecryptError::NotForUs);
    assert_eq!(
        open(&theirs.certificate, &ours.key).unwrap_err(),
        DecryptError::Failed,
        "wrong key"
    );
    let mixed = transport(KeyKind::P256);
    assert_eq!(
        open(&theirs.certificate, &mixed.key).unwrap_err(),
        DecryptError::KeyEncryption
    );
}

/// Bleichenbacher's oracle from outside: whatever the padding of the wrapped key, the caller gets what it also gets for a
/// good padding around a wrong key. The wrapped keys are made with openssl's raw RSA, so that the padding is ours to
/// choose. (That a bad padding becomes a random key is tested where that is done.)
#[test]
fn bad_paddings_cannot_be_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let recipient = transport(KeyKind::Rsa2048);
    write_signer(dir.path(), &recipient);
    let sealed = encrypt(BODY, &recipient.certificate, ContentCipher::Aes128Cbc).unwrap();
    let wrapped_at = sealed.windows(4).position(|window| window == [4, 0x82, 1, 0]).unwrap() + 4;
    let wrap = |start: [u8; 2], zero_at: Option<usize>| {
        let mut block = vec![0x5c; 256];
        block[..2].copy_from_slice(&start);
        if let Some(at) = zero_at {
            block[at] = 0;
        }
        std::fs::write(dir.path().join("block"), &block).unwrap();
        let base = ["pkeyutl", "-encrypt", "-certin", "-inkey", "cert.pem", "-in", "block"];
        openssl(
            dir.path(),
            &[&base[..], &["-pkeyopt", "rsa_padding_mode:none"]].concat(),
        )
    };
    let wrapped = [
        ("good padding, key of 16 octets", wrap([0, 2], Some(239))),
        ("good padding, key of 15 octets", wrap([0, 2], Some(240))),
        ("good padding, empty key", wrap([0, 2], Some(255))),
        ("block type 1", wrap([0, 1], Some(239))),
        ("no separator", wrap([0, 2], None)),
        ("separator too early", wrap([0, 2], Some(5))),
        ("above the modulus", vec![0xff; 256]),
    ];
    for (what, wrapped) in wrapped {
        let mut forged = sealed.clone();
        forged[wrapped_at..wrapped_at + 256].copy_from_slice(&wrapped);
        // A wrong key makes the padding of the content valid about once in 256 times; then garbage comes out.
        match decrypt(
            &forged,
            &recipient.certificate,
            &recipient.key,
            &DecryptPolicy::default(),
        ) {
            Ok(garbage) => assert_ne!(garbage.as_slice(), BODY, "{what}"),
            Err(error) => assert_eq!(error, DecryptError::Failed, "{what}"),
        }
    }
}

#[test]
fn openssl_sees_a_changed_body() {
    let dir = tempfile::tempdir().unwrap();
    let signer = transport(KeyKind::P256);
    write_signer(dir.path(), &signer);
    std::fs::write(
        dir.path().join("detached.der"),
        sign_detached(b"other", &signer).unwrap(),
    )
    .unwrap();
    let verify = [
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-noverify",
        "-in",
        "detached.der",
        "-content",
        "body",
    ];
    assert!(!try_openssl(dir.path(), &verify).0);
}
