//! The client's side of SCEP, as a device speaks it.

use aws_lc_rs::rand;

use crate::algorithm::SignaturePolicy;
use crate::asn1::Element;
use crate::certificate::{Certificate, CertificateError, KeyUsage};
use crate::cms::{self, CmsError, ContentCipher, DecryptError, DecryptPolicy, EncryptError, SignError, SignRequest};
use crate::cms::{SignedData, Signer};
use crate::csr::CertificateRequest;
use crate::key::PublicKeyKind;
use crate::scep::CA_CERT_TYPE;
use crate::scep::message::{self, FailInfo, MessageType, PkiStatus, read_number};
use crate::{fingerprint, oid};

/// Why an exchange failed on the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request could not be encrypted.
    #[error("encrypting the SCEP request: {0}")]
    Encrypt(#[from] EncryptError),
    /// The request could not be signed.
    #[error("signing the SCEP request: {0}")]
    Sign(#[from] SignError),
    /// No randomness.
    #[error("no random numbers for the SCEP request")]
    Random,
    /// The answer is not acceptable as a CMS message.
    #[error("the SCEP answer: {0}")]
    Cms(#[from] CmsError),
    /// The answer cannot be decrypted.
    #[error("the SCEP answer: {0}")]
    Decrypt(#[from] DecryptError),
    /// A certificate in an answer is broken.
    #[error("the SCEP answer: {0}")]
    Certificate(#[from] CertificateError),
    /// Signed by somebody else than the CA or its RA.
    #[error("the SCEP answer is not signed by the CA")]
    Untrusted,
    /// An answer to another request, or without what an answer must say.
    #[error("the SCEP answer does not belong to the request")]
    OtherTransaction,
    /// No certificate for the requested key in a successful answer.
    #[error("the SCEP answer has no certificate for the requested key")]
    NoCertificate,
}

/// How the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate for the requested key.
    Issued {
        /// The new certificate.
        certificate: Certificate,
        /// What came along.
        chain: Vec<Certificate>,
    },
    /// Refused.
    Refused {
        /// The reason's number, when it is a known one.
        fail_info: Option<FailInfo>,
        /// The reason as text, when the server sends one.
        text: Option<String>,
    },
    /// To be asked for later.
    Pending,
}

/// One request under way: the message to send, and what is needed to read its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    message: Vec<u8>,
    transaction_id: String,
    nonce: [u8; 16],
    signer: Signer,
    public_key: Vec<u8>,
}

impl Exchange {
    /// A PKCSReq: `signer` holds a self-signed certificate (see [`crate::ca::self_signed`]); `ca` is the certificate to
    /// encrypt for (see [`encryption_certificate`]).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn enroll(
        csr: &CertificateRequest,
        signer: Signer,
        ca: &Certificate,
        cipher: ContentCipher,
    ) -> Result<Self, ClientError> {
        Self::new(MessageType::PkcsReq, csr, signer, ca, cipher)
    }

    /// A RenewalReq: `signer` holds the certificate to renew.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn renew(
        csr: &CertificateRequest,
        signer: Signer,
        ca: &Certificate,
        cipher: ContentCipher,
    ) -> Result<Self, ClientError> {
        Self::new(MessageType::RenewalReq, csr, signer, ca, cipher)
    }

    /// A request of any type, for tests of a server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(
        message_type: MessageType,
        csr: &CertificateRequest,
        signer: Signer,
        ca: &Certificate,
        cipher: ContentCipher,
    ) -> Result<Self, ClientError> {
        let envelope = cms::encrypt(csr.der(), ca, cipher)?;
        let public_key = csr.public_key().der().to_vec();
        // RFC 8894 section 3.2.1.1: a hash of the key makes a retry the same transaction.
        let transaction_id = fingerprint::hex(&fingerprint::sha256(&public_key));
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| ClientError::Random)?;
        let attributes = vec![
            message::number(oid::SCEP_MESSAGE_TYPE, message_type.number()),
            message::text(oid::SCEP_TRANSACTION_ID, &transaction_id),
            message::octets(oid::SCEP_SENDER_NONCE, &nonce),
        ];
        let request = SignRequest {
            content: Some(&envelope),
            detached: false,
            attributes,
            digest: None,
        };
        let message = cms::sign(&request, &signer)?;
        Ok(Self {
            message,
            transaction_id,
            nonce,
            signer,
            public_key,
        })
    }

    /// The message to send.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The transaction identifier: the SHA-256 of the requested key, in hexadecimal.
    pub fn transaction_id(&self) -> &str {
        &self.transaction_id
    }

    /// Reads the answer, which one of `authorities` (what `GetCACert` gave) must have signed.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is an [`Outcome`].
    pub fn read(&self, reply: &[u8], authorities: &[Certificate]) -> Result<Outcome, ClientError> {
        let policy = SignaturePolicy::strict();
        let der = cms::to_der(reply, policy.max_len).map_err(CmsError::from)?;
        let signed = SignedData::parse(&der, policy.max_certificates)?;
        let content = signed.content.as_deref().unwrap_or_default();
        let verified = signed.verify(content, &policy)?;
        if !authorities.contains(&verified.signer) {
            return Err(ClientError::Untrusted);
        }
        let attributes = &verified.signed_attributes;
        let ours = attributes.text(&oid::SCEP_TRANSACTION_ID).as_deref() == Some(&self.transaction_id)
            && attributes.octets(&oid::SCEP_RECIPIENT_NONCE) == Some(&self.nonce)
            && read_number(attributes, &oid::SCEP_MESSAGE_TYPE) == Some(MessageType::CertRep.number());
        let status = read_number(attributes, &oid::SCEP_PKI_STATUS).and_then(PkiStatus::from_number);
        match status.filter(|_| ours).ok_or(ClientError::OtherTransaction)? {
            PkiStatus::Pending => Ok(Outcome::Pending),
            PkiStatus::Failure => Ok(Outcome::Refused {
                fail_info: read_number(attributes, &oid::SCEP_FAIL_INFO).and_then(FailInfo::from_number),
                text: attributes.text(&oid::SCEP_FAIL_INFO_TEXT),
            }),
            PkiStatus::Success => {
                let plain = cms::decrypt(
                    content,
                    &self.signer.certificate,
                    &self.signer.key,
                    &DecryptPolicy::default(),
                )?;
                let mut chain = cms::certificates(&plain, &policy)?;
                let position = chain
                    .iter()
                    .position(|certificate| certificate.public_key_der() == self.public_key);
                let certificate = chain.remove(position.ok_or(ClientError::NoCertificate)?);
                Ok(Outcome::Issued { certificate, chain })
            }
        }
    }
}

/// Reads the answer to `GetCACert`.
///
/// # Errors
/// [`ClientError`].
pub fn parse_ca_certificates(content_type: &str, body: &[u8]) -> Result<Vec<Certificate>, ClientError> {
    if content_type.eq_ignore_ascii_case(CA_CERT_TYPE) && Element::only(body).is_ok() {
        return Ok(vec![Certificate::parse(body)?]);
    }
    Ok(cms::certificates(body, &SignaturePolicy::strict())?)
}

/// Picks the certificate to encrypt a request for: an RSA one that may decipher keys, an RA before the CA.
pub fn encryption_certificate(authorities: &[Certificate]) -> Option<&Certificate> {
    let fit = |certificate: &&Certificate| {
        matches!(certificate.public_key().kind(), PublicKeyKind::Rsa { .. })
            && certificate
                .key_usage()
                .is_none_or(|usage| usage.contains(KeyUsage::KEY_ENCIPHERMENT))
    };
    let mut candidates = authorities.iter().filter(fit);
    let first = candidates.clone().find(|certificate| !certificate.is_ca());
    first.or_else(|| candidates.next())
}
