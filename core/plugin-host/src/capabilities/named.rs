//! Connections that an operator configured, by the name that grants and plugins use, each for some tenants or for all. What
//! a connection of a kind is made of is in that kind's module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The connections of one kind, and what making one takes.
#[derive(Debug)]
pub struct NamedConnections<P: ?Sized, M = ()> {
    /// What every connection of the kind is made with.
    pub(super) means: M,
    by_name: BTreeMap<String, Named<P>>,
}

/// A connection that is there, and whose it is.
#[derive(Debug)]
struct Named<P: ?Sized> {
    port: Arc<P>,
    /// All of them if absent.
    tenants: Option<BTreeSet<String>>,
}

// Deriving would ask for ports that can be cloned.
impl<P: ?Sized> Clone for Named<P> {
    fn clone(&self) -> Self {
        Self {
            port: Arc::clone(&self.port),
            tenants: self.tenants.clone(),
        }
    }
}

impl<P: ?Sized, M: Clone> Clone for NamedConnections<P, M> {
    fn clone(&self) -> Self {
        Self {
            means: self.means.clone(),
            by_name: self.by_name.clone(),
        }
    }
}

impl<P: ?Sized, M: Clone> NamedConnections<P, M> {
    /// No connections.
    pub(super) fn made_with(means: M) -> Self {
        Self {
            means,
            by_name: BTreeMap::new(),
        }
    }

    /// Adds one, or takes the place of the one of that name.
    pub(super) fn add(&mut self, name: String, port: Arc<P>, tenants: Option<BTreeSet<String>>) {
        self.by_name.insert(name, Named { port, tenants });
    }

    /// Adds something else that answers, for all tenants: for tests of plugins.
    pub fn insert_port(&mut self, name: impl Into<String>, port: Arc<P>) {
        self.add(name.into(), port, None);
    }

    /// The connection of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<P>> {
        self.by_name.get(name).map(|named| &named.port)
    }

    /// Those that a tenant's plugins may use.
    #[must_use]
    pub fn of_tenant(&self, tenant: &str) -> Self {
        let is_for = |named: &Named<P>| named.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant));
        let by_name = self.by_name.iter().filter(|(_, named)| is_for(named));
        Self {
            means: self.means.clone(),
            by_name: by_name.map(|(name, named)| (name.clone(), named.clone())).collect(),
        }
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
