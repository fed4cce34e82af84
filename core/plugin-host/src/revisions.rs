//! The port to whatever keeps revisions of plugins: a database in the server, memory in tests and small embeddings.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rollout::store::RolloutStore;
use crate::rollout::{Gates, StagedRollout};

/// Where a stored revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Uploaded; it waits for a grant.
    Pending,
    /// Its manifest, imports, settings and grants were checked.
    Verified,
    /// It was compiled.
    Compiled,
    /// It was started once: it can be used.
    Probed,
    /// It is asked what it would answer, and its answers go nowhere.
    Shadow,
    /// It answers a share of the enrollments.
    Canary,
    /// In use.
    Active,
    /// Was in use, or was to be; may be activated again.
    Retired,
    /// Kept failing, or decided otherwise than it may; is not activated again unless somebody insists.
    Quarantined,
    /// Did not pass, or was replaced before it was used.
    Rejected,
}

impl RevisionState {
    /// The stable name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Compiled => "compiled",
            Self::Probed => "probed",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Quarantined => "quarantined",
            Self::Rejected => "rejected",
        }
    }

    /// Whether it is stored and neither in use nor compared: it waits for somebody.
    pub fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::Verified | Self::Compiled | Self::Probed)
    }
}

/// Who changes something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// An administrator's name, or the part of the server that acts by itself.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
}

impl Default for Actor {
    /// The server itself.
    fn default() -> Self {
        Self::new("server")
    }
}

impl Actor {
    /// Somebody, without a reason.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: None,
        }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// A revision to store.
#[derive(Clone)]
pub struct NewRevision {
    /// The name of the plugin; the plugin is made, last in the order, when the tenant has none of that name.
    pub plugin: String,
    /// The version in its manifest.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The component; absent for a revision that is only noted as rejected.
    pub component: Option<std::sync::Arc<[u8]>>,
    /// The manifest.
    pub manifest: Value,
    /// The settings; may hold secrets.
    pub settings: Value,
    /// The grants.
    pub grants: Value,
    /// How the component was signed, if that was looked into.
    pub signature: Option<Value>,
    /// What is to become of it once it waits for nothing, if it is not to be put into use.
    pub staging: Option<Value>,
    /// The digest of component, settings and grants, if it was probed.
    pub revision: Option<String>,
    /// The steps that it has taken after the upload; the last is where it stands.
    pub steps: Vec<RevisionState>,
    /// Who uploaded it; why it was rejected, if it was.
    pub actor: Actor,
}

impl fmt::Debug for NewRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRevision")
            .field("plugin", &self.plugin)
            .field("version", &self.version)
            .field("digest", &self.digest)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// A stored revision, without its component.
#[derive(Clone)]
pub struct StoredRevision {
    /// Its number, unique in the store.
    pub id: i64,
    /// The name of the plugin.
    pub plugin: String,
    /// The plugin's place in the order, lowest first.
    pub position: i64,
    /// The version in its manifest.
    pub version: String,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// The digest of component, settings and grants; known once it was probed.
    pub revision: Option<String>,
    /// The manifest.
    pub manifest: Value,
    /// The settings; may hold secrets.
    pub settings: Value,
    /// The grants.
    pub grants: Value,
    /// How the component was signed; absent if that was not looked into.
    pub signature: Option<Value>,
    /// What is to become of it once it waits for nothing, if it is not to be put into use.
    pub staging: Option<Value>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it stands there.
    pub reason: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was activated last; going back to it does not count. Absent if it never was, or was gone back from.
    pub activated_at: Option<Timestamp>,
}

impl fmt::Debug for StoredRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRevision")
            .field("id", &self.id)
            .field("plugin", &self.plugin)
            .field("version", &self.version)
            .field("digest", &self.digest)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A plugin of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlugin {
    /// Its name.
    pub name: String,
    /// Its place in the order, lowest first.
    pub position: i64,
}

