//! The runner of observers: hands events over, each at least once, those of one enrollment in their order.
//!
//! One node of a cluster serves an observer at a time (by a lease); several observers are served at once, and of one
//! observer several events that are about different enrollments. What an observer wants done, and that the event is done,
//! is one transaction.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_hooks::{FaultKind, HookSet, PluginFault, Scope, event_matches};
use russet_store::{EnrollmentId, EventDelivery, EventId, ObserverFailure, StoreError, TenantId};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::settings::WorkSettings;
use crate::{Engine, Request, TenantRef};

/// How many events are looked at in one transaction.
const TAKE: u32 = 256;

/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// How long an observer that no node has any more keeps its place.
const FORGET: SignedDuration = SignedDuration::from_hours(24);

/// How often a node says which observers it has, if they stay the same.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// When something was said to the store: by a clock that goes on evenly, and by the one that the store is told, which may
/// jump. What was said long ago by either is said again before anything is forgotten by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaidAt(Instant, Timestamp);

impl SaidAt {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Instant::now(), now)
    }

    pub(crate) fn is_recent(self, now: Timestamp) -> bool {
        self.0.elapsed() < SAY_AGAIN && now.duration_since(self.1).unsigned_abs() < SAY_AGAIN
    }
}

/// The soonest that the observers are looked at again because one has something to do that was not there before.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// An observer of a tenant.
type Key = (TenantId, String);

/// Serves the observers of all tenants.
#[derive(Debug)]
pub struct ObserverRunner {
    engine: Engine,
    /// This runner, in leases.
    holder: Uuid,
}

impl Engine {
    /// Makes the runner of this process. Run it in a task of its own.
    pub fn observer_runner(&self) -> ObserverRunner {
        ObserverRunner {
            engine: self.clone(),
            holder: Uuid::new_v4(),
        }
    }

    /// A request of the server's own, for work in the background.
    pub(crate) fn background(&self, tenant: &TenantRef, depth: u8) -> Request {
        let id: Arc<str> = Uuid::now_v7().to_string().into();
        let scope = Scope::new(
            Arc::clone(&tenant.name),
            Arc::clone(&id),
            self.inner.settings.hook_budget,
        );
        Request {
            tenant: tenant.clone(),
            id,
            hooks: self.inner.hooks.pin(&tenant.name),
            scope: scope.at_depth(depth).recording(self.records_calls(tenant.id)),
        }
    }

    /// All tenants, noted for events.
    pub(crate) async fn all_tenants(&self) -> Result<Vec<TenantRef>, StoreError> {
        let tenants = self.inner.store.tenants().await?.into_iter();
        let tenants: Vec<_> = tenants
            .map(|tenant| TenantRef {
                id: tenant.id,
                name: tenant.name.into(),
            })
            .collect();
        for tenant in &tenants {
            self.inner.observing.tenant(tenant);
        }
        self.note_retentions().await?;
        Ok(tenants)
    }
}

/// How long to wait after so many failures: doubled with each.
pub(crate) fn backoff(settings: &WorkSettings, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    settings
        .retry_first
        .saturating_mul(1 << doublings)
        .min(settings.retry_longest)
}

pub(crate) fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whether a call failed before the plugin was asked: that says nothing about what it was asked about.
pub(crate) fn was_not_asked(fault: &PluginFault) -> bool {
    matches!(
        fault.kind,
        FaultKind::CircuitOpen | FaultKind::Quarantined | FaultKind::Busy | FaultKind::Unusable
    )
}

impl ObserverRunner {
    /// Works until it is cancelled; events that are being handed over then are finished.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let settings = &this.engine.inner.settings.work;
        let signal = this.engine.inner.store.event_signal();
        let mut working: JoinSet<bool> = JoinSet::new();
        let mut busy = Busy::new();
        // Those that there is something for, and not for this node at the moment.
        let mut resting: HashMap<Key, Instant> = HashMap::new();
        let mut view = View::default();
        while !cancel.is_cancelled() {
            // Registered before anything is read, so that no announcement is missed in between.
            let mut announced = pin!(signal.notified());
            let due = view.due(&this.engine).await.unwrap_or_else(|error| {
                tracing::error!(error = %error, "the events for observers cannot be read");
                Vec::new()
            });
            resting.retain(|_, until| *until > Instant::now());
            for key in due {
                if let Some((_, more)) = busy.values().find(|(one, _)| *one == key) {
                    more.notify_one();
                    continue;
                }
                let Some(tenant) = view.observers.get(&key) else {
                    continue;
                };
                if resting.contains_key(&key) || busy.len() >= settings.observers.max(1) {
                    continue;
                }
                let more = Arc::new(Notify::new());
                let worker = Worker {
                    runner: Arc::clone(&this),
                    tenant: tenant.clone(),
                    plugin: key.1.clone(),
                    cancel: cancel.clone(),
                    more: Arc::clone(&more),
                };
                let handle = working.spawn(async move { worker.run().await });
                busy.insert(handle.id(), (key, more));
            }
            let look = Instant::now() + this.until_next_due().await;
            let look = resting.values().fold(look, |look, until| look.min(*until));
            tokio::select! {
                Some(done) = working.join_next_with_id() => {
                    if let Some(key) = idle(done, &mut busy) {
                        resting.insert(key, Instant::now() + settings.idle_interval);
                    }
                }
                () = &mut announced => {}
                () = tokio::time::sleep_until(look) => {}
                () = cancel.cancelled() => {}
            }
        }
        while let Some(done) = working.join_next_with_id().await {
            idle(done, &mut busy);
        }
    }

    async fn until_next_due(&self) -> Duration {
        let idle = self.engine.inner.settings.work.idle_interval;
        match self.engine.inner.store.observers_next_due(Timestamp::now()).await {
            Ok(Some(due)) => {
                let wait = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
                wait.clamp(SHORTEST_PAUSE.min(idle), idle)
            }
            Ok(None) | Err(_) => idle,
        }
    }
}

