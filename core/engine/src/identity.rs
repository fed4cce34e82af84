//! Who sends a message: one certificate, however it came, checked the same way.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use russet_pki::{Certificate, ChainError, SignaturePolicy, mdm_signature, rfc9440};

use crate::{Engine, IdentityError};

/// A certificate that leads to the server's device authority and is valid now. Whether it may speak for the enrollment
/// that a message names is decided with the message.
#[derive(Clone, Debug)]
pub struct DeviceIdentity {
    /// The certificate.
    pub certificate: Certificate,
}

impl DeviceIdentity {
    /// The digest by which the store knows the certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.certificate.sha256()
    }
}

/// The most verified certificates that are remembered: about 10 MB.
const REMEMBERED: usize = 100_000;

/// Certificates whose chain was verified: the check is half of the cost of a signed message.
#[derive(Debug, Default)]
pub(crate) struct VerifiedIdentities(Mutex<HashMap<[u8; 32], (Timestamp, Timestamp)>>);

impl VerifiedIdentities {
    fn validity(&self, sha256: &[u8; 32]) -> Option<(Timestamp, Timestamp)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sha256)
            .copied()
    }

    fn remember(&self, certificate: &Certificate) {
        let mut verified = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(
            certificate.sha256(),
            (certificate.not_before(), certificate.not_after()),
        );
    }
}

impl Engine {
    /// Identity from a TLS client certificate, in DER.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn identity_from_tls(&self, der: &[u8], now: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        let certificate = Certificate::parse(der).map_err(|error| IdentityError::Signature(error.to_string()))?;
        self.verify(certificate, now)
    }

    /// Identity from an `Mdm-Signature` header: a detached CMS signature of the body, in base64.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn identity_from_signature(
        &self,
        header: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<DeviceIdentity, IdentityError> {
        let certificate = mdm_signature::verify(header, body, &self.signature_policy())
            .map_err(|error| IdentityError::Signature(error.to_string()))?;
        self.verify(certificate, now)
    }

    /// Whether an `Mdm-Signature` header has a certificate of a device of this server: asked before the body is read, which
    /// a stranger could make large. Proves nothing; [`identity_from_signature`](Self::identity_from_signature) does.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn check_signature_header(&self, header: &str, now: Timestamp) -> Result<(), IdentityError> {
        let certificates = mdm_signature::certificates(header, &self.signature_policy())
            .map_err(|error| IdentityError::Signature(error.to_string()))?;
        let mut refusal = IdentityError::Signature("it has no certificate".to_owned());
        for certificate in certificates {
            match self.verify(certificate, now) {
                Ok(_) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Identity from the header of a trusted proxy (RFC 9440). The caller has checked that the proxy is trusted.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn identity_from_proxy(&self, header: &str, now: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        let certificate =
            rfc9440::parse_client_cert(header).map_err(|error| IdentityError::Signature(error.to_string()))?;
        self.verify(certificate, now)
    }

    pub(crate) fn signature_policy(&self) -> SignaturePolicy {
        if self.inner.settings.enrollment.legacy_algorithms {
            SignaturePolicy::legacy()
        } else {
            SignaturePolicy::strict()
        }
    }

    pub(crate) fn verify(&self, certificate: Certificate, now: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        match self.inner.verified.validity(&certificate.sha256()) {
            Some((not_before, not_after)) => {
                if now < not_before || now > not_after {
                    return Err(IdentityError::NotValidNow);
                }
            }
            None => {
                self.inner
                    .authorities
                    .device_anchors
                    .verify_chain(&certificate, &[], now)
                    .map_err(|error| match error {
                        ChainError::Expired { .. } | ChainError::NotYetValid { .. } => IdentityError::NotValidNow,
                        _ => IdentityError::UnknownAuthority,
                    })?;
                self.inner.verified.remember(&certificate);
            }
        }
        Ok(DeviceIdentity { certificate })
    }
}
