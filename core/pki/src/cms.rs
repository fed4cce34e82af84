//! Cryptographic Message Syntax (RFC 5652): SignedData and EnvelopedData.
//!
//! Verification says that a certificate's key signed these bytes. Whether that certificate is trusted
//! ([`crate::TrustAnchors`]), still valid, or allowed to say so is the caller's question.

mod cipher;
mod enveloped;
mod recipient;
mod rsa_legacy;
mod sign;
mod signed;

pub use cipher::ContentCipher;
pub use enveloped::{DecryptError, DecryptPolicy, EncryptError, decrypt, encrypt};
pub use sign::{SignError, Signer, certs_only, sign_attached, sign_detached};
pub use signed::{CmsError, SignedAttributes, Verified, certificates, verify_attached, verify_detached};

pub(crate) use enveloped::decrypt_with_cipher;
pub(crate) use sign::{SignRequest, sign};
pub(crate) use signed::{SignedData, to_der, verify_detached_again};

/// Deepest nesting of a message.
const MAX_DEPTH: usize = 32;
