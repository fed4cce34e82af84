//! What is to be installed, put together from what was sent and what is stored, and checked without a compiler.

use std::sync::Arc;

use serde_json::Value;

use super::{InstallError, InstallReport, InstallRequest, InstalledState};
use crate::manager::PluginManager;
use crate::manager::diff::{RevisionDiff, Side};
use crate::package::{Accepted, Signed};
use crate::revisions::{Actor, NewRevision, RevisionState};
use crate::{
    Contracts, Grants, Inspection, LoadError, Manifest, RevisionStoreError, StoredRevision, check_settings, inspect,
};

/// A revision that passed the checks that need no compiler.
pub(super) struct Candidate {
    pub(super) component: Arc<[u8]>,
    pub(super) inspection: Inspection,
    pub(super) settings: Value,
    pub(super) grants: Grants,
    signature: Option<Value>,
    created: bool,
    pub(super) has_active: bool,
    /// The digests of revisions of the plugin in quarantine.
    pub(super) quarantined: Vec<String>,
    changes: RevisionDiff,
}

impl PluginManager {
    /// Puts together what is to be installed, and checks it.
    pub(super) async fn candidate(&self, tenant: &str, request: InstallRequest) -> Result<Candidate, InstallError> {
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
    pub(super) fn new(
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

    pub(super) fn report(&self, contracts: &Contracts) -> InstallReport {
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
            once_granted: None,
            signature: self.signature.clone(),
            changes: self.changes.clone(),
            warnings: self.warnings(contracts),
        }
    }

    fn warnings(&self, contracts: &Contracts) -> Vec<String> {
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
        warnings.extend(contracts.of(&self.inspection.contract).warning());
        let signed = self.signature.clone().map(serde_json::from_value::<Signed>);
        if signed.is_some_and(|signed| signed.is_ok_and(|signed| signed.accepted == Accepted::Unsigned)) {
            warnings.push("nobody has signed the plugin".to_owned());
        }
        warnings
    }

    pub(super) fn into_revision(
        self,
        revision: Option<String>,
        actor: &Actor,
    ) -> Result<NewRevision, RevisionStoreError> {
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
            staging: None,
            revision,
            steps,
            actor: actor.clone(),
        })
    }
}

/// Inspects on a thread that may block: a large component takes a tenth of a second.
pub(super) async fn inspected(component: Arc<[u8]>) -> Result<(Arc<[u8]>, Inspection), InstallError> {
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
pub(in crate::manager) fn was_used(revisions: &[StoredRevision]) -> Option<&StoredRevision> {
    let active = revisions.iter().find(|known| known.state == RevisionState::Active);
    active.or_else(|| {
        revisions
            .iter()
            .filter(|known| known.activated_at.is_some() && known.state != RevisionState::Quarantined)
            .max_by_key(|known| known.activated_at)
    })
}

/// What a change starts from: what is in use, else what was in use last, else the newest that waits.
pub(in crate::manager) fn base(revisions: &[StoredRevision]) -> Option<&StoredRevision> {
    was_used(revisions).or_else(|| revisions.iter().find(|known| known.state != RevisionState::Rejected))
}