/// The observers that this node has.
#[derive(Debug, Default)]
struct View {
    observers: HashMap<Key, TenantRef>,
    looked: Option<Instant>,
    /// What was said of a tenant's observers, and when.
    said: HashMap<TenantId, (Vec<String>, SaidAt)>,
}

impl View {
    /// The observers that have something to do.
    async fn due(&mut self, engine: &Engine) -> Result<Vec<Key>, StoreError> {
        let idle = engine.inner.settings.work.idle_interval;
        if self.looked.is_none_or(|looked| looked.elapsed() >= idle) {
            self.look(engine).await?;
        }
        let due = engine.inner.store.observers_due(Timestamp::now()).await?;
        // One that was installed a moment ago.
        let others = due.iter().any(|key| !self.observers.contains_key(key));
        if others
            && self
                .looked
                .is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN.min(idle))
        {
            self.look(engine).await?;
        }
        Ok(due)
    }

    async fn look(&mut self, engine: &Engine) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.observers.clear();
        let mut anything = false;
        for tenant in engine.all_tenants().await? {
            let hooks = engine.inner.hooks.pin(&tenant.name);
            let plugins: Vec<_> = hooks.observers().map(|(plugin, _)| plugin.to_owned()).collect();
            let keys = plugins
                .iter()
                .map(|plugin| ((tenant.id, plugin.clone()), tenant.clone()));
            self.observers.extend(keys);
            let said = self.said.get(&tenant.id);
            if said.is_some_and(|(said, at)| *said == plugins && at.is_recent(now)) {
                continue;
            }
            if !plugins.is_empty() {
                engine
                    .inner
                    .store
                    .observers_seen(tenant.id, plugins.clone(), now)
                    .await?;
            }
            engine.inner.observing.cursors(tenant.id, plugins.clone());
            self.said.insert(tenant.id, (plugins, SaidAt::new(now)));
            anything = true;
        }
        // Only now: after a day's pause, no tenant's were seen lately but those that were just said.
        if anything {
            let before = now.checked_sub(FORGET).unwrap_or(Timestamp::MIN);
            engine.inner.store.forget_observers(before).await?;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }
}

/// Those that are served, by the tasks of their workers.
type Busy = HashMap<tokio::task::Id, (Key, Arc<Notify>)>;

/// Takes a worker off the list; the observer, if there was nothing that it could do.
fn idle(done: Result<(tokio::task::Id, bool), JoinError>, busy: &mut Busy) -> Option<Key> {
    let (id, worked) = done.unwrap_or_else(|error| {
        tracing::error!(error = %error, "an observer's worker failed; its events are handed over again");
        (error.id(), false)
    });
    busy.remove(&id).filter(|_| !worked).map(|(key, _)| key)
}

/// Serves one observer until it has nothing to do.
struct Worker {
    runner: Arc<ObserverRunner>,
    tenant: TenantRef,
    plugin: String,
    cancel: CancellationToken,
    /// There may be more to do.
    more: Arc<Notify>,
}

impl Worker {
    /// Whether there was something that it could do.
    async fn run(&self) -> bool {
        let name = format!("observer:{}:{}", self.tenant.id, self.plugin);
        let store = &self.runner.engine.inner.store;
        let worked = self.serve(&name).await.unwrap_or_else(|error| {
            tracing::error!(plugin.name = %self.plugin, error = %error, "an observer cannot be served; trying again later");
            false
        });
        if let Err(error) = store.release_lease(&name, self.runner.holder).await {
            tracing::debug!(error = %error, "a lease ends by itself");
        }
        worked
    }

