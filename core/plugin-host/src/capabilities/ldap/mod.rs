//! `ldap`: named connections to directories. The operator binds a name to a server, credentials and a base; a plugin
//! holds none of them, and sees nothing outside the base.

mod client;
mod config;
mod dn;
mod filter;
#[cfg(all(test, feature = "testing"))]
mod tests;

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

pub use self::client::LdapClient;
pub use self::config::{LdapConfigError, LdapConnection, LdapConnections};
use crate::Grants;
use crate::bindings::russet::plugin::ldap as wit;
use crate::state::CallState;

/// Links the granted functions. By hand, because the two are granted apart.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let search = grants.allows("ldap.search");
    let bind = grants.allows("ldap.bind");
    if !search && !bind {
        return Ok(());
    }
    let mut interface = linker.instance("russet:plugin/ldap@0.1.0")?;
    if search {
        interface.func_wrap_async("search", |mut store, (request,): (wit::SearchRequest,)| {
            Box::new(async move {
                let client = connection(&mut store, &request.connection)?;
                let answer = match client {
                    Ok(client) => client.search(request, store.data().scope.deadline).await,
                    Err(error) => Err(error),
                };
                resume(&mut store);
                Ok((answer,))
            })
        })?;
    }
    if bind {
        interface.func_wrap_async(
            "bind",
            |mut store, (connection_name, dn, password): (String, String, String)| {
                Box::new(async move {
                    let password = zeroize::Zeroizing::new(password);
                    let client = connection(&mut store, &connection_name)?;
                    let answer = match client {
                        Ok(client) => client.bind(&dn, &password, store.data().scope.deadline).await,
                        Err(error) => Err(error),
                    };
                    resume(&mut store);
                    Ok((answer,))
                })
            },
        )?;
    }
    Ok(())
}

fn connection(
    store: &mut StoreContextMut<'_, CallState>,
    name: &str,
) -> wasmtime::Result<Result<Arc<LdapClient>, wit::Error>> {
    let state = store.data_mut();
    state.count_host_call()?;
    Ok(state.plugin.ldap.get(name).cloned().ok_or_else(|| {
        wit::Error::NotGranted(format!(
            "the connection {name:?} is not granted to this plugin; add --connection ldap:{name}"
        ))
    }))
}

/// The clock of processor time went on while the call waited: the guest starts a new tick.
fn resume(store: &mut StoreContextMut<'_, CallState>) {
    store.set_epoch_deadline(1);
}
