//! SignedData (RFC 5652 section 5): parsing and verification.

use std::borrow::Cow;

use jiff::Timestamp;

use super::MAX_DEPTH;
use crate::algorithm::{Digest, SignatureAlgorithm, SignaturePolicy, VerifyError, identifier_parts};
use crate::asn1::{self, Asn1Error, Cursor, Element, INTEGER, OCTET_STRING, SEQUENCE, SET};
use crate::ber::{self, BerError};
use crate::certificate::{Certificate, CertificateError};
use crate::fingerprint::constant_time_eq;
use crate::{ObjectIdentifier, ca, oid, time};

/// Why a signed message is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Too large, too deep or not BER.
    #[error(transparent)]
    Encoding(#[from] BerError),
    /// Not the structure it should be.
    #[error("not a CMS message: {0}")]
    Malformed(#[from] Asn1Error),
    /// A certificate in it is broken.
    #[error("a certificate in the message: {0}")]
    Certificate(#[from] CertificateError),
    /// CMS, but of another type.
    #[error("the CMS message is of type {0}, not signed data")]
    NotSignedData(ObjectIdentifier),
    /// Detached where content is needed.
    #[error("the signed message has no content; it is a detached signature")]
    NoContent,
    /// Content where a detached signature is needed.
    #[error("the signature carries other content than what it should sign")]
    OtherContent,
    /// Nobody signed.
    #[error("the message has no signer")]
    NoSigner,
    /// More than one signer, which no protocol here has.
    #[error("the message has {0} signers; exactly one is expected")]
    SeveralSigners(usize),
    /// More certificates than the policy allows.
    #[error("the message carries more certificates than allowed")]
    TooManyCertificates,
    /// The signer's certificate is not in the message.
    #[error("the signer's certificate is not in the message")]
    SignerNotFound,
    /// The digest algorithm is unknown.
    #[error("unsupported digest algorithm {0}")]
    Digest(ObjectIdentifier),
    /// The content is not what was signed.
    #[error("the content does not have the digest that was signed; it was changed")]
    DigestMismatch,
    /// The signature is wrong, weak or of an unknown kind.
    #[error("the message's signature: {0}")]
    Signature(#[from] VerifyError),
}

/// A verified signer.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The certificate whose key signed. Not checked for trust or validity.
    pub signer: Certificate,
    /// Every certificate of the message in its order, the signer's among them.
    pub certificates: Vec<Certificate>,
    /// What was signed beside the content; empty when the signature is over the content itself.
    pub signed_attributes: SignedAttributes,
    /// The digest that the signer used.
    pub digest: Digest,
}

/// Signed attributes: each type with its first value, encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedAttributes(Vec<(ObjectIdentifier, Vec<u8>)>);

impl SignedAttributes {
    /// The encoded first value of an attribute.
    pub fn get(&self, attribute: &ObjectIdentifier) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(id, _)| id == attribute)
            .map(|(_, value)| value.as_slice())
    }

    /// The value of a text attribute.
    pub fn text(&self, attribute: &ObjectIdentifier) -> Option<String> {
        Element::only(self.get(attribute)?).ok()?.text()
    }

    /// The content of an octet string attribute.
    pub fn octets(&self, attribute: &ObjectIdentifier) -> Option<&[u8]> {
        let element = Element::only(self.get(attribute)?).ok()?;
        (element.tag == OCTET_STRING).then_some(element.content)
    }

    /// When the signer says it signed.
    pub fn signing_time(&self) -> Option<Timestamp> {
        time::parse(Element::only(self.get(&oid::SIGNING_TIME)?).ok()?).ok()
    }

    /// Parses the content of the SET. An attribute that occurs twice is an error.
    fn parse(content: &[u8]) -> Result<Self, Asn1Error> {
        let mut list = Cursor::new(content);
        let mut out = Self::default();
        while !list.is_empty() {
            let mut attribute = list.sequence()?;
            let id = attribute.next()?.oid()?;
            let mut values = attribute.expect(SET)?.cursor();
            let value = values.next()?;
            if out.get(&id).is_some() {
                return Err(Asn1Error("an attribute occurs twice"));
            }
            out.0.push((id, value.raw.to_vec()));
        }
        Ok(out)
    }
}

/// Verifies a detached signature over `content`.
///
/// # Errors
/// [`CmsError`].
pub fn verify_detached(signature: &[u8], content: &[u8], policy: &SignaturePolicy) -> Result<Verified, CmsError> {
    let der = to_der(signature, policy.max_len)?;
    verify_over(SignedData::parse(&der, policy.max_certificates)?, content, policy)
}

/// Verifies a detached signature, in DER, whose certificates were parsed before.
pub(crate) fn verify_detached_again(
    der: &[u8],
    certificates: Vec<Certificate>,
    content: &[u8],
    policy: &SignaturePolicy,
) -> Result<Verified, CmsError> {
    verify_over(SignedData::parse_again(der, certificates)?, content, policy)
}

