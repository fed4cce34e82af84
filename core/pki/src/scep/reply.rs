//! Closing a CertRep on the server (RFC 8894 section 3.3.2).

use aws_lc_rs::rand;

use crate::algorithm::Digest;
use crate::asn1::{self, UTF8_STRING};
use crate::certificate::Certificate;
use crate::cms::{self, ContentCipher, EncryptError, SignError, SignRequest};
use crate::key::PublicKeyKind;
use crate::scep::context::RaContext;
use crate::scep::message::{self, FailInfo, MessageType, PkiStatus, Transaction};
use crate::scep::request::{Refusal, Request};
use crate::{ObjectIdentifier, oid};

/// Why a reply could not be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Signing failed.
    #[error("signing the SCEP reply: {0}")]
    Sign(#[from] SignError),
    /// Encrypting to the requester failed.
    #[error("encrypting the SCEP reply: {0}")]
    Encrypt(#[from] EncryptError),
    /// No randomness.
    #[error("no random numbers for the SCEP reply")]
    Random,
}

impl Request {
    /// The CertRep that hands over a certificate: the issued one first, then `chain`, encrypted to the certificate that
    /// signed the request with the cipher that the request used.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn success(
        &self,
        issued: &Certificate,
        chain: &[Certificate],
        context: &RaContext,
    ) -> Result<Vec<u8>, ReplyError> {
        let mut certificates = vec![issued.clone()];
        certificates.extend_from_slice(chain);
        let cipher = match (self.cipher, self.signer.public_key().kind()) {
            // AES key wrap, which an EC recipient needs, cannot carry a key of eight octets.
            (ContentCipher::DesCbc, PublicKeyKind::P256 | PublicKeyKind::P384) => ContentCipher::Aes128Cbc,
            (cipher, _) => cipher,
        };
        let envelope = cms::encrypt(&cms::certs_only(&certificates), &self.signer, cipher)?;
        close(
            context,
            &self.transaction,
            self.digest,
            PkiStatus::Success,
            Some(&envelope),
            Vec::new(),
        )
    }

    /// The CertRep that refuses, with a text for people.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn failure(&self, fail_info: FailInfo, text: &str, context: &RaContext) -> Result<Vec<u8>, ReplyError> {
        refuse(context, &self.transaction, self.digest, fail_info, text)
    }
}

impl Refusal {
    /// The CertRep that refuses.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn reply(&self, context: &RaContext) -> Result<Vec<u8>, ReplyError> {
        refuse(
            context,
            &self.transaction,
            self.digest,
            self.fail_info,
            &self.reason.to_string(),
        )
    }
}

fn refuse(
    context: &RaContext,
    transaction: &Transaction,
    digest: Digest,
    fail_info: FailInfo,
    text: &str,
) -> Result<Vec<u8>, ReplyError> {
    let mut more = vec![message::number(oid::SCEP_FAIL_INFO, fail_info.number())];
    if !text.is_empty() {
        more.push((oid::SCEP_FAIL_INFO_TEXT, asn1::tlv(UTF8_STRING, text.as_bytes())));
    }
    close(context, transaction, digest, PkiStatus::Failure, None, more)
}

fn close(
    context: &RaContext,
    transaction: &Transaction,
    digest: Digest,
    status: PkiStatus,
    content: Option<&[u8]>,
    more: Vec<(ObjectIdentifier, Vec<u8>)>,
) -> Result<Vec<u8>, ReplyError> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| ReplyError::Random)?;
    let mut attributes = vec![
        message::number(oid::SCEP_MESSAGE_TYPE, MessageType::CertRep.number()),
        message::number(oid::SCEP_PKI_STATUS, status.number()),
        message::text(oid::SCEP_TRANSACTION_ID, &transaction.id),
        message::octets(oid::SCEP_RECIPIENT_NONCE, &transaction.nonce),
        message::octets(oid::SCEP_SENDER_NONCE, &nonce),
    ];
    attributes.extend(more);
    // The client understands the digest that it used itself; SHA-1 is answered with SHA-256.
    let digest = Some(context.key.digest_like(digest));
    Ok(cms::sign(
        &SignRequest {
            content,
            detached: false,
            attributes,
            digest,
        },
        &context.signer(),
    )?)
}