    async fn serve(&self, lease: &str) -> Result<bool, StoreError> {
        let engine = &self.runner.engine;
        let (store, settings) = (&engine.inner.store, &engine.inner.settings.work);
        let mut held_until = Instant::now();
        let mut worked = false;
        let mut under_way: JoinSet<(EventId, Option<EnrollmentId>)> = JoinSet::new();
        let mut in_hand: HashMap<tokio::task::Id, (EventId, Option<EnrollmentId>)> = HashMap::new();
        loop {
            if held_until.saturating_duration_since(Instant::now()) < settings.lease / 2 {
                let now = Timestamp::now();
                let until = later(now, settings.lease);
                if !store.lease(lease, self.runner.holder, until, now).await? {
                    break;
                }
                held_until = Instant::now() + settings.lease;
            }
            let hooks = engine.inner.hooks.pin(&self.tenant.name);
            let Some(prefixes) = prefixes(&hooks, &self.plugin) else {
                break;
            };
            let now = Timestamp::now();
            let wanted = |kind: &str| prefixes.iter().any(|wanted| event_matches(wanted, kind));
            let looked_at = if self.cancel.is_cancelled() {
                0
            } else {
                store
                    .observer_take(self.tenant.id, &self.plugin, wanted, TAKE, now)
                    .await?
            };
            worked |= looked_at > 0;
            let room = settings.parallel.max(1).saturating_sub(under_way.len());
            if room > 0 && !self.cancel.is_cancelled() {
                let limit = u32::try_from(room + under_way.len()).unwrap_or(u32::MAX);
                let next = store.observer_next(self.tenant.id, &self.plugin, limit, now).await?;
                for delivery in next {
                    let key = (delivery.event.id, delivery.event.enrollment);
                    if in_hand.values().any(|(event, _)| *event == key.0) || under_way.len() >= settings.parallel.max(1)
                    {
                        continue;
                    }
                    let hand = Hand {
                        engine: engine.clone(),
                        tenant: self.tenant.clone(),
                        plugin: self.plugin.clone(),
                    };
                    let handle = under_way.spawn(async move {
                        if let Err(error) = hand.over(delivery).await {
                            tracing::error!(error = %error, "what became of an event cannot be stored; it is handed over again");
                        }
                        key
                    });
                    in_hand.insert(handle.id(), key);
                    worked = true;
                }
            }
            let ended = tokio::select! {
                ended = under_way.join_next_with_id() => ended,
                () = self.more.notified() => continue,
                // The lease is prolonged in time, however long an event takes.
                () = tokio::time::sleep(settings.lease / 4) => continue,
            };
            match ended {
                Some(Ok((id, _))) => {
                    in_hand.remove(&id);
                }
                Some(Err(error)) => {
                    in_hand.remove(&error.id());
                    tracing::error!(error = %error, "handing an event over failed by a bug; it is handed over again");
                }
                None if looked_at == 0 => break,
                None => {}
            }
        }
        while under_way.join_next().await.is_some() {}
        Ok(worked)
    }
}

fn prefixes(hooks: &HookSet, plugin: &str) -> Option<Vec<String>> {
    hooks
        .observers()
        .find(|(name, _)| *name == plugin)
        .map(|(_, prefixes)| prefixes.to_vec())
}

/// Hands one event over.
struct Hand {
    engine: Engine,
    tenant: TenantRef,
    plugin: String,
}

impl Hand {
    async fn over(self, delivery: EventDelivery) -> Result<(), StoreError> {
        let (id, about, attempts) = (delivery.event.id, delivery.event.enrollment, delivery.attempts);
        let request = self
            .engine
            .background(&self.tenant, delivery.event.depth.saturating_add(1));
        let event = self.engine.observed_event(&self.tenant, delivery).await?;
        let outcome = request.hooks.observe(&request.scope, &self.plugin, event).await;
        let store = &self.engine.inner.store;
        // One that took an event and wanted nothing is not worth a record.
        let mut records = outcome.decisions;
        records.retain(|record| record.fault.is_some() || !record.effects.is_empty());
        let decisions = self.engine.decided(&request, records, about).await?;
        let now = Timestamp::now();
        let Err(undecided) = outcome.verdict else {
            store
                .observer_done(self.tenant.id, &self.plugin, id, decisions, now)
                .await?;
            return Ok(());
        };
        let settings = &self.engine.inner.settings.work;
        let tried = if was_not_asked(&undecided.fault) {
            attempts
        } else {
            attempts.saturating_add(1)
        };
        let parked = tried >= settings.attempts.max(1);
        if parked {
            tracing::error!(
                plugin.name = %self.plugin,
                event.id = %id,
                fault = %undecided.fault,
                "an observer failed on an event as often as it may; the event is parked"
            );
        }
        let failure = ObserverFailure {
            event: id,
            attempts: tried,
            error: undecided.fault.to_string(),
            retry_at: (!parked).then(|| later(now, backoff(settings, tried.max(1)))),
        };
        store
            .observer_failed(self.tenant.id, &self.plugin, failure, decisions, now)
            .await
    }
}
