//! What a node does now and then: it follows what others changed, tells what it has counted and what it runs, and, as the
//! one that has the lease, judges the comparisons.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::{PluginManager, RolloutError, Tenant};
use crate::RevisionStoreError;
use crate::revisions::Actor;
use crate::rollout::seat::Trip;
use crate::rollout::{ComparisonReport, CountedByNode, Gates, Node, RolloutPhase, StoredRollout};

/// How often to look.
const TICK: Duration = Duration::from_secs(2);

/// How often a node reports that it is there, if nothing else changed.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long ago a node may have reported to count as there.
const ALIVE: Duration = Duration::from_secs(35);

/// How long to wait before a quarantine that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The lease of whoever judges comparisons, and for how long it is taken.
const LEASE: &str = "plugin-rollouts";
const LEASE_TIME: Duration = Duration::from_secs(15);

/// What was reported of this node last.
#[derive(Debug)]
pub(super) struct Reported {
    generations: BTreeMap<String, u64>,
    at: Instant,
}

/// A node of the cluster, as a tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its identifier: another one after each start.
    pub id: Uuid,
    /// What its operator calls it.
    pub name: String,
    /// It is the one that answers.
    pub here: bool,
    /// The generation of the tenant's plugins that it runs.
    pub generation: u64,
    /// How many generations it is behind.
    pub behind: u64,
    /// When it reported last.
    pub seen_at: Timestamp,
}

