//! What is to be done because of a call. Each function only appends to the call's list; the server does all of it in the
//! transaction that records the decision, or none of it if the call fails. Each kind is a grant of its own.
//!
//! The functions here are about the enrollment that the call is about; [`of`] names another one.
//!
//! ```
//! use russet_plugin::{Error, effects};
//! use serde_json::json;
//!
//! fn welcome() -> Result<(), Error> {
//!     effects::set_attribute("welcomed", "yes")?;
//!     effects::command(&json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]}))
//!         .dedupe_key("welcome")
//!         .enqueue()?;
//!     Ok(())
//! }
//! # let host = russet_plugin::testing::Host::new().install();
//! # welcome().unwrap();
//! # assert_eq!(host.effects().len(), 2);
//! ```

use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::effects as backend;
use crate::bindings::russet::plugin::effects as host;
use crate::clock::millis;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::effects as backend;

/// Why an effect can not be recorded. The call may go on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// It is not well formed; the text says why.
    Invalid(String),
    /// The call is about no enrollment, and none was named.
    NoTarget,
    /// The call has recorded as many effects as it may, or too many plugins have caused one another.
    Budget(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "effect not well formed: {text}"),
            Self::NoTarget => f.write_str("the call is about no enrollment; name one for the effect"),
            Self::Budget(text) => write!(f, "no more effects: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Invalid(text) => Self::Invalid(text),
            host::Error::NoTarget => Self::NoTarget,
            host::Error::Budget(text) => Self::Budget(text),
        }
    }
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

/// The enrollment that an effect is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    enrollment: Option<&'a str>,
}

/// The enrollment of this identifier, such as [`Device::enrollment_id`](crate::Device::enrollment_id) gives.
pub fn of(enrollment: &str) -> Target<'_> {
    Target {
        enrollment: Some(enrollment),
    }
}

/// The enrollment that the call is about.
pub fn current() -> Target<'static> {
    Target { enrollment: None }
}

impl<'a> Target<'a> {
    /// Sets an attribute.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn set_attribute(self, name: &str, value: &str) -> Result<(), Error> {
        Ok(backend::set_attribute(self.enrollment, name, value)?)
    }

    /// Removes an attribute.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn clear_attribute(self, name: &str) -> Result<(), Error> {
        Ok(backend::clear_attribute(self.enrollment, name)?)
    }

    /// A command: an object with Apple's key names. [`Command::enqueue`] queues it.
    pub fn command<C: Serialize + ?Sized>(self, command: &C) -> Command<'a> {
        Command {
            target: self,
            command: serde_json::to_string(command).map_err(|error| error.to_string()),
            options: host::CommandOptions {
                priority: 0,
                not_before_ms: None,
                expires_at_ms: None,
                dedupe_key: None,
            },
        }
    }

    /// Takes a command back, if the device has not answered it yet.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn cancel_command(self, uuid: &str) -> Result<(), Error> {
        Ok(backend::cancel_command(self.enrollment, uuid)?)
    }

    /// Wakes the device.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn push(self) -> Result<(), Error> {
        Ok(backend::push(self.enrollment)?)
    }

    /// Gives the device a stored profile: it is queued for installation, and again whenever the profile changes.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn assign_profile(self, profile: &str) -> Result<(), Error> {
        Ok(backend::assign_profile(self.enrollment, profile)?)
    }

    /// Takes a stored profile away again: its removal is queued.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn unassign_profile(self, profile: &str) -> Result<(), Error> {
        Ok(backend::unassign_profile(self.enrollment, profile)?)
    }

    /// Gives the device a stored set of declarations.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn assign_declarations(self, name: &str) -> Result<(), Error> {
        Ok(backend::assign_declarations(self.enrollment, name)?)
    }

    /// Takes a stored set of declarations away again.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn unassign_declarations(self, name: &str) -> Result<(), Error> {
        Ok(backend::unassign_declarations(self.enrollment, name)?)
    }

    /// Tells observers: an event of the kind `plugin.NAME.KIND` with an object.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn emit_event<D: Serialize + ?Sized>(self, kind: &str, detail: &D) -> Result<(), Error> {
        let detail = serde_json::to_string(detail).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(backend::emit_event(self.enrollment, kind, &detail)?)
    }
}

/// A command that is to be queued.
#[derive(Clone, Debug)]
#[must_use = "a command is queued by `enqueue`"]
pub struct Command<'a> {
    target: Target<'a>,
    command: Result<String, String>,
    options: host::CommandOptions,
}

impl Command<'_> {
    /// Lower goes first; 0 is usual.
    pub fn priority(mut self, priority: i16) -> Self {
        self.options.priority = priority;
        self
    }

    /// It is not sent before this moment.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.options.not_before_ms = Some(millis(time));
        self
    }

    /// It is not sent after this moment.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.options.expires_at_ms = Some(millis(time));
        self
    }

    /// At most one command with this key waits in a queue.
    pub fn dedupe_key(mut self, key: impl Into<String>) -> Self {
        self.options.dedupe_key = Some(key.into());
        self
    }

    /// Queues the command. Its UUID. Command policies are asked before.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn enqueue(self) -> Result<String, Error> {
        let command = self.command.map_err(Error::Invalid)?;
        Ok(backend::enqueue_command(
            self.target.enrollment,
            &command,
            &self.options,
        )?)
    }
}

/// Sets an attribute of the enrollment that the call is about.
///
/// # Errors
///
/// See [`Error`].
pub fn set_attribute(name: &str, value: &str) -> Result<(), Error> {
    current().set_attribute(name, value)
}

/// Removes an attribute of the enrollment that the call is about.
///
/// # Errors
///
/// See [`Error`].
pub fn clear_attribute(name: &str) -> Result<(), Error> {
    current().clear_attribute(name)
}

/// A command for the device that the call is about. [`Command::enqueue`] queues it.
pub fn command<C: Serialize + ?Sized>(command: &C) -> Command<'static> {
    current().command(command)
}

/// Wakes the device that the call is about.
///
/// # Errors
///
/// See [`Error`].
pub fn push() -> Result<(), Error> {
    current().push()
}

/// Gives the device that the call is about a stored profile.
///
/// # Errors
///
/// See [`Error`].
pub fn assign_profile(profile: &str) -> Result<(), Error> {
    current().assign_profile(profile)
}

/// Gives the device that the call is about a stored set of declarations.
///
/// # Errors
///
/// See [`Error`].
pub fn assign_declarations(name: &str) -> Result<(), Error> {
    current().assign_declarations(name)
}

/// Tells observers, about the enrollment that the call is about, or none.
///
/// # Errors
///
/// See [`Error`].
pub fn emit_event<D: Serialize + ?Sized>(kind: &str, detail: &D) -> Result<(), Error> {
    current().emit_event(kind, detail)
}

/// Keeps a [secret](crate::secrets) of the plugin's own.
///
/// # Errors
///
/// See [`Error`].
pub fn put_secret(name: &str, value: &[u8]) -> Result<(), Error> {
    Ok(backend::put_secret(name, value)?)
}

/// Calls the plugin's `scheduled` hook at this moment, in place of what was scheduled under the same name.
///
/// # Errors
///
/// See [`Error`].
pub fn schedule_call(name: &str, at: SystemTime, payload: &str) -> Result<(), Error> {
    Ok(backend::schedule_call(name, millis(at), payload)?)
}
