//! `http`: named connections to servers. The operator binds a name to a base address and credentials; a plugin holds
//! neither, and reaches nothing outside the address.

mod address;
mod client;
mod config;
mod request;

use wasmtime::component::Linker;

pub use self::address::{NameResolver, SystemResolver};
pub use self::config::{HttpAuthentication, HttpConfigError, HttpConnection, HttpConnections};
use super::link::Interface;
use crate::Grants;
use crate::bindings::russet::plugin::http as wit;
use crate::journal::{HostCall, HostValue, shapeless};
use crate::ports::{CallError, HttpRequest};
use crate::state::CallState;

/// Links the function if it is granted.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut http) = Interface::of(linker, grants, "http")? else {
        return Ok(());
    };
    http.function(
        "send",
        |(request,): (wit::Request,)| {
            Ok(HostCall::HttpSend(HttpRequest {
                connection: request.connection,
                method: request.method,
                path: request.path,
                headers: request.headers,
                body: request.body,
            }))
        },
        |_, answer| match answer {
            Ok(HostValue::Response(response)) => Ok(Ok(wit::Response {
                status: response.status,
                headers: response.headers,
                body: response.body,
            })),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )
}

fn refused(error: CallError) -> wit::Error {
    match error {
        CallError::NotGranted(text) => wit::Error::NotGranted(text),
        CallError::Invalid(text) => wit::Error::Invalid(text),
        CallError::Forbidden(text) => wit::Error::Forbidden(text),
        CallError::TooLarge(text) => wit::Error::TooLarge(text),
        CallError::Unavailable(text) | CallError::Quota(text) | CallError::Refused(text) => {
            wit::Error::Unavailable(text)
        }
    }
}
