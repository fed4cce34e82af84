//! Revisions in memory: for tests, and for servers that install their plugins at each start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::revisions::{
    ActiveRevisions, NewRevision, RevisionState, RevisionStore, RevisionStoreError, StoredPlugin, StoredRevision,
};

/// A [`RevisionStore`] that forgets everything at the end of the process. It knows the tenants it is told of.
#[derive(Debug, Default)]
pub struct MemoryRevisions {
    tenants: Mutex<BTreeMap<String, Tenant>>,
}

#[derive(Debug, Default)]
struct Tenant {
    generation: u64,
    next: i64,
    plugins: Vec<StoredPlugin>,
    revisions: Vec<StoredRevision>,
    components: BTreeMap<String, Arc<[u8]>>,
}

impl MemoryRevisions {
    /// A store with these tenants.
    pub fn new(tenants: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            tenants: Mutex::new(
                tenants
                    .into_iter()
                    .map(|name| (name.into(), Tenant::default()))
                    .collect(),
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tenant>> {
        // Nothing panics while it is held, and if it did the map would still be whole.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(
        &self,
        tenant: &str,
        act: impl FnOnce(&mut Tenant) -> Result<R, RevisionStoreError>,
    ) -> Result<R, RevisionStoreError> {
        act(self
            .lock()
            .get_mut(tenant)
            .ok_or(RevisionStoreError::NotFound("tenant"))?)
    }
}

impl Tenant {
    fn change(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn position(&self, plugin: &str) -> Option<i64> {
        self.plugins
            .iter()
            .find(|known| known.name == plugin)
            .map(|known| known.position)
    }

    fn positioned(&self, revision: &StoredRevision) -> StoredRevision {
        StoredRevision {
            position: self.position(&revision.plugin).unwrap_or_default(),
            ..revision.clone()
        }
    }
}

#[async_trait]
impl RevisionStore for MemoryRevisions {
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError> {
        Ok(self.lock().keys().cloned().collect())
    }

    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| Ok(tenant.generation))
    }

    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let mut revisions: Vec<StoredRevision> = tenant
                .revisions
                .iter()
                .filter(|revision| revision.state == RevisionState::Active)
                .map(|revision| tenant.positioned(revision))
                .collect();
            revisions.sort_by_key(|revision| (revision.position, revision.plugin.clone()));
            Ok(ActiveRevisions {
                generation: tenant.generation,
                revisions,
            })
        })
    }

    async fn plugins(&self, tenant: &str) -> Result<Vec<StoredPlugin>, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let mut plugins = tenant.plugins.clone();
            plugins.sort_by_key(|plugin| (plugin.position, plugin.name.clone()));
            Ok(plugins)
        })
    }

    async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<StoredRevision>, RevisionStoreError> {
        self.with(tenant, |tenant| {
            Ok(tenant
                .revisions
                .iter()
                .rev()
                .filter(|revision| revision.plugin == plugin)
                .map(|revision| tenant.positioned(revision))
                .collect())
        })
    }

    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError> {
        self.with(tenant, |tenant| {
            tenant
                .components
                .get(digest)
                .map(|component| component.to_vec())
                .ok_or(RevisionStoreError::NotFound("component"))
        })
    }

    async fn insert(&self, tenant: &str, revision: NewRevision) -> Result<i64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            if tenant.position(&revision.plugin).is_none() {
                let position = tenant.plugins.iter().map(|plugin| plugin.position + 1).max();
                tenant.plugins.push(StoredPlugin {
                    name: revision.plugin.clone(),
                    position: position.unwrap_or_default(),
                });
            }
            tenant.next += 1;
            tenant.components.insert(revision.digest.clone(), revision.component);
            tenant.revisions.push(StoredRevision {
                id: tenant.next,
                plugin: revision.plugin,
                position: 0,
                version: revision.version,
                digest: revision.digest,
                manifest: revision.manifest,
                settings: revision.settings,
                grants: revision.grants,
                state: RevisionState::Pending,
                created_at: Timestamp::now(),
            });
            Ok(tenant.next)
        })
    }

    async fn activate(&self, tenant: &str, revision: i64) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let plugin = tenant
                .revisions
                .iter()
                .find(|known| known.id == revision && known.state != RevisionState::Rejected)
                .map(|known| known.plugin.clone())
                .ok_or(RevisionStoreError::NotFound("revision"))?;
            for known in tenant.revisions.iter_mut().filter(|known| known.plugin == plugin) {
                if known.id == revision {
                    known.state = RevisionState::Active;
                } else if known.state == RevisionState::Active {
                    known.state = RevisionState::Retired;
                }
            }
            Ok(tenant.change())
        })
    }

    async fn disable(&self, tenant: &str, plugin: &str, _reason: &str) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let active = tenant
                .revisions
                .iter_mut()
                .find(|known| known.plugin == plugin && known.state == RevisionState::Active)
                .ok_or(RevisionStoreError::NotFound("active plugin"))?;
            active.state = RevisionState::Retired;
            Ok(tenant.change())
        })
    }

    async fn set_position(&self, tenant: &str, plugin: &str, position: i64) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let known = tenant
                .plugins
                .iter_mut()
                .find(|known| known.name == plugin)
                .ok_or(RevisionStoreError::NotFound("plugin"))?;
            known.position = position;
            Ok(tenant.change())
        })
    }
}
