//! Named LDAP connections. The operator binds a name to a server, credentials and a base; the plugin holds none of them.
//!
//! ```
//! use russet_plugin::{Error, ldap};
//!
//! fn mail_of(user: &str) -> Result<Option<String>, Error> {
//!     let found = ldap::Search::under("corp")
//!         .filter("(&(objectClass=person)(uid={0}))", [user])
//!         .attributes(["mail"])
//!         .limit(2)
//!         .run()?;
//!     match found.as_slice() {
//!         [] => Ok(None),
//!         [person] => Ok(person.first("mail").map(str::to_owned)),
//!         _ => Err("several people have this name".into()),
//!     }
//! }
//! # use russet_plugin::testing::Host;
//! # let _host = Host::new()
//! #     .ldap_search(|_| Ok(vec![ldap::Entry::new("uid=ada,dc=example").with("mail", ["ada@example.org"])]))
//! #     .install();
//! # assert_eq!(mail_of("ada"), Ok(Some("ada@example.org".to_owned())));
//! ```

#[cfg(target_family = "wasm")]
use crate::bindings::russet::plugin::ldap as backend;
use crate::bindings::russet::plugin::ldap as host;
use crate::input::capability_error;
#[cfg(not(target_family = "wasm"))]
use crate::testing::backend::ldap as backend;

capability_error! {
    ldap;
    /// The connection is not among the plugin's grants; the text names the grant to add.
    NotGranted => "ldap connection not granted",
    /// The request is not well formed; the text says why.
    Invalid => "ldap request not well formed",
    /// The directory can not be reached, or did not answer in time.
    Unavailable => "ldap directory not available",
    /// The directory refused the request.
    Refused => "ldap directory refused the request",
}

/// How deep to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The base itself.
    Base,
    /// The entries right below the base.
    OneLevel,
    /// The base and everything below it.
    #[default]
    Subtree,
}

/// A search, and its builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The name of the connection.
    pub connection: String,
    /// The base of the search; the connection's own base if absent.
    pub base: Option<String>,
    /// How deep to search.
    pub scope: Scope,
    /// The filter (RFC 4515), with `{0}`, `{1}`, … where values go.
    pub filter: String,
    /// The values. The host escapes each, so that none can change the filter.
    pub values: Vec<String>,
    /// The attributes to return.
    pub attributes: Vec<String>,
    /// The most entries to return.
    pub limit: u32,
}

impl Search {
    /// A search below the base of a connection: at first for any entry, at most 100, without attributes.
    pub fn under(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            base: None,
            scope: Scope::Subtree,
            filter: "(objectClass=*)".to_owned(),
            values: Vec::new(),
            attributes: Vec::new(),
            limit: 100,
        }
    }

    /// Searches below this distinguished name, which lies at or below the connection's own base.
    #[must_use]
    pub fn base(mut self, dn: impl Into<String>) -> Self {
        self.base = Some(dn.into());
        self
    }

    /// How deep to search.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The filter (RFC 4515), with `{0}`, `{1}`, … where the values go. The host escapes the values.
    #[must_use]
    pub fn filter<V: Into<String>>(mut self, filter: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        self.filter = filter.into();
        self.values = values.into_iter().map(Into::into).collect();
        self
    }

    /// The attributes to return. Binary values are left out by the host.
    #[must_use]
    pub fn attributes<A: Into<String>>(mut self, names: impl IntoIterator<Item = A>) -> Self {
        self.attributes = names.into_iter().map(Into::into).collect();
        self
    }

    /// The most entries to return; the connection's own cap applies too.
    #[must_use]
    pub fn limit(mut self, entries: u32) -> Self {
        self.limit = entries;
        self
    }

    /// Searches, with the connection's own credentials.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn run(self) -> Result<Vec<Entry>, Error> {
        let found = backend::search(&host::SearchRequest {
            connection: self.connection,
            base: self.base,
            scope: match self.scope {
                Scope::Base => host::Scope::Base,
                Scope::OneLevel => host::Scope::OneLevel,
                Scope::Subtree => host::Scope::Subtree,
            },
            filter: self.filter,
            values: self.values,
            attributes: self.attributes,
            limit: self.limit,
        })?;
        Ok(found
            .into_iter()
            .map(|entry| Entry {
                dn: entry.dn,
                attributes: entry.attributes,
            })
            .collect())
    }
}

/// Whether the directory accepts these credentials. An empty password is always refused, because LDAP would take it for an
/// anonymous bind (RFC 4513 section 5.1.2).
///
/// # Errors
///
/// See [`Error`]. A wrong password is `Ok(false)`.
pub fn bind(connection: &str, dn: &str, password: &str) -> Result<bool, Error> {
    Ok(backend::bind(connection, dn, password)?)
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The distinguished name.
    pub dn: String,
    /// The attributes with their values.
    pub attributes: Vec<(String, Vec<String>)>,
}

impl Entry {
    /// An entry without attributes, for tests.
    pub fn new(dn: impl Into<String>) -> Self {
        Self {
            dn: dn.into(),
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with<V: Into<String>>(mut self, name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.attributes.push((name.into(), values));
        self
    }

    /// The values of an attribute; empty if there is none. Case does not matter in the names of attributes
    /// (RFC 4512 section 2.5).
    pub fn all(&self, name: &str) -> &[String] {
        self.attributes
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map_or(&[], |(_, values)| values)
    }

    /// The first value of an attribute.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }
}
