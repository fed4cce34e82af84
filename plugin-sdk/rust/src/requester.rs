//! Who asks for something.

use crate::bindings::russet::plugin::context as host;
use crate::input::FromHost;

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requester {
    /// The enrolled device itself.
    Device,
    /// An administrator, by the name of the API token.
    Administrator(String),
    /// A plugin, by its name: its effect.
    Plugin(String),
    /// The server itself, such as the questions it asks a device that has just enrolled.
    Server,
}

impl FromHost<host::Requester> for Requester {
    fn from_host(requester: host::Requester) -> Self {
        match requester {
            host::Requester::Device => Self::Device,
            host::Requester::Administrator(name) => Self::Administrator(name),
            host::Requester::Plugin(name) => Self::Plugin(name),
            host::Requester::Server => Self::Server,
        }
    }
}
