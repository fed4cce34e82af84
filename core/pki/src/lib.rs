//! Certificates, CMS and SCEP for an Apple MDM server: bytes in, bytes out.
//!
//! What is here: a certificate authority, X.509 parsing and chain verification, PKCS#10 requests, CMS signing and
//! enveloping, SCEP on both sides, and the two encodings in which a device's certificate reaches an HTTP server
//! (`Mdm-Signature` and a proxy's certificate header).
//!
//! What this crate deliberately does not know: files, sockets, async, clocks (the caller passes `now`), databases,
//! enrollments, and whether a certificate that verifies is one the server still wants to talk to.
//!
//! Invariants:
//!
//! - All cryptography is in aws-lc-rs. Private-key operations are constant time; a bad RSA padding cannot be told from
//!   any other failure to decrypt.
//! - A signature is always checked over the bytes that were received, never over a re-encoding of what was parsed.
//! - Parsers are strict DER. BER from the wire goes through [`ber::to_der`] first, which caps depth and size.
//! - No parser panics or recurses without a cap on any input.

mod algorithm;
mod asn1;
pub mod ber;
pub mod ca;
mod certificate;
mod chain;
pub mod cms;
pub mod csr;
mod encoding;
mod extensions;
pub mod fingerprint;
pub mod key;
pub mod mdm_signature;
pub mod name;
pub mod oid;
mod pem;
pub mod rfc9440;
pub mod scep;
mod time;

pub use algorithm::{Digest, SignaturePolicy, VerifyError};
pub use asn1::Asn1Error;
pub use certificate::{Certificate, CertificateError, ExtendedKeyUsage, KeyUsage};
pub use chain::{ChainError, ChainPolicy, TrustAnchors};
pub use der::oid::ObjectIdentifier;
