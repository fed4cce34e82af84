//! The port to whatever keeps revisions of plugins: a database in the server, memory in tests and small embeddings.

use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a stored revision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Stored, and not in use: a grant is missing, or it was stored without activating it.
    Pending,
    /// In use.
    Active,
    /// Was in use.
    Retired,
    /// Was refused.
    Rejected,
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
    /// The component.
    pub component: std::sync::Arc<[u8]>,
    /// The manifest.
    pub manifest: Value,
    /// The settings; may hold secrets.
    pub settings: Value,
    /// The grants.
    pub grants: Value,
}

impl fmt::Debug for NewRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRevision")
            .field("plugin", &self.plugin)
            .field("version", &self.version)
            .field("digest", &self.digest)
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
    /// The manifest.
    pub manifest: Value,
    /// The settings; may hold secrets.
    pub settings: Value,
    /// The grants.
    pub grants: Value,
    /// Where it stands.
    pub state: RevisionState,
    /// When it was stored.
    pub created_at: Timestamp,
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
    /// The active revisions, in the order in which they are asked.
    pub revisions: Vec<StoredRevision>,
}

/// Why the store did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum RevisionStoreError {
    /// There is no such tenant, plugin or revision.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The store failed.
    #[error("the store of plugin revisions failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Keeps revisions. Every change of a tenant's active set adds one to its generation, in the same transaction.
#[async_trait]
pub trait RevisionStore: Send + Sync + fmt::Debug + 'static {
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

    /// A component by the SHA-256 of its file, in hexadecimal.
    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError>;

    /// Stores a revision as pending, and returns its number.
    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError>;

    /// Puts a revision into use and retires the plugin's active one. Returns the new generation.
    async fn activate(&self, tenant: &str, revision: i64) -> Result<u64, RevisionStoreError>;

    /// Takes a plugin out of use. Returns the new generation.
    async fn disable(&self, tenant: &str, plugin: &str, reason: &str) -> Result<u64, RevisionStoreError>;

    /// Moves a plugin to another place in the order. Returns the new generation.
    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError>;
}
