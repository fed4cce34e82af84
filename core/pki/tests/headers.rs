//! Certificates in a proxy's header.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use russet_pki::key::KeyKind;
use russet_pki::rfc9440::{ClientCertError, MAX_HEADER_LEN, parse_client_cert, to_header};

#[test]
fn both_forms_are_read() {
    let certificate = common::transport(KeyKind::P256).certificate;
    assert_eq!(parse_client_cert(&to_header(&certificate)).unwrap(), certificate);
    let escaped: String = certificate
        .to_pem()
        .chars()
        .map(|character| match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '~' => character.to_string(),
            other => format!("%{:02X}", u32::from(other)),
        })
        .collect();
    assert!(escaped.starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
    assert_eq!(parse_client_cert(&escaped).unwrap(), certificate);
}

#[test]
fn other_forms_are_refused() {
    for header in [
        "",
        ":",
        "::x",
        "MIIB",
        ":not base64:",
        "-----BEGIN%2",
        "-----BEGIN%ZZ",
        "-----BEGIN%FF",
    ] {
        assert!(parse_client_cert(header).is_err(), "{header}");
    }
    assert!(matches!(
        parse_client_cert(":AAAA:"),
        Err(ClientCertError::Certificate(_))
    ));
    assert_eq!(
        parse_client_cert(&"A".repeat(MAX_HEADER_LEN + 1)).unwrap_err(),
        ClientCertError::TooLong
    );
}
