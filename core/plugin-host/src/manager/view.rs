//! What is installed, for people.

use std::collections::BTreeSet;

use jiff::Timestamp;
use russet_hooks::HookKind;
use serde::Serialize;
use serde_json::Value;

use super::diff::RevisionDiff;
use super::install::{base, was_used};
use super::{Current, PluginManager};
use crate::host::Seated;
use crate::rollout::{RolloutPhase, StoredRollout};
use crate::{
    Contract, Contracts, Grants, Manifest, MissingGrant, RevisionState, RevisionStoreError, StoredPlugin,
    StoredRevision,
};

/// Whether a plugin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// It answers.
    Active,
    /// It is active and can not be loaded: its hooks fail.
    Unusable,
    /// Its revision is in quarantine and there is none to go back to: its hooks fail.
    Quarantined,
    /// No revision of it was ever in use, and one waits for a grant.
    Pending,
    /// No revision of it was ever in use, and one could be.
    Ready,
    /// Nothing of it was ever accepted.
    Rejected,
    /// It is out of use.
    Disabled,
}

/// A plugin of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub state: PluginState,
    /// Its place in the order, lowest first.
    pub position: i64,
    /// The version of the revision in use, else of the one that was in use last, else of the newest.
    pub version: String,
    /// The SHA-256 of that revision's component, in hexadecimal.
    pub digest: String,
    /// The digest of the revision that answers, as decision records name it.
    pub revision: Option<String>,
    /// The version of the contract that it was built against, and whether that is on its way out; absent while it is not
    /// loaded on this node.
    pub contract: Option<Contract>,
    /// What it is for.
    pub description: String,
    /// The hooks that it implements.
    pub hooks: BTreeSet<HookKind>,
    /// What it asks for.
    pub capabilities: BTreeSet<String>,
    /// What it was granted.
    pub grants: Grants,
    /// Its settings. They may hold secrets: for administrators only.
    pub settings: Value,
    /// How its component was signed; absent if that was not looked into.
    pub signature: Option<Value>,
    /// When that revision was installed.
    pub installed_at: Timestamp,
    /// Why its hooks fail, or why it was not accepted.
    pub problem: Option<String>,
    /// A newer revision that waits.
    pub pending: Option<PendingRevision>,
    /// What its active revision is compared with.
    pub rollout: Option<OpenRollout>,
    /// The revision that `russet plugin rollback` goes back to.
    pub previous: Option<RevisionSummary>,
}

/// A revision that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingRevision {
    /// Its number.
    pub id: i64,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// What has to be granted before it can run; nothing if it is ready.
    pub missing: Vec<MissingGrant>,
    /// What it changes.
    pub changes: Option<RevisionDiff>,
}

/// A comparison that goes on, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenRollout {
    /// What the other revision is asked.
    pub phase: RolloutPhase,
    /// The version of the other revision.
    pub version: String,
    /// Its digest of component, settings and grants.
    pub revision: Option<String>,
    /// The share of enrollments that it answers, in thousandths.
    pub permille: u16,
    /// When watching ends.
    pub watch_until: Option<Timestamp>,
}

/// A revision, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevisionSummary {
    /// Its number.
    pub id: i64,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The digest of component, settings and grants, as decision records name it.
    pub revision: Option<String>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it stands there.
    pub reason: Option<String>,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// When it was activated last.
    pub activated_at: Option<Timestamp>,
}

impl RevisionSummary {
    pub(super) fn of(revision: &StoredRevision) -> Self {
        Self {
            id: revision.id,
            version: revision.version.clone(),
            digest: revision.digest.clone(),
            revision: revision.revision.clone(),
            state: revision.state,
            reason: revision.reason.clone(),
            installed_at: revision.created_at,
            activated_at: revision.activated_at,
        }
    }
}

impl PluginManager {
    /// The plugins of a tenant, in the order in which they are asked.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn list(&self, tenant: &str) -> Result<Vec<PluginStatus>, RevisionStoreError> {
        let mut plugins = Vec::new();
        for plugin in self.store.plugins(tenant).await? {
            plugins.extend(self.status(tenant, &plugin).await?);
        }
        Ok(plugins)
    }

    /// One plugin of a tenant.
    ///
    /// # Errors
    ///
    /// There is no such plugin, or the store failed.
    pub async fn get(&self, tenant: &str, plugin: &str) -> Result<PluginStatus, RevisionStoreError> {
        let known = self.store.plugins(tenant).await?;
        let known = known
            .iter()
            .find(|known| known.name == plugin)
            .ok_or(RevisionStoreError::NotFound("plugin"))?;
        let status = self.status(tenant, known).await?;
        status.ok_or(RevisionStoreError::NotFound("plugin"))
    }

    async fn status(&self, tenant: &str, plugin: &StoredPlugin) -> Result<Option<PluginStatus>, RevisionStoreError> {
        let revisions = self.store.revisions(tenant, &plugin.name).await?;
        let rollout = self.store.rollout(tenant, &plugin.name).await?;
        let rollout = rollout.filter(|rollout| rollout.ended_at.is_none());
        let warm = self.store.active(tenant).await?.warm;
        let current = self.tenant(tenant).current.load_full();
        let warm = warm.iter().find(|warm| warm.plugin == plugin.name);
        Ok(status(
            plugin,
            &revisions,
            &current,
            rollout.as_ref(),
            warm,
            &self.contracts,
        ))
    }
}

