//! Keys that the server holds for the plugin, made on first use, never shown: one space for each plugin of each tenant.

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::signer as backend;
use crate::input::capability_error;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::signer as backend;

capability_error! {
    signer;
    /// No name, a name that is too long, no such secret, or too many keys; the text says which.
    Invalid => "not a valid key",
    /// The store can not be reached, or did not answer in time.
    Unavailable => "the plugin's keys are not available",
}

/// HMAC-SHA-256 (RFC 2104) of a message, under the [secret](crate::secrets) of this name. 32 bytes.
///
/// # Errors
///
/// [`Error::Invalid`] if there is no such secret; else see [`Error`].
pub fn hmac_sha256(secret: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(backend::hmac_sha256(secret, message)?)
}

/// The Ed25519 (RFC 8032) signature of a message, under the key of this name. 64 bytes.
///
/// # Errors
///
/// See [`Error`].
pub fn sign(key: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(backend::sign(key, message)?)
}

/// The Ed25519 public key of this name, 32 bytes.
///
/// # Errors
///
/// See [`Error`].
pub fn public_key(key: &str) -> Result<Vec<u8>, Error> {
    Ok(backend::public_key(key)?)
}
