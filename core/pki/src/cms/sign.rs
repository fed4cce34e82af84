//! SignedData (RFC 5652 section 5): signing, and the certificates-only form.

use jiff::Timestamp;

use crate::algorithm::{Digest, identifier};
use crate::asn1::{self, Asn1Error, OCTET_STRING, SET};
use crate::certificate::Certificate;
use crate::key::{KeyError, PrivateKey};
use crate::{ObjectIdentifier, oid, time};

/// Who signs.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The certificate that goes into the message; its key must be `key`.
    pub certificate: Certificate,
    /// The key that signs.
    pub key: PrivateKey,
    /// Certificates to send along, for instance the chain up to but without the root.
    pub extra: Vec<Certificate>,
    /// The signing time to state; none is stated without it.
    pub signing_time: Option<Timestamp>,
}

impl Signer {
    /// A signer that sends only its own certificate and states no time.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Self {
        Self {
            certificate,
            key,
            extra: Vec::new(),
            signing_time: None,
        }
    }

    /// Also sends these certificates.
    #[must_use]
    pub fn with_chain(mut self, extra: Vec<Certificate>) -> Self {
        self.extra = extra;
        self
    }

    /// Also states when it signed.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.signing_time = Some(time);
        self
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key is not the certificate's.
    #[error("the signing key does not belong to the signer's certificate")]
    KeyMismatch,
    /// The key operation failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signing time cannot be written.
    #[error("the signing time: {0}")]
    Time(#[from] Asn1Error),
}

/// Signs content and embeds it: a signed configuration profile, for instance.
///
/// # Errors
/// [`SignError`].
pub fn sign_attached(content: &[u8], signer: &Signer) -> Result<Vec<u8>, SignError> {
    sign(
        &SignRequest {
            content: Some(content),
            detached: false,
            attributes: Vec::new(),
            digest: None,
        },
        signer,
    )
}

/// Signs content without embedding it.
///
/// # Errors
/// [`SignError`].
pub fn sign_detached(content: &[u8], signer: &Signer) -> Result<Vec<u8>, SignError> {
    sign(
        &SignRequest {
            content: Some(content),
            detached: true,
            attributes: Vec::new(),
            digest: None,
        },
        signer,
    )
}

/// What to sign, in full.
pub(crate) struct SignRequest<'a> {
    /// The content; a message without any signs the empty string.
    pub(crate) content: Option<&'a [u8]>,
    /// Leave the content out.
    pub(crate) detached: bool,
    /// More signed attributes: type and encoded value.
    pub(crate) attributes: Vec<(ObjectIdentifier, Vec<u8>)>,
    /// A digest from [`PrivateKey::digest_like`]; the key's own without.
    pub(crate) digest: Option<Digest>,
}

/// Signs with signed attributes, identifying the signer by issuer and serial number.
pub(crate) fn sign(request: &SignRequest<'_>, signer: &Signer) -> Result<Vec<u8>, SignError> {
    let key = &signer.key;
    if signer.certificate.public_key_der() != key.public_key_der() {
        return Err(SignError::KeyMismatch);
    }
    let digest = request.digest.unwrap_or_else(|| key.digest());
    let message_digest = digest.of(request.content.unwrap_or_default());
    let mut attributes = vec![
        attribute(oid::CONTENT_TYPE, &asn1::oid(oid::DATA)),
        attribute(oid::MESSAGE_DIGEST, &asn1::tlv(OCTET_STRING, message_digest.as_ref())),
    ];
    if let Some(time) = signer.signing_time {
        attributes.push(attribute(oid::SIGNING_TIME, &time::encode(time)?));
    }
    attributes.extend(request.attributes.iter().map(|(id, value)| attribute(*id, value)));
    let signed = asn1::set_of(SET, attributes);
    let signature = key.sign_with(digest, &signed)?;
    // In the message the set carries the implicit tag [0] instead of its own.
    let mut in_message = signed;
    in_message[0] = asn1::context(0);

    let digest_identifier = identifier(digest.oid(), &[]);
    let signer_info = asn1::sequence(&[
        &asn1::unsigned(&[1]),
        &signer.certificate.issuer_and_serial(),
        &digest_identifier,
        &in_message,
        &key.signature_identifier(digest),
        &asn1::tlv(OCTET_STRING, &signature),
    ]);
    let content = request.content.filter(|_| !request.detached);
    let wrapped = content.map(|content| asn1::tlv(asn1::context(0), &asn1::tlv(OCTET_STRING, content)));
    let encapsulated = asn1::sequence(&[&asn1::oid(oid::DATA), &wrapped.unwrap_or_default()]);
    let certificates = certificate_set(std::iter::once(&signer.certificate).chain(&signer.extra));
    Ok(content_info(
        oid::SIGNED_DATA,
        &asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &asn1::tlv(SET, &digest_identifier),
            &encapsulated,
            &certificates,
            &asn1::tlv(SET, &signer_info),
        ]),
    ))
}

/// Certificates in a SignedData that nobody signed (RFC 8894 section 3.4), in the order given: clients take the first
/// for the issued one, so the order of DER's SET OF is deliberately not used.
pub fn certs_only(certificates: &[Certificate]) -> Vec<u8> {
    content_info(
        oid::SIGNED_DATA,
        &asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &asn1::tlv(SET, &[]),
            &asn1::sequence(&[&asn1::oid(oid::DATA)]),
            &certificate_set(certificates),
            &asn1::tlv(SET, &[]),
        ]),
    )
}

fn certificate_set<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Vec<u8> {
    let mut seen: Vec<&Certificate> = Vec::new();
    for certificate in certificates {
        if !seen.contains(&certificate) {
            seen.push(certificate);
        }
    }
    let encoded: Vec<u8> = seen.iter().flat_map(|certificate| certificate.der()).copied().collect();
    asn1::tlv(asn1::context(0), &encoded)
}

fn attribute(id: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(id), &asn1::tlv(SET, value)])
}

pub(super) fn content_info(kind: ObjectIdentifier, body: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(kind), &asn1::tlv(asn1::context(0), body)])
}
