//! Installing: a new plugin, a new revision of one, or other settings and grants for what runs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diff::{RevisionDiff, Side};
use super::rollouts::RolloutRequest;
use super::{PluginManager, Tenant};
use crate::package::{Accepted, PackageError, Signed};
use crate::revisions::{Activation, Actor, NewRevision, RevisionState};
use crate::rollout::NewRollout;
use crate::{
    Grants, InspectError, Inspection, LoadError, LoadedPlugin, Manifest, MissingGrant, PluginSource,
    RevisionStoreError, SettingsError, StoredRevision, check_settings, inspect,
};

/// What happens to a revision that passed its checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Staging {
    /// It takes the place of the active one.
    #[default]
    Activate,
    /// It is kept, and nothing else.
    Keep,
    /// It is compared with the active one.
    Compare(RolloutRequest),
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
    /// Keeps the revision instead of activating it.
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

/// A revision that passed the checks that need no compiler.
struct Candidate {
    component: Arc<[u8]>,
    inspection: Inspection,
    settings: Value,
    grants: Grants,
    signature: Option<Value>,
    created: bool,
    has_active: bool,
    /// The digests of revisions of the plugin in quarantine.
    quarantined: Vec<String>,
    changes: RevisionDiff,
}

impl PluginManager {
    /// Installs: checks, compiles off the request path, starts once, stores, and makes the new generation current, or
    /// starts to compare. A plugin that asks for more than it was granted is stored as pending and reported; what ran
    /// before goes on. One that can not be compiled or started is noted as rejected.
    ///
    /// # Errors
    ///
    /// See [`InstallError`]. Whatever fails, the running generation stays. If the future is dropped half-way, the store
    /// may be ahead of what runs; [`sync`](Self::sync) catches up.
    pub async fn install(&self, tenant: &str, request: InstallRequest) -> Result<InstallReport, InstallError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        self.install_in(&slot, request).await
    }

    async fn install_in(&self, slot: &Tenant, mut request: InstallRequest) -> Result<InstallReport, InstallError> {
        let tenant = &*slot.name;
        let (position, force) = (request.position, request.force);
        let (staging, actor) = (std::mem::take(&mut request.staging), request.actor.clone());
        let candidate = self.candidate(tenant, request).await?;
        let name = candidate.inspection.manifest.name.clone();
        if matches!(staging, Staging::Compare(_)) && !candidate.has_active {
            return Err(InstallError::NothingActive(name));
        }
        let mut report = candidate.report();
        let mut loaded = None;
        match candidate.grants.effective(&candidate.inspection.manifest) {
            Err(error) => report.missing = error.missing,
            Ok(_) => match self.load(tenant, &candidate).await {
                Ok(plugin) => loaded = Some(plugin),
                Err(error) => {
                    self.note_rejected(tenant, candidate, &error, &actor).await;
                    return Err(error.into());
                }
            },
        }
        let revision = loaded.as_ref().map(|plugin| plugin.revision().to_owned());
        let again = revision
            .as_ref()
            .is_some_and(|revision| candidate.quarantined.contains(revision));
        if again && !force && staging != Staging::Keep {
            return Err(InstallError::Quarantined(name));
        }
        report.revision.clone_from(&revision);
        let id = self
            .store
            .insert(tenant, candidate.into_revision(revision, &actor)?)
            .await?;
        if let Some(position) = position {
            self.store.set_position(tenant, &name, position).await?;
        }
        if loaded.is_some() {
            report.state = self.stage(tenant, id, staging, force, &actor).await?;
        }
        report.generation = self.refresh(slot, loaded.map(|plugin| (id, plugin))).await?;
        tracing::info!(
            plugin.name = name,
            plugin.version = report.version,
            plugin.digest = report.digest,
            tenant.name = tenant,
            generation = report.generation,
            missing = report.missing.len(),
            by = actor.name,
            state = ?report.state,
            "plugin revision installed"
        );
        Ok(report)
    }

    /// Grants more to the revision that waits for it, and puts it into use once nothing is missing; without one, more to
    /// what runs.
    ///
    /// # Errors
    ///
    /// As [`install`](Self::install).
    pub async fn grant(
        &self,
        tenant: &str,
        plugin: &str,
        request: GrantRequest,
    ) -> Result<InstallReport, InstallError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        let revisions = self.store.revisions(tenant, plugin).await?;
        let pending = revisions
            .iter()
            .find(|revision| revision.state == RevisionState::Pending);
        let base = pending.or_else(|| base(&revisions));
        let base = base.ok_or_else(|| InstallError::NoComponent(plugin.to_owned()))?;
        let as_json = |error: serde_json::Error| RevisionStoreError::Failed(Box::new(error));
        let mut grants: Grants = serde_json::from_value(base.grants.clone()).map_err(as_json)?;
        if request.all_asked {
            let manifest: Manifest = serde_json::from_value(base.manifest.clone()).map_err(as_json)?;
            grants.capabilities.extend(manifest.capabilities);
        }
        grants.capabilities.extend(request.grants.capabilities);
        grants.connections.ldap.extend(request.grants.connections.ldap);
        grants.connections.http.extend(request.grants.connections.http);
        grants.limits.extend(request.grants.limits);
        let staging = if request.keep { Staging::Keep } else { Staging::Activate };
        let Some(pending) = pending else {
            let request = InstallRequest {
                plugin: Some(plugin.to_owned()),
                grants: Some(grants),
                staging,
                actor: request.actor,
                ..InstallRequest::default()
            };
            return self.install_in(&slot, request).await;
        };

        let (component, inspection) = inspected(self.store.component(tenant, &pending.digest).await?.into()).await?;
        let candidate = Candidate::new(
            component,
            inspection,
            pending.settings.clone(),
            grants,
            None,
            &revisions,
        );
        let mut report = candidate.report();
        let mut loaded = None;
        match candidate.grants.effective(&candidate.inspection.manifest) {
            Err(error) => report.missing = error.missing,
            Ok(_) => loaded = Some(self.load(tenant, &candidate).await?),
        }
        let revision = loaded.as_ref().map(|plugin| plugin.revision().to_owned());
        report.revision.clone_from(&revision);
        let grants = serde_json::to_value(&candidate.grants).map_err(as_json)?;
        self.store
            .grant(tenant, pending.id, grants, revision, request.actor.clone())
            .await?;
        if loaded.is_some() {
            report.state = self.stage(tenant, pending.id, staging, false, &request.actor).await?;
        }
        report.generation = self.refresh(&slot, loaded.map(|plugin| (pending.id, plugin))).await?;
        Ok(report)
    }

    /// Does with a stored revision what is wanted of it.
    async fn stage(
        &self,
        tenant: &str,
        revision: i64,
        staging: Staging,
        force: bool,
        actor: &Actor,
    ) -> Result<InstalledState, InstallError> {
        match staging {
            Staging::Keep => Ok(InstalledState::Ready),
            Staging::Activate => {
                let activation = Activation {
                    revision,
                    actor: actor.clone(),
                    force,
                    watch: None,
                };
                self.store.activate(tenant, activation).await?;
                Ok(InstalledState::Active)
            }
            Staging::Compare(rollout) => {
                let state = if rollout.permille == 0 {
                    InstalledState::Shadow
                } else {
                    InstalledState::Canary
                };
                let rollout = NewRollout {
                    revision,
                    permille: rollout.permille,
                    gates: rollout.gates.unwrap_or_default(),
                    automatic: rollout.automatic,
                    force,
                    actor: actor.clone(),
                };
                self.store.start_rollout(tenant, rollout).await?;
                Ok(state)
            }
        }
    }

    async fn load(&self, tenant: &str, candidate: &Candidate) -> Result<LoadedPlugin, LoadError> {
        let source = PluginSource {
            tenant: tenant.into(),
            component: Arc::clone(&candidate.component),
            settings: Some(candidate.settings.clone()),
            grants: candidate.grants.clone(),
            limits: self.limits.clone(),
        };
        let connections = self.connections.of_tenant(tenant);
        LoadedPlugin::load(&self.engine, &connections, &self.ports, source).await
    }

    /// Keeps what is known of a revision that can not be used, without its component.
    async fn note_rejected(&self, tenant: &str, candidate: Candidate, error: &LoadError, actor: &Actor) {
        let steps = match error {
            LoadError::Compile(_) => vec![RevisionState::Verified, RevisionState::Rejected],
            LoadError::Probe(_) => vec![
                RevisionState::Verified,
                RevisionState::Compiled,
                RevisionState::Rejected,
            ],
            _ => return,
        };
        let actor = Actor::new(&actor.name).because(error.to_string());
        let noted = match candidate.into_revision(None, &actor) {
            Ok(revision) => {
                let revision = NewRevision {
                    component: None,
                    steps,
                    ..revision
                };
                self.store.insert(tenant, revision).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(tenant.name = tenant, error = %error, "a rejected revision could not be noted");
        }
    }

    async fn candidate(&self, tenant: &str, request: InstallRequest) -> Result<Candidate, InstallError> {
        // What is in the store was checked when it came.
        let (mut signed, mut signature) = (None, None);
        let (component, inspection) = match (request.component, &request.plugin) {
            (Some(component), _) => {
                let component: Arc<[u8]> = component.into();
                signed = Some(self.trust.check(tenant, Arc::clone(&component)).await?);
                inspected(component).await?
            }
            (None, None) => return Err(InstallError::NoName),
            (None, Some(name)) => {
                let revisions = self.store.revisions(tenant, name).await?;
                let base = base(&revisions).ok_or_else(|| InstallError::NoComponent(name.clone()))?;
                signature.clone_from(&base.signature);
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
        if let Some(signed) = &signed {
            if !request.allow_downgrade {
                let digest = &inspection.digest;
                self.trust.check_version(tenant, manifest, signed, digest).await?;
            }
            signature =
                Some(serde_json::to_value(signed).map_err(|error| RevisionStoreError::Failed(Box::new(error)))?);
        }
        let revisions = self.store.revisions(tenant, &manifest.name).await?;
        let base = base(&revisions);
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
        Ok(Candidate::new(
            component, inspection, settings, grants, signature, &revisions,
        ))
    }
}

impl Candidate {
    fn new(
        component: Arc<[u8]>,
        inspection: Inspection,
        settings: Value,
        grants: Grants,
        signature: Option<Value>,
        revisions: &[StoredRevision],
    ) -> Self {
        let before = was_used(revisions);
        let read = before.and_then(|before| {
            let manifest = serde_json::from_value::<Manifest>(before.manifest.clone()).ok()?;
            let grants = serde_json::from_value::<Grants>(before.grants.clone()).ok()?;
            Some((before, manifest, grants))
        });
        let before = read.as_ref().map(|(before, manifest, grants)| Side {
            version: &before.version,
            digest: &before.digest,
            manifest,
            settings: &before.settings,
            grants,
        });
        let version = inspection.manifest.version.to_string();
        let after = Side {
            version: &version,
            digest: &inspection.digest,
            manifest: &inspection.manifest,
            settings: &settings,
            grants: &grants,
        };
        let changes = RevisionDiff::between(before.as_ref(), &after);
        Self {
            created: revisions.iter().all(|known| known.state == RevisionState::Rejected),
            has_active: revisions.iter().any(|known| known.state == RevisionState::Active),
            quarantined: revisions
                .iter()
                .filter(|known| known.state == RevisionState::Quarantined)
                .filter_map(|known| known.revision.clone())
                .collect(),
            component,
            inspection,
            settings,
            grants,
            signature,
            changes,
        }
    }

    fn report(&self) -> InstallReport {
        let manifest = &self.inspection.manifest;
        InstallReport {
            name: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: self.inspection.digest.clone(),
            revision: None,
            state: InstalledState::Pending,
            generation: 0,
            created: self.created,
            missing: Vec::new(),
            signature: self.signature.clone(),
            changes: self.changes.clone(),
            warnings: self.warnings(),
        }
    }

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
        let signed = self.signature.clone().map(serde_json::from_value::<Signed>);
        if signed.is_some_and(|signed| signed.is_ok_and(|signed| signed.accepted == Accepted::Unsigned)) {
            warnings.push("nobody has signed the plugin".to_owned());
        }
        warnings
    }

    fn into_revision(self, revision: Option<String>, actor: &Actor) -> Result<NewRevision, RevisionStoreError> {
        let as_json = |error: serde_json::Error| RevisionStoreError::Failed(Box::new(error));
        let manifest = &self.inspection.manifest;
        let steps = if revision.is_some() {
            vec![RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed]
        } else {
            Vec::new()
        };
        Ok(NewRevision {
            plugin: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: self.inspection.digest.clone(),
            manifest: serde_json::to_value(manifest).map_err(as_json)?,
            grants: serde_json::to_value(&self.grants).map_err(as_json)?,
            component: Some(self.component),
            settings: self.settings,
            signature: self.signature,
            revision,
            steps,
            actor: actor.clone(),
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

/// Checks settings on a thread that may block: a schema may come with much work.
async fn checked(manifest: Manifest, settings: Value) -> Result<Value, InstallError> {
    tokio::task::spawn_blocking(move || check_settings(&manifest, &settings).map(|()| settings))
        .await
        .map_err(|_| LoadError::Compile("the check of the settings panicked".to_owned()))?
        .map_err(InstallError::from)
}

/// The revision in use, else the one that was in use last.
pub(super) fn was_used(revisions: &[StoredRevision]) -> Option<&StoredRevision> {
    let active = revisions.iter().find(|known| known.state == RevisionState::Active);
    active.or_else(|| {
        revisions
            .iter()
            .filter(|known| known.activated_at.is_some() && known.state != RevisionState::Quarantined)
            .max_by_key(|known| known.activated_at)
    })
}

/// What a change starts from: what is in use, else what was in use last, else the newest that waits.
pub(super) fn base(revisions: &[StoredRevision]) -> Option<&StoredRevision> {
    was_used(revisions).or_else(|| revisions.iter().find(|known| known.state != RevisionState::Rejected))
}
