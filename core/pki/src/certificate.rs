//! X.509 certificates (RFC 5280): parsed once, kept as received, cheap to clone.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::SectionKind;

use crate::algorithm::{SignatureAlgorithm, VerifyError};
use crate::asn1::{self, Asn1Error, BIT_STRING, Element, INTEGER, SEQUENCE, subrange};
use crate::extensions::Extensions;
use crate::key::PublicKey;
use crate::{ObjectIdentifier, fingerprint, name, oid, pem, time};

/// Largest certificate that is parsed, in octets.
const MAX_LEN: usize = 64 * 1024;

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The DER is not an X.509 certificate.
    #[error("not a certificate: {0}")]
    Malformed(#[from] Asn1Error),
    /// More than 64 KiB.
    #[error("the certificate is larger than 64 KiB")]
    TooLarge,
    /// No `CERTIFICATE` section in the PEM.
    #[error("no certificate in the PEM text; it needs a BEGIN CERTIFICATE section")]
    NoPem,
}

/// What a key may be used for (RFC 5280 section 4.2.1.3), as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: Self = Self(1 << 0);
    /// keyEncipherment.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// keyAgreement.
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// keyCertSign.
    pub const KEY_CERT_SIGN: Self = Self(1 << 5);
    /// cRLSign.
    pub const CRL_SIGN: Self = Self(1 << 6);

    /// Whether every bit of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn parse(element: Element<'_>) -> Result<Self, Asn1Error> {
        let (BIT_STRING, [0..=7, octets @ ..]) = (element.tag, element.content) else {
            return Err(Asn1Error("invalid key usage"));
        };
        // Bit 0 of the ASN.1 string is the most significant bit of the first octet.
        let bits = octets.iter().take(2).enumerate().fold(0, |bits, (position, octet)| {
            bits | (u16::from(octet.reverse_bits()) << (8 * position))
        });
        Ok(Self(bits))
    }

    /// Every usage that this crate sets is in the first octet.
    pub(crate) fn to_der(self) -> Vec<u8> {
        let octet = (self.0 as u8).reverse_bits();
        let unused = octet.trailing_zeros().min(7) as u8;
        asn1::tlv(BIT_STRING, &[unused, octet])
    }
}

/// A purpose of a certificate (RFC 5280 section 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// TLS server.
    ServerAuth,
    /// TLS client: what a device's identity is for.
    ClientAuth,
    /// Signed objects other than mail; profile signing sets it.
    CodeSigning,
    /// S/MIME, which `openssl cms -verify` asks for by default.
    EmailProtection,
}

impl ExtendedKeyUsage {
    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::ServerAuth => oid::SERVER_AUTH,
            Self::ClientAuth => oid::CLIENT_AUTH,
            Self::CodeSigning => oid::CODE_SIGNING,
            Self::EmailProtection => oid::EMAIL_PROTECTION,
        }
    }
}

