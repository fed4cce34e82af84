//! Simple Certificate Enrolment Protocol (RFC 8894): the messages of both sides.
//!
//! Knows how a request is opened and how a reply is closed. Does not know HTTP, does not check a challenge password and
//! does not decide whether a renewal's certificate is one of ours: the caller does, between [`Request::parse`] and
//! [`Request::success`] or [`Request::failure`].

pub mod client;
mod context;
mod message;
mod reply;
mod request;
mod transport;

pub use context::{RaContext, ScepPolicy, ca_certificates, capabilities};
pub use message::{FailInfo, MessageType, PkiStatus};
pub use reply::ReplyError;
pub use request::{Refusal, Request, ScepError};
pub use transport::{MAX_GET_MESSAGE_LEN, decode_get_message};

/// Content type of a PKI message, both ways (RFC 8894 section 4.3).
pub const PKI_MESSAGE_TYPE: &str = "application/x-pki-message";
/// Content type of a `GetCACert` answer that is one certificate (RFC 8894 section 4.2.1.1).
pub const CA_CERT_TYPE: &str = "application/x-x509-ca-cert";
/// Content type of a `GetCACert` answer that is several certificates (RFC 8894 section 4.2.1.2).
pub const CA_RA_CERT_TYPE: &str = "application/x-x509-ca-ra-cert";
