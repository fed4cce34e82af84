//! The `Mdm-Signature` header: base64 of a detached CMS signature over the body of a device's request, sent when the MDM
//! payload has `SignMessage` (Apple, "Mobile Device Management" payload).

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
    if header.len() > MAX_HEADER_LEN {
        return Err(MdmSignatureError::TooLong);
    }
    let signature = encoding::base64(header).ok_or(MdmSignatureError::Base64)?;
    Ok(cms::verify_detached(&signature, body, policy)?.signer)
}

/// The certificates in the header, with no signature checked: enough to refuse a stranger before the body is read.
///
/// # Errors
/// [`MdmSignatureError`].
pub fn certificates(header: &str, policy: &SignaturePolicy) -> Result<Vec<Certificate>, MdmSignatureError> {
    if header.len() > MAX_HEADER_LEN {
        return Err(MdmSignatureError::TooLong);
    }
    let signature = encoding::base64(header).ok_or(MdmSignatureError::Base64)?;
    Ok(cms::certificates(&signature, policy)?)
}

/// Signs a body and returns the header's value: the device's side.
///
/// # Errors
/// [`SignError`].
pub fn sign(body: &[u8], signer: &Signer) -> Result<String, SignError> {
    Ok(STANDARD.encode(cms::sign_detached(body, signer)?))
}
