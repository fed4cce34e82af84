//! What the operator sets; `settings.schema.json` describes it.

use std::collections::BTreeMap;

use russet_plugin::gate::Ownership;
use serde::Deserialize;

use crate::product::Family;
use crate::serial::SerialPattern;
use crate::version::Version;

/// The settings. Every rule that is set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
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
    pub(crate) allow: Vec<SerialPattern>,
    pub(crate) deny: Vec<SerialPattern>,
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
