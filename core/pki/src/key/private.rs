//! Private keys: generate, import, export, sign.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair};
use rustls_pki_types::pem::SectionKind;
use zeroize::Zeroizing;

use super::{PublicKey, PublicKeyKind};
use crate::algorithm::{Digest, identifier};
use crate::asn1::{self, Cursor, Element, OCTET_STRING, SEQUENCE};
use crate::{oid, pem};

/// Which key to generate, or which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA, 2,048 bits: what SCEP envelopes need.
    Rsa2048,
    /// RSA, 3,072 bits.
    Rsa3072,
    /// RSA, 4,096 bits.
    Rsa4096,
    /// NIST P-256: the fastest to sign with.
    P256,
    /// NIST P-384.
    P384,
}

/// Why a key could not be made, read or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No readable key in the bytes.
    #[error("not a private key; give PKCS#8, PKCS#1 or SEC1, unencrypted, as PEM or DER")]
    Malformed,
    /// The PEM holds an encrypted key.
    #[error("the private key is encrypted; decrypt it first (openssl pkey -in key.pem)")]
    Encrypted,
    /// A key of a type or size that is not supported.
    #[error("unsupported private key; use RSA of 2048, 3072 or 4096 bits, P-256 or P-384")]
    Unsupported,
    /// The cryptographic library refused, for instance for lack of randomness.
    #[error("the key operation failed")]
    Operation,
}

/// A private key. Cloning shares it; the encoded form is wiped when the last clone goes; `Debug` shows only the kind.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    kind: KeyKind,
    pair: Pair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Pair {
    Rsa {
        sign: rsa::KeyPair,
        decrypt: Pkcs1PrivateDecryptingKey,
    },
    Ec(EcdsaKeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("kind", &self.0.kind)
            .finish_non_exhaustive()
    }
}