impl PluginManager {
    /// Follows, counts and judges, until it is dropped. `changed` wakes it at once, where something does.
    pub async fn run(&self, changed: Arc<Notify>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changed.notified() => {}
                trip = self.next_trip() => self.quarantine_of(trip).await,
            }
            self.tick().await;
        }
    }

    /// Does once what [`run`](Self::run) does again and again. What fails is logged, and done the next time.
    pub async fn tick(&self) {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            tracing::warn!(what, error = %error, "plugins could not be brought up to date; trying again");
        };
        if let Err(error) = self.follow().await {
            failed("what other nodes changed", &error);
        }
        self.take_trips().await;
        if let Err(error) = self.flush().await {
            failed("what was counted", &error);
        }
        if let Err(error) = self.report_node().await {
            failed("what this node runs", &error);
        }
        if let Err(error) = self.judge().await {
            failed("the comparisons", &error);
        }
    }

    /// The nodes that are there, by name, the slowest with how far it is behind.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn nodes(&self, tenant: &str) -> Result<Vec<NodeStatus>, RevisionStoreError> {
        let newest = self.store.generation(tenant).await?;
        let here = self.host.generation(tenant).unwrap_or_default();
        let nodes = self.store.nodes(ALIVE).await?.into_iter().map(|node| {
            let own = node.id == self.node.id;
            let reported = node.generations.get(tenant).copied().unwrap_or_default();
            let generation = if own { here } else { reported };
            NodeStatus {
                id: node.id,
                name: node.name,
                here: own,
                generation,
                behind: newest.saturating_sub(generation),
                seen_at: node.seen_at,
            }
        });
        let mut nodes: Vec<NodeStatus> = nodes.collect();
        if !nodes.iter().any(|node| node.here) {
            nodes.push(NodeStatus {
                id: self.node.id,
                name: self.node.name.clone(),
                here: true,
                generation: here,
                behind: newest.saturating_sub(here),
                seen_at: Timestamp::now(),
            });
        }
        Ok(nodes)
    }

    /// Writes what is only counted here, and takes this node off the list: it stops.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn leave(&self) -> Result<(), RevisionStoreError> {
        self.flush().await?;
        self.store.forget_node(self.node.id).await
    }

    async fn follow(&self) -> Result<(), RevisionStoreError> {
        for tenant in self.store.tenants().await? {
            if let Err(error) = self.sync(&tenant).await {
                tracing::warn!(tenant.name = %tenant, error = %error, "plugins could not be brought up to date");
            }
        }
        Ok(())
    }

    /// The next revision that is to be put into quarantine.
    async fn next_trip(&self) -> Trip {
        match self.trips.receiver.lock().await.recv().await {
            Some(trip) => trip,
            // Never, as the manager has a sender itself.
            None => std::future::pending().await,
        }
    }

    async fn take_trips(&self) {
        let mut trips = Vec::new();
        while let Ok(trip) = self.trips.receiver.lock().await.try_recv() {
            trips.push(trip);
        }
        for trip in trips {
            self.quarantine_of(trip).await;
        }
    }

    async fn quarantine_of(&self, trip: Trip) {
        let done = self
            .quarantine(&trip.tenant, &trip.plugin, trip.revision, &trip.reason)
            .await;
        if let Err(error) = done {
            tracing::error!(
                tenant.name = %trip.tenant,
                plugin.name = %trip.plugin,
                error = %error,
                "a revision that keeps failing could not be put into quarantine; trying again"
            );
            // The breaker stays open meanwhile.
            tokio::time::sleep(AGAIN).await;
            // The manager has the receiver.
            let _ = self.trips.sender.send(trip);
        }
    }

    async fn flush(&self) -> Result<(), RevisionStoreError> {
        let tenants: Vec<Arc<Tenant>> = {
            let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.values().cloned().collect()
        };
        for tenant in tenants {
            self.flush_tenant(&tenant).await?;
        }
        Ok(())
    }

    pub(super) async fn flush_tenant(&self, tenant: &Tenant) -> Result<(), RevisionStoreError> {
        let current = tenant.current.load_full();
        for tally in current.tallies.values() {
            let Some((totals, samples)) = tally.take() else {
                continue;
            };
            let counted = CountedByNode {
                rollout: tally.rollout,
                node: self.node.id,
                totals,
                samples: samples.clone(),
            };
            if let Err(error) = self.store.report(&tenant.name, counted).await {
                tally.put_back(samples);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn report_node(&self) -> Result<(), RevisionStoreError> {
        let generations: BTreeMap<String, u64> = self
            .host
            .generations()
            .filter(|(_, generation)| *generation > 0)
            .map(|(tenant, generation)| (tenant.to_string(), generation))
            .collect();
        let known = {
            let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported
                .as_ref()
                .is_some_and(|last| last.generations == generations && last.at.elapsed() < HEARTBEAT)
        };
        if known {
            return Ok(());
        }
        self.store
            .report_node(Node {
                id: self.node.id,
                name: self.node.name.clone(),
                generations: generations.clone(),
                started_at: self.node.started_at,
                seen_at: Timestamp::now(),
            })
            .await?;
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reported {
            generations,
            at: Instant::now(),
        });
        Ok(())
    }

    /// Looks at every comparison that goes on, if no other node does.
    async fn judge(&self) -> Result<(), RevisionStoreError> {
        let rollouts = self.store.open_rollouts().await?;
        if rollouts.is_empty() || !self.store.lease(LEASE, self.node.id, LEASE_TIME).await? {
            return Ok(());
        }
        for (tenant, rollout) in rollouts {
            let (report, _) = self.compared(&tenant, &rollout).await?;
            match verdict(&rollout, &report, Timestamp::now()) {
                Judgement::GoesOn => {}
                Judgement::Promote => {
                    let actor = Actor::default().because(format!("it keeps to its gates: {}", report.summary()));
                    match self.promote_compared(&tenant, &rollout, actor).await {
                        Ok(_) | Err(RolloutError::Gates(_) | RolloutError::NoCandidate(_)) => {}
                        Err(RolloutError::Store(error)) => return Err(error),
                        Err(error) => {
                            tracing::warn!(tenant.name = %tenant, plugin.name = %rollout.plugin, error = %error,
                                "a candidate could not be promoted");
                        }
                    }
                }
                Judgement::Quarantine { revision, reason } => {
                    self.quarantine(&tenant, &rollout.plugin, revision, &reason).await?;
                }
                Judgement::Keep => {
                    let slot = self.tenant(&tenant);
                    let _change = slot.change.lock().await;
                    let actor = Actor::default().because("it kept to its gates while it was watched");
                    match self.store.stop_rollout(&tenant, &rollout.plugin, actor).await {
                        // Somebody ended it meanwhile.
                        Err(RevisionStoreError::NotFound(_)) => {}
                        other => {
                            other?;
                        }
                    }
                    self.refresh(&slot, None).await?;
                }
            }
        }
        Ok(())
    }
}

/// What is to be done with a comparison.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    GoesOn,
    Promote,
    Quarantine { revision: i64, reason: String },
    Keep,
}

fn verdict(rollout: &StoredRollout, report: &ComparisonReport, now: Timestamp) -> Judgement {
    let gates = &rollout.gates;
    let enough = report.compared.max(report.candidate.calls) >= gates.watch_min_samples;
    let breaches = if enough { gates.breaches(report) } else { Vec::new() };
    let reason = |when: &str| {
        let breaches: Vec<String> = breaches.iter().map(ToString::to_string).collect();
        format!("{when}: {}", breaches.join("; "))
    };
    match rollout.phase {
        RolloutPhase::Watch if !breaches.is_empty() => Judgement::Quarantine {
            revision: rollout.base,
            reason: reason("while it was watched after its promotion"),
        },
        RolloutPhase::Watch if rollout.watch_until.is_none_or(|until| until <= now) => Judgement::Keep,
        RolloutPhase::Canary if !breaches.is_empty() => Judgement::Quarantine {
            revision: rollout.other,
            reason: reason("while it answered a share of the enrollments"),
        },
        RolloutPhase::Shadow | RolloutPhase::Canary if rollout.automatic && keeps(gates, report) => Judgement::Promote,
        RolloutPhase::Shadow | RolloutPhase::Canary | RolloutPhase::Watch => Judgement::GoesOn,
    }
}

fn keeps(gates: &Gates, report: &ComparisonReport) -> bool {
    gates.failures(report).is_empty()
}
