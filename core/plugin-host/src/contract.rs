//! The versions of the contract (`wit/`) that this host serves, and which of them are on their way out. What a version
//! says, and how two are served side by side, is not known here: see `wit/README.md`.

use std::fmt;

use semver::Version;
use serde::Serialize;

/// A version that has been replaced: it is served for a while yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deprecation {
    /// The release of the server that replaced it.
    pub since: Version,
    /// The first release of the server that serves it no longer; absent while that is not announced.
    pub removed_in: Option<Version>,
}

impl fmt::Display for Deprecation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deprecated since russet {}", self.since)?;
        match &self.removed_in {
            Some(release) => write!(f, ", not served from russet {release} on"),
            None => Ok(()),
        }
    }
}

/// A version of the contract that a host serves, with all its patches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedContract {
    /// Major and minor number.
    pub version: (u64, u64),
    /// Set from the release on that replaced it.
    pub deprecated: Option<Deprecation>,
}

/// The versions of the contract that a host serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contracts(Vec<ServedContract>);

impl Contracts {
    /// A table of versions, oldest first.
    pub fn new(served: impl Into<Vec<ServedContract>>) -> Self {
        Self(served.into())
    }

    /// Whether a version is served: the same minor version is.
    pub fn serves(&self, version: &Version) -> bool {
        self.find(version).is_some()
    }

    /// What a plugin speaks, and what is to be said about it.
    pub fn of(&self, version: &Version) -> Contract {
        Contract {
            version: version.clone(),
            deprecated: self.find(version).and_then(|served| served.deprecated.clone()),
        }
    }

    fn find(&self, version: &Version) -> Option<&ServedContract> {
        let minor = (version.major, version.minor);
        self.0.iter().find(|served| served.version == minor)
    }
}

impl Default for Contracts {
    /// What this build serves.
    fn default() -> Self {
        Self::new([ServedContract {
            version: (0, 1),
            deprecated: None,
        }])
    }
}

impl fmt::Display for Contracts {
    /// `russet:plugin@0.1 and russet:plugin@0.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            ServedContract {
                version: (major, minor),
                ..
            },
        ) in self.0.iter().enumerate()
        {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}russet:plugin@{major}.{minor}")?;
        }
        Ok(())
    }
}

/// What a plugin speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contract {
    /// The version of the contract that it was built against.
    pub version: Version,
    /// Set if that version has been replaced: the plugin has to be rebuilt.
    pub deprecated: Option<Deprecation>,
}

impl Contract {
    /// What an administrator has to know; nothing if the version is in use.
    pub fn warning(&self) -> Option<String> {
        let deprecated = self.deprecated.as_ref()?;
        Some(format!(
            "it is built for russet:plugin@{}, which is {deprecated}; rebuild it with the current SDK",
            self.version
        ))
    }
}
