//! Plugins, their revisions, and how a revision is rolled out. At most one revision of a plugin is active, and at most one
//! other is compared with it; each change of what a tenant runs adds one to its generation, in the same transaction.

mod events;
mod read;
mod rollouts;
mod write;

use jiff::Timestamp;
use serde_json::Value as Json;

pub use self::events::RevisionEvent;
pub use self::rollouts::{NewRollout, RolloutPhase, RolloutRecord, StagedRollout};
pub use self::write::{Activation, NewRevision, Quarantined};
use crate::db::{Db, Row, values};
use crate::error::StoreError;
use crate::ids::{RevisionId, Sha256, TenantId, words};

words! {
    /// Where a revision stands.
    RevisionState {
        /// Uploaded; it waits for a grant.
        Pending = "pending",
        /// Its manifest, imports, settings and grants were checked.
        Verified = "verified",
        /// It was compiled.
        Compiled = "compiled",
        /// It was started once: it can be used.
        Probed = "probed",
        /// It is asked what it would answer.
        Shadow = "shadow",
        /// It answers a share of the enrollments.
        Canary = "canary",
        /// In use.
        Active = "active",
        /// Was in use, or was to be; may be activated again.
        Retired = "retired",
        /// Kept failing or deciding otherwise; is not activated again unless somebody insists.
        Quarantined = "quarantined",
        /// Did not pass, or was replaced before it was used.
        Rejected = "rejected",
    }
}

/// Who changes something, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// An administrator's name, or the server's own part.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
}

impl Actor {
    /// Somebody, without a reason.
    #[must_use]
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

/// A stored revision, without its component.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionRecord {
    /// Its row.
    pub id: RevisionId,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's place in the order in which a tenant's plugins are asked; lower first.
    pub position: i64,
    /// The author's version.
    pub version: String,
    /// Digest of the component: see [`Store::plugin_component`](crate::Store::plugin_component).
    pub digest: Sha256,
    /// Digest of component, settings and grants, in hexadecimal; known once it was probed.
    pub revision: Option<String>,
    /// What the plugin says about itself.
    pub manifest: Json,
    /// The administrator's settings for it.
    pub settings: Json,
    /// What the administrator lets it reach.
    pub grants: Json,
    /// How it was signed; `None` for what was stored before that was noted.
    pub signature: Option<Json>,
    /// What is to become of it once it waits for nothing, as the caller understands it; `None` to put it into use.
    pub staging: Option<Json>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it stands there.
    pub reason: Option<String>,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// When it was activated last, going back to it left out: rolling back twice goes back two revisions. `None` if it
    /// never was, or was gone back from.
    pub activated_at: Option<Timestamp>,
}

/// A plugin of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRecord {
    /// Its name.
    pub name: String,
    /// Its place in the order; lower first.
    pub position: i64,
    /// The revision in use; `None` when it is disabled or has not had one yet.
    pub active: Option<RevisionId>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The plugins that a tenant uses, at one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivePlugins {
    /// Counts the changes of the set.
    pub generation: i64,
    /// The active revisions, in order. One in quarantine is among them if there was none to go back to: its plugin's hooks
    /// have to fail.
    pub revisions: Vec<RevisionRecord>,
    /// The comparisons that go on.
    pub rollouts: Vec<StagedRollout>,
    /// For each plugin the revision to go back to, to be kept warm.
    pub warm: Vec<RevisionRecord>,
}

const COLUMNS: &str = "r.id, p.name, p.position, r.version, r.digest, r.manifest, r.settings, r.grants, r.state, \
     r.reason, r.created_at, r.activated_at, r.revision, r.signature, r.staging";

/// How many columns [`COLUMNS`] are.
const WIDTH: usize = 15;

fn revision_of(row: &Row) -> Result<RevisionRecord, StoreError> {
    Ok(RevisionRecord {
        id: RevisionId(row.get(0)?),
        plugin: row.get(1)?,
        position: row.get(2)?,
        version: row.get(3)?,
        digest: row.sha256(4)?,
        manifest: row.json(5)?,
        settings: row.json(6)?,
        grants: row.json(7)?,
        state: row.word(8, RevisionState::from_word, "revision state")?,
        reason: row.get(9)?,
        created_at: row.time(10)?,
        activated_at: row.time_opt(11)?,
        revision: row.get(12)?,
        signature: row.json_opt(13)?,
        staging: row.json_opt(14)?,
    })
}

/// Adds one to the tenant's generation. First in a transaction, as it locks the tenant's row: changes follow one another.
async fn bump(db: &Db, tenant: TenantId) -> Result<i64, StoreError> {
    let sql = "UPDATE tenants SET plugin_generation = plugin_generation + 1 WHERE id = $1 RETURNING plugin_generation";
    let generation = db
        .one(sql, values![tenant])
        .await?
        .ok_or(StoreError::NotFound("tenant"))?
        .get(0)?;
    crate::backend::announce(db, PLUGINS_CHANGED).await?;
    Ok(generation)
}

/// Locks the tenant's row without a change.
async fn lock(db: &Db, tenant: TenantId) -> Result<(), StoreError> {
    let sql = "UPDATE tenants SET plugin_generation = plugin_generation WHERE id = $1";
    if db.exec(sql, values![tenant]).await? == 0 {
        return Err(StoreError::NotFound("tenant"));
    }
    Ok(())
}

/// The channel that tells other nodes of a new generation.
pub(crate) const PLUGINS_CHANGED: &str = "russet_plugins";
