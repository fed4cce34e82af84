//! The port to whatever keeps comparisons of revisions, and knows the nodes of the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::Gates;
use super::tally::Sample;
use crate::revisions::{Actor, RevisionStoreError, StoredRevision};

/// What the revision that is not active is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhase {
    /// The candidate is asked the same, and its answers go nowhere.
    Shadow,
    /// The candidate answers a share of the enrollments.
    Canary,
    /// The candidate was promoted: what was active before is asked the same.
    Watch,
}

impl RolloutPhase {
    /// The stable name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Watch => "watch",
        }
    }
}

/// A candidate to compare with what is active.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// The number of the candidate.
    pub revision: i64,
    /// The share of enrollments that it answers, in thousandths; with 0 it only shadows.
    pub permille: u16,
    /// What it has to keep to.
    pub gates: Gates,
    /// It is promoted by itself once it keeps to them.
    pub automatic: bool,
    /// Even if it is in quarantine.
    pub force: bool,
    /// Who wants it.
    pub actor: Actor,
}

/// A stored comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRollout {
    /// Its number, unique in the store.
    pub id: i64,
    /// The name of the plugin.
    pub plugin: String,
    /// What the other revision is asked.
    pub phase: RolloutPhase,
    /// The number of the revision that is active meanwhile.
    pub base: i64,
    /// The number of the other one.
    pub other: i64,
    /// The share of enrollments that the candidate answers, in thousandths.
    pub permille: u16,
    /// What is held against it.
    pub gates: Gates,
    /// The candidate is promoted by itself.
    pub automatic: bool,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// When watching ends.
    pub watch_until: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended: `promoted`, `kept`, `rolled-back`, `stopped`, `replaced` or `quarantined`.
    pub outcome: Option<String>,
}

/// A comparison that goes on, with the revision that is not active.
#[derive(Clone, Debug)]
pub struct StagedRollout {
    /// The comparison.
    pub rollout: StoredRollout,
    /// The other revision.
    pub other: StoredRevision,
}

/// What one node has counted since a comparison started, and what it saw since it wrote last.
#[derive(Clone, Debug)]
pub struct CountedByNode {
    /// The number of the comparison.
    pub rollout: i64,
    /// The node.
    pub node: Uuid,
    /// Totals by counter.
    pub totals: BTreeMap<String, u64>,
    /// New samples.
    pub samples: Vec<Sample>,
}

/// What all nodes have counted.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Totals by counter.
    pub totals: BTreeMap<String, u64>,
    /// The newest samples, newest first.
    pub samples: Vec<Sample>,
}

/// A server process, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its identifier: another one after each start.
    pub id: Uuid,
    /// What its operator calls it.
    pub name: String,
    /// The generation of plugins that it runs, by tenant.
    #[serde(skip)]
    pub generations: BTreeMap<String, u64>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it reported last.
    pub seen_at: Timestamp,
}

/// Keeps comparisons, and knows nodes.
#[async_trait]
pub trait RolloutStore: Send + Sync + fmt::Debug + 'static {
    /// Starts to compare a candidate with what is active, or changes its share and gates. Returns the new generation.
    async fn start_rollout(&self, tenant: &str, rollout: NewRollout) -> Result<u64, RevisionStoreError>;

    /// Ends the comparison of a plugin; a candidate is retired. Returns the new generation.
    async fn stop_rollout(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<u64, RevisionStoreError>;

    /// The newest comparison of a plugin, whether it goes on or has ended.
    async fn rollout(&self, tenant: &str, plugin: &str) -> Result<Option<StoredRollout>, RevisionStoreError>;

    /// The comparisons that go on, each with the name of its tenant.
    async fn open_rollouts(&self) -> Result<Vec<(String, StoredRollout)>, RevisionStoreError>;

    /// Writes what a node has counted. A comparison that has ended takes nothing, which is no error.
    async fn report(&self, tenant: &str, counted: CountedByNode) -> Result<(), RevisionStoreError>;

    /// What all nodes have counted.
    async fn counted(&self, tenant: &str, rollout: i64) -> Result<Counted, RevisionStoreError>;

    /// Notes that a node runs, and what.
    async fn report_node(&self, node: Node) -> Result<(), RevisionStoreError>;

    /// Takes a node off the list.
    async fn forget_node(&self, node: Uuid) -> Result<(), RevisionStoreError>;

    /// The nodes that reported within the time.
    async fn nodes(&self, within: Duration) -> Result<Vec<Node>, RevisionStoreError>;

    /// Takes or extends a lease: whoever has it, alone does that work until it runs out.
    async fn lease(&self, name: &str, holder: Uuid, time: Duration) -> Result<bool, RevisionStoreError>;
}
