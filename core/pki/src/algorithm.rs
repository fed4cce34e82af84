//! Digest and signature algorithms: their identifiers on the wire, and the policy that decides which are accepted.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as sig, VerificationAlgorithm};

use crate::ObjectIdentifier;
use crate::asn1::{self, Asn1Error, Cursor, Element, NULL};
use crate::key::{PublicKey, PublicKeyKind};
use crate::oid;

/// A message digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-1: verified only under a legacy policy, never made.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    pub(crate) fn from_oid(value: ObjectIdentifier) -> Option<Self> {
        match value {
            oid::SHA1 => Some(Self::Sha1),
            oid::SHA256 => Some(Self::Sha256),
            oid::SHA384 => Some(Self::Sha384),
            oid::SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => oid::SHA1,
            Self::Sha256 => oid::SHA256,
            Self::Sha384 => oid::SHA384,
            Self::Sha512 => oid::SHA512,
        }
    }

    pub(crate) fn implementation(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// The digest of `bytes`.
    pub(crate) fn of(self, bytes: &[u8]) -> digest::Digest {
        digest::digest(self.implementation(), bytes)
    }
}

/// Which signatures to accept, and how large the message that carries them may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePolicy {
    /// Also accept SHA-1 and RSA keys of 1,024 to 2,047 bits.
    pub legacy: bool,
    /// Largest encoded message in octets.
    pub max_len: usize,
    /// Most certificates that a message may carry.
    pub max_certificates: usize,
}

impl SignaturePolicy {
    /// SHA-256 and better, RSA from 2,048 bits, P-256, P-384 and P-521; 1 MiB and 16 certificates at most.
    pub const fn strict() -> Self {
        Self {
            legacy: false,
            max_len: 1 << 20,
            max_certificates: 16,
        }
    }

    /// Like [`strict`](Self::strict), and SHA-1 and RSA from 1,024 bits too.
    pub const fn legacy() -> Self {
        Self {
            legacy: true,
            ..Self::strict()
        }
    }
}

impl Default for SignaturePolicy {
    fn default() -> Self {
        Self::strict()
    }
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The signature does not belong to this key and these bytes.
    #[error("the signature does not match; the content was changed or signed by another key")]
    Mismatch,
    /// Accepted only by a legacy policy.
    #[error("{0} is accepted only with the legacy setting; use SHA-256 and RSA 2048 or better")]
    Weak(&'static str),
    /// An algorithm this crate does not know, or one that does not fit the key.
    #[error("unsupported signature algorithm or key type")]
    Unsupported,
}

/// How a signature is padded or encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    RsaPkcs1,
    RsaPss,
    Ecdsa,
}

/// A signature algorithm as an AlgorithmIdentifier names it. CMS often names only the key type: then no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignatureAlgorithm {
    pub(crate) scheme: Scheme,
    pub(crate) digest: Option<Digest>,
}

impl SignatureAlgorithm {
    /// Parses an AlgorithmIdentifier; `None` for an unknown algorithm. Parameters NULL and absent are the same.
    pub(crate) fn parse(identifier: Element<'_>) -> Result<Option<Self>, Asn1Error> {
        let (algorithm, parameters) = identifier_parts(identifier)?;
        let fixed = |scheme, digest| Some(Self { scheme, digest });
        let found = match algorithm {
            oid::RSA_ENCRYPTION => fixed(Scheme::RsaPkcs1, None),
            oid::SHA1_WITH_RSA => fixed(Scheme::RsaPkcs1, Some(Digest::Sha1)),
            oid::SHA256_WITH_RSA => fixed(Scheme::RsaPkcs1, Some(Digest::Sha256)),
            oid::SHA384_WITH_RSA => fixed(Scheme::RsaPkcs1, Some(Digest::Sha384)),
            oid::SHA512_WITH_RSA => fixed(Scheme::RsaPkcs1, Some(Digest::Sha512)),
            oid::EC_PUBLIC_KEY => return Ok(fixed(Scheme::Ecdsa, None)),
            oid::ECDSA_WITH_SHA1 => fixed(Scheme::Ecdsa, Some(Digest::Sha1)),
            oid::ECDSA_WITH_SHA256 => fixed(Scheme::Ecdsa, Some(Digest::Sha256)),
            oid::ECDSA_WITH_SHA384 => fixed(Scheme::Ecdsa, Some(Digest::Sha384)),
            oid::ECDSA_WITH_SHA512 => fixed(Scheme::Ecdsa, Some(Digest::Sha512)),
            oid::RSA_PSS => return pss_digest(parameters).map(|digest| fixed(Scheme::RsaPss, Some(digest?))),
            _ => return Ok(None),
        };
        if parameters.is_some() {
            return Err(Asn1Error("unexpected signature algorithm parameters"));
        }
        Ok(found)
    }

