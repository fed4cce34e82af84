//! Reads what the server knows of the tenant's devices.
//!
//! ```
//! use russet_plugin::{Error, inventory};
//!
//! fn has_another(user: &str) -> Result<bool, Error> {
//!     Ok(!inventory::devices_of_person(user)?.is_empty())
//! }
//! # let _host = russet_plugin::testing::Host::new().install();
//! # assert_eq!(has_another("ada"), Ok(false));
//! ```

use crate::input::capability_error;
use crate::{Device, Person};

/// A device that was found, with its person.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: Device,
    /// The person behind its enrollment, if known.
    pub person: Option<Person>,
}

capability_error! {
    inventory;
    /// The question is not well formed; the text says why.
    Invalid => "inventory question not well formed",
    /// The store can not be reached, or did not answer in time.
    Unavailable => "inventory not available",
}

/// Finds an enrolled device by its enrollment identifier, serial number or UDID.
///
/// # Errors
///
/// See [`Error`].
pub fn find_device(name: &str) -> Result<Option<Found>, Error> {
    backend::find_device(name)
}

/// Enrolled devices whose attribute has this value, in a stable order, after this enrollment identifier; at most 1,000 and
/// at most as many as asked for.
///
/// # Errors
///
/// See [`Error`].
pub fn devices_with_attribute(name: &str, value: &str, after: Option<&str>, limit: u32) -> Result<Vec<Found>, Error> {
    backend::devices_with_attribute(name, value, after, limit)
}

/// Enrolled devices of the person with this user name.
///
/// # Errors
///
/// See [`Error`].
pub fn devices_of_person(user_name: &str) -> Result<Vec<Found>, Error> {
    backend::devices_of_person(user_name)
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::inventory as backend;

/// The host's devices and people become the kit's.
#[cfg(target_family = "wasm")]
mod backend {
    use super::{Error, Found};
    use crate::bindings::russet::plugin::inventory as host;

    fn found(found: host::Found) -> Found {
        Found {
            device: found.device.into(),
            person: found.person.map(Into::into),
        }
    }

    pub(super) fn find_device(name: &str) -> Result<Option<Found>, Error> {
        Ok(host::find_device(name)?.map(found))
    }

    pub(super) fn devices_with_attribute(
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Found>, Error> {
        let all = host::devices_with_attribute(name, value, after, limit)?;
        Ok(all.into_iter().map(found).collect())
    }

    pub(super) fn devices_of_person(user_name: &str) -> Result<Vec<Found>, Error> {
        Ok(host::devices_of_person(user_name)?.into_iter().map(found).collect())
    }
}
