//! Comparisons and nodes, in memory.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::MemoryRevisions;
use crate::revisions::{Actor, RevisionState, RevisionStoreError};
use crate::rollout::{Counted, CountedByNode, NewRollout, Node, RolloutPhase, RolloutStore, StoredRollout};

/// The most samples that are kept of a comparison.
const SAMPLES: usize = 200;

#[async_trait]
impl RolloutStore for MemoryRevisions {
    async fn start_rollout(&self, tenant: &str, new: NewRollout) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let candidate = tenant
                .find(new.revision)
                .filter(|known| {
                    matches!(
                        known.state,
                        RevisionState::Probed
                            | RevisionState::Shadow
                            | RevisionState::Canary
                            | RevisionState::Retired
                            | RevisionState::Quarantined
                    )
                })
                .ok_or(RevisionStoreError::NotFound("revision that could be rolled out"))?;
            let plugin = candidate.plugin.clone();
            if !new.force && tenant.in_quarantine(new.revision) {
                return Err(RevisionStoreError::Quarantined);
            }
            let base = tenant
                .active_of(&plugin)
                .ok_or(RevisionStoreError::NotFound("active revision to compare it with"))?;
            let (phase, state) = if new.permille == 0 {
                (RolloutPhase::Shadow, RevisionState::Shadow)
            } else {
                (RolloutPhase::Canary, RevisionState::Canary)
            };
            let open = tenant.is_candidate(&plugin, new.revision);
            if open {
                let rollout = tenant
                    .rollouts
                    .iter_mut()
                    .find(|rollout| rollout.plugin == plugin && rollout.ended_at.is_none());
                if let Some(rollout) = rollout {
                    rollout.phase = phase;
                    rollout.permille = new.permille;
                    rollout.gates = new.gates;
                    rollout.automatic = new.automatic;
                }
            } else {
                tenant.end_rollout(&plugin, Some(new.revision), "replaced", &new.actor);
                tenant.next += 1;
                let id = tenant.next;
                tenant.rollouts.push(StoredRollout {
                    id,
                    plugin,
                    phase,
                    base,
                    other: new.revision,
                    permille: new.permille,
                    gates: new.gates,
                    automatic: new.automatic,
                    started_by: new.actor.name.clone(),
                    started_at: Timestamp::now(),
                    watch_until: None,
                    ended_at: None,
                    outcome: None,
                });
            }
            tenant.transition(new.revision, state, &new.actor);
            Ok(tenant.change())
        })
    }

    async fn stop_rollout(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<u64, RevisionStoreError> {
        self.with(tenant, |tenant| {
            if tenant.end_rollout(plugin, None, "stopped", &actor) {
                Ok(tenant.change())
            } else {
                Err(RevisionStoreError::NotFound("rollout of the plugin"))
            }
        })
    }

    async fn rollout(&self, tenant: &str, plugin: &str) -> Result<Option<StoredRollout>, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let newest = tenant.rollouts.iter().rev().find(|rollout| rollout.plugin == plugin);
            Ok(newest.cloned())
        })
    }

    async fn open_rollouts(&self) -> Result<Vec<(String, StoredRollout)>, RevisionStoreError> {
        let tenants = Self::lock(&self.tenants);
        Ok(tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.rollouts.iter().map(move |rollout| (name, rollout)))
            .filter(|(_, rollout)| rollout.ended_at.is_none())
            .map(|(name, rollout)| (name.clone(), rollout.clone()))
            .collect())
    }

    async fn report(&self, tenant: &str, counted: CountedByNode) -> Result<(), RevisionStoreError> {
        self.with(tenant, |tenant| {
            let open = tenant
                .rollouts
                .iter()
                .any(|rollout| rollout.id == counted.rollout && rollout.ended_at.is_none());
            if open {
                let nodes = tenant.counted.entry(counted.rollout).or_default();
                let of_node = nodes.entry(counted.node).or_default();
                of_node.totals = counted.totals;
                of_node.samples.extend(counted.samples);
                let surplus = of_node.samples.len().saturating_sub(SAMPLES);
                of_node.samples.drain(..surplus);
            }
            Ok(())
        })
    }

    async fn counted(&self, tenant: &str, rollout: i64) -> Result<Counted, RevisionStoreError> {
        self.with(tenant, |tenant| {
            let mut sum = Counted::default();
            for counted in tenant
                .counted
                .get(&rollout)
                .into_iter()
                .flat_map(|nodes| nodes.values())
            {
                for (name, total) in &counted.totals {
                    *sum.totals.entry(name.clone()).or_default() += total;
                }
                sum.samples.extend(counted.samples.iter().cloned());
            }
            sum.samples.sort_by_key(|sample| std::cmp::Reverse(sample.at));
            sum.samples.truncate(SAMPLES);
            Ok(sum)
        })
    }

    async fn report_node(&self, node: Node) -> Result<(), RevisionStoreError> {
        Self::lock(&self.nodes).insert(node.id, node);
        Ok(())
    }

    async fn forget_node(&self, node: Uuid) -> Result<(), RevisionStoreError> {
        Self::lock(&self.nodes).remove(&node);
        Ok(())
    }

    async fn nodes(&self, within: Duration) -> Result<Vec<Node>, RevisionStoreError> {
        Ok(self.nodes_within(within))
    }

    async fn lease(&self, name: &str, holder: Uuid, time: Duration) -> Result<bool, RevisionStoreError> {
        Ok(self.take_lease(name, holder, time))
    }
}