    /// Checks `signature` over `message`. `digest` is what the message says beside the algorithm, when it says it.
    pub(crate) fn verify(
        self,
        key: &PublicKey,
        digest: Option<Digest>,
        message: &[u8],
        signature: &[u8],
        legacy: bool,
    ) -> Result<(), VerifyError> {
        let digest = match (self.digest, digest) {
            (Some(own), Some(stated)) if own != stated => return Err(VerifyError::Unsupported),
            (Some(digest), _) | (None, Some(digest)) => digest,
            (None, None) => return Err(VerifyError::Unsupported),
        };
        if digest == Digest::Sha1 && !legacy {
            return Err(VerifyError::Weak("SHA-1"));
        }
        let algorithm = self.implementation(key.kind(), digest, legacy)?;
        algorithm
            .verify_sig(key.key_octets(), message, signature)
            .map_err(|_| VerifyError::Mismatch)
    }

    fn implementation(
        self,
        key: PublicKeyKind,
        digest: Digest,
        legacy: bool,
    ) -> Result<&'static dyn VerificationAlgorithm, VerifyError> {
        use Digest::{Sha1, Sha256, Sha384, Sha512};
        use PublicKeyKind::{P256, P384, P521, Rsa};
        Ok(match (self.scheme, key, digest) {
            (Scheme::RsaPkcs1 | Scheme::RsaPss, Rsa { bits: 0..1024 }, _) => return Err(VerifyError::Unsupported),
            (Scheme::RsaPkcs1, Rsa { bits: 1024..2048 }, digest) => match digest {
                _ if !legacy => return Err(VerifyError::Weak("an RSA key below 2048 bits")),
                Sha1 => &sig::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
                Sha256 => &sig::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
                Sha512 => &sig::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
                Sha384 => return Err(VerifyError::Unsupported),
            },
            (Scheme::RsaPkcs1, Rsa { .. }, Sha1) => &sig::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (Scheme::RsaPkcs1, Rsa { .. }, Sha256) => &sig::RSA_PKCS1_2048_8192_SHA256,
            (Scheme::RsaPkcs1, Rsa { .. }, Sha384) => &sig::RSA_PKCS1_2048_8192_SHA384,
            (Scheme::RsaPkcs1, Rsa { .. }, Sha512) => &sig::RSA_PKCS1_2048_8192_SHA512,
            (Scheme::RsaPss, Rsa { .. }, Sha256) => &sig::RSA_PSS_2048_8192_SHA256,
            (Scheme::RsaPss, Rsa { .. }, Sha384) => &sig::RSA_PSS_2048_8192_SHA384,
            (Scheme::RsaPss, Rsa { .. }, Sha512) => &sig::RSA_PSS_2048_8192_SHA512,
            (Scheme::Ecdsa, P256, Sha1) => &sig::ECDSA_P256_SHA1_ASN1,
            (Scheme::Ecdsa, P256, Sha256) => &sig::ECDSA_P256_SHA256_ASN1,
            (Scheme::Ecdsa, P256, Sha384) => &sig::ECDSA_P256_SHA384_ASN1,
            (Scheme::Ecdsa, P256, Sha512) => &sig::ECDSA_P256_SHA512_ASN1,
            (Scheme::Ecdsa, P384, Sha256) => &sig::ECDSA_P384_SHA256_ASN1,
            (Scheme::Ecdsa, P384, Sha384) => &sig::ECDSA_P384_SHA384_ASN1,
            (Scheme::Ecdsa, P384, Sha512) => &sig::ECDSA_P384_SHA512_ASN1,
            (Scheme::Ecdsa, P521, Sha256) => &sig::ECDSA_P521_SHA256_ASN1,
            (Scheme::Ecdsa, P521, Sha384) => &sig::ECDSA_P521_SHA384_ASN1,
            (Scheme::Ecdsa, P521, Sha512) => &sig::ECDSA_P521_SHA512_ASN1,
            _ => return Err(VerifyError::Unsupported),
        })
    }
}

/// The digest of RSASSA-PSS-params (RFC 4055), whose defaults mean SHA-1, which PSS never had in practice.
fn pss_digest(parameters: Option<Element<'_>>) -> Result<Option<Digest>, Asn1Error> {
    let Some(parameters) = parameters else { return Ok(None) };
    let mut fields = Cursor::new(parameters.content);
    let Some(hash) = fields.optional(asn1::context(0))? else {
        return Ok(None);
    };
    let (algorithm, _) = identifier_parts(hash.cursor().next()?)?;
    Ok(Digest::from_oid(algorithm))
}

/// Splits an AlgorithmIdentifier into its OID and parameters; NULL parameters read as absent.
pub(crate) fn identifier_parts(identifier: Element<'_>) -> Result<(ObjectIdentifier, Option<Element<'_>>), Asn1Error> {
    if identifier.tag != asn1::SEQUENCE {
        return Err(Asn1Error("expected an algorithm identifier"));
    }
    let mut fields = identifier.cursor();
    let algorithm = fields.next()?.oid()?;
    let parameters = if fields.is_empty() { None } else { Some(fields.next()?) };
    fields.finish()?;
    Ok((algorithm, parameters.filter(|element| element.tag != NULL)))
}

/// Encodes an AlgorithmIdentifier with the given already encoded parameters (none when empty).
pub(crate) fn identifier(algorithm: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(algorithm), parameters])
}