/// Absent if the plugin has no revision.
fn status(
    plugin: &StoredPlugin,
    revisions: &[StoredRevision],
    current: &Current,
    rollout: Option<&StoredRollout>,
    warm: Option<&StoredRevision>,
    contracts: &Contracts,
) -> Option<PluginStatus> {
    let active = revisions
        .iter()
        .find(|revision| revision.state == RevisionState::Active);
    let seat = |id: i64| current.seats.iter().find(|(of, _)| *of == id).map(|(_, seat)| seat);
    // One in quarantine has a seat only if there was none to go back to.
    let halted = revisions
        .iter()
        .find(|revision| revision.state == RevisionState::Quarantined && seat(revision.id).is_some());
    let waiting = revisions.iter().find(|revision| revision.state.waits());
    let shown = active.or(halted).or_else(|| base(revisions)).or(revisions.first())?;
    let manifest = serde_json::from_value::<Manifest>(shown.manifest.clone()).ok();
    let (state, revision, problem) = match (active, halted) {
        (Some(active), _) => match seat(active.id) {
            Some(Seated::Usable(seat)) => {
                let revision = seat.active.plugin().revision().to_owned();
                (PluginState::Active, Some(revision), None)
            }
            Some(Seated::Unusable(plugin)) => (PluginState::Unusable, None, Some(plugin.reason.clone())),
            None => {
                let problem = "not loaded yet on this node".to_owned();
                (PluginState::Unusable, None, Some(problem))
            }
        },
        (None, Some(halted)) => (PluginState::Quarantined, None, halted.reason.clone()),
        (None, None) if was_used(revisions).is_some() => (PluginState::Disabled, None, None),
        (None, None) => match waiting.map(|waiting| waiting.state) {
            Some(RevisionState::Pending) => (PluginState::Pending, None, None),
            Some(_) => (PluginState::Ready, None, None),
            None if shown.state == RevisionState::Rejected => (PluginState::Rejected, None, shown.reason.clone()),
            None => (PluginState::Disabled, None, None),
        },
    };
    let other = rollout.and_then(|rollout| revisions.iter().find(|known| known.id == rollout.other));
    Some(PluginStatus {
        name: plugin.name.clone(),
        state,
        position: plugin.position,
        version: shown.version.clone(),
        digest: shown.digest.clone(),
        revision,
        contract: active
            .and_then(|active| current.members.get(&active.id))
            .map(|member| contracts.of(member.plugin().contract())),
        description: manifest
            .as_ref()
            .map(|manifest| manifest.description.clone())
            .unwrap_or_default(),
        hooks: manifest
            .as_ref()
            .map(|manifest| manifest.hooks.clone())
            .unwrap_or_default(),
        capabilities: manifest.map(|manifest| manifest.capabilities).unwrap_or_default(),
        grants: serde_json::from_value(shown.grants.clone()).unwrap_or_default(),
        settings: shown.settings.clone(),
        signature: shown.signature.clone(),
        installed_at: shown.created_at,
        problem,
        pending: waiting.map(|waiting| pending(was_used(revisions), waiting)),
        rollout: rollout.map(|rollout| OpenRollout {
            phase: rollout.phase,
            version: other.map(|other| other.version.clone()).unwrap_or_default(),
            revision: other.and_then(|other| other.revision.clone()),
            permille: rollout.permille,
            watch_until: rollout.watch_until,
        }),
        previous: warm.map(RevisionSummary::of),
    })
}

fn pending(before: Option<&StoredRevision>, revision: &StoredRevision) -> PendingRevision {
    let manifest = serde_json::from_value::<Manifest>(revision.manifest.clone());
    let grants = serde_json::from_value::<Grants>(revision.grants.clone());
    let missing = match (manifest, grants) {
        (Ok(manifest), Ok(grants)) => grants
            .effective(&manifest)
            .err()
            .map(|error| error.missing)
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    PendingRevision {
        id: revision.id,
        version: revision.version.clone(),
        digest: revision.digest.clone(),
        installed_at: revision.created_at,
        missing,
        changes: RevisionDiff::of_stored(before, revision),
    }
}
