//! A client certificate in a header from a proxy that ended TLS: `Client-Cert` of RFC 9440 (`:base64:`), and
//! URL-encoded PEM as nginx writes it in `$ssl_client_escaped_cert`.
//!
//! The header proves nothing by itself: the caller takes it only from a proxy that it trusts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certificate::{Certificate, CertificateError};
use crate::encoding;

/// Longest header value that is read, in characters.
pub const MAX_HEADER_LEN: usize = 64 * 1024;

/// Why a header is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientCertError {
    /// Longer than [`MAX_HEADER_LEN`].
    #[error("the client certificate header is longer than 64 KiB")]
    TooLong,
    /// Neither form.
    #[error("the client certificate header is neither :base64: (RFC 9440) nor URL-encoded PEM; check the proxy")]
    Format,
    /// The certificate is broken.
    #[error("the client certificate header: {0}")]
    Certificate(#[from] CertificateError),
}

/// Reads the certificate out of a header value, in either form.
///
/// # Errors
/// [`ClientCertError`].
pub fn parse_client_cert(header: &str) -> Result<Certificate, ClientCertError> {
    if header.len() > MAX_HEADER_LEN {
        return Err(ClientCertError::TooLong);
    }
    let header = header.trim();
    if let Some(inner) = header.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')) {
        let der = encoding::base64(inner).ok_or(ClientCertError::Format)?;
        return Ok(Certificate::parse(&der)?);
    }
    if header.starts_with("-----BEGIN") {
        let text = encoding::percent(header).ok_or(ClientCertError::Format)?;
        return Ok(Certificate::from_pem(&text)?);
    }
    Err(ClientCertError::Format)
}

/// Writes a certificate as RFC 9440 does.
pub fn to_header(certificate: &Certificate) -> String {
    format!(":{}:", STANDARD.encode(certificate.der()))
}
