//! The port to comparisons and nodes.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use russet_plugin_host::{
    Actor, Counted, CountedByNode, NewRollout, Node, RevisionStoreError, RolloutPhase, RolloutStore, Sample,
    StoredRollout,
};
use russet_store::{ComparisonReport, ComparisonSample, NodeRecord, RevisionId, RolloutId, RolloutRecord};
use uuid::Uuid;

use super::{StoreRevisions, actor, failed, generation, unreadable};

pub(super) fn stored(record: RolloutRecord) -> Result<StoredRollout, RevisionStoreError> {
    Ok(StoredRollout {
        id: record.id.0,
        plugin: record.plugin,
        phase: match record.phase {
            russet_store::RolloutPhase::Shadow => RolloutPhase::Shadow,
            russet_store::RolloutPhase::Canary => RolloutPhase::Canary,
            russet_store::RolloutPhase::Watch => RolloutPhase::Watch,
        },
        base: record.base.0,
        other: record.other.0,
        permille: record.permille,
        gates: serde_json::from_value(record.gates).map_err(unreadable)?,
        automatic: record.automatic,
        started_by: record.started_by,
        started_at: record.started_at,
        watch_until: record.watch_until,
        ended_at: record.ended_at,
        outcome: record.outcome,
    })
}

fn sample(sample: ComparisonSample) -> Sample {
    Sample {
        hook: sample.hook,
        subject: sample.subject,
        active: sample.base_verdict,
        candidate: sample.other_verdict,
        reason: sample.reason,
        at: sample.at,
    }
}

fn to_store(sample: Sample) -> ComparisonSample {
    ComparisonSample {
        hook: sample.hook,
        subject: sample.subject,
        base_verdict: sample.active,
        other_verdict: sample.candidate,
        reason: sample.reason,
        at: sample.at,
    }
}

#[async_trait]
impl RolloutStore for StoreRevisions {
    async fn start_rollout(&self, tenant: &str, rollout: NewRollout) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let rollout = russet_store::NewRollout {
            revision: RevisionId(rollout.revision),
            permille: rollout.permille,
            gates: serde_json::to_value(rollout.gates).map_err(unreadable)?,
            automatic: rollout.automatic,
            force: rollout.force,
            actor: actor(rollout.actor),
        };
        let started = self.store.start_rollout(tenant, rollout, Timestamp::now()).await;
        started.map(generation).map_err(failed)
    }

    async fn stop_rollout(&self, tenant: &str, plugin: &str, by: Actor) -> Result<u64, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let stopped = self
            .store
            .stop_rollout(tenant, plugin, actor(by), Timestamp::now())
            .await;
        stopped.map(generation).map_err(failed)
    }

    async fn rollout(&self, tenant: &str, plugin: &str) -> Result<Option<StoredRollout>, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let rollout = self.store.rollout(tenant, plugin).await.map_err(failed)?;
        rollout.map(stored).transpose()
    }

    async fn open_rollouts(&self) -> Result<Vec<(String, StoredRollout)>, RevisionStoreError> {
        let open = self.store.open_rollouts().await.map_err(failed)?;
        open.into_iter()
            .map(|(tenant, rollout)| Ok((tenant, stored(rollout)?)))
            .collect()
    }

    async fn report(&self, tenant: &str, counted: CountedByNode) -> Result<(), RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let report = ComparisonReport {
            rollout: RolloutId(counted.rollout),
            node: counted.node.to_string(),
            totals: counted.totals,
            samples: counted.samples.into_iter().map(to_store).collect(),
        };
        self.store.report_comparison(tenant, report).await.map_err(failed)
    }

    async fn counted(&self, tenant: &str, rollout: i64) -> Result<Counted, RevisionStoreError> {
        let tenant = self.tenant(tenant).await?;
        let counted = self
            .store
            .comparison(tenant, RolloutId(rollout))
            .await
            .map_err(failed)?;
        Ok(Counted {
            totals: counted.totals,
            samples: counted.samples.into_iter().map(sample).collect(),
        })
    }

    async fn report_node(&self, node: Node) -> Result<(), RevisionStoreError> {
        let node = NodeRecord {
            id: node.id.to_string(),
            name: node.name,
            generations: node.generations,
            started_at: node.started_at,
            seen_at: node.seen_at,
        };
        self.store.report_node(node).await.map_err(failed)
    }

    async fn forget_node(&self, node: Uuid) -> Result<(), RevisionStoreError> {
        self.store.forget_node(&node.to_string()).await.map_err(failed)
    }

    async fn nodes(&self, within: Duration) -> Result<Vec<Node>, RevisionStoreError> {
        let nodes = self.store.nodes(within, Timestamp::now()).await.map_err(failed)?;
        nodes
            .into_iter()
            .map(|node| {
                Ok(Node {
                    id: node
                        .id
                        .parse()
                        .map_err(|error| RevisionStoreError::Failed(Box::<uuid::Error>::new(error)))?,
                    name: node.name,
                    generations: node.generations,
                    started_at: node.started_at,
                    seen_at: node.seen_at,
                })
            })
            .collect()
    }

    async fn lease(&self, name: &str, holder: Uuid, time: Duration) -> Result<bool, RevisionStoreError> {
        let now = Timestamp::now();
        let until = SignedDuration::try_from(time)
            .ok()
            .and_then(|time| now.checked_add(time).ok())
            .unwrap_or(Timestamp::MAX);
        self.store.lease(name, holder, until, now).await.map_err(failed)
    }
}