fn verify_over(signed: SignedData<'_>, content: &[u8], policy: &SignaturePolicy) -> Result<Verified, CmsError> {
    // Some senders embed the content in what should be detached: fine when it is the same.
    if signed.content.as_deref().is_some_and(|embedded| embedded != content) {
        return Err(CmsError::OtherContent);
    }
    signed.verify(content, policy)
}

/// Verifies a message that carries its content, and returns both.
///
/// # Errors
/// [`CmsError`].
pub fn verify_attached(der: &[u8], policy: &SignaturePolicy) -> Result<(Vec<u8>, Verified), CmsError> {
    let der = to_der(der, policy.max_len)?;
    let signed = SignedData::parse(&der, policy.max_certificates)?;
    let content = signed.content.clone().ok_or(CmsError::NoContent)?;
    let verified = signed.verify(&content, policy)?;
    Ok((content.into_owned(), verified))
}

/// The certificates of a SignedData in their order, with no signature checked: for `GetCACert` and CertRep replies.
///
/// # Errors
/// [`CmsError`].
pub fn certificates(der: &[u8], policy: &SignaturePolicy) -> Result<Vec<Certificate>, CmsError> {
    let der = to_der(der, policy.max_len)?;
    Ok(SignedData::parse(&der, policy.max_certificates)?.certificates)
}

pub(crate) fn to_der(input: &[u8], max_len: usize) -> Result<Cow<'_, [u8]>, BerError> {
    ber::to_der(input, MAX_DEPTH, max_len)
}

/// A parsed but not yet verified SignedData.
pub(crate) struct SignedData<'a> {
    content_type: ObjectIdentifier,
    /// The content, joined when it came in segments.
    pub(crate) content: Option<Cow<'a, [u8]>>,
    pub(crate) certificates: Vec<Certificate>,
    signers: Vec<Element<'a>>,
}

/// The fields of one SignerInfo.
struct SignerInfo<'a> {
    identifier: Element<'a>,
    digest: Digest,
    attributes: Option<Element<'a>>,
    algorithm: SignatureAlgorithm,
    signature: &'a [u8],
}

impl<'a> SignedData<'a> {
    /// Parses a ContentInfo that holds SignedData, from DER (see [`to_der`]).
    pub(crate) fn parse(der: &'a [u8], max_certificates: usize) -> Result<Self, CmsError> {
        let mut certificates = Vec::new();
        let mut signed = Self::read(der, |certificate| {
            if certificates.len() >= max_certificates {
                return Err(CmsError::TooManyCertificates);
            }
            // Attribute certificates and other formats have context tags and are of no use here.
            if certificate.tag == SEQUENCE {
                certificates.push(Certificate::parse(certificate.raw)?);
            }
            Ok(())
        })?;
        signed.certificates = certificates;
        Ok(signed)
    }

    /// Parses again what [`parse`](Self::parse) has parsed before and found these certificates in.
    pub(crate) fn parse_again(der: &'a [u8], certificates: Vec<Certificate>) -> Result<Self, CmsError> {
        let mut signed = Self::read(der, |_| Ok(()))?;
        signed.certificates = certificates;
        Ok(signed)
    }

