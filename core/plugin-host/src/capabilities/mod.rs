//! What a plugin can be granted, one file each, and how that becomes a linker.
//!
//! The linker of a plugin holds the granted functions and no others. The check before (manifest, imports and grants) says
//! what is missing in words; the linker is the second barrier, for a check that has a bug.

mod clock;
mod effects;
mod escrow_secret;
mod http;
mod inventory;
mod kv;
mod ldap;
mod link;
mod log;
mod named;
mod random;
mod secrets;
mod settings;
mod signer;
mod trust;
mod wasi;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

pub use self::http::{
    HttpAuthentication, HttpConfigError, HttpConnection, HttpConnections, NameResolver, SystemResolver,
};
pub use self::ldap::{LdapConfigError, LdapConnection, LdapConnections};
pub(crate) use self::log::{LogLines, one_line};
pub use self::named::NamedConnections;
pub use self::trust::TrustError;
pub(crate) use self::wasi::Wasi;
use crate::Grants;
use crate::bindings::russet::plugin as wit;
use crate::state::CallState;

/// A linker with the granted functions, and with WASI for components that import it.
pub(crate) fn linker(engine: &Engine, grants: &Grants, wasi: bool) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    if wasi {
        wasi::link(&mut linker)?;
    }
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
    if grants.allows("random.bytes") {
        wit::random::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    }
    kv::link(&mut linker, grants)?;
    inventory::link(&mut linker, grants)?;
    http::link(&mut linker, grants)?;
    ldap::link(&mut linker, grants)?;
    secrets::link(&mut linker, grants)?;
    signer::link(&mut linker, grants)?;
    if grants.allows("escrow-secret.read") {
        wit::escrow_secret::add_to_linker::<_, HasSelf<CallState>>(&mut linker, |state| state)?;
    }
    effects::link(&mut linker, grants)?;
    Ok(linker)
}

/// The named connections of a server. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// Directories.
    pub ldap: LdapConnections,
    /// HTTP servers.
    pub http: HttpConnections,
}

impl Connections {
    /// Those that a tenant's plugins may use.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> Self {
        Self {
            ldap: self.ldap.of_tenant(tenant),
            http: self.http.of_tenant(tenant),
        }
    }
}
