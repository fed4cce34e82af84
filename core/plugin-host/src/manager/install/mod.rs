//! Installing: a new plugin, a new revision of one, or other settings and grants for what runs. What is asked for and what
//! comes of it; [`candidate`] checks what can be checked without a compiler, [`run`] does the rest.

mod candidate;
mod run;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::candidate::{base, was_used};
use super::diff::RevisionDiff;
use super::rollouts::RolloutRequest;
use crate::package::PackageError;
use crate::revisions::Actor;
use crate::{Grants, InspectError, LoadError, MissingGrant, RevisionStoreError, SettingsError, StoredRevision};

/// What happens to a revision that passed its checks. One that waits for grants remembers it, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Staging {
    /// It takes the place of the active one.
    #[default]
    Activate,
    /// It is kept, and nothing else.
    Keep,
    /// It is compared with the active one.
    Compare(RolloutRequest),
}

impl Staging {
    /// Where a revision stands after it.
    fn leads_to(&self) -> InstalledState {
        match self {
            Self::Activate => InstalledState::Active,
            Self::Keep => InstalledState::Ready,
            Self::Compare(rollout) if rollout.permille == 0 => InstalledState::Shadow,
            Self::Compare(_) => InstalledState::Canary,
        }
    }

    /// What a revision that waits for grants is to remember of it; nothing if it is to be put into use.
    fn to_remember(&self, force: bool) -> Result<Option<Value>, RevisionStoreError> {
        let remembered = match self {
            Self::Activate => return Ok(None),
            Self::Keep => Self::Keep,
            Self::Compare(rollout) => Self::Compare(RolloutRequest {
                force,
                ..rollout.clone()
            }),
        };
        let remembered = serde_json::to_value(remembered);
        remembered
            .map(Some)
            .map_err(|error| RevisionStoreError::Failed(Box::new(error)))
    }

    /// What a revision remembers. What this program can not read is an error: to put the revision into use instead would not
    /// be what was asked for.
    fn remembered(revision: &StoredRevision) -> Result<Self, RevisionStoreError> {
        let remembered = revision.staging.clone().map(serde_json::from_value).transpose();
        remembered
            .map(Option::unwrap_or_default)
            .map_err(|error| RevisionStoreError::Failed(Box::new(error)))
    }

    /// It was asked for although a like of the revision is in quarantine.
    fn is_forced(&self) -> bool {
        matches!(self, Self::Compare(rollout) if rollout.force)
    }
}

/// What to install. What is left out is kept from the plugin's active revision, else from the one that was active last.
#[derive(Clone, Default)]
pub struct InstallRequest {
    /// The plugin's name. With a component it may be absent; if present, the component's manifest has to carry it.
    pub plugin: Option<String>,
    /// The component file, with its manifest.
    pub component: Option<Vec<u8>>,
    /// The settings: a JSON object. Those of the manifest for a new plugin.
    pub settings: Option<Value>,
    /// The grants. Nothing is granted to a new plugin.
    pub grants: Option<Grants>,
    /// The place in the order, lowest first. Last for a new plugin.
    pub position: Option<i64>,
    /// Installs a component of a lower version than one that was in use before, or of the same version with other content.
    pub allow_downgrade: bool,
    /// What happens to the revision.
    pub staging: Staging,
    /// Activates a revision whose like is in quarantine.
    pub force: bool,
    /// Who wants it.
    pub actor: Actor,
}

impl fmt::Debug for InstallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstallRequest")
            .field("plugin", &self.plugin)
            .field("size", &self.component.as_ref().map(Vec::len))
            .field("grants", &self.grants)
            .field("position", &self.position)
            .field("staging", &self.staging)
            .finish_non_exhaustive()
    }
}

/// What to grant in addition to what is granted.
#[derive(Clone, Debug, Default)]
pub struct GrantRequest {
    /// What to add.
    pub grants: Grants,
    /// Adds all that the revision asks for.
    pub all_asked: bool,
    /// Keeps the revision instead of doing with it what was asked for when it was installed.
    pub keep: bool,
    /// Who wants it.
    pub actor: Actor,
}

/// Where an installed revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstalledState {
    /// It answers from now on.
    Active,
    /// It is stored and waits for grants; what ran before goes on.
    Pending,
    /// It passed its checks and is kept; what ran before goes on.
    Ready,
    /// It is asked what it would answer; what ran before goes on.
    Shadow,
    /// It answers a share of the enrollments.
    Canary,
}

/// What came of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallReport {
    /// The plugin's name.
    pub name: String,
    /// The version in its manifest.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The digest of the revision; absent while it is pending.
    pub revision: Option<String>,
    /// Where it stands.
    pub state: InstalledState,
    /// The tenant's generation after this.
    pub generation: u64,
    /// The plugin had no revision before.
    pub created: bool,
    /// What has to be granted before it can run.
    pub missing: Vec<MissingGrant>,
    /// Where it stands once nothing is missing; absent if nothing is.
    pub once_granted: Option<InstalledState>,
    /// How it was signed; absent for what was installed before that was noted.
    pub signature: Option<Value>,
    /// What it changes compared with the active revision, else with the one that was active last.
    pub changes: RevisionDiff,
    /// What an operator may want to know.
    pub warnings: Vec<String>,
}

/// Why nothing was installed. What ran before goes on.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is nothing to start from.
    #[error("give a component: the tenant has no plugin {0:?} to take it from")]
    NoComponent(String),
    /// Neither a component nor a name was given.
    #[error("give a component, or the name of an installed plugin")]
    NoName,
    /// The component is another plugin.
    #[error("the component is the plugin {found:?}, not {expected:?}")]
    OtherPlugin {
        /// The name that was asked for.
        expected: String,
        /// The name in the manifest.
        found: String,
    },
    /// Nobody whom the tenant trusts has signed it, or it would be a step back.
    #[error(transparent)]
    Package(PackageError),
    /// There is nothing to compare it with.
    #[error("no revision of {0:?} is active to compare this one with; install it without --shadow")]
    NothingActive(String),
    /// Its like is in quarantine.
    #[error(
        "a revision of {0:?} with the same component, settings and grants is in quarantine: look at `russet plugin \
         history`, and use --force if it is wanted all the same"
    )]
    Quarantined(String),
    /// The component, its settings or its first start are refused.
    #[error(transparent)]
    Refused(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RevisionStoreError),
}

impl From<PackageError> for InstallError {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Store(error) => Self::Store(error),
            other => Self::Package(other),
        }
    }
}

impl From<InspectError> for InstallError {
    fn from(error: InspectError) -> Self {
        Self::Refused(LoadError::Inspect(error))
    }
}

impl From<SettingsError> for InstallError {
    fn from(error: SettingsError) -> Self {
        Self::Refused(LoadError::Settings(error))
    }
}
