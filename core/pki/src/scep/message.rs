//! The numbers of SCEP (RFC 8894 section 3.2.1) and the attributes that carry them.

use crate::asn1::{self, OCTET_STRING, PRINTABLE_STRING};
use crate::cms::SignedAttributes;
use crate::{ObjectIdentifier, oid};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// The CA's answer.
    CertRep,
    /// A request signed with the certificate to be renewed.
    RenewalReq,
    /// A first request, signed with a self-signed certificate.
    PkcsReq,
    /// A poll for a pending request; replies here are never pending.
    CertPoll,
    /// A query for an issued certificate.
    GetCert,
    /// A query for a revocation list.
    GetCrl,
    /// Any other number.
    Other(u32),
}

impl MessageType {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::CertRep => 3,
            Self::RenewalReq => 17,
            Self::PkcsReq => 19,
            Self::CertPoll => 20,
            Self::GetCert => 21,
            Self::GetCrl => 22,
            Self::Other(number) => number,
        }
    }

    /// The message type of a number.
    pub fn from_number(number: u32) -> Self {
        match number {
            3 => Self::CertRep,
            17 => Self::RenewalReq,
            19 => Self::PkcsReq,
            20 => Self::CertPoll,
            21 => Self::GetCert,
            22 => Self::GetCrl,
            other => Self::Other(other),
        }
    }
}

/// How a CertRep answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PkiStatus {
    /// Issued.
    Success,
    /// Refused; see [`FailInfo`].
    Failure,
    /// To be polled for.
    Pending,
}

impl PkiStatus {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Success => 0,
            Self::Failure => 2,
            Self::Pending => 3,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::Success, Self::Failure, Self::Pending]
            .into_iter()
            .find(|status| status.number() == number)
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailInfo {
    /// Unrecognised or unsupported algorithm.
    BadAlg,
    /// Integrity check failed: signature or decryption.
    BadMessageCheck,
    /// Transaction not permitted or supported; also a wrong challenge.
    BadRequest,
    /// The signing time is too far from the server's.
    BadTime,
    /// No certificate matches.
    BadCertId,
}

impl FailInfo {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::BadAlg => 0,
            Self::BadMessageCheck => 1,
            Self::BadRequest => 2,
            Self::BadTime => 3,
            Self::BadCertId => 4,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [
            Self::BadAlg,
            Self::BadMessageCheck,
            Self::BadRequest,
            Self::BadTime,
            Self::BadCertId,
        ]
        .into_iter()
        .find(|info| info.number() == number)
    }
}

/// What ties a reply to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) nonce: Vec<u8>,
}

impl Transaction {
    /// Longest transaction identifier, in characters.
    const MAX_ID: usize = 256;
    /// Longest nonce, in octets; RFC 8894 has 16.
    const MAX_NONCE: usize = 64;

    pub(super) fn read(attributes: &SignedAttributes) -> Option<Self> {
        let id = attributes.text(&oid::SCEP_TRANSACTION_ID)?;
        let nonce = attributes.octets(&oid::SCEP_SENDER_NONCE)?.to_vec();
        let bounded = (1..=Self::MAX_ID).contains(&id.len()) && (1..=Self::MAX_NONCE).contains(&nonce.len());
        let printable = id.chars().all(|character| matches!(character, ' '..='~'));
        (bounded && printable).then_some(Self { id, nonce })
    }
}

/// A number that SCEP writes as a decimal PrintableString.
pub(super) fn read_number(attributes: &SignedAttributes, attribute: &ObjectIdentifier) -> Option<u32> {
    attributes.text(attribute)?.parse().ok()
}

pub(super) fn number(attribute: ObjectIdentifier, number: u32) -> (ObjectIdentifier, Vec<u8>) {
    text(attribute, &number.to_string())
}

pub(super) fn text(attribute: ObjectIdentifier, value: &str) -> (ObjectIdentifier, Vec<u8>) {
    (attribute, asn1::tlv(PRINTABLE_STRING, value.as_bytes()))
}

pub(super) fn octets(attribute: ObjectIdentifier, value: &[u8]) -> (ObjectIdentifier, Vec<u8>) {
    (attribute, asn1::tlv(OCTET_STRING, value))
}
