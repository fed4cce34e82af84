//! Installing: a new plugin, a new revision of one, or other settings and grants for what runs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PluginManager;
use crate::{
    Grants, InspectError, Inspection, LoadError, LoadedPlugin, Manifest, MissingGrant, NewRevision, PluginSource,
    RevisionState, RevisionStoreError, SettingsError, StoredRevision, check_settings, inspect,
};

/// What to install. What is left out is kept from the plugin's newest revision that is active or pending.
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
    /// Stores the revision without putting it into use.
    pub keep_pending: bool,
}

impl fmt::Debug for InstallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstallRequest")
            .field("plugin", &self.plugin)
            .field("size", &self.component.as_ref().map(Vec::len))
            .field("grants", &self.grants)
            .field("position", &self.position)
            .field("keep_pending", &self.keep_pending)
            .finish_non_exhaustive()
    }
}

/// Whether an installed revision runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstalledState {
    /// It answers from now on.
    Active,
    /// It is stored; what ran before goes on.
    Pending,
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
    /// Whether it runs.
    pub state: InstalledState,
    /// The tenant's generation after this.
    pub generation: u64,
    /// The plugin had no revision before.
    pub created: bool,
    /// What has to be granted before it can run.
    pub missing: Vec<MissingGrant>,
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
    /// The component, its settings or its first start are refused.
    #[error(transparent)]
    Refused(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RevisionStoreError),
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

/// A revision that passed the checks that need no compiler.
struct Candidate {
    component: Arc<[u8]>,
    inspection: Inspection,
    settings: Value,
    grants: Grants,
    created: bool,
}

impl PluginManager {
    /// Installs: checks, compiles off the request path, starts once, stores, and makes the new generation current. A
    /// plugin that asks for more than it was granted is stored as pending and reported; what ran before goes on.
    ///
    /// # Errors
    ///
    /// See [`InstallError`]. Whatever fails, the running generation stays. If the future is dropped half-way, the store
    /// may be ahead of what runs; [`sync`](Self::sync) catches up.
    pub async fn install(&self, tenant: &str, request: InstallRequest) -> Result<InstallReport, InstallError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        let position = request.position;
        let keep_pending = request.keep_pending;
        let candidate = self.candidate(tenant, request).await?;
        let manifest = &candidate.inspection.manifest;
        let name = manifest.name.clone();
        let mut report = InstallReport {
            name: name.clone(),
            version: manifest.version.to_string(),
            digest: candidate.inspection.digest.clone(),
            revision: None,
            state: InstalledState::Pending,
            generation: 0,
            created: candidate.created,
            missing: Vec::new(),
            warnings: candidate.warnings(),
        };

        let loaded = match candidate.grants.effective(manifest) {
            Err(error) => {
                report.missing = error.missing;
                None
            }
            Ok(_) => {
                let source = PluginSource {
                    tenant: tenant.into(),
                    component: Arc::clone(&candidate.component),
                    settings: Some(candidate.settings.clone()),
                    grants: candidate.grants.clone(),
                    limits: self.limits.clone(),
                };
                let connections = self.connections.of_tenant(tenant);
                Some(LoadedPlugin::load(&self.engine, &connections, &self.ports, source).await?)
            }
        };

