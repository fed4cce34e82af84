//! SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).

use crate::algorithm::{Digest, Scheme, SignatureAlgorithm, VerifyError, identifier_parts};
use crate::asn1::{Asn1Error, Element, INTEGER, SEQUENCE, subrange};
use crate::oid;

/// What a public key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKeyKind {
    /// RSA with a modulus of so many bits.
    Rsa {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521: its signatures are verified; keys of it are not generated here.
    P521,
    /// Anything else: carried, never used.
    Other,
}

/// A public key in its encoded form, classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
    kind: PublicKeyKind,
    octets: std::ops::Range<usize>,
}

impl PublicKey {
    /// Parses a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When the bytes are not one. An unknown key type is [`PublicKeyKind::Other`], not an error.
    pub fn parse(der: &[u8]) -> Result<Self, Asn1Error> {
        let outer = Element::only(der)?;
        if outer.tag != SEQUENCE {
            return Err(Asn1Error("expected a public key"));
        }
        let mut fields = outer.cursor();
        let (algorithm, parameters) = identifier_parts(fields.next()?)?;
        let octets = fields.next()?.bit_string()?;
        fields.finish()?;
        let kind = match algorithm {
            oid::RSA_ENCRYPTION => PublicKeyKind::Rsa {
                bits: modulus_bits(octets)?,
            },
            oid::EC_PUBLIC_KEY => match parameters.map(|curve| curve.oid()) {
                Some(Ok(oid::P256)) => PublicKeyKind::P256,
                Some(Ok(oid::P384)) => PublicKeyKind::P384,
                Some(Ok(oid::P521)) => PublicKeyKind::P521,
                _ => PublicKeyKind::Other,
            },
            _ => PublicKeyKind::Other,
        };
        Ok(Self {
            der: der.to_vec(),
            kind,
            octets: subrange(der, octets),
        })
    }

    /// The SubjectPublicKeyInfo as parsed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What the key is.
    pub fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// Checks an RSA signature with SHA-256 (PKCS#1 v1.5) over a message.
    ///
    /// # Errors
    /// [`VerifyError`]; `Unsupported` for a key that is not RSA.
    pub fn verify_rsa_sha256(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let algorithm = SignatureAlgorithm {
            scheme: Scheme::RsaPkcs1,
            digest: Some(Digest::Sha256),
        };
        algorithm.verify(self, None, message, signature, false)
    }

    /// What the BIT STRING holds: an RSAPublicKey, or a point.
    pub(crate) fn key_octets(&self) -> &[u8] {
        &self.der[self.octets.clone()]
    }

    /// Modulus and exponent of an RSA key.
    pub(crate) fn rsa_parts(&self) -> Option<(&[u8], &[u8])> {
        let mut fields = Element::only(self.key_octets()).ok()?.cursor();
        let modulus = fields.expect(INTEGER).ok()?.content;
        let exponent = fields.expect(INTEGER).ok()?.content;
        matches!(self.kind, PublicKeyKind::Rsa { .. }).then_some((modulus, exponent))
    }
}

fn modulus_bits(key: &[u8]) -> Result<usize, Asn1Error> {
    let mut fields = Element::only(key)?.cursor();
    let modulus = fields.expect(INTEGER)?.content;
    let significant: &[u8] = match modulus {
        [0, rest @ ..] => rest,
        all => all,
    };
    let leading = significant.first().map_or(0, |octet| octet.leading_zeros() as usize);
    Ok((significant.len() * 8).saturating_sub(leading))
}
