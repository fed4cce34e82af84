//! Revisions in memory: for tests, and for servers that install their plugins at each start. What it promises is what the
//! database's store promises; the tests of the manager run on both.

mod rollouts;
mod tenant;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use self::tenant::Tenant;
use crate::revisions::{
    Activation, ActiveRevisions, Actor, NewRevision, Quarantined, RevisionEvent, RevisionState, RevisionStore,
    RevisionStoreError, StoredPlugin, StoredRevision,
};
use crate::rollout::Node;

/// A [`RevisionStore`] that forgets everything at the end of the process. It knows the tenants it is told of.
#[derive(Debug, Default)]
pub struct MemoryRevisions {
    tenants: Mutex<BTreeMap<String, Tenant>>,
    nodes: Mutex<BTreeMap<Uuid, Node>>,
    leases: Mutex<BTreeMap<String, (Uuid, Instant)>>,
    /// Components can not be read at the moment.
    #[cfg(feature = "testing")]
    components_away: std::sync::atomic::AtomicBool,
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
            ..Self::default()
        }
    }

    /// From now on components can not be read, or can be again, as when a database is away for a moment.
    #[cfg(feature = "testing")]
    pub fn take_components_away(&self, away: bool) {
        self.components_away.store(away, std::sync::atomic::Ordering::SeqCst);
    }

    fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
        // Nothing panics while it is held, and if it did the map would still be whole.
        what.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(
        &self,
        tenant: &str,
        act: impl FnOnce(&mut Tenant) -> Result<R, RevisionStoreError>,
    ) -> Result<R, RevisionStoreError> {
        act(Self::lock(&self.tenants)
            .get_mut(tenant)
            .ok_or(RevisionStoreError::NotFound("tenant"))?)
    }
}

#[async_trait]
impl RevisionStore for MemoryRevisions {
    async fn tenants(&self) -> Result<Vec<String>, RevisionStoreError> {
        Ok(Self::lock(&self.tenants).keys().cloned().collect())
    }