/// A parsed certificate. Equality is equality of the encoded bytes.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    tbs: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    signature: Range<usize>,
    signature_algorithm: Option<SignatureAlgorithm>,
    issuer_text: String,
    subject_text: String,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: PublicKey,
    extensions: Extensions,
    sha256: [u8; 32],
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("serial", &self.serial_hex())
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Parses a DER certificate. Nothing is verified.
    ///
    /// # Errors
    /// When the bytes are not a certificate, or more than 64 KiB.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_LEN {
            return Err(CertificateError::TooLarge);
        }
        let outer = Element::only(der)?;
        if outer.tag != SEQUENCE {
            return Err(Asn1Error("expected a sequence").into());
        }
        let mut outer_fields = outer.cursor();
        let tbs = outer_fields.expect(SEQUENCE)?;
        let outer_algorithm = outer_fields.expect(SEQUENCE)?;
        let signature = outer_fields.next()?.bit_string()?;
        outer_fields.finish()?;

        let mut fields = tbs.cursor();
        fields.optional(asn1::context(0))?;
        let serial = fields.expect(INTEGER)?;
        if serial.content.is_empty() {
            return Err(Asn1Error("empty serial number").into());
        }
        let inner_algorithm = fields.expect(SEQUENCE)?;
        if inner_algorithm.raw != outer_algorithm.raw {
            return Err(Asn1Error("the two signature algorithms differ").into());
        }
        let issuer = fields.expect(SEQUENCE)?;
        let mut validity = fields.sequence()?;
        let not_before = time::parse(validity.next()?)?;
        let not_after = time::parse(validity.next()?)?;
        validity.finish()?;
        let subject = fields.expect(SEQUENCE)?;
        let public_key = PublicKey::parse(fields.expect(SEQUENCE)?.raw)?;
        // The unique identifiers of version 2 are allowed and mean nothing any more.
        fields.optional(asn1::context_primitive(1))?;
        fields.optional(asn1::context_primitive(2))?;
        let extensions = match fields.optional(asn1::context(3))? {
            Some(wrapper) => Extensions::parse(wrapper.cursor().sequence()?)?,
            None => Extensions::default(),
        };
        fields.finish()?;

        Ok(Self(Arc::new(Inner {
            tbs: subrange(der, tbs.raw),
            serial: subrange(der, serial.raw),
            issuer: subrange(der, issuer.raw),
            subject: subrange(der, subject.raw),
            signature: subrange(der, signature),
            signature_algorithm: SignatureAlgorithm::parse(outer_algorithm)?,
            issuer_text: name::to_text(issuer.raw)?,
            subject_text: name::to_text(subject.raw)?,
            not_before,
            not_after,
            public_key,
            extensions,
            sha256: fingerprint::sha256(der),
            der: der.to_vec(),
        })))
    }

    /// Parses the first certificate in a PEM text.
    ///
    /// # Errors
    /// [`CertificateError::NoPem`] when there is none, otherwise as [`parse`](Self::parse).
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        Self::chain_from_pem(text)?
            .into_iter()
            .next()
            .ok_or(CertificateError::NoPem)
    }

    /// Parses every certificate in a PEM text, in order; other sections are skipped.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem); an empty result is an error too.
    pub fn chain_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let sections = pem::sections(text).ok_or(CertificateError::NoPem)?;
        let chain: Vec<Self> = sections
            .iter()
            .filter(|(kind, _)| *kind == SectionKind::Certificate)
            .map(|(_, der)| Self::parse(der))
            .collect::<Result<_, _>>()?;
        if chain.is_empty() {
            Err(CertificateError::NoPem)
        } else {
            Ok(chain)
        }
    }

    /// The certificate as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", self.der())
    }

    /// The encoded certificate as it was parsed.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the encoded certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.0.sha256
    }

    /// SHA-1 of the encoded certificate, for identifiers that other parties define so.
    pub fn sha1(&self) -> [u8; 20] {
        fingerprint::sha1(self.der())
    }

    /// The subject as RFC 4514 text.
    pub fn subject(&self) -> &str {
        &self.0.subject_text
    }

    /// The issuer as RFC 4514 text.
    pub fn issuer(&self) -> &str {
        &self.0.issuer_text
    }

    /// The first common name of the subject.
    pub fn common_name(&self) -> Option<String> {
        self.attribute(&oid::COMMON_NAME)
    }

    /// The first subject attribute of a type, when it is text; see [`oid`](crate::oid).
    pub fn attribute(&self, attribute: &ObjectIdentifier) -> Option<String> {
        name::attribute(self.subject_der(), attribute)
    }

    /// The serial number in lower-case hexadecimal, without the sign octet.
    pub fn serial_hex(&self) -> String {
        let content = Element::only(self.serial_der())
            .map(|element| element.content)
            .unwrap_or_default();
        match content {
            [0, rest @ ..] if !rest.is_empty() => fingerprint::hex(rest),
            all => fingerprint::hex(all),
        }
    }

    /// Start of validity.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Whether `now` is within the validity, both ends included.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.0.not_before <= now && now <= self.0.not_after
    }

    /// The public key as SubjectPublicKeyInfo.
    pub fn public_key_der(&self) -> &[u8] {
        self.0.public_key.der()
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// Whether basicConstraints makes it a CA.
    pub fn is_ca(&self) -> bool {
        self.0.extensions.is_ca
    }

    /// keyUsage, when present.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.extensions.key_usage
    }

    /// Whether extKeyUsage allows a purpose; a certificate without the extension allows all.
    pub fn allows(&self, purpose: ExtendedKeyUsage) -> bool {
        self.0
            .extensions
            .extended_key_usage
            .as_ref()
            .is_none_or(|purposes| purposes.contains(&purpose.oid()) || purposes.contains(&oid::ANY_EXTENDED_KEY_USAGE))
    }

    /// DNS names of subjectAltName.
    pub fn dns_names(&self) -> &[String] {
        &self.0.extensions.dns_names
    }

    /// Addresses of subjectAltName.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.0.extensions.ip_addresses
    }

    /// subjectKeyIdentifier, when present.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.subject_key_id.as_deref()
    }

    /// Whether subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.subject_der() == self.issuer_der()
    }

    /// Checks this certificate's signature with the issuer's key; names and validity are not looked at.
    ///
    /// # Errors
    /// [`VerifyError`]; `legacy` also accepts SHA-1 and RSA below 2,048 bits.
    pub fn verify_signed_by(&self, issuer: &PublicKey, legacy: bool) -> Result<(), VerifyError> {
        let algorithm = self.0.signature_algorithm.ok_or(VerifyError::Unsupported)?;
        let inner = &*self.0;
        algorithm.verify(
            issuer,
            None,
            &inner.der[inner.tbs.clone()],
            &inner.der[inner.signature.clone()],
            legacy,
        )
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.0.der[self.0.subject.clone()]
    }

    pub(crate) fn issuer_der(&self) -> &[u8] {
        &self.0.der[self.0.issuer.clone()]
    }

    /// The serial number as an encoded INTEGER.
    pub(crate) fn serial_der(&self) -> &[u8] {
        &self.0.der[self.0.serial.clone()]
    }

    /// IssuerAndSerialNumber (RFC 5652 section 10.2.4).
    pub(crate) fn issuer_and_serial(&self) -> Vec<u8> {
        asn1::sequence(&[self.issuer_der(), self.serial_der()])
    }
}
