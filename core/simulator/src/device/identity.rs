//! The certificate that a device got from its management server, and the ways in which it shows it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use russet_pki::cms::Signer;
use russet_pki::key::PrivateKey;
use russet_pki::{Certificate, mdm_signature};

use super::error::DeviceError;
use super::legacy;

/// A certificate and its key. Cloning shares the key.
#[derive(Clone)]
pub struct Identity {
    certificate: Certificate,
    key: PrivateKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.certificate).finish()
    }
}

impl Identity {
    /// An identity of a device; a test may give a device one that it should not have.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Self {
        Self { certificate, key }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::new(self.certificate.clone(), self.key.clone())
    }
}

/// How a device shows its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdentityMode {
    /// As a real device: a TLS client certificate when the server asks for one, and the `Mdm-Signature` header when the
    /// profile's `SignMessage` says so.
    #[default]
    AsProfileSays,
    /// A TLS client certificate only.
    ClientCertificate,
    /// The `Mdm-Signature` header only.
    MdmSignature,
    /// A header, as from a proxy that ended TLS, in the form of RFC 9440 (`:base64:`).
    ProxyHeader(HeaderName),
    /// Not at all: what the server must refuse.
    None,
}

/// The digest of `Mdm-Signature`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureDigest {
    /// SHA-256, as today's systems.
    #[default]
    Sha256,
    /// SHA-1, as old systems; RSA identities only.
    Sha1,
}

impl IdentityMode {
    /// Whether TLS presents the client certificate.
    pub(crate) fn in_tls(&self) -> bool {
        matches!(self, Self::AsProfileSays | Self::ClientCertificate)
    }

    /// Adds what the mode puts into headers.
    pub(crate) fn apply(
        &self,
        headers: &mut HeaderMap,
        identity: &Identity,
        sign_message: bool,
        digest: SignatureDigest,
        body: &[u8],
    ) -> Result<(), DeviceError> {
        match self {
            Self::AsProfileSays if sign_message => sign(headers, identity, digest, body),
            Self::MdmSignature => sign(headers, identity, digest, body),
            Self::ProxyHeader(name) => {
                let value = format!(":{}:", BASE64.encode(identity.certificate.der()));
                headers.insert(name.clone(), header_value(&value)?);
                Ok(())
            }
            Self::AsProfileSays | Self::ClientCertificate | Self::None => Ok(()),
        }
    }
}

/// Makes the value of the `Mdm-Signature` header for a body.
///
/// # Errors
/// [`DeviceError::Crypto`] when the key cannot sign so.
pub fn signature_header(identity: &Identity, digest: SignatureDigest, body: &[u8]) -> Result<String, DeviceError> {
    match digest {
        SignatureDigest::Sha256 => mdm_signature::sign(body, &identity.signer()).map_err(DeviceError::crypto),
        SignatureDigest::Sha1 => Ok(BASE64.encode(legacy::sign_detached_sha1(identity, body)?)),
    }
}

fn sign(headers: &mut HeaderMap, identity: &Identity, digest: SignatureDigest, body: &[u8]) -> Result<(), DeviceError> {
    let value = signature_header(identity, digest, body)?;
    headers.insert(HeaderName::from_static("mdm-signature"), header_value(&value)?);
    Ok(())
}

fn header_value(text: &str) -> Result<HeaderValue, DeviceError> {
    HeaderValue::from_str(text).map_err(DeviceError::crypto)
}
