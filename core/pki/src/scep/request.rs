//! Opening a PKI message on the server (RFC 8894 section 3.3).
//!
//! What fails before the transaction is known can only be answered by the transport; everything later is a
//! [`Refusal`], which closes into a CertRep. All failures from the RSA padding to the certification request are one
//! refusal with one text, so that nobody can use the server to decrypt.

use crate::algorithm::{Digest, SignaturePolicy, VerifyError};
use crate::certificate::Certificate;
use crate::cms::{self, CmsError, ContentCipher, DecryptError, DecryptPolicy, SignedData};
use crate::csr::{CertificateRequest, CsrError, KeyPolicy};
use crate::key::PublicKeyKind;
use crate::oid;
use crate::scep::context::{RaContext, ScepPolicy};
use crate::scep::message::{FailInfo, MessageType, Transaction, read_number};

/// Most certificates in a request.
const MAX_CERTIFICATES: usize = 8;

/// Why a message was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScepError {
    /// Not a PKI message at all: answer with a transport error.
    #[error("not a SCEP message: {0}")]
    Message(#[from] CmsError),
    /// No transaction identifier or nonce to answer to: answer with a transport error.
    #[error("not a SCEP message: it has no usable transaction identifier, nonce or message type")]
    Attributes,
    /// A message that is refused with a CertRep.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The key that should answer is not fit for it.
    #[error("the SCEP key must be RSA and belong to its certificate; SCEP cannot work with an EC key")]
    RaKey,
}

/// A message that cannot be granted. Closes into a CertRep with [`Refusal::reply`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused SCEP transaction {}: {reason}", transaction.id)]
pub struct Refusal {
    pub(super) transaction: Transaction,
    pub(super) digest: Digest,
    pub(super) fail_info: FailInfo,
    pub(super) reason: RefusalReason,
}

impl Refusal {
    /// The transaction identifier, as the client chose it.
    pub fn transaction_id(&self) -> &str {
        &self.transaction.id
    }

    /// The failInfo of the reply.
    pub fn fail_info(&self) -> FailInfo {
        self.fail_info
    }
}

/// The reasons, worded for the log and for failInfoText alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusalReason {
    #[error("message type {0} is not supported; use PKCSReq or RenewalReq")]
    MessageType(u32),
    #[error("{0}")]
    Signature(CmsError),
    #[error("{0}")]
    Envelope(DecryptError),
    #[error("the message could not be decrypted or holds no valid certification request")]
    Content,
    #[error("the key of the request is not accepted; use RSA from 2048 bits, P-256 or P-384, and SHA-256")]
    Key,
    #[error("the certificate that signed the request cannot receive an answer; it needs RSA from 2048 bits or P-256")]
    Recipient,
}

/// An opened and verified request.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) transaction: Transaction,
    pub(super) message_type: MessageType,
    pub(super) signer: Certificate,
    pub(super) csr: CertificateRequest,
    pub(super) cipher: ContentCipher,
    pub(super) digest: Digest,
}

impl Request {
    /// Opens a PKI message: signature, decryption, certification request with its own signature and key strength.
    ///
    /// The caller then checks the challenge ([`challenge`](Self::challenge)) of a PKCSReq, or that the
    /// [`signer`](Self::signer) of a RenewalReq is a current certificate of its own.
    ///
    /// # Errors
    /// [`ScepError::Refused`] holds the reply to send; the others have no SCEP reply.
    pub fn parse(bytes: &[u8], context: &RaContext, policy: &ScepPolicy) -> Result<Self, ScepError> {
        let der = cms::to_der(bytes, policy.max_len).map_err(CmsError::from)?;
        let signed = SignedData::parse(&der, MAX_CERTIFICATES)?;
        let attributes = signed.unverified_attributes()?;
        let transaction = Transaction::read(&attributes).ok_or(ScepError::Attributes)?;
        let number = read_number(&attributes, &oid::SCEP_MESSAGE_TYPE).ok_or(ScepError::Attributes)?;

        let content = signed.content.as_deref().unwrap_or_default();
        let signature_policy = SignaturePolicy {
            legacy: policy.legacy,
            max_len: policy.max_len,
            max_certificates: MAX_CERTIFICATES,
        };
        let mut digest = Digest::Sha256;
        let refuse = |digest, fail_info, reason| {
            ScepError::Refused(Box::new(Refusal {
                transaction: transaction.clone(),
                digest,
                fail_info,
                reason,
            }))
        };
        let verified = signed.verify(content, &signature_policy).map_err(|error| {
            let fail_info = match error {
                CmsError::Signature(VerifyError::Weak(_) | VerifyError::Unsupported) | CmsError::Digest(_) => {
                    FailInfo::BadAlg
                }
                _ => FailInfo::BadMessageCheck,
            };
            refuse(digest, fail_info, RefusalReason::Signature(error))
        })?;
        digest = verified.digest;

        let message_type = MessageType::from_number(number);
        if !matches!(message_type, MessageType::PkcsReq | MessageType::RenewalReq) {
            return Err(refuse(digest, FailInfo::BadRequest, RefusalReason::MessageType(number)));
        }
        if !can_receive(verified.signer.public_key().kind(), policy) {
            return Err(refuse(digest, FailInfo::BadAlg, RefusalReason::Recipient));
        }

        let decrypt_policy = DecryptPolicy {
            legacy: policy.legacy,
            max_len: policy.max_len,
        };
        let (plain, cipher) = cms::decrypt_with_cipher(content, &context.certificate, &context.key, &decrypt_policy)
            .map_err(|error| match error {
                DecryptError::Failed => refuse(digest, FailInfo::BadMessageCheck, RefusalReason::Content),
                DecryptError::Cipher(_) | DecryptError::KeyEncryption => {
                    refuse(digest, FailInfo::BadAlg, RefusalReason::Envelope(error))
                }
                _ => refuse(digest, FailInfo::BadMessageCheck, RefusalReason::Envelope(error)),
            })?;
        let csr =
            CertificateRequest::parse(&plain, KeyPolicy { legacy: policy.legacy }).map_err(|error| match error {
                // Only a readable request gets here, so this tells nothing about a forged ciphertext.
                CsrError::Key | CsrError::Signature(VerifyError::Weak(_)) => {
                    refuse(digest, FailInfo::BadAlg, RefusalReason::Key)
                }
                _ => refuse(digest, FailInfo::BadMessageCheck, RefusalReason::Content),
            })?;
        Ok(Self {
            transaction,
            message_type,
            signer: verified.signer,
            csr,
            cipher,
            digest,
        })
    }

    /// The transaction identifier, as the client chose it.
    pub fn transaction_id(&self) -> &str {
        &self.transaction.id
    }

    /// The client's nonce.
    pub fn sender_nonce(&self) -> &[u8] {
        &self.transaction.nonce
    }

    /// [`MessageType::PkcsReq`] or [`MessageType::RenewalReq`].
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// The certification request; its own signature was checked.
    pub fn csr(&self) -> &CertificateRequest {
        &self.csr
    }

    /// The challenge password: secret, to be compared in constant time and never logged.
    pub fn challenge(&self) -> Option<&str> {
        self.csr.challenge_password()
    }

    /// The certificate that signed the message: self-signed in a PKCSReq, the one to renew in a RenewalReq.
    pub fn signer(&self) -> &Certificate {
        &self.signer
    }
}

/// Whether a reply can be encrypted to this key.
fn can_receive(key: PublicKeyKind, policy: &ScepPolicy) -> bool {
    KeyPolicy { legacy: policy.legacy }.allows(key)
}
