//! Loads what the store says is in use, at start and when another node changed it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream;
use russet_hooks::{FaultKind, HookKind};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::unloaded::{Problem, Unloaded};
use super::{Current, PluginManager, Tenant};
use crate::component::ComponentFile;
use crate::host::{Seated, UnusablePlugin};
use crate::ports::Ports;
use crate::rollout::BreakerSettings;
use crate::rollout::seat::{Duel, Member, Seat, Trip};
use crate::rollout::tally::Tally;
use crate::{
    ActiveRevisions, Connections, Grants, Limits, LoadedPlugin, Manifest, PluginEngine, PluginSource, RevisionState,
    RevisionStore, RevisionStoreError, StoredRevision,
};

/// How many tenants are loaded at once at start.
const TENANTS_AT_ONCE: usize = 8;

/// What came of loading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// How many plugins are loaded, over all tenants.
    pub loaded: usize,
    /// Those that are not: their hooks answer with a fault.
    pub failures: Vec<LoadFailure>,
}

/// A plugin that is active and could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadFailure {
    /// The tenant.
    pub tenant: String,
    /// The plugin.
    pub plugin: String,
    /// Why.
    pub reason: String,
}

impl PluginManager {
    /// Loads the active plugins of every tenant. A plugin that can not be loaded does not stop the others; its hooks
    /// answer with a fault.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn load_all(&self) -> Result<LoadReport, RevisionStoreError> {
        let tenants = self.store.tenants().await?;
        let mut report = LoadReport::default();
        let mut loading = stream::iter(tenants)
            .map(async |name| {
                let slot = self.tenant(&name);
                let _change = slot.change.lock().await;
                self.refresh(&slot, None).await?;
                Ok::<_, RevisionStoreError>((name, slot.current.load_full()))
            })
            .buffer_unordered(TENANTS_AT_ONCE);
        while let Some(loaded) = loading.next().await {
            let (tenant, current) = loaded?;
            for (_, seat) in &current.seats {
                match seat {
                    Seated::Usable(seat) => {
                        report.loaded += 1;
                        self.note_contract(&tenant, seat.active.plugin());
                    }
                    Seated::Unusable(plugin) => report.failures.push(LoadFailure {
                        tenant: tenant.clone(),
                        plugin: plugin.name.clone(),
                        reason: plugin.reason.clone(),
                    }),
                }
            }
        }
        Ok(report)
    }

    /// Names a plugin in the log that has to be rebuilt before the server stops to serve its contract.
    fn note_contract(&self, tenant: &str, plugin: &LoadedPlugin) {
        if let Some(warning) = self.contracts.of(plugin.contract()).warning() {
            tracing::warn!(
                plugin.name = plugin.name(),
                tenant.name = tenant,
                warning,
                "a plugin is built for a contract that is on its way out"
            );
        }
    }

    /// Catches up with the store if it is ahead, as it is after another node changed something, and tries again what could
    /// not be loaded, when it is time to. Returns whether there was something to do.
    ///
    /// # Errors
    ///
    /// The store failed; what runs goes on.
    pub async fn sync(&self, tenant: &str) -> Result<bool, RevisionStoreError> {
        let generation = self.store.generation(tenant).await?;
        let slot = self.tenant(tenant);
        let is_done = || self.host.generation(tenant) == Some(generation) && !slot.unloaded().is_due(Instant::now());
        if is_done() {
            return Ok(false);
        }
        let _change = slot.change.lock().await;
        // Somebody else may have done it meanwhile.
        if is_done() {
            return Ok(false);
        }
        self.refresh(&slot, None).await?;
        Ok(true)
    }

    /// Loads what is in use and not loaded yet, and publishes the generation, which it returns. `fresh` is a revision
    /// that was just loaded. The caller holds the tenant's lock for changes.
    pub(super) async fn refresh(
        &self,
        tenant: &Tenant,
        fresh: Option<(i64, LoadedPlugin)>,
    ) -> Result<u64, RevisionStoreError> {
        let stored = self.store.active(&tenant.name).await?;
        let before = tenant.current.load_full();
        let (members, problems) = self.members(tenant, &before, &stored, fresh).await?;
        note_problems(tenant, &stored, &members, &problems);
        let mut tallies = HashMap::with_capacity(stored.rollouts.len());
        for staged in &stored.rollouts {
            let id = staged.rollout.id;
            let tally = before.tallies.get(&id).cloned();
            tallies.insert(id, tally.unwrap_or_else(|| Arc::new(Tally::new(id))));
        }
        let mut seats = Vec::with_capacity(stored.revisions.len());
        for revision in stored.revisions {
            let id = revision.id;
            let seat = match members.get(&id) {
                _ if revision.state == RevisionState::Quarantined => {
                    let reason = revision.reason.clone().unwrap_or_default();
                    Seated::Unusable(unusable(revision, FaultKind::Quarantined, reason))
                }
                None => {
                    let reason = problems.get(&id).map(|problem| problem.reason.clone());
                    let reason = reason.unwrap_or_default();
                    Seated::Unusable(unusable(revision, FaultKind::Unusable, reason))
                }
                Some(active) => {
                    let staged = stored.rollouts.iter().find(|staged| staged.rollout.base == id);
                    let duel = staged.and_then(|staged| {
                        Some(Duel {
                            other: members.get(&staged.rollout.other)?.clone(),
                            permille: staged.rollout.permille,
                            tally: Arc::clone(tallies.get(&staged.rollout.id)?),
                            lane: self.lane.clone(),
                        })
                    });
                    Seated::Usable(Seat {
                        active: active.clone(),
                        duel,
                        tenant: Arc::clone(&tenant.places),
                    })
                }
            };
            seats.push((id, seat));
        }
        // Another try that changed nothing is nothing to tell.
        let news = self.host.generation(&tenant.name) != Some(stored.generation)
            || members.keys().any(|id| !before.members.contains_key(id));
        let order: Vec<Seated> = seats.iter().map(|(_, seat)| seat.clone()).collect();
        self.host.publish_seats(&tenant.name, stored.generation, &order);
        tenant.current.store(Arc::new(Current {
            seats,
            members,
            tallies,
        }));
        tenant.unloaded().replace(problems, Instant::now());
        // What was counted of a comparison that ended goes to the store with the last report, which finds it ended.
        if news {
            tracing::info!(
                tenant.name = %tenant.name,
                generation = stored.generation,
                plugins = order.len(),
                "plugin generation published"
            );
        }
        Ok(stored.generation)
    }

    /// All that has to be loaded, and why some of it can not be.
    async fn members(
        &self,
        tenant: &Tenant,
        before: &Current,
        stored: &ActiveRevisions,
        fresh: Option<(i64, LoadedPlugin)>,
    ) -> Result<(HashMap<i64, Member>, HashMap<i64, Problem>), RevisionStoreError> {
        let loader = Loader {
            tenant: Arc::clone(&tenant.name),
            engine: self.engine.clone(),
            store: Arc::clone(&self.store),
            connections: self.connections.of_tenant(&tenant.name),
            ports: self.ports.clone(),
            limits: self.limits.clone(),
            breaker: self.breaker.clone(),
            trips: self.trips.sender.clone(),
        };
        let wanted = stored
            .revisions
            .iter()
            .filter(|revision| revision.state != RevisionState::Quarantined)
            .chain(stored.rollouts.iter().map(|staged| &staged.other))
            .chain(&stored.warm);
        let mut members: HashMap<i64, Member> = HashMap::new();
        let mut asked = BTreeSet::new();
        let mut loading = JoinSet::new();
        for revision in wanted {
            if !asked.insert(revision.id) {
                continue;
            }
            let known = before.members.get(&revision.id).cloned();
            let known = known.or_else(|| {
                let (_, plugin) = fresh.as_ref().filter(|(id, _)| *id == revision.id)?;
                Some(loader.member(revision.id, plugin.clone()))
            });
            if let Some(member) = known {
                members.insert(revision.id, member);
                continue;
            }
            let (loader, revision) = (loader.clone(), revision.clone());
            loading.spawn(async move { (revision.id, loader.load(&revision).await) });
        }
        let mut problems = HashMap::new();
        while let Some(joined) = loading.join_next().await {
            match joined.map_err(|error| RevisionStoreError::Failed(Box::new(error)))? {
                (id, Ok(plugin)) => {
                    members.insert(id, loader.member(id, plugin));
                }
                (id, Err(problem)) => {
                    problems.insert(id, problem);
                }
            }
        }
        Ok((members, problems))
    }
}

