//! The plugin's own secrets, sealed by the server: one space for each plugin of each tenant. The operator may put secrets
//! there too. Small: at most 100, at most 16 KiB each.

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::secrets as backend;
use crate::input::capability_error;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::secrets as backend;

capability_error! {
    secrets;
    /// A name or a value is too long, or sealed bytes are not the plugin's; the text says which.
    Invalid => "not a valid secret",
    /// The space is full.
    Quota => "the plugin has too many secrets",
    /// The store can not be reached, or did not answer in time.
    Unavailable => "the plugin's secrets are not available",
}

/// The secret of a name; absent if there is none.
///
/// # Errors
///
/// See [`Error`].
pub fn get(name: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(backend::get(name)?)
}

/// Keeps a secret under a name, whatever was there.
///
/// # Errors
///
/// See [`Error`].
pub fn put(name: &str, value: &[u8]) -> Result<(), Error> {
    Ok(backend::put(name, value)?)
}

/// Removes a secret. Whether it was there.
///
/// # Errors
///
/// See [`Error`].
pub fn delete(name: &str) -> Result<bool, Error> {
    Ok(backend::delete(name)?)
}

/// Seals bytes under the server's key for this plugin: what comes back may be kept anywhere, and only [`open`] of the same
/// plugin and tenant reads it.
///
/// # Errors
///
/// See [`Error`].
pub fn seal(value: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(backend::seal(value)?)
}

/// Opens what [`seal`] made.
///
/// # Errors
///
/// [`Error::Invalid`] if it did not; else see [`Error`].
pub fn open(sealed: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(backend::open(sealed)?)
}
