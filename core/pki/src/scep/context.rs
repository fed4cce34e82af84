//! What the server's side needs for every message, and the two answers that need no request.

use crate::ca::CertificateAuthority;
use crate::certificate::Certificate;
use crate::cms::{self, Signer};
use crate::key::{PrivateKey, PublicKeyKind};
use crate::scep::request::ScepError;
use crate::scep::{CA_CERT_TYPE, CA_RA_CERT_TYPE};

/// Which requests to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScepPolicy {
    /// Also accept single DES, SHA-1 and RSA keys of 1,024 to 2,047 bits, which old clients still use.
    pub legacy: bool,
    /// Largest message in octets.
    pub max_len: usize,
}

impl Default for ScepPolicy {
    fn default() -> Self {
        Self {
            legacy: false,
            max_len: 128 * 1024,
        }
    }
}

/// Who answers: the CA's chain, and the certificate and key that open requests and sign replies.
#[derive(Debug, Clone)]
pub struct RaContext {
    pub(super) chain: Vec<Certificate>,
    pub(super) certificate: Certificate,
    pub(super) key: PrivateKey,
}

impl RaContext {
    /// The CA answers itself. Its key must be RSA.
    ///
    /// # Errors
    /// [`ScepError::RaKey`].
    pub fn from_ca(ca: &CertificateAuthority) -> Result<Self, ScepError> {
        Self::new(ca.chain().to_vec(), ca.certificate().clone(), ca.key().clone())
    }

    /// A registration authority answers for a CA (see [`crate::ca::SignerUse::ScepRa`]); `chain` is the CA's
    /// certificate and what is above it.
    ///
    /// # Errors
    /// [`ScepError::RaKey`] when the key is not RSA or not the certificate's.
    pub fn new(chain: Vec<Certificate>, certificate: Certificate, key: PrivateKey) -> Result<Self, ScepError> {
        let rsa = matches!(certificate.public_key().kind(), PublicKeyKind::Rsa { .. });
        if !rsa || certificate.public_key_der() != key.public_key_der() {
            return Err(ScepError::RaKey);
        }
        Ok(Self {
            chain,
            certificate,
            key,
        })
    }

    /// The certificate that requests are encrypted for and replies are signed with.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn signer(&self) -> Signer {
        Signer::new(self.certificate.clone(), self.key.clone())
    }
}

/// The answer to `GetCACaps` (RFC 8894 section 3.5.2), `text/plain`. Single DES has no keyword.
pub fn capabilities(policy: &ScepPolicy) -> String {
    let mut all = vec![
        "AES",
        "DES3",
        "POSTPKIOperation",
        "Renewal",
        "SCEPStandard",
        "SHA-256",
        "SHA-512",
    ];
    if policy.legacy {
        all.push("SHA-1");
    }
    all.join("\n") + "\n"
}

/// The answer to `GetCACert`: content type and body. One certificate when the CA stands alone, otherwise a
/// certificates-only message with the RA's certificate first.
pub fn ca_certificates(context: &RaContext) -> (&'static str, Vec<u8>) {
    if context
        .chain
        .iter()
        .all(|certificate| *certificate == context.certificate)
    {
        return (CA_CERT_TYPE, context.certificate.der().to_vec());
    }
    let mut all = vec![context.certificate.clone()];
    all.extend(context.chain.iter().cloned());
    (CA_RA_CERT_TYPE, cms::certs_only(&all))
}
