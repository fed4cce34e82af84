//! What the operator sets; `settings.schema.json` describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub(crate) connection: String,
    #[serde(default)]
    pub(crate) service: Service,
    #[serde(default)]
    pub(crate) domain: Option<String>,
    #[serde(default)]
    pub(crate) groups: Groups,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Service {
    #[default]
    Scim,
    Graph,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Groups {
    None,
    Member,
    #[default]
    Search,
}

impl Settings {
    /// A name as it was typed, with the domain that is left out by habit.
    pub(crate) fn whole(&self, user_name: &str) -> String {
        match &self.domain {
            Some(domain) if !user_name.contains('@') => format!("{user_name}@{domain}"),
            _ => user_name.to_owned(),
        }
    }
}
