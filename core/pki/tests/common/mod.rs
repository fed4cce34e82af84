//! Fixtures that the test files share. Keys are made anew in each test process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use russet_pki::Certificate;
use russet_pki::ca::{CaOptions, CertificateAuthority, DeviceCertificate, self_signed};
use russet_pki::cms::Signer;
use russet_pki::csr::CertificateRequest;
use russet_pki::key::{KeyKind, PrivateKey};
use russet_pki::name::Name;

pub fn now() -> Timestamp {
    "2026-10-01T12:00:00Z".parse().unwrap()
}

pub const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

pub fn ca(key: KeyKind) -> CertificateAuthority {
    ca_named("Test CA", key, now())
}

pub fn ca_named(name: &str, key: KeyKind, now: Timestamp) -> CertificateAuthority {
    let options = CaOptions {
        common_name: name.into(),
        organization: "Russet".into(),
        key,
        lifetime: YEAR * 10,
    };
    CertificateAuthority::generate(&options, now).unwrap()
}

/// A device's identity issued by `ca`.
pub fn device(ca: &CertificateAuthority, kind: KeyKind) -> Signer {
    let key = PrivateKey::generate(kind).unwrap();
    let csr = CertificateRequest::build(&Name::common("wish"), None, &key).unwrap();
    Signer::new(issue(ca, &csr), key)
}

pub fn issue(ca: &CertificateAuthority, csr: &CertificateRequest) -> Certificate {
    let wanted = DeviceCertificate {
        common_name: "device".into(),
        extra: Vec::new(),
        lifetime: YEAR,
    };
    ca.issue_device(csr, &wanted, now()).unwrap().certificate
}

/// A self-signed certificate with its key.
pub fn transport(kind: KeyKind) -> Signer {
    let key = PrivateKey::generate(kind).unwrap();
    Signer::new(self_signed(&Name::common("transport"), &key, YEAR, now()).unwrap(), key)
}

/// Runs `openssl` in `dir`; fails the test with its messages when it fails.
pub fn openssl(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let (success, out, messages) = try_openssl(dir, arguments);
    assert!(success, "openssl {} failed: {messages}", arguments.join(" "));
    out
}

/// Runs `openssl` in `dir`: success, standard output, messages.
pub fn try_openssl(dir: &Path, arguments: &[&str]) -> (bool, Vec<u8>, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("the openssl command line is needed (apt-get install openssl): {error}"));
    (
        output.status.success(),
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
