//! EnvelopedData (RFC 5652 section 6) for one recipient: RSA key transport, or ECDH for an EC key.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::cipher::ContentCipher;
use super::recipient::{self, Recipient};
use super::sign::content_info as encode_content_info;
use super::signed::{content_info, to_der};
use crate::asn1::{self, Asn1Error, Element, OCTET_STRING, SEQUENCE, SET};
use crate::ber::BerError;
use crate::certificate::Certificate;
use crate::key::{PrivateKey, PublicKeyKind};
use crate::{ObjectIdentifier, oid};

/// What to accept when decrypting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecryptPolicy {
    /// Also accept single DES.
    pub legacy: bool,
    /// Largest encoded message in octets.
    pub max_len: usize,
}

impl Default for DecryptPolicy {
    fn default() -> Self {
        Self {
            legacy: false,
            max_len: 1 << 20,
        }
    }
}

/// Why a message was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Too large, too deep or not BER.
    #[error(transparent)]
    Encoding(#[from] BerError),
    /// Not the structure it should be.
    #[error("not an enveloped CMS message: {0}")]
    Malformed(#[from] Asn1Error),
    /// CMS, but of another type.
    #[error("the CMS message is of type {0}, not enveloped data")]
    NotEnvelopedData(ObjectIdentifier),
    /// The certificate is not among the recipients.
    #[error("the message is encrypted for another certificate")]
    NotForUs,
    /// A cipher that is unknown, or single DES without the legacy setting.
    #[error("the message is encrypted with {0}, which is not accepted; use AES or triple DES")]
    Cipher(ObjectIdentifier),
    /// A way to carry the key that is not known, or does not fit the key.
    #[error("unsupported key encryption in the message")]
    KeyEncryption,
    /// Whatever went wrong with the keys, the padding or the content: deliberately one and the same.
    #[error("the message could not be decrypted")]
    Failed,
}

/// Why a message was not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The recipient's key can neither decrypt nor agree on a key.
    #[error("the recipient's key cannot be encrypted to; it needs RSA from 1024 bits, P-256 or P-384")]
    Recipient,
    /// The cryptographic library refused.
    #[error("the encryption failed")]
    Operation,
}

/// Encrypts content for a certificate, in a ContentInfo. Whether the key is strong enough is the caller's policy.
///
/// # Errors
/// [`EncryptError`].
pub fn encrypt(content: &[u8], recipient: &Certificate, cipher: ContentCipher) -> Result<Vec<u8>, EncryptError> {
    let mut key = Zeroizing::new(vec![0; cipher.key_len()]);
    rand::fill(&mut key).map_err(|_| EncryptError::Operation)?;
    let (algorithm, text) = cipher.encrypt(&key, content).ok_or(EncryptError::Operation)?;
    let (version, info) = match recipient.public_key().kind() {
        PublicKeyKind::Rsa { bits: 1024.. } => (0, recipient::transport(recipient, &key)?),
        PublicKeyKind::P256 | PublicKeyKind::P384 => (2, recipient::agreement(recipient, &key)?),
        _ => return Err(EncryptError::Recipient),
    };
    let encrypted = asn1::sequence(&[
        &asn1::oid(oid::DATA),
        &algorithm,
        &asn1::tlv(asn1::context_primitive(0), &text),
    ]);
    Ok(encode_content_info(
        oid::ENVELOPED_DATA,
        &asn1::sequence(&[&asn1::unsigned(&[version]), &asn1::tlv(SET, &info), &encrypted]),
    ))
}

/// Decrypts a message for `certificate` with its `key`.
///
/// An RSA key that was wrapped with bad padding is replaced by a random one, so that every failure past the structure is
/// [`DecryptError::Failed`] by way of the same steps. Callers must not tell that failure from failing to make sense of
/// the content, either.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt(
    der: &[u8],
    certificate: &Certificate,
    key: &PrivateKey,
    policy: &DecryptPolicy,
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    decrypt_with_cipher(der, certificate, key, policy).map(|(content, _)| content)
}

/// Like [`decrypt`], and says which cipher it was.
pub(crate) fn decrypt_with_cipher(
    der: &[u8],
    certificate: &Certificate,
    key: &PrivateKey,
    policy: &DecryptPolicy,
) -> Result<(Zeroizing<Vec<u8>>, ContentCipher), DecryptError> {
    let der = to_der(der, policy.max_len)?;
    let (kind, body) = content_info(&der)?;
    if kind != oid::ENVELOPED_DATA {
        return Err(DecryptError::NotEnvelopedData(kind));
    }
    let mut fields = body.cursor();
    fields.small_integer()?;
    fields.optional(asn1::context(0))?;
    let mut recipients = fields.expect(SET)?.cursor();
    let mut encrypted = fields.sequence()?;
    encrypted.next()?.oid()?;
    let algorithm = encrypted.expect(SEQUENCE)?;
    let (cipher, iv) = ContentCipher::parse(algorithm)?.map_err(DecryptError::Cipher)?;
    if cipher == ContentCipher::DesCbc && !policy.legacy {
        return Err(DecryptError::Cipher(oid::DES_CBC));
    }
    let text = implicit_octets(encrypted.next()?)?;

    let mut ours = None;
    while !recipients.is_empty() && ours.is_none() {
        ours = Recipient::parse(recipients.next()?, certificate)?;
    }
    let content_key = match ours.ok_or(DecryptError::NotForUs)? {
        Recipient::Transport { encrypted } => recipient::receive(encrypted, key, cipher.key_len())?,
        Recipient::Agreement(agreement) => recipient::agree(&agreement, key, cipher.key_len())?,
    };
    let content = cipher.decrypt(&content_key, iv, &text).ok_or(DecryptError::Failed)?;
    Ok((content, cipher))
}

/// An OCTET STRING under `[0] IMPLICIT`: primitive, or constructed of segments that only now are known to be a string.
fn implicit_octets(element: Element<'_>) -> Result<Vec<u8>, Asn1Error> {
    if element.tag == asn1::context_primitive(0) {
        return Ok(element.content.to_vec());
    }
    if element.tag != asn1::context(0) {
        return Err(Asn1Error("no encrypted content"));
    }
    let mut segments = element.cursor();
    let mut joined = Vec::with_capacity(element.content.len());
    while !segments.is_empty() {
        joined.extend_from_slice(segments.expect(OCTET_STRING)?.content);
    }
    Ok(joined)
}
