//! `ldap`: named connections to directories. The operator binds a name to a server, credentials and a base; a plugin
//! holds none of them, and sees nothing outside the base.

mod client;
mod config;
mod dn;
mod filter;
mod page;
#[cfg(all(test, feature = "testing"))]
mod tests;

use russet_hooks::Secret;
use wasmtime::component::Linker;

#[cfg(all(test, feature = "testing"))]
use self::client::LdapClient;
pub use self::config::{LdapConfigError, LdapConnection, LdapConnections};
use super::link::Interface;
use crate::Grants;
use crate::bindings::russet::plugin::ldap as wit;
use crate::journal::{HostCall, HostValue, shapeless};
use crate::ports::{CallError, LdapEntry, LdapScope, LdapSearch};
use crate::state::CallState;

/// Links the granted functions.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut ldap) = Interface::of(linker, grants, "ldap")? else {
        return Ok(());
    };
    ldap.function(
        "search",
        |(request,): (wit::SearchRequest,)| Ok(HostCall::LdapSearch(search(request))),
        |_, answer| match answer {
            Ok(HostValue::Entries(entries)) => Ok(Ok(entries.into_iter().map(told).collect::<Vec<_>>())),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    ldap.function(
        "bind",
        |(connection, dn, password): (String, String, String)| {
            Ok(HostCall::LdapBind {
                connection,
                dn,
                password: Secret::new(password),
            })
        },
        |_, answer| match answer {
            Ok(HostValue::Flag(accepted)) => Ok(Ok(accepted)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )
}

fn search(request: wit::SearchRequest) -> LdapSearch {
    LdapSearch {
        connection: request.connection,
        base: request.base,
        scope: match request.scope {
            wit::Scope::Base => LdapScope::Base,
            wit::Scope::OneLevel => LdapScope::OneLevel,
            wit::Scope::Subtree => LdapScope::Subtree,
        },
        filter: request.filter,
        values: request.values,
        attributes: request.attributes,
        limit: request.limit,
    }
}

fn told(entry: LdapEntry) -> wit::Entry {
    wit::Entry {
        dn: entry.dn,
        attributes: entry.attributes,
    }
}

fn refused(error: CallError) -> wit::Error {
    match error {
        CallError::NotGranted(text) => wit::Error::NotGranted(text),
        CallError::Invalid(text) => wit::Error::Invalid(text),
        CallError::Refused(text) => wit::Error::Refused(text),
        other => wit::Error::Unavailable(other.text().to_owned()),
    }
}
