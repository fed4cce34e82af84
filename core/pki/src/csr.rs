//! PKCS#10 certification requests (RFC 2986): parsed with their signature checked, and built.
//!
//! Knows the challengePassword attribute (RFC 2985) that SCEP puts its one-time secret in; does not judge it.

use rustls_pki_types::pem::SectionKind;
use zeroize::Zeroizing;

use crate::ObjectIdentifier;
use crate::algorithm::{SignatureAlgorithm, VerifyError};
use crate::asn1::{self, Asn1Error, Element, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING};
use crate::extensions::Extensions;
use crate::key::{KeyError, PrivateKey, PublicKey, PublicKeyKind};
use crate::name::{self, Name};
use crate::{oid, pem};

/// Largest request that is parsed, in octets.
const MAX_LEN: usize = 64 * 1024;

/// Which keys may be certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyPolicy {
    /// Also accept RSA keys of 1,024 to 2,047 bits and requests signed with SHA-1.
    pub legacy: bool,
}

impl KeyPolicy {
    /// RSA from 2,048 bits (1,024 in legacy mode) to 8,192, P-256, P-384.
    pub fn allows(self, key: PublicKeyKind) -> bool {
        match key {
            PublicKeyKind::Rsa { bits: 2048..=8192 } | PublicKeyKind::P256 | PublicKeyKind::P384 => true,
            PublicKeyKind::Rsa { bits: 1024..2048 } => self.legacy,
            _ => false,
        }
    }
}

/// Why a request is refused or cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Not a certification request.
    #[error("not a certification request: {0}")]
    Malformed(#[from] Asn1Error),
    /// More than 64 KiB.
    #[error("the certification request is larger than 64 KiB")]
    TooLarge,
    /// The request is not signed by the key it asks a certificate for.
    #[error("the certification request's own signature: {0}")]
    Signature(#[from] VerifyError),
    /// The key is too weak or of a type that is not certified here.
    #[error("the key of the request is not accepted; use RSA from 2048 bits, P-256 or P-384")]
    Key,
    /// The key to build with failed.
    #[error(transparent)]
    Signing(#[from] KeyError),
}

/// A request whose signature was checked.
#[derive(Clone)]
pub struct CertificateRequest {
    der: Vec<u8>,
    subject: Vec<u8>,
    subject_text: String,
    public_key: PublicKey,
    challenge: Option<Zeroizing<String>>,
    dns_names: Vec<String>,
}

impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRequest")
            .field("subject", &self.subject_text)
            .field("key", &self.public_key.kind())
            .finish_non_exhaustive()
    }
}

impl CertificateRequest {
    /// Parses a request and checks that its own key signed it and that the policy allows the key.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn parse(der: &[u8], policy: KeyPolicy) -> Result<Self, CsrError> {
        if der.len() > MAX_LEN {
            return Err(CsrError::TooLarge);
        }
        let outer = Element::only(der)?;
        if outer.tag != SEQUENCE {
            return Err(Asn1Error("expected a sequence").into());
        }
        let mut outer_fields = outer.cursor();
        let info = outer_fields.expect(SEQUENCE)?;
        let algorithm = outer_fields.expect(SEQUENCE)?;
        let signature = outer_fields.next()?.bit_string()?;
        outer_fields.finish()?;

        let mut fields = info.cursor();
        fields.small_integer()?;
        let subject = fields.expect(SEQUENCE)?.raw;
        let public_key = PublicKey::parse(fields.expect(SEQUENCE)?.raw)?;
        let mut challenge = None;
        let mut dns_names = Vec::new();
        // Some clients leave the attributes out altogether although they are not optional.
        if let Some(attributes) = fields.optional(asn1::context(0))? {
            let mut attributes = attributes.cursor();
            while !attributes.is_empty() {
                let mut attribute = attributes.sequence()?;
                let id = attribute.next()?.oid()?;
                let mut values = attribute.expect(SET)?.cursor();
                match id {
                    oid::CHALLENGE_PASSWORD => {
                        if challenge.is_some() {
                            return Err(Asn1Error("two challenge passwords").into());
                        }
                        challenge = values.next()?.text().map(Zeroizing::new);
                    }
                    oid::EXTENSION_REQUEST => dns_names = Extensions::parse(values.sequence()?)?.dns_names,
                    _ => {}
                }
            }
        }
        fields.finish()?;
        let subject_text = name::to_text(subject)?;

        if !policy.allows(public_key.kind()) {
            return Err(CsrError::Key);
        }
        SignatureAlgorithm::parse(algorithm)?
            .ok_or(VerifyError::Unsupported)?
            .verify(&public_key, None, info.raw, signature, policy.legacy)?;
        Ok(Self {
            der: der.to_vec(),
            subject: subject.to_vec(),
            subject_text,
            public_key,
            challenge,
            dns_names,
        })
    }

    /// Builds and signs a request for `key`.
    ///
    /// # Errors
    /// [`CsrError::Signing`] when the key operation fails.
    pub fn build(subject: &Name, challenge: Option<&str>, key: &PrivateKey) -> Result<Self, CsrError> {
        let attribute = challenge
            .map(|challenge| {
                let printable = challenge
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
                let value = asn1::tlv(
                    if printable { PRINTABLE_STRING } else { UTF8_STRING },
                    challenge.as_bytes(),
                );
                asn1::sequence(&[&asn1::oid(oid::CHALLENGE_PASSWORD), &asn1::tlv(SET, &value)])
            })
            .unwrap_or_default();
        let info = asn1::sequence(&[
            &asn1::unsigned(&[0]),
            &subject.to_der(),
            key.public_key_der(),
            &asn1::tlv(asn1::context(0), &attribute),
        ]);
        let signature = key.sign(&info)?;
        let der = asn1::sequence(&[
            &info,
            &key.signature_identifier(key.digest()),
            &asn1::bit_string(&signature),
        ]);
        Self::parse(&der, KeyPolicy::default())
    }

    /// A request in PEM; its signature is checked.
    ///
    /// # Errors
    ///
    /// [`CsrError`]; `Malformed` also for text that holds none.
    pub fn from_pem(text: &str, policy: KeyPolicy) -> Result<Self, CsrError> {
        let sections = pem::sections(text).unwrap_or_default();
        let request = sections.iter().find(|(kind, _)| *kind == SectionKind::Csr);
        Self::parse(request.map_or(&[], |(_, der)| der.as_slice()), policy)
    }

    /// The request as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", self.der())
    }

    /// The encoded request.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The subject that the requester wishes, as RFC 4514 text.
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    /// The first subject attribute of a type, when it is text.
    pub fn attribute(&self, attribute: &ObjectIdentifier) -> Option<String> {
        name::attribute(&self.subject, attribute)
    }

    /// The first common name that the requester wishes.
    pub fn common_name(&self) -> Option<String> {
        self.attribute(&oid::COMMON_NAME)
    }

    /// The challengePassword attribute: secret, never to be logged.
    pub fn challenge_password(&self) -> Option<&str> {
        self.challenge.as_ref().map(|challenge| challenge.as_str())
    }

    /// DNS names of a requested subjectAltName.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The key to certify.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}
