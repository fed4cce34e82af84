//! The `Mdm-Signature` header: base64 of a detached CMS signature over the body of a device's request, sent when the MDM
//! payload has `SignMessage` (Apple, "Mobile Device Management" payload).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::algorithm::SignaturePolicy;
use crate::certificate::Certificate;
use crate::cms::{self, CmsError, SignError, Signer};
use crate::encoding;

/// Longest header value that is read, in characters; devices send about 2,000.
pub const MAX_HEADER_LEN: usize = 64 * 1024;

/// Why a header is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MdmSignatureError {
    /// Longer than [`MAX_HEADER_LEN`].
    #[error("the Mdm-Signature header is longer than 64 KiB")]
    TooLong,
    /// Not base64.
    #[error("the Mdm-Signature header is not base64")]
    Base64,
    /// The signature is not acceptable.
    #[error("Mdm-Signature: {0}")]
    Cms(#[from] CmsError),
}

/// Verifies the header over the body, byte for byte as received, and returns the signer's certificate. Whether that
/// certificate is trusted and belongs to the enrollment is for the caller to check.
///
/// # Errors
/// [`MdmSignatureError`].
pub fn verify(header: &str, body: &[u8], policy: &SignaturePolicy) -> Result<Certificate, MdmSignatureError> {
    MdmSignature::parse(header, policy)?.verify(body, policy)
}

/// A header that was read, with no signature checked: enough to refuse a stranger before the body is read.
#[derive(Debug, Clone)]
pub struct MdmSignature {
    der: Vec<u8>,
    certificates: Vec<Certificate>,
}

impl MdmSignature {
    /// Reads a header.
    ///
    /// # Errors
    /// [`MdmSignatureError`].
    pub fn parse(header: &str, policy: &SignaturePolicy) -> Result<Self, MdmSignatureError> {
        if header.len() > MAX_HEADER_LEN {
            return Err(MdmSignatureError::TooLong);
        }
        let signature = encoding::base64(header).ok_or(MdmSignatureError::Base64)?;
        let converted = match cms::to_der(&signature, policy.max_len).map_err(CmsError::from)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(der) => Some(der),
        };
        let der = converted.unwrap_or(signature);
        let certificates = cms::SignedData::parse(&der, policy.max_certificates)?.certificates;
        Ok(Self { der, certificates })
    }

    /// The certificates in it. Nothing is proven of them.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Verifies it over the body, byte for byte as received, and returns the signer's certificate. Whether that certificate
    /// is trusted and belongs to the enrollment is for the caller to check.
    ///
    /// # Errors
    /// [`MdmSignatureError`].
    pub fn verify(self, body: &[u8], policy: &SignaturePolicy) -> Result<Certificate, MdmSignatureError> {
        Ok(cms::verify_detached_again(&self.der, self.certificates, body, policy)?.signer)
    }
}

/// Signs a body and returns the header's value: the device's side.
///
/// # Errors
/// [`SignError`].
pub fn sign(body: &[u8], signer: &Signer) -> Result<String, SignError> {
    Ok(STANDARD.encode(cms::sign_detached(body, signer)?))
}
