//! How an installation goes: compiled off the request path, started once, stored, put into use or compared.

use std::sync::Arc;

use super::candidate::{Candidate, base, inspected};
use super::{GrantRequest, InstallError, InstallReport, InstallRequest, InstalledState, Staging};
use crate::component::ComponentFile;
use crate::manager::{PluginManager, Tenant};
use crate::revisions::{Activation, Actor, NewRevision, RevisionState};
use crate::rollout::NewRollout;
use crate::{Grants, LoadError, LoadedPlugin, Manifest, PluginSource, RevisionStoreError, StoredRevision};

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
        let mut report = candidate.report(&self.contracts);
        let mut loaded = None;
        match candidate.grants.effective(&candidate.inspection.manifest) {
            Err(error) => {
                report.missing = error.missing;
                report.once_granted = Some(staging.leads_to());
            }
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
        let mut new = candidate.into_revision(revision, &actor)?;
        if loaded.is_none() {
            new.staging = staging.to_remember(force)?;
        }
        let id = self.store.insert(tenant, new).await?;
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

    /// Grants more to the revision that waits for it. Once nothing is missing, what was asked for when it was installed is
    /// done with it: it is put into use, compared or kept. Without one that waits, more is granted to what runs.
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
        let grants = extended(base, request.grants, request.all_asked).map_err(unreadable)?;
        let remembered = pending.map(Staging::remembered).transpose()?.unwrap_or_default();
        let staging = if request.keep {
            Staging::Keep
        } else {
            remembered.clone()
        };
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
        let mut report = candidate.report(&self.contracts);
        let mut loaded = None;
        match candidate.grants.effective(&candidate.inspection.manifest) {
            Err(error) => {
                report.missing = error.missing;
                report.once_granted = Some(remembered.leads_to());
            }
            Ok(_) if matches!(staging, Staging::Compare(_)) && !candidate.has_active => {
                return Err(InstallError::NothingActive(plugin.to_owned()));
            }
            Ok(_) => loaded = Some(self.load(tenant, &candidate).await?),
        }
        let revision = loaded.as_ref().map(|plugin| plugin.revision().to_owned());
        report.revision.clone_from(&revision);
        let grants = serde_json::to_value(&candidate.grants).map_err(unreadable)?;
        self.store
            .grant(tenant, pending.id, grants, revision, request.actor.clone())
            .await?;
        if loaded.is_some() {
            let force = staging.is_forced();
            report.state = self.stage(tenant, pending.id, staging, force, &request.actor).await?;
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
        let state = staging.leads_to();
        match staging {
            Staging::Keep => {}
            Staging::Activate => {
                let activation = Activation {
                    revision,
                    actor: actor.clone(),
                    force,
                    watch: None,
                };
                self.store.activate(tenant, activation).await?;
            }
            Staging::Compare(rollout) => {
                let rollout = NewRollout {
                    revision,
                    permille: rollout.permille,
                    gates: rollout.gates.unwrap_or_default(),
                    automatic: rollout.automatic,
                    force,
                    actor: actor.clone(),
                };
                self.store.start_rollout(tenant, rollout).await?;
            }
        }
        Ok(state)
    }

    async fn load(&self, tenant: &str, candidate: &Candidate) -> Result<LoadedPlugin, LoadError> {
        let source = PluginSource {
            tenant: tenant.into(),
            component: ComponentFile::known(Arc::clone(&candidate.component), &candidate.inspection.digest),
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
}

/// The grants of a revision, with more.
fn extended(revision: &StoredRevision, more: Grants, all_asked: bool) -> Result<Grants, serde_json::Error> {
    let mut grants: Grants = serde_json::from_value(revision.grants.clone())?;
    if all_asked {
        let manifest: Manifest = serde_json::from_value(revision.manifest.clone())?;
        grants.capabilities.extend(manifest.capabilities);
    }
    grants.capabilities.extend(more.capabilities);
    grants.connections.ldap.extend(more.connections.ldap);
    grants.connections.http.extend(more.connections.http);
    grants.limits.extend(more.limits);
    Ok(grants)
}

fn unreadable(error: serde_json::Error) -> RevisionStoreError {
    RevisionStoreError::Failed(Box::new(error))
}