        let id = self.store.insert(tenant, candidate.into_revision()?).await?;
        if let Some(position) = position {
            self.store.set_position(tenant, &name, position).await?;
        }
        let mut fresh = None;
        if let Some(loaded) = loaded.filter(|_| !keep_pending) {
            self.store.activate(tenant, id).await?;
            report.revision = Some(loaded.revision().to_owned());
            report.state = InstalledState::Active;
            fresh = Some((id, loaded));
        }
        report.generation = self.refresh(&slot, fresh).await?;
        tracing::info!(
            plugin.name = name,
            plugin.version = report.version,
            plugin.digest = report.digest,
            tenant.name = tenant,
            generation = report.generation,
            missing = report.missing.len(),
            "{}",
            match report.state {
                InstalledState::Active => "plugin installed and active",
                InstalledState::Pending => "plugin stored, not active",
            }
        );
        Ok(report)
    }

    async fn candidate(&self, tenant: &str, request: InstallRequest) -> Result<Candidate, InstallError> {
        let (component, inspection) = match (request.component, &request.plugin) {
            (Some(component), _) => inspected(component.into()).await?,
            (None, None) => return Err(InstallError::NoName),
            (None, Some(name)) => {
                let base = newest(&self.store.revisions(tenant, name).await?).cloned();
                let base = base.ok_or_else(|| InstallError::NoComponent(name.clone()))?;
                inspected(self.store.component(tenant, &base.digest).await?.into()).await?
            }
        };
        let manifest = &inspection.manifest;
        if let Some(expected) = request.plugin.filter(|name| *name != manifest.name) {
            return Err(InstallError::OtherPlugin {
                expected,
                found: manifest.name.clone(),
            });
        }
        let revisions = self.store.revisions(tenant, &manifest.name).await?;
        let base = newest(&revisions);
        let settings = request
            .settings
            .or_else(|| base.map(|base| base.settings.clone()))
            .or_else(|| manifest.defaults.clone())
            .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let settings = checked(manifest.clone(), settings).await?;
        let grants = match (request.grants, base) {
            (Some(grants), _) => grants,
            (None, Some(base)) => serde_json::from_value(base.grants.clone())
                .map_err(|error| RevisionStoreError::Failed(Box::new(error)))?,
            (None, None) => Grants::default(),
        };
        Ok(Candidate {
            component,
            settings,
            grants,
            created: revisions.is_empty(),
            inspection,
        })
    }
}

impl Candidate {
    fn warnings(&self) -> Vec<String> {
        let manifest = &self.inspection.manifest;
        let mut warnings: Vec<String> = self
            .inspection
            .unused
            .iter()
            .map(|name| format!("the manifest asks for {name}, which the component does not use"))
            .collect();
        warnings.extend(
            self.grants
                .unused(manifest)
                .iter()
                .map(|name| format!("{name} is granted, and the plugin does not ask for it")),
        );
        warnings
    }

    fn into_revision(self) -> Result<NewRevision, RevisionStoreError> {
        let as_json = |error: serde_json::Error| RevisionStoreError::Failed(Box::new(error));
        let manifest = &self.inspection.manifest;
        Ok(NewRevision {
            plugin: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: self.inspection.digest.clone(),
            manifest: serde_json::to_value(manifest).map_err(as_json)?,
            grants: serde_json::to_value(&self.grants).map_err(as_json)?,
            component: self.component,
            settings: self.settings,
        })
    }
}

/// Inspects on a thread that may block: a large component takes a tenth of a second.
async fn inspected(component: Arc<[u8]>) -> Result<(Arc<[u8]>, Inspection), InstallError> {
    let bytes = Arc::clone(&component);
    let inspection = tokio::task::spawn_blocking(move || inspect(&bytes))
        .await
        .map_err(|_| LoadError::Compile("the inspection panicked".to_owned()))??;
    Ok((component, inspection))
}

/// Checks settings on a thread that may block: how long it takes is up to the schema.
async fn checked(manifest: Manifest, settings: Value) -> Result<Value, InstallError> {
    tokio::task::spawn_blocking(move || check_settings(&manifest, &settings).map(|()| settings))
        .await
        .map_err(|_| LoadError::Compile("the check of the settings panicked".to_owned()))?
        .map_err(InstallError::from)
}

/// What a change starts from: the newest revision that is in use or waits for it.
fn newest(revisions: &[StoredRevision]) -> Option<&StoredRevision> {
    revisions
        .iter()
        .find(|revision| matches!(revision.state, RevisionState::Active | RevisionState::Pending))
        .or_else(|| {
            revisions
                .iter()
                .find(|revision| revision.state == RevisionState::Retired)
        })
}
