//! The MDM push certificate: what Apple's push certificate portal hands out, with the key that its request was made for.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::pem::{LineEnding, encode_string};
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::time::Time;

/// `userId` (RFC 4519 section 2.39), the subject attribute in which Apple puts the topic.
const USER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1");

/// What every topic of device management begins with.
const TOPIC_PREFIX: &str = "com.apple.mgmt.";

/// An MDM push certificate and its private key, checked against each other.
///
/// Cheap to clone. The key is held by the cryptography library, which clears it from memory when the last clone goes.
#[derive(Clone)]
pub struct PushCertificate {
    topic: String,
    not_before: Timestamp,
    not_after: Timestamp,
    certified_key: Arc<CertifiedKey>,
}

impl PushCertificate {
    /// Reads a certificate (with any intermediates after it) and its unencrypted private key (PKCS #8, PKCS #1 or
    /// SEC 1) from PEM.
    ///
    /// Both arguments may be the same file, if that holds the certificate and the key. An expired certificate is
    /// accepted, so that it can be shown; see [`not_after`](Self::not_after).
    ///
    /// # Errors
    ///
    /// If either part is absent, unreadable or encrypted, if the key is not the certificate's, or if the certificate is
    /// not one for MDM pushes.
    pub fn from_pem(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, PushCertificateError> {
        let chain = CertificateDer::pem_slice_iter(cert_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| PushCertificateError::MalformedCertificate)?;
        let leaf = chain.first().ok_or(PushCertificateError::NoCertificate)?;
        let leaf = Certificate::from_der(leaf).map_err(|_| PushCertificateError::MalformedCertificate)?;
        let topic = topic_of(&leaf)?;
        let validity = leaf.tbs_certificate().validity();
        let not_before = timestamp(&validity.not_before)?;
        let not_after = timestamp(&validity.not_after)?;

        let key = read_key(key_pem)?;
        let certified_key =
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PushCertificateError::KeyMismatch,
                rustls::Error::InvalidCertificate(_) => PushCertificateError::MalformedCertificate,
                _ => PushCertificateError::UnusableKey,
            })?;
        Ok(Self {
            topic,
            not_before,
            not_after,
            certified_key: Arc::new(certified_key),
        })
    }

    /// The APNs topic, for example `com.apple.mgmt.External.5e2b9f1c-…`. The MDM payload of every profile must name it.
    ///
    /// A renewed certificate keeps its topic only if it is renewed with the Apple account that made the first one.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The first moment at which the certificate is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last moment at which the certificate is valid; APNs refuses every push after it. Apple issues for one year.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificate and its intermediates as PEM, without the key.
    pub fn certificate_pem(&self) -> String {
        self.certified_key
            .cert
            .iter()
            .filter_map(|der| encode_string("CERTIFICATE", LineEnding::LF, der).ok())
            .collect()
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified_key)
    }
}

/// Topic and expiry only: never the key.
impl fmt::Debug for PushCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushCertificate")
            .field("topic", &self.topic)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why a push certificate could not be read. The texts are meant for the person who uploads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushCertificateError {
    /// The PEM holds no `CERTIFICATE` section.
    #[error("no certificate found; upload the .pem file from Apple's push certificate portal (identity.apple.com)")]
    NoCertificate,
    /// A certificate is not valid PEM or not valid X.509.
    #[error("the certificate cannot be read; upload the .pem file from Apple's push certificate portal unchanged")]
    MalformedCertificate,
    /// The subject has no `userId` attribute.
    #[error(
        "the certificate names no topic (its subject has no UID); \
         upload the MDM push certificate from identity.apple.com, not another certificate"
    )]
    NoTopic,
    /// The `userId` attribute is not a topic of device management.
    #[error(
        "the certificate is for {found}, not for device management (the topic must begin with com.apple.mgmt.); \
         make an MDM push certificate at identity.apple.com"
    )]
    NotForManagement {
        /// The topic in the certificate.
        found: String,
    },
    /// The PEM holds no private key.
    #[error("no private key found; upload the key that the certificate request was made with, as PEM")]
    NoKey,
    /// The private key is protected by a passphrase.
    #[error("the private key is encrypted; decrypt it first, for example: openssl pkey -in key.pem -out plain-key.pem")]
    EncryptedKey,
    /// The private key is not valid, of an unsupported kind, or too weak (RSA below 2048 bits).
    #[error("the private key cannot be used; it must be an RSA key of at least 2048 bits or an EC key, as PEM")]
    UnusableKey,
    /// The private key belongs to another certificate.
    #[error(
        "the private key does not belong to the certificate; \
         upload the key that this certificate's request was made with"
    )]
    KeyMismatch,
}

fn topic_of(certificate: &Certificate) -> Result<String, PushCertificateError> {
    let attribute = certificate
        .tbs_certificate()
        .subject()
        .iter()
        .find(|attribute| attribute.oid == USER_ID)
        .ok_or(PushCertificateError::NoTopic)?;
    let text = match attribute.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => std::str::from_utf8(attribute.value.value()).ok(),
        _ => None,
    };
    let topic = text.ok_or(PushCertificateError::NoTopic)?;
    // The topic becomes a header value and part of log lines, so nothing but visible ASCII passes.
    if !topic.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(PushCertificateError::NoTopic);
    }
    match topic.strip_prefix(TOPIC_PREFIX) {
        Some(rest) if !rest.is_empty() => Ok(topic.to_owned()),
        _ => Err(PushCertificateError::NotForManagement {
            found: topic.to_owned(),
        }),
    }
}

fn timestamp(time: &Time) -> Result<Timestamp, PushCertificateError> {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or(PushCertificateError::MalformedCertificate)
}

fn read_key(key_pem: &[u8]) -> Result<PrivateKeyDer<'static>, PushCertificateError> {
    // PKCS #8 says "encrypted" in its label, the older forms in a header that the PEM reader skips.
    let encrypted = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];
    if encrypted
        .iter()
        .any(|mark| key_pem.windows(mark.len()).any(|window| window == mark.as_bytes()))
    {
        return Err(PushCertificateError::EncryptedKey);
    }
    // rustls takes the key by value and clears it after loading; on the error path there is no key to clear.
    PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        pem::Error::NoItemsFound => PushCertificateError::NoKey,
        _ => PushCertificateError::UnusableKey,
    })
}
