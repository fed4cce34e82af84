//! What a plugin can be granted, one file each, and how that becomes a linker.
//!
//! The linker of a plugin holds the granted functions and no others. The check before (manifest, imports and grants) says
//! what is missing in words; the linker is the second barrier, for a check that has a bug.

mod clock;
mod ldap;
mod log;
mod settings;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

pub use self::ldap::{LdapClient, LdapConfigError, LdapConnection, LdapConnections};
pub(crate) use self::log::one_line;
use crate::Grants;
use crate::bindings::russet::plugin as wit;
use crate::state::CallState;

/// A linker with the granted functions.
pub(crate) fn linker(engine: &Engine, grants: &Grants) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wit::context::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    if grants.allows("log.write") {
        wit::log::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    }
    if grants.allows("settings.get") {
        wit::settings::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    }
    if grants.allows("clock.now-ms") {
        wit::clock::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    }
    ldap::link(&mut linker, grants)?;
    Ok(linker)
}
