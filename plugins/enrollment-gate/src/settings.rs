//! What the operator sets; `settings.schema.json` describes it.

use std::collections::BTreeMap;

use russet_plugin::condition::Pattern;
use russet_plugin::gate::Ownership;
use russet_plugin::os::{Family, Version};
use serde::Deserialize;

use crate::rules::Rule;

/// The settings. What no rule decides has to keep to everything else that is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub(crate) rules: Vec<Rule>,
    pub(crate) serial_numbers: SerialNumbers,
    pub(crate) ownership: Vec<Owner>,
    pub(crate) require_sign_in: bool,
    pub(crate) required_groups: Vec<String>,
    pub(crate) minimum_os: BTreeMap<Family, MinimumOs>,
    pub(crate) messages: BTreeMap<String, String>,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Which serial numbers may enroll.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SerialNumbers {
    pub(crate) allow: Vec<Pattern>,
    pub(crate) deny: Vec<Pattern>,
}

/// [`Ownership`], as it is written in settings.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Owner {
    Organization,
    Personal,
    Unknown,
}

impl Owner {
    pub(crate) fn is(self, ownership: Ownership) -> bool {
        matches!(
            (self, ownership),
            (Self::Organization, Ownership::Organization)
                | (Self::Personal, Ownership::Personal)
                | (Self::Unknown, Ownership::Unknown)
        )
    }
}

/// The lowest version of an operating system: a version alone, or with the build to install.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum MinimumOs {
    Version(Version),
    Build { version: Version, build: Option<String> },
}

impl MinimumOs {
    pub(crate) fn version(&self) -> &Version {
        match self {
            Self::Version(version) | Self::Build { version, .. } => version,
        }
    }

    pub(crate) fn build(&self) -> Option<&str> {
        match self {
            Self::Version(_) => None,
            Self::Build { build, .. } => build.as_deref(),
        }
    }
}