impl Tenant {
    fn unloaded(&self) -> MutexGuard<'_, Unloaded> {
        // Nothing panics while it is held, and if it did it would still be whole.
        self.unloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what can not be loaded, when that or its reason is new, and what can be at last.
fn note_problems(
    tenant: &Tenant,
    stored: &ActiveRevisions,
    members: &HashMap<i64, Member>,
    problems: &HashMap<i64, Problem>,
) {
    let before = tenant.unloaded();
    for revision in &stored.revisions {
        match problems.get(&revision.id) {
            Some(problem) if !before.is_known(revision.id, problem) => tracing::error!(
                plugin.name = revision.plugin,
                tenant.name = %tenant.name,
                plugin.digest = revision.digest,
                reason = problem.reason,
                "an active plugin can not be loaded; its hooks fail until it can, which is tried again and again, or until \
                 it is replaced"
            ),
            None if before.has(revision.id) && members.contains_key(&revision.id) => tracing::info!(
                plugin.name = revision.plugin,
                tenant.name = %tenant.name,
                plugin.digest = revision.digest,
                "an active plugin that could not be loaded is loaded now"
            ),
            _ => {}
        }
    }
    let is_active = |id: i64| stored.revisions.iter().any(|revision| revision.id == id);
    for (revision, problem) in problems {
        if !is_active(*revision) && !before.is_known(*revision, problem) {
            tracing::warn!(
                revision,
                tenant.name = %tenant.name,
                reason = problem.reason,
                "a revision that is compared, or could be gone back to, can not be loaded"
            );
        }
    }
}

fn unusable(revision: StoredRevision, kind: FaultKind, reason: String) -> UnusablePlugin {
    // Without a readable manifest nobody knows what it implements: everything fails closed.
    let hooks = serde_json::from_value::<Manifest>(revision.manifest)
        .map_or_else(|_| BTreeSet::from(HookKind::ALL), |manifest| manifest.hooks);
    UnusablePlugin {
        name: revision.plugin,
        revision: revision.revision.unwrap_or(revision.digest),
        hooks,
        kind,
        reason,
    }
}

/// What it takes to load a revision.
#[derive(Clone)]
struct Loader {
    tenant: Arc<str>,
    engine: PluginEngine,
    store: Arc<dyn RevisionStore>,
    connections: Connections,
    ports: Ports,
    limits: Limits,
    breaker: BreakerSettings,
    trips: mpsc::UnboundedSender<Trip>,
}

impl Loader {
    fn member(&self, id: i64, plugin: LoadedPlugin) -> Member {
        Member::new(
            id,
            Arc::clone(&self.tenant),
            plugin,
            self.breaker.clone(),
            self.trips.clone(),
        )
    }

    async fn load(&self, revision: &StoredRevision) -> Result<LoadedPlugin, Problem> {
        let component = self.store.component(&self.tenant, &revision.digest).await?;
        let file = tokio::task::spawn_blocking(move || ComponentFile::new(component))
            .await
            .map_err(Problem::passing)?;
        if file.digest() != revision.digest {
            return Err(Problem::lasting(
                "the stored component does not have the digest it was stored under",
            ));
        }
        let grants: Grants = serde_json::from_value(revision.grants.clone())
            .map_err(|error| Problem::lasting(format!("the stored grants can not be read: {error}")))?;
        let source = PluginSource {
            tenant: Arc::clone(&self.tenant),
            component: file,
            settings: Some(revision.settings.clone()),
            grants,
            limits: self.limits.clone(),
        };
        Ok(LoadedPlugin::load(&self.engine, &self.connections, &self.ports, source).await?)
    }
}
