//! What the operator lets a plugin do. Everything is refused that is not granted.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Limits, Manifest};

/// What an operator granted to a plugin:
/// `{"capabilities":["log.write","ldap.search"],"connections":{"ldap":["corp"]}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Capabilities, such as `ldap.search`.
    pub capabilities: BTreeSet<String>,
    /// The named connections that the capabilities may use.
    pub connections: ConnectionGrants,
    /// Limits of its own: other languages than Rust bring a run time that needs more than is usual.
    #[serde(skip_serializing_if = "LimitGrants::is_empty")]
    pub limits: LimitGrants,
}

/// Limits of one plugin, in place of the server's usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitGrants {
    /// See [`Limits::memory_bytes`]; not more than the engine has for a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<usize>,
    /// See [`Limits::cpu_ms`]; a call ends at [`Limits::wall_ms`] all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

impl LimitGrants {
    /// Whether the usual limits hold.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what others say; what they leave open stays.
    pub(crate) fn extend(&mut self, others: Self) {
        self.memory_bytes = others.memory_bytes.or(self.memory_bytes);
        self.cpu_ms = others.cpu_ms.or(self.cpu_ms);
    }

    /// The limits of a plugin with these grants.
    pub fn over(&self, usual: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.unwrap_or(usual.memory_bytes),
            // More processor time than a call may take in all would be a number without a meaning.
            cpu_ms: self.cpu_ms.map_or(usual.cpu_ms, |granted| granted.min(usual.wall_ms)),
            ..usual
        }
    }
}

/// Named connections, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionGrants {
    /// Names of LDAP connections of the server's configuration.
    pub ldap: BTreeSet<String>,
    /// Names of HTTP connections of the server's configuration.
    pub http: BTreeSet<String>,
}

/// Something that a plugin asks for and that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingGrant {
    /// What is missing, such as `ldap.search` or `a connection for ldap`.
    pub what: String,
    /// What to add to the command line of `russet plugin install`, such as `--grant ldap.search`.
    pub flag: String,
}

impl std::fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (add {})", self.what, self.flag)
    }
}

/// A plugin asks for more than it was granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} asks for more than it was granted: {}", list(.missing))]
pub struct GrantError {
    /// The name of the plugin.
    pub plugin: String,
    /// Each thing that is missing.
    pub missing: Vec<MissingGrant>,
}

fn list(missing: &[MissingGrant]) -> String {
    let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl Grants {
    /// Grants all that a manifest asks for, with no connection.
    pub fn all_asked(manifest: &Manifest) -> Self {
        Self {
            capabilities: manifest.capabilities.clone(),
            ..Self::default()
        }
    }

    /// What the plugin really gets: what it asks for and was granted.
    ///
    /// # Errors
    ///
    /// Something that it asks for is not granted.
    pub fn effective(&self, manifest: &Manifest) -> Result<Self, GrantError> {
        let mut missing: Vec<MissingGrant> = manifest
            .capabilities
            .difference(&self.capabilities)
            .map(|capability| MissingGrant {
                what: capability.clone(),
                flag: format!("--grant {capability}"),
            })
            .collect();
        let uses = |kind: &str| {
            manifest
                .capabilities
                .iter()
                .any(|name| name.split('.').next() == Some(kind))
        };
        let mut connections = ConnectionGrants::default();
        for (kind, granted, effective) in [
            ("ldap", &self.connections.ldap, &mut connections.ldap),
            ("http", &self.connections.http, &mut connections.http),
        ] {
            if !uses(kind) {
                continue;
            }
            if granted.is_empty() {
                missing.push(MissingGrant {
                    what: format!("a connection for {kind}"),
                    flag: format!("--connection {kind}:NAME"),
                });
            }
            effective.clone_from(granted);
        }
        if !missing.is_empty() {
            return Err(GrantError {
                plugin: manifest.name.clone(),
                missing,
            });
        }
        Ok(Self {
            capabilities: manifest
                .capabilities
                .intersection(&self.capabilities)
                .cloned()
                .collect(),
            connections,
            limits: self.limits.clone(),
        })
    }

    /// Granted capabilities that the plugin does not ask for.
    pub fn unused(&self, manifest: &Manifest) -> BTreeSet<String> {
        self.capabilities.difference(&manifest.capabilities).cloned().collect()
    }

    /// Whether a capability is granted.
    pub fn allows(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }
}
