//! The configuration of a connection, checked before anything connects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::client::LdapClient;
use super::dn::Dn;
use crate::capabilities::named::NamedConnections;
use crate::capabilities::trust::{TrustError, client_config};
use crate::ports::LdapPort;

/// A named connection to a directory.
#[derive(Clone)]
pub struct LdapConnection {
    /// `ldaps://host[:port]`, or `ldap://host[:port]` together with [`start_tls`](Self::start_tls).
    pub url: String,
    /// Whether an `ldap://` connection is encrypted with StartTLS before anything is sent (RFC 4511 section 4.14).
    pub start_tls: bool,
    /// Lets an `ldap://` connection stay in clear text. Passwords are then readable on the network: for tests, and for
    /// servers on the same machine.
    pub allow_plaintext: bool,
    /// The name to search with; anonymous without one.
    pub bind_dn: Option<String>,
    /// The password of `bind_dn`.
    pub bind_password: Option<Zeroizing<String>>,
    /// Nothing outside this entry and what is below it can be searched.
    pub base_dn: String,
    /// The certificates (PEM) of the authorities to trust; those of the system without any.
    pub ca_pem: Option<String>,
    /// The longest time for one request, connecting included. The deadline of the plugin's call applies too.
    pub timeout: Duration,
    /// The most entries that one search returns.
    pub max_entries: u32,
    /// The tenants whose plugins may use it; all of them if absent. Each tenant grants its own plugins what it likes, so
    /// this is what keeps one out of another's directory.
    pub tenants: Option<BTreeSet<String>>,
}

impl Default for LdapConnection {
    /// No server yet; 5 seconds, 500 entries, for all tenants.
    fn default() -> Self {
        Self {
            url: String::new(),
            start_tls: false,
            allow_plaintext: false,
            bind_dn: None,
            bind_password: None,
            base_dn: String::new(),
            ca_pem: None,
            timeout: Duration::from_secs(5),
            max_entries: 500,
            tenants: None,
        }
    }
}

impl fmt::Debug for LdapConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapConnection")
            .field("url", &self.url)
            .field("start_tls", &self.start_tls)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("bind_dn", &self.bind_dn)
            .field("base_dn", &self.base_dn)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

/// Why a connection can not be used as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LdapConfigError {
    /// The address is not one of a directory.
    #[error("the LDAP address {0:?} is not of the form ldaps://host[:port] or ldap://host[:port]")]
    Url(String),
    /// The connection would be in clear text.
    #[error("ldap:// without encryption; set `start_tls`, use ldaps://, or set `allow_plaintext` if that is meant")]
    Plaintext,
    /// StartTLS over TLS.
    #[error("`start_tls` is for ldap:// only; ldaps:// is encrypted from the start")]
    StartTlsOverTls,
    /// The base is not a distinguished name.
    #[error("`base_dn` {0:?} is not a distinguished name such as `dc=example,dc=org`")]
    Base(String),
    /// A name without its password, or the other way round.
    #[error("`bind_dn` and `bind_password` belong together, and neither may be empty")]
    Credentials,
    /// The trust anchors can not be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A limit of zero.
    #[error("`timeout` and `max_entries` have to be above zero")]
    Zero,
}

/// All directories of a server, by name.
pub type LdapConnections = NamedConnections<dyn LdapPort>;

impl Default for LdapConnections {
    fn default() -> Self {
        Self::made_with(())
    }
}

impl LdapConnections {
    /// No connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. Nothing connects before the first request.
    ///
    /// # Errors
    ///
    /// See [`LdapConfigError`].
    pub fn insert(&mut self, name: impl Into<String>, connection: LdapConnection) -> Result<(), LdapConfigError> {
        let name = name.into();
        let tenants = connection.tenants.clone();
        let client = LdapClient::new(&name, connection)?;
        self.add(name, Arc::new(client), tenants);
        Ok(())
    }
}

/// A connection whose settings make sense together.
pub(super) struct Checked {
    pub(super) settings: LdapConnection,
    pub(super) base: Dn,
    /// Absent for clear text.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

pub(super) fn check(settings: LdapConnection) -> Result<Checked, LdapConfigError> {
    let (secure, host) = if let Some(host) = settings.url.strip_prefix("ldaps://") {
        (true, host)
    } else if let Some(host) = settings.url.strip_prefix("ldap://") {
        (false, host)
    } else {
        return Err(LdapConfigError::Url(settings.url));
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    if host.is_empty()
        || host.starts_with(':')
        || host.contains(['/', '?', '#', '@'])
        || host.contains(char::is_whitespace)
    {
        return Err(LdapConfigError::Url(settings.url));
    }
    if secure && settings.start_tls {
        return Err(LdapConfigError::StartTlsOverTls);
    }
    if !secure && !settings.start_tls && !settings.allow_plaintext {
        return Err(LdapConfigError::Plaintext);
    }
    if settings.timeout.is_zero() || settings.max_entries == 0 {
        return Err(LdapConfigError::Zero);
    }
    match (&settings.bind_dn, &settings.bind_password) {
        (None, None) => {}
        (Some(dn), Some(password)) if !dn.is_empty() && !password.is_empty() => {}
        _ => return Err(LdapConfigError::Credentials),
    }
    let base = match Dn::parse(&settings.base_dn) {
        Some(base) if !base.is_root() => base,
        _ => return Err(LdapConfigError::Base(settings.base_dn)),
    };
    let tls = if secure || settings.start_tls {
        Some(client_config(settings.ca_pem.as_deref())?)
    } else {
        None
    };
    Ok(Checked { settings, base, tls })
}
