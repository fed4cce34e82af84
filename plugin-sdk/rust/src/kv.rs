//! The plugin's own store: one space for each plugin of each tenant, kept over revisions. A write is durable when the call
//! returns, whatever becomes of the hook's decision; what has to happen together with the decision is an
//! [effect](crate::effects).
//!
//! Keys have 1 to 256 bytes, values at most 64 KiB, and the space a quota of keys and bytes.
//!
//! ```
//! use russet_plugin::{Error, kv};
//!
//! /// How often this device asked, counted safely beside other calls.
//! fn asked(serial: &str) -> Result<u32, Error> {
//!     kv::update_json(&format!("asked/{serial}"), |count: Option<u32>| count.unwrap_or(0) + 1)
//! }
//! # let _host = russet_plugin::testing::Host::new().install();
//! # assert_eq!((asked("C02").unwrap(), asked("C02").unwrap()), (1, 2));
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::kv as backend;
use crate::clock::duration_ms;
use crate::input::capability_error;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::kv as backend;

/// How often [`update_json`] and [`change_json`] try before they give up.
const TRIES: u32 = 16;

/// A value with what is needed to replace exactly it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Changes with every write.
    pub version: u64,
    /// When it goes away by itself, in milliseconds since 1970-01-01T00:00:00Z.
    pub expires_at_ms: Option<u64>,
}

capability_error! {
    kv;
    /// A key or a value is too long; the text says which.
    Invalid => "not a valid key or value",
    /// The space is full.
    Quota => "the plugin's store is full",
    /// The store can not be reached, or did not answer in time.
    Unavailable => "the plugin's store is not available",
}

/// The value of a key; absent if there is none or it expired.
///
/// # Errors
///
/// See [`Error`].
pub fn get(key: &str) -> Result<Option<Entry>, Error> {
    let entry = backend::get(key)?;
    Ok(entry.map(|entry| Entry {
        value: entry.value,
        version: entry.version,
        expires_at_ms: entry.expires_at_ms,
    }))
}

/// Sets a value, whatever was there.
///
/// # Errors
///
/// See [`Error`].
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    Ok(backend::set(key, value, None)?)
}

/// Sets a value, whatever was there; it goes away after this time.
///
/// # Errors
///
/// See [`Error`].
pub fn set_for(key: &str, value: &[u8], lifetime: Duration) -> Result<(), Error> {
    Ok(backend::set(key, value, Some(duration_ms(lifetime)))?)
}

/// Sets a value if the key still has this version, or is absent if none is given. Whether it did.
///
/// # Errors
///
/// See [`Error`].
pub fn compare_and_set(
    key: &str,
    version: Option<u64>,
    value: &[u8],
    lifetime: Option<Duration>,
) -> Result<bool, Error> {
    Ok(backend::compare_and_set(
        key,
        version,
        value,
        lifetime.map(duration_ms),
    )?)
}

/// Removes a key. Whether it was there.
///
/// # Errors
///
/// See [`Error`].
pub fn delete(key: &str) -> Result<bool, Error> {
    Ok(backend::delete(key)?)
}

/// Keys that start so, sorted, after this one; at most 1,000 and at most as many as asked for.
///
/// # Errors
///
/// See [`Error`].
pub fn keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Error> {
    Ok(backend::keys(prefix, after, limit)?)
}

/// The value of a key, read from JSON.
///
/// # Errors
///
/// If the store fails, or the value does not fit the type; the text names the key.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, crate::Error> {
    get(key)?.map(|entry| parse(key, &entry.value)).transpose()
}

/// Sets a value, written as JSON.
///
/// # Errors
///
/// If the store fails, or the value can not be written as JSON.
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), crate::Error> {
    Ok(set(key, &serde_json::to_vec(value)?)?)
}

/// Sets a value, written as JSON; it goes away after this time.
///
/// # Errors
///
/// If the store fails, or the value can not be written as JSON.
pub fn set_json_for<T: Serialize + ?Sized>(key: &str, value: &T, lifetime: Duration) -> Result<(), crate::Error> {
    Ok(set_for(key, &serde_json::to_vec(value)?, lifetime)?)
}

/// Replaces a value by what a function makes of it, safely beside other calls that do the same: the function is called
/// again if another call was faster. What was written. The value keeps no lifetime.
///
/// # Errors
///
/// If the store fails, the value does not fit the type, or other calls are faster all the time.
pub fn update_json<T: Serialize + DeserializeOwned>(
    key: &str,
    mut change: impl FnMut(Option<T>) -> T,
) -> Result<T, crate::Error> {
    replace_json(key, None, |before| {
        let after = change(before);
        Ok((Some(serde_json::to_vec(&after)?), after))
    })
}

/// As [`update_json`], for a function that also finds something out, which is given back, and that may leave the value as it
/// is by making nothing of it. What is written goes away after the lifetime, if one is given.
///
/// # Errors
///
/// As [`update_json`].
pub fn change_json<T: Serialize + DeserializeOwned, R>(
    key: &str,
    lifetime: Option<Duration>,
    mut change: impl FnMut(Option<T>) -> (Option<T>, R),
) -> Result<R, crate::Error> {
    replace_json(key, lifetime, |before| {
        let (after, found) = change(before);
        Ok((after.map(|after| serde_json::to_vec(&after)).transpose()?, found))
    })
}

fn replace_json<T: DeserializeOwned, R>(
    key: &str,
    lifetime: Option<Duration>,
    mut change: impl FnMut(Option<T>) -> Result<(Option<Vec<u8>>, R), crate::Error>,
) -> Result<R, crate::Error> {
    for _ in 0..TRIES {
        let entry = get(key)?;
        let version = entry.as_ref().map(|entry| entry.version);
        let before = entry.map(|entry| parse(key, &entry.value)).transpose()?;
        let (after, found) = change(before)?;
        let Some(after) = after else { return Ok(found) };
        if compare_and_set(key, version, &after, lifetime)? {
            return Ok(found);
        }
    }
    Err(crate::Error::new(format_args!(
        "`{key}` is changed by other calls all the time"
    )))
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, crate::Error> {
    serde_json::from_slice(value).map_err(|error| crate::Error::new(format_args!("stored value `{key}`: {error}")))
}
