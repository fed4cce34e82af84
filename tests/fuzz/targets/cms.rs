//! CMS messages, certificates and requests of strangers.
#![no_main]

mod support;

use std::str;

use libfuzzer_sys::fuzz_target;
use russet_pki::cms::{DecryptPolicy, certificates, decrypt, verify_attached, verify_detached};
use russet_pki::csr::{CertificateRequest, KeyPolicy};
use russet_pki::{Certificate, SignaturePolicy, ber, mdm_signature, rfc9440};

fuzz_target!(|input: &[u8]| {
    let message = support::message(input);
    if let Ok(der) = ber::to_der(&message, 32, 1 << 20) {
        let again = ber::to_der(&der, 32, 1 << 20).expect("DER is BER");
        assert_eq!(again, der, "what is DER stays as it is");
    }
    for policy in [SignaturePolicy::strict(), SignaturePolicy::legacy()] {
        let _ = verify_attached(&message, &policy);
        let _ = verify_detached(&message, b"content", &policy);
        let _ = certificates(&message, &policy);
    }
    for (certificate, key) in &support::MESSAGES.recipients {
        let policy = DecryptPolicy {
            legacy: true,
            ..DecryptPolicy::default()
        };
        let _ = decrypt(&message, certificate, key, &policy);
    }
    if let Ok(certificate) = Certificate::parse(&message) {
        let again = Certificate::parse(certificate.der()).expect("a certificate reads back");
        assert_eq!(again, certificate);
        let _ = (
            certificate.common_name(),
            certificate.serial_hex(),
            certificate.ip_addresses().len(),
        );
    }
    let _ = CertificateRequest::parse(&message, KeyPolicy::default());
    if let Ok(header) = str::from_utf8(&message) {
        let _ = mdm_signature::verify(header, b"content", &SignaturePolicy::strict());
        let _ = rfc9440::parse_client_cert(header);
        let _ = Certificate::chain_from_pem(header);
    }
});
