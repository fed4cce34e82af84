//! The server's log, under the plugin's name. Lines over the budget of a call are dropped and counted; one line is cut at
//! 4 KiB. Write no secret and no password.
//!
//! ```
//! russet_plugin::log::info(format_args!("{} rules", 3));
//! ```

use std::fmt::Display;

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::log as backend;
use crate::bindings::russet::plugin::log as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::log as backend;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line for the plugin's author.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Writes one line that is worth knowing.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Writes one line about something to look at.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// Writes one line about something that failed.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}

/// Writes one line.
pub fn write(level: Level, message: impl Display) {
    let level = match level {
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    backend::write(level, &message.to_string());
}