    fn read(der: &'a [u8], mut each: impl FnMut(Element<'a>) -> Result<(), CmsError>) -> Result<Self, CmsError> {
        let (kind, body) = content_info(der)?;
        if kind != oid::SIGNED_DATA {
            return Err(CmsError::NotSignedData(kind));
        }
        let mut fields = body.cursor();
        fields.small_integer()?;
        fields.expect(SET)?;
        let mut encapsulated = fields.sequence()?;
        let content_type = encapsulated.next()?.oid()?;
        let content = match encapsulated.optional(asn1::context(0))? {
            Some(wrapper) => Some(Cow::Borrowed(wrapper.cursor().expect(OCTET_STRING)?.content)),
            None => None,
        };
        if let Some(set) = fields.optional(asn1::context(0))? {
            let mut set = set.cursor();
            while !set.is_empty() {
                each(set.next()?)?;
            }
        }
        fields.optional(asn1::context(1))?;
        let mut set = fields.expect(SET)?.cursor();
        let mut signers = Vec::new();
        while !set.is_empty() {
            signers.push(set.expect(SEQUENCE)?);
        }
        fields.finish()?;
        Ok(Self {
            content_type,
            content,
            certificates: Vec::new(),
            signers,
        })
    }

    /// The signed attributes of the single signer, before anything is verified: only to address a refusal.
    pub(crate) fn unverified_attributes(&self) -> Result<SignedAttributes, CmsError> {
        let attributes = self.signer()?.attributes;
        Ok(attributes
            .map(|set| SignedAttributes::parse(set.content))
            .transpose()?
            .unwrap_or_default())
    }

    /// Verifies the single signer over `content`.
    pub(crate) fn verify(&self, content: &[u8], policy: &SignaturePolicy) -> Result<Verified, CmsError> {
        let info = self.signer()?;
        if info.digest == Digest::Sha1 && !policy.legacy {
            return Err(VerifyError::Weak("SHA-1").into());
        }
        let signer = self.find(info.identifier).ok_or(CmsError::SignerNotFound)?;
        let check = |message: &[u8]| {
            info.algorithm.verify(
                signer.public_key(),
                Some(info.digest),
                message,
                info.signature,
                policy.legacy,
            )
        };
        let Some(set) = info.attributes else {
            // RFC 5652 section 5.3: attributes are a must when the content is not plain data.
            if self.content_type != oid::DATA {
                return Err(Asn1Error("signed attributes are missing").into());
            }
            check(content)?;
            return Ok(self.verified(signer, SignedAttributes::default(), info.digest));
        };
        let attributes = SignedAttributes::parse(set.content)?;
        let stated = attributes
            .octets(&oid::MESSAGE_DIGEST)
            .ok_or(Asn1Error("no message digest attribute"))?;
        if !constant_time_eq(stated, info.digest.of(content).as_ref()) {
            return Err(CmsError::DigestMismatch);
        }
        let stated_type = attributes
            .get(&oid::CONTENT_TYPE)
            .ok_or(Asn1Error("no content type attribute"))?;
        if Element::only(stated_type)?.oid()? != self.content_type {
            return Err(Asn1Error("the content type attribute differs from the content's type").into());
        }
        // What is signed is the SET OF, not the [0] that stands in the message.
        match check(&asn1::tlv(SET, set.content)) {
            // DER sorts the set; a sender may have signed it sorted but sent it in another order.
            Err(VerifyError::Mismatch) => check(&sorted_set(set.content)?)?,
            other => other?,
        }
        Ok(self.verified(signer, attributes, info.digest))
    }

    fn verified(&self, signer: &Certificate, signed_attributes: SignedAttributes, digest: Digest) -> Verified {
        Verified {
            signer: signer.clone(),
            certificates: self.certificates.clone(),
            signed_attributes,
            digest,
        }
    }

    fn signer(&self) -> Result<SignerInfo<'a>, CmsError> {
        let element = match self.signers.as_slice() {
            [] => return Err(CmsError::NoSigner),
            [one] => one,
            several => return Err(CmsError::SeveralSigners(several.len())),
        };
        let mut fields = element.cursor();
        fields.small_integer()?;
        let identifier = fields.next()?;
        let (digest, parameters) = identifier_parts(fields.next()?)?;
        if parameters.is_some() {
            return Err(Asn1Error("unexpected digest algorithm parameters").into());
        }
        let digest = Digest::from_oid(digest).ok_or(CmsError::Digest(digest))?;
        let attributes = fields.optional(asn1::context(0))?;
        let algorithm = SignatureAlgorithm::parse(fields.next()?)?.ok_or(VerifyError::Unsupported)?;
        let signature = fields.expect(OCTET_STRING)?.content;
        fields.optional(asn1::context(1))?;
        fields.finish()?;
        Ok(SignerInfo {
            identifier,
            digest,
            attributes,
            algorithm,
            signature,
        })
    }

    fn find(&self, identifier: Element<'_>) -> Option<&Certificate> {
        self.certificates
            .iter()
            .find(|certificate| identifies(identifier, certificate))
    }
}

/// Whether a SignerIdentifier or RecipientIdentifier means this certificate: by issuer and serial number, or by subject
/// key identifier (of the extension, or computed when the certificate has none).
pub(super) fn identifies(identifier: Element<'_>, certificate: &Certificate) -> bool {
    if identifier.tag == SEQUENCE {
        let mut fields = identifier.cursor();
        let (Ok(issuer), Ok(serial)) = (fields.expect(SEQUENCE), fields.expect(INTEGER)) else {
            return false;
        };
        if serial.raw != certificate.serial_der() {
            return false;
        }
        // The same name may be written with another string type.
        return issuer.raw == certificate.issuer_der()
            || crate::name::to_text(issuer.raw).is_ok_and(|text| text == certificate.issuer());
    }
    if identifier.tag == asn1::context_primitive(0) {
        return match certificate.subject_key_id() {
            Some(own) => own == identifier.content,
            None => ca::key_identifier(certificate.public_key()) == identifier.content,
        };
    }
    false
}

/// Splits a ContentInfo into its type and the content.
pub(super) fn content_info(der: &[u8]) -> Result<(ObjectIdentifier, Element<'_>), Asn1Error> {
    let outer = Element::only(der)?;
    if outer.tag != SEQUENCE {
        return Err(Asn1Error("expected a sequence"));
    }
    let mut fields = outer.cursor();
    let kind = fields.next()?.oid()?;
    let wrapper = fields.expect(asn1::context(0))?;
    fields.finish()?;
    let body = Element::only(wrapper.content)?;
    if body.tag != SEQUENCE {
        return Err(Asn1Error("expected a sequence"));
    }
    Ok((kind, body))
}

fn sorted_set(content: &[u8]) -> Result<Vec<u8>, Asn1Error> {
    let mut list = Cursor::new(content);
    let mut parts = Vec::new();
    while !list.is_empty() {
        parts.push(list.next()?.raw.to_vec());
    }
    Ok(asn1::set_of(SET, parts))
}
