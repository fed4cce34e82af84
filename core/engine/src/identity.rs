//! Who sends a message: one certificate, however it came, checked the same way.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use russet_pki::mdm_signature::MdmSignature;
use russet_pki::{Certificate, ChainError, SignaturePolicy, rfc9440};

use crate::import::ForeignIdentity;
use crate::{Engine, IdentityError};

/// A certificate that leads to the server's device authority, or to one of another server that a tenant trusts for its
/// imported devices, and is valid now. Whether it may speak for the enrollment
/// that a message names is decided with the message.
#[derive(Clone, Debug)]
pub struct DeviceIdentity {
    /// The certificate.
    pub certificate: Certificate,
    /// Set where the server's own authority did not issue it.
    pub(crate) foreign: Option<ForeignIdentity>,
}

impl DeviceIdentity {
    /// The digest by which the store knows the certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.certificate.sha256()
    }
}

/// The most verified certificates that are remembered: about 10 MB.
const REMEMBERED: usize = 100_000;

/// Certificates whose chain was verified, with the end of their validity: the check is half of the cost of a signed message.
#[derive(Debug, Default)]
pub(crate) struct VerifiedIdentities(Mutex<HashMap<[u8; 32], Timestamp>>);

impl VerifiedIdentities {
    fn not_after(&self, sha256: &[u8; 32]) -> Option<Timestamp> {
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
        verified.insert(certificate.sha256(), certificate.not_after());
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

    /// Identity from an `Mdm-Signature` header that was [read](Self::signature): a detached CMS signature of the body.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn identity_from_signature(
        &self,
        signature: MdmSignature,
        body: &[u8],
        now: Timestamp,
    ) -> Result<DeviceIdentity, IdentityError> {
        let certificate = signature
            .verify(body, &self.signature_policy())
            .map_err(|error| IdentityError::Signature(error.to_string()))?;
        self.verify(certificate, now)
    }

    /// Reads an `Mdm-Signature` header, in base64, and refuses one without a certificate of a device of this server: before
    /// the body is read, which a stranger could make large. Proves nothing;
    /// [`identity_from_signature`](Self::identity_from_signature) does.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn signature(&self, header: &str, now: Timestamp) -> Result<MdmSignature, IdentityError> {
        let signature = MdmSignature::parse(header, &self.signature_policy())
            .map_err(|error| IdentityError::Signature(error.to_string()))?;
        let mut refusal = IdentityError::Signature("it has no certificate".to_owned());
        for certificate in signature.certificates() {
            match self.verify(certificate.clone(), now) {
                Ok(_) => return Ok(signature),
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

    /// A certificate of this server's authority is good from the moment that it was issued, whatever it says: a clock that
    /// was ahead then must not lock out its device, which could not even renew, until that time has come.
    pub(crate) fn verify(&self, certificate: Certificate, now: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        match self.inner.verified.not_after(&certificate.sha256()) {
            Some(not_after) => {
                if now > not_after {
                    return Err(IdentityError::NotValidNow);
                }
            }
            None => match self.inner.authorities.device_anchors.verify_chain(
                &certificate,
                &[],
                now.max(certificate.not_before()),
            ) {
                Ok(()) => self.inner.verified.remember(&certificate),
                Err(ChainError::Expired { .. } | ChainError::NotYetValid { .. }) => {
                    return Err(IdentityError::NotValidNow);
                }
                Err(_) => {
                    let foreign = Some(self.inner.others.verify(&certificate, now)?);
                    return Ok(DeviceIdentity { certificate, foreign });
                }
            },
        }
        Ok(DeviceIdentity {
            certificate,
            foreign: None,
        })
    }
}