impl PrivateKey {
    /// Generates a key.
    ///
    /// # Errors
    /// [`KeyError::Operation`] when the library cannot.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let rsa = |size| {
            let key = rsa::KeyPair::generate(size).map_err(|_| KeyError::Operation)?;
            let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| KeyError::Operation)?;
            Ok::<_, KeyError>(Zeroizing::new(der.as_ref().to_vec()))
        };
        let ec = |algorithm| {
            let key = EcdsaKeyPair::generate(algorithm).map_err(|_| KeyError::Operation)?;
            let document = key.to_pkcs8v1().map_err(|_| KeyError::Operation)?;
            Ok(Zeroizing::new(document.as_ref().to_vec()))
        };
        let pkcs8 = match kind {
            KeyKind::Rsa2048 => rsa(rsa::KeySize::Rsa2048)?,
            KeyKind::Rsa3072 => rsa(rsa::KeySize::Rsa3072)?,
            KeyKind::Rsa4096 => rsa(rsa::KeySize::Rsa4096)?,
            KeyKind::P256 => ec(&sig::ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeyKind::P384 => ec(&sig::ECDSA_P384_SHA384_ASN1_SIGNING)?,
        };
        Self::from_pkcs8(&pkcs8)
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5958).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] or [`KeyError::Unsupported`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let mut fields = Cursor::new(der).sequence().map_err(|_| KeyError::Malformed)?;
        fields.small_integer().map_err(|_| KeyError::Malformed)?;
        let algorithm = fields.next().map_err(|_| KeyError::Malformed)?;
        let (algorithm, parameters) = crate::algorithm::identifier_parts(algorithm).map_err(|_| KeyError::Malformed)?;
        let curve = parameters.and_then(|parameters| parameters.oid().ok());
        let pkcs8 = Zeroizing::new(der.to_vec());
        let (pair, public) = match (algorithm, curve) {
            (oid::RSA_ENCRYPTION, _) => {
                let sign = rsa::KeyPair::from_pkcs8(der).map_err(|_| KeyError::Unsupported)?;
                let decrypt = PrivateDecryptingKey::from_pkcs8(der)
                    .ok()
                    .and_then(|key| Pkcs1PrivateDecryptingKey::new(key).ok())
                    .ok_or(KeyError::Unsupported)?;
                let public = spki(sign.public_key())?;
                (Pair::Rsa { sign, decrypt }, public)
            }
            (oid::EC_PUBLIC_KEY, Some(oid::P256)) => ec_pair(&sig::ECDSA_P256_SHA256_ASN1_SIGNING, der)?,
            (oid::EC_PUBLIC_KEY, Some(oid::P384)) => ec_pair(&sig::ECDSA_P384_SHA384_ASN1_SIGNING, der)?,
            _ => return Err(KeyError::Unsupported),
        };
        let kind = match public.kind() {
            PublicKeyKind::Rsa { bits: 2048 } => KeyKind::Rsa2048,
            PublicKeyKind::Rsa { bits: 3072 } => KeyKind::Rsa3072,
            PublicKeyKind::Rsa { bits: 4096 } => KeyKind::Rsa4096,
            PublicKeyKind::P256 => KeyKind::P256,
            PublicKeyKind::P384 => KeyKind::P384,
            _ => return Err(KeyError::Unsupported),
        };
        Ok(Self(Arc::new(Inner {
            kind,
            pair,
            pkcs8,
            public,
        })))
    }

    /// Reads the first private key in a PEM text: PKCS#8, PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when there is none, [`KeyError::Encrypted`] when it is encrypted,
    /// [`KeyError::Unsupported`] for another type.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        for (kind, der) in pem::sections(text).ok_or(KeyError::Malformed)? {
            let der = Zeroizing::new(der);
            match kind {
                SectionKind::PrivateKey => return Self::from_pkcs8(&der),
                SectionKind::RsaPrivateKey => {
                    return Self::from_pkcs8(&wrap(&identifier(oid::RSA_ENCRYPTION, &asn1::null()), &der));
                }
                SectionKind::EcPrivateKey => {
                    let curve = sec1_curve(&der).ok_or(KeyError::Malformed)?;
                    return Self::from_pkcs8(&wrap(&identifier(oid::EC_PUBLIC_KEY, curve), &der));
                }
                _ => {}
            }
        }
        Err(KeyError::Malformed)
    }

    /// The PKCS#8 encoding, unencrypted: seal it before it is stored.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.0.pkcs8.clone()
    }

    /// The PKCS#8 encoding as PEM, unencrypted.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode("PRIVATE KEY", &self.0.pkcs8))
    }

    /// What the key is.
    pub fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// The public half as SubjectPublicKeyInfo.
    pub fn public_key_der(&self) -> &[u8] {
        self.0.public.der()
    }

    /// Signs a message: RSA PKCS#1 v1.5 with SHA-256, P-256 with SHA-256, P-384 with SHA-384 (ASN.1 form).
    ///
    /// # Errors
    /// [`KeyError::Operation`] when the library cannot.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign_with(self.digest(), message)
    }

    /// The digest that [`sign`](Self::sign) uses.
    pub(crate) fn digest(&self) -> Digest {
        match self.0.kind {
            KeyKind::P384 => Digest::Sha384,
            _ => Digest::Sha256,
        }
    }

    /// The digest to sign with when the peer used `wanted`: RSA follows, a curve has its own; SHA-1 is never made.
    pub(crate) fn digest_like(&self, wanted: Digest) -> Digest {
        match (&self.0.pair, wanted) {
            (Pair::Rsa { .. }, Digest::Sha384 | Digest::Sha512) => wanted,
            _ => self.digest(),
        }
    }

    /// Signs with a digest that [`digest_like`](Self::digest_like) gave.
    pub(crate) fn sign_with(&self, digest: Digest, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.0.pair {
            Pair::Rsa { sign, .. } => {
                let padding = match digest {
                    Digest::Sha256 => &sig::RSA_PKCS1_SHA256,
                    Digest::Sha384 => &sig::RSA_PKCS1_SHA384,
                    Digest::Sha512 => &sig::RSA_PKCS1_SHA512,
                    Digest::Sha1 => return Err(KeyError::Unsupported),
                };
                let mut signature = vec![0; sign.public_modulus_len()];
                sign.sign(padding, &random, message, &mut signature)
                    .map_err(|_| KeyError::Operation)?;
                Ok(signature)
            }
            Pair::Ec(pair) if digest == self.digest() => Ok(pair
                .sign(&random, message)
                .map_err(|_| KeyError::Operation)?
                .as_ref()
                .to_vec()),
            Pair::Ec(_) => Err(KeyError::Unsupported),
        }
    }

    /// The AlgorithmIdentifier of a signature that [`sign_with`](Self::sign_with) makes.
    pub(crate) fn signature_identifier(&self, digest: Digest) -> Vec<u8> {
        match &self.0.pair {
            Pair::Rsa { .. } => {
                let algorithm = match digest {
                    Digest::Sha384 => oid::SHA384_WITH_RSA,
                    Digest::Sha512 => oid::SHA512_WITH_RSA,
                    Digest::Sha1 | Digest::Sha256 => oid::SHA256_WITH_RSA,
                };
                identifier(algorithm, &asn1::null())
            }
            Pair::Ec(_) if self.0.kind == KeyKind::P384 => identifier(oid::ECDSA_WITH_SHA384, &[]),
            Pair::Ec(_) => identifier(oid::ECDSA_WITH_SHA256, &[]),
        }
    }

    /// The RSA decryption half; `None` for an EC key.
    pub(crate) fn rsa_decryption(&self) -> Option<&Pkcs1PrivateDecryptingKey> {
        match &self.0.pair {
            Pair::Rsa { decrypt, .. } => Some(decrypt),
            Pair::Ec(_) => None,
        }
    }
}

fn ec_pair(algorithm: &'static EcdsaSigningAlgorithm, der: &[u8]) -> Result<(Pair, PublicKey), KeyError> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| KeyError::Malformed)?;
    let public = spki(pair.public_key())?;
    Ok((Pair::Ec(pair), public))
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<PublicKey, KeyError> {
    let der = key.as_der().map_err(|_| KeyError::Operation)?;
    PublicKey::parse(der.as_ref()).map_err(|_| KeyError::Operation)
}

/// PrivateKeyInfo around a PKCS#1 or SEC1 key.
fn wrap(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let inner = Zeroizing::new(asn1::tlv(OCTET_STRING, key));
    Zeroizing::new(asn1::sequence(&[&asn1::unsigned(&[0]), algorithm, &inner]))
}

/// The encoded curve identifier of an ECPrivateKey (RFC 5915).
fn sec1_curve(der: &[u8]) -> Option<&[u8]> {
    let outer = Element::only(der).ok()?;
    if outer.tag != SEQUENCE {
        return None;
    }
    let mut fields = outer.cursor();
    fields.small_integer().ok()?;
    fields.expect(OCTET_STRING).ok()?;
    Some(fields.expect(asn1::context(0)).ok()?.content)
}
