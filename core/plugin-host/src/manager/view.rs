//! What is installed, for people.

use std::collections::BTreeSet;

use jiff::Timestamp;
use russet_hooks::HookKind;
use serde::Serialize;
use serde_json::Value;

use super::{Current, PluginManager};
use crate::host::ActivePlugin;
use crate::{Grants, Manifest, MissingGrant, RevisionState, RevisionStoreError, StoredPlugin, StoredRevision};

/// Whether a plugin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// It answers.
    Active,
    /// It is active and can not be loaded: its hooks fail.
    Unusable,
    /// Its only revision waits for a grant.
    Pending,
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
    /// The version of the revision in use, else of the newest.
    pub version: String,
    /// The SHA-256 of that revision's component, in hexadecimal.
    pub digest: String,
    /// The digest of the revision that answers, as decision records name it.
    pub revision: Option<String>,
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
    /// When that revision was installed.
    pub installed_at: Timestamp,
    /// Why it can not be loaded.
    pub problem: Option<String>,
    /// A newer revision that waits.
    pub pending: Option<PendingRevision>,
}

/// A revision that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingRevision {
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// What has to be granted before it can run.
    pub missing: Vec<MissingGrant>,
}

impl PluginManager {
    /// The plugins of a tenant, in the order in which they are asked.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn list(&self, tenant: &str) -> Result<Vec<PluginStatus>, RevisionStoreError> {
        let current = self.tenant(tenant).current.load_full();
        let mut plugins = Vec::new();
        for plugin in self.store.plugins(tenant).await? {
            let revisions = self.store.revisions(tenant, &plugin.name).await?;
            plugins.extend(status(&plugin, &revisions, &current));
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
        let revisions = self.store.revisions(tenant, plugin).await?;
        let current = self.tenant(tenant).current.load_full();
        status(known, &revisions, &current).ok_or(RevisionStoreError::NotFound("plugin"))
    }
}

/// Absent if the plugin has no revision.
fn status(plugin: &StoredPlugin, revisions: &[StoredRevision], current: &Current) -> Option<PluginStatus> {
    let active = revisions
        .iter()
        .find(|revision| revision.state == RevisionState::Active);
    let pending = revisions
        .iter()
        .take_while(|revision| revision.state != RevisionState::Active)
        .find(|revision| revision.state == RevisionState::Pending);
    let shown = active.or(pending).or(revisions.first())?;
    let manifest = serde_json::from_value::<Manifest>(shown.manifest.clone()).ok();
    let running = active.and_then(|active| {
        current
            .plugins
            .iter()
            .find(|(id, _)| *id == active.id)
            .map(|(_, plugin)| plugin)
    });
    let (state, revision, problem) = match (active, running) {
        (Some(_), Some(ActivePlugin::Loaded(plugin))) => {
            (PluginState::Active, Some(plugin.revision().to_owned()), None)
        }
        (Some(_), Some(ActivePlugin::Unusable(plugin))) => (PluginState::Unusable, None, Some(plugin.reason.clone())),
        (Some(_), None) => (
            PluginState::Unusable,
            None,
            Some("not loaded yet on this node".to_owned()),
        ),
        (None, _) if pending.is_some() => (PluginState::Pending, None, None),
        (None, _) => (PluginState::Disabled, None, None),
    };
    Some(PluginStatus {
        name: plugin.name.clone(),
        state,
        position: plugin.position,
        version: shown.version.clone(),
        digest: shown.digest.clone(),
        revision,
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
        installed_at: shown.created_at,
        problem,
        pending: pending.map(waiting),
    })
}

fn waiting(revision: &StoredRevision) -> PendingRevision {
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
        version: revision.version.clone(),
        digest: revision.digest.clone(),
        installed_at: revision.created_at,
        missing,
    }
}