    async fn generation(&self, tenant: &str) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| Ok(tenant.generation))
    }

    async fn active(&self, tenant: &str) -> Result<ActiveRevisions, RevisionStoreError> {
        self.with(tenant, |tenant| Ok(tenant.active_revisions()))
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

    async fn history(&self, tenant: &str, plugin: &str, limit: u32) -> Result<Vec<RevisionEvent>, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let events = tenant.events.iter().rev().filter(|(name, _)| name == plugin);
            Ok(events.take(limit as usize).map(|(_, event)| event.clone()).collect())
        })
    }

    async fn component(&self, tenant: &str, digest: &str) -> Result<Vec<u8>, RevisionStoreError> {
        #[cfg(feature = "testing")]
        if self.components_away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(RevisionStoreError::Failed("components are away".into()));
        }
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
            if revision.steps.last() != Some(&RevisionState::Rejected) {
                tenant.supersede(
                    &revision.plugin,
                    i64::MAX,
                    "a newer revision took its place",
                    &revision.actor,
                );
            }
            tenant.next += 1;
            let id = tenant.next;
            if let Some(component) = revision.component {
                tenant.components.insert(revision.digest.clone(), component);
            }
            let plugin = revision.plugin.clone();
            tenant.revisions.push(StoredRevision {
                id,
                plugin: revision.plugin,
                position: 0,
                version: revision.version,
                digest: revision.digest,
                revision: revision.revision,
                manifest: revision.manifest,
                settings: revision.settings,
                grants: revision.grants,
                signature: revision.signature,
                staging: revision.staging,
                state: RevisionState::Pending,
                reason: None,
                created_at: Timestamp::now(),
                activated_at: None,
            });
            tenant.note(id, None, RevisionState::Pending, &Actor::new(&revision.actor.name));
            for step in revision.steps {
                tenant.transition(id, step, &revision.actor);
            }
            tenant.prune(&plugin);
            Ok(id)
        })
    }

    async fn grant(
        &self,
        tenant: &str,
        revision: i64,
        grants: Value,
        probed: Option<String>,
        actor: Actor,
    ) -> Result<(), RevisionStoreError> {
        self.with(tenant, |tenant| {
            let found = tenant
                .find(revision)
                .filter(|found| found.state == RevisionState::Pending)
                .ok_or(RevisionStoreError::NotFound("pending revision"))?;
            found.grants = grants;
            found.revision.clone_from(&probed);
            if probed.is_some() {
                for step in [RevisionState::Verified, RevisionState::Compiled, RevisionState::Probed] {
                    tenant.transition(revision, step, &actor);
                }
            }
            Ok(())
        })
    }

    async fn activate(&self, tenant: &str, activation: Activation) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let id = activation.revision;
            let known = tenant
                .find(id)
                .filter(|known| known.state != RevisionState::Rejected)
                .ok_or(RevisionStoreError::NotFound("revision"))?;
            let plugin = known.plugin.clone();
            if !activation.force && tenant.in_quarantine(id) {
                return Err(RevisionStoreError::Quarantined);
            }
            let before = tenant.active_of(&plugin).filter(|active| *active != id);
            tenant.put_active(&plugin, id, false, &activation.actor);
            if let (Some((until, gates)), Some(before)) = (activation.watch, before) {
                tenant.watch(&plugin, id, before, until, gates, &activation.actor);
            }
            tenant.prune(&plugin);
            Ok(tenant.change())
        })
    }

    async fn rollback(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<(i64, u64), RevisionStoreError> {
        self.with(tenant, |tenant| {
            let active = tenant
                .active_of(plugin)
                .ok_or(RevisionStoreError::NotFound("active revision"))?;
            let back = tenant
                .warm(active)
                .ok_or(RevisionStoreError::NotFound("earlier revision to go back to"))?;
            tenant.put_active(plugin, back, true, &actor);
            Ok((back, tenant.change()))
        })
    }

    async fn quarantine(&self, tenant: &str, revision: i64, actor: Actor) -> Result<Quarantined, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let known = tenant.find(revision).ok_or(RevisionStoreError::NotFound("revision"))?;
            let (plugin, was_active) = (known.plugin.clone(), known.state == RevisionState::Active);
            let instead = tenant.warm(revision).filter(|_| was_active);
            tenant.transition(revision, RevisionState::Quarantined, &actor);
            match instead {
                Some(back) => tenant.put_active(&plugin, back, true, &actor),
                None if was_active => {
                    tenant.end_rollout(&plugin, None, "quarantined", &actor);
                    tenant.halted.insert(plugin, revision);
                }
                None if tenant.is_candidate(&plugin, revision) => {
                    tenant.end_rollout(&plugin, Some(revision), "quarantined", &actor);
                }
                None => {}
            }
            Ok(Quarantined {
                generation: tenant.change(),
                was_active,
                instead,
            })
        })
    }

    async fn disable(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let halted = tenant.halted.remove(plugin).is_some();
            match tenant.active_of(plugin) {
                Some(active) => tenant.transition(active, RevisionState::Retired, &actor),
                None if halted => {}
                None => return Err(RevisionStoreError::NotFound("active plugin")),
            }
            tenant.end_rollout(plugin, None, "stopped", &actor);
            tenant.supersede(plugin, i64::MAX, "the plugin was disabled", &actor);
            tenant.prune(plugin);
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

impl MemoryRevisions {
    fn nodes_within(&self, within: Duration) -> Vec<Node> {
        let since = jiff::SignedDuration::try_from(within)
            .ok()
            .and_then(|within| Timestamp::now().checked_sub(within).ok())
            .unwrap_or(Timestamp::MIN);
        let nodes = Self::lock(&self.nodes);
        nodes.values().filter(|node| node.seen_at >= since).cloned().collect()
    }

    fn take_lease(&self, name: &str, holder: Uuid, time: Duration) -> bool {
        let now = Instant::now();
        let mut leases = Self::lock(&self.leases);
        let free = leases
            .get(name)
            .is_none_or(|(held_by, until)| *held_by == holder || *until <= now);
        if free {
            leases.insert(name.to_owned(), (holder, now + time));
        }
        free
    }
}

/// A component, shared by the revisions that have it.
type Component = Arc<[u8]>;