/// The revisions that a tenant uses, at one generation.
#[derive(Clone, Debug)]
pub struct ActiveRevisions {
    /// Counts the changes of the set.
    pub generation: u64,
    /// The active revisions, in the order in which they are asked. One in quarantine is among them if there was none to go
    /// back to: its plugin's hooks have to fail.
    pub revisions: Vec<StoredRevision>,
    /// The comparisons that go on.
    pub rollouts: Vec<StagedRollout>,
    /// For each plugin the revision to go back to, to be kept loaded.
    pub warm: Vec<StoredRevision>,
}

/// A step of a revision from one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevisionEvent {
    /// The number of the revision. It may be gone.
    pub id: i64,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Where it stood; absent for the first step.
    pub from: Option<RevisionState>,
    /// Where it stands.
    pub to: RevisionState,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What is to be put into use, and how.
#[derive(Clone, Debug)]
pub struct Activation {
    /// The number of the revision.
    pub revision: i64,
    /// Who wants it.
    pub actor: Actor,
    /// Even if it is in quarantine.
    pub force: bool,
    /// Until when the revision before is asked as well, and what the new one has to keep to.
    pub watch: Option<(Timestamp, Gates)>,
}

/// What became of a plugin whose revision was put into quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The tenant's generation.
    pub generation: u64,
    /// The revision was the active one.
    pub was_active: bool,
    /// The number of the revision that is active instead, if it was and there is one.
    pub instead: Option<i64>,
}

/// Why the store did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum RevisionStoreError {
    /// There is no such tenant, plugin or revision.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The revision, or another one of its digest, is in quarantine.
    #[error("the revision is in quarantine; look at its history, and use --force if it is wanted all the same")]
    Quarantined,
    /// The store failed.
    #[error("the store of plugin revisions failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Keeps revisions. Every change of what a tenant runs adds one to its generation, in the same transaction, and every step
/// of a revision is kept with who took it and why.
#[async_trait]
pub trait RevisionStore: RolloutStore {
    /// The names of all tenants.
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError>;

    /// The generation of a tenant: cheap, asked often.
    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError>;

    /// The active revisions and their generation, read together.
    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError>;

    /// The plugins of a tenant, in order.
    async fn plugins(&self, tenant: &str) -> Result<Vec<StoredPlugin>, RevisionStoreError>;

    /// The revisions of a plugin, newest first; none if there is no such plugin.
    async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<StoredRevision>, RevisionStoreError>;

    /// What happened to the revisions of a plugin, newest first.
    async fn history(&self, tenant: &str, plugin: &str, limit: u32) -> Result<Vec<RevisionEvent>, RevisionStoreError>;

    /// A component by the SHA-256 of its file, in hexadecimal.
    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError>;

    /// Stores a revision, and returns its number. Revisions of the plugin that waited are rejected.
    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError>;

    /// Replaces the grants of a pending revision. With the digest of a probe it stands at [`RevisionState::Probed`].
    async fn grant(
        &self,
        tenant: &str,
        revision: i64,
        grants: Value,
        probed: Option<String>,
        actor: Actor,
    ) -> Result<(), RevisionStoreError>;

    /// Puts a revision into use and retires the plugin's active one. Returns the new generation.
    async fn activate(&self, tenant: &str, activation: Activation) -> Result<u64, RevisionStoreError>;

    /// Goes back to the revision that was active before. Returns its number and the new generation.
    async fn rollback(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<(i64, u64), RevisionStoreError>;

    /// Puts a revision into quarantine, and goes back to the one before it if it was active.
    async fn quarantine(&self, tenant: &str, revision: i64, actor: Actor) -> Result<Quarantined, RevisionStoreError>;

    /// Takes a plugin out of use. Returns the new generation.
    async fn disable(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<u64, RevisionStoreError>;

    /// Moves a plugin to another place in the order. Returns the new generation.
    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError>;
}
