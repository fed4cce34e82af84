//! What is wrong with a configuration, collected so that the operator sees all of it at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The key, such as `server.public_url`.
    pub key: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            key: key.into(),
            message: message.into(),
        });
    }

    /// Adds a problem if `value` lies outside `allowed`.
    pub(crate) fn range<T: PartialOrd + fmt::Display>(&mut self, key: &str, value: T, allowed: RangeInclusive<T>) {
        if !allowed.contains(&value) {
            self.add(
                key,
                format!("must be between {} and {}", allowed.start(), allowed.end()),
            );
        }
    }

    /// Adds a problem if `text` has nothing in it.
    pub(crate) fn not_empty(&mut self, key: &str, text: &str) {
        if text.trim().is_empty() {
            self.add(key, "must not be empty");
        }
    }
}

/// The certificates in a PEM file; a problem if there are none.
pub(crate) fn certificates(key: &str, path: &Path, problems: &mut Problems) -> Option<Vec<CertificateDer<'static>>> {
    let pem = read(key, path, problems)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        _ => {
            problems.add(key, format!("{} holds no certificate in PEM", path.display()));
            None
        }
    }
}

/// The private key in a PEM file; a problem if there is none.
pub(crate) fn private_key(key: &str, path: &Path, problems: &mut Problems) -> Option<PrivateKeyDer<'static>> {
    let pem = zeroize::Zeroizing::new(read(key, path, problems)?);
    if let Ok(found) = PrivateKeyDer::from_pem_slice(&pem) {
        return Some(found);
    }
    let encrypted = String::from_utf8_lossy(&pem).contains("BEGIN ENCRYPTED PRIVATE KEY");
    problems.add(
        key,
        if encrypted {
            format!(
                "{} is encrypted; decrypt it, for example with `openssl pkey -in … -out …`",
                path.display()
            )
        } else {
            format!("{} holds no private key in PEM", path.display())
        },
    );
    None
}

/// The bytes of a file; a problem if it can not be read.
pub(crate) fn read(key: &str, path: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            problems.add(key, format!("{} can not be read: {error}", path.display()));
            None
        }
    }
}
