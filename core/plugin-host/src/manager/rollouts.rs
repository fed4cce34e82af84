//! Comparing a candidate with what runs, letting it answer a share, promoting it, and going back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::diff::RevisionDiff;
use super::{PluginManager, RevisionSummary};
use crate::revisions::{Activation, Actor, RevisionEvent, RevisionState};
use crate::rollout::{ComparisonReport, GateFailure, Gates, NewRollout, RolloutPhase, Sample, StoredRollout};
use crate::{RevisionStoreError, StoredRevision};

/// How long a promoted revision is watched if nothing else is asked for.
const WATCH: Duration = Duration::from_secs(60 * 60);

/// How to compare a candidate with what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutRequest {
    /// The candidate: the beginning of its digest, or its number. The newest that waits if absent, else the one that is
    /// compared already.
    pub revision: Option<String>,
    /// The share of enrollments that it answers, in thousandths; with 0 it answers nobody.
    pub permille: u16,
    /// What it has to keep to; those that it has, or the defaults, if absent.
    pub gates: Option<Gates>,
    /// It is promoted by itself once it keeps to them.
    pub automatic: bool,
    /// Even if it is in quarantine.
    pub force: bool,
}

/// How to promote a candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromoteRequest {
    /// The candidate: the beginning of its digest, or its number. The one that is compared if absent, else the newest that
    /// waits.
    pub revision: Option<String>,
    /// Even if it does not keep to its gates, or is in quarantine.
    pub force: bool,
    /// How long the revision before watches it; an hour if absent, not at all if zero.
    pub watch: Option<Duration>,
}

/// Why a rollout is not done.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// There is no candidate.
    #[error("{0} has no revision to roll out; upload one with `russet plugin install FILE --shadow`")]
    NoCandidate(String),
    /// The candidate waits for grants.
    #[error("the revision waits for grants; give them with `russet plugin grant {0}`")]
    Pending(String),
    /// There is nothing to compare it with.
    #[error("no revision of {0} is active; `russet plugin promote {0} --force` puts the first one into use")]
    NothingActive(String),
    /// Several revisions have a digest that begins so.
    #[error("several revisions of {0} begin with {1}; give more of the digest")]
    Ambiguous(String, String),
    /// The share is no share.
    #[error("the share is in thousandths: 0 to 1000")]
    Share,
    /// The gates are not kept.
    #[error("the candidate does not keep to its gates: {}; promote it with --force all the same", list(.0))]
    Gates(Vec<GateFailure>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] RevisionStoreError),
}

fn list(failures: &[GateFailure]) -> String {
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    failures.join("; ")
}

/// A comparison, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutStatus {
    /// Its number.
    pub id: i64,
    /// The plugin.
    pub plugin: String,
    /// What the other revision is asked.
    pub phase: RolloutPhase,
    /// The active revision.
    pub active: Option<RevisionSummary>,
    /// The other one: the candidate, or, while a promoted revision is watched, what was active before.
    pub other: Option<RevisionSummary>,
    /// What the candidate changes.
    pub changes: Option<RevisionDiff>,
    /// The share of enrollments that the candidate answers, in thousandths.
    pub permille: u16,
    /// It is promoted by itself once it keeps to its gates.
    pub automatic: bool,
    /// What it has to keep to.
    pub gates: Gates,
    /// Which of them it does not keep.
    pub failures: Vec<GateFailure>,
    /// One line: what would be different.
    pub summary: String,
    /// What was found, over all nodes.
    pub comparison: ComparisonReport,
    /// Some of the calls on which they did not agree, newest first.
    pub samples: Vec<Sample>,
    /// Who started it.
    pub started_by: String,
    /// When.
    pub started_at: Timestamp,
    /// When watching ends.
    pub watch_until: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<String>,
}

/// What came of a promotion, or of going back.
#[derive(Clone, Debug, Serialize)]
pub struct Promoted {
    /// The plugin.
    pub plugin: String,
    /// The revision that is active now.
    pub active: Option<RevisionSummary>,
    /// The tenant's generation.
    pub generation: u64,
    /// Until when the revision before watches it.
    pub watch_until: Option<Timestamp>,
    /// The gates that it did not keep, and that were overruled.
    pub overruled: Vec<GateFailure>,
}

impl PluginManager {
    /// Compares a candidate with what runs, and lets it answer its share; or changes share and gates of the one that is
    /// compared.
    ///
    /// # Errors
    ///
    /// See [`RolloutError`].
    pub async fn roll_out(
        &self,
        tenant: &str,
        plugin: &str,
        request: RolloutRequest,
        actor: Actor,
    ) -> Result<RolloutStatus, RolloutError> {
        if request.permille > 1_000 {
            return Err(RolloutError::Share);
        }
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        let revisions = self.store.revisions(tenant, plugin).await?;
        let meant = Meant::of(request.revision.as_deref(), Meant::Waiting);
        let candidate = candidate(plugin, &revisions, meant)?;
        if !revisions.iter().any(|known| known.state == RevisionState::Active) {
            return Err(RolloutError::NothingActive(plugin.to_owned()));
        }
        let current = self.open(tenant, plugin).await?;
        let current = current.filter(|current| current.other == candidate.id);
        let gates = request.gates.or_else(|| current.map(|current| current.gates));
        let rollout = NewRollout {
            revision: candidate.id,
            permille: request.permille,
            gates: gates.unwrap_or_default(),
            automatic: request.automatic,
            force: request.force,
            actor,
        };
        self.store.start_rollout(tenant, rollout).await?;
        self.refresh(&slot, None).await?;
        tracing::info!(
            tenant.name = tenant,
            plugin.name = plugin,
            plugin.digest = candidate.digest,
            permille = request.permille,
            "a revision is compared with the active one"
        );
        self.rollout(tenant, plugin).await
    }

    /// Ends the comparison: a candidate is retired, a promoted revision is watched no longer.
    ///
    /// # Errors
    ///
    /// Nothing of the plugin is compared, or the store failed.
    pub async fn stop_rollout(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<RolloutStatus, RolloutError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        self.flush_tenant(&slot).await?;
        self.store.stop_rollout(tenant, plugin, actor).await?;
        self.refresh(&slot, None).await?;
        self.rollout(tenant, plugin).await
    }

    /// The newest comparison of a plugin, whether it goes on or has ended.
    ///
    /// # Errors
    ///
    /// Nothing of the plugin was ever compared, or the store failed.
    pub async fn rollout(&self, tenant: &str, plugin: &str) -> Result<RolloutStatus, RolloutError> {
        self.flush_tenant(&self.tenant(tenant)).await?;
        let rollout = self.store.rollout(tenant, plugin).await?;
        let rollout = rollout.ok_or(RevisionStoreError::NotFound("rollout of the plugin"))?;
        let revisions = self.store.revisions(tenant, plugin).await?;
        let (comparison, samples) = self.compared(tenant, &rollout).await?;
        let find = |id: i64| revisions.iter().find(|known| known.id == id);
        let (active, other) = (find(rollout.base), find(rollout.other));
        let (before, after) = match rollout.phase {
            RolloutPhase::Watch => (other, active),
            RolloutPhase::Shadow | RolloutPhase::Canary => (active, other),
        };
        let failures = match rollout.phase {
            RolloutPhase::Watch => rollout.gates.breaches(&comparison),
            RolloutPhase::Shadow | RolloutPhase::Canary => rollout.gates.failures(&comparison),
        };
        Ok(RolloutStatus {
            id: rollout.id,
            plugin: rollout.plugin,
            phase: rollout.phase,
            active: active.map(RevisionSummary::of),
            other: other.map(RevisionSummary::of),
            changes: after.and_then(|after| RevisionDiff::of_stored(before, after)),
            permille: rollout.permille,
            automatic: rollout.automatic,
            gates: rollout.gates,
            failures,
            summary: comparison.summary(),
            comparison,
            samples,
            started_by: rollout.started_by,
            started_at: rollout.started_at,
            watch_until: rollout.watch_until,
            ended_at: rollout.ended_at,
            outcome: rollout.outcome,
        })
    }

    /// Puts a candidate into use if it keeps to its gates, and has the revision before watch it.
    ///
    /// # Errors
    ///
    /// [`RolloutError::Gates`] with what it does not keep, unless it is forced.
    pub async fn promote(
        &self,
        tenant: &str,
        plugin: &str,
        request: PromoteRequest,
        actor: Actor,
    ) -> Result<Promoted, RolloutError> {
        let meant = Meant::of(request.revision.as_deref(), Meant::Compared);
        self.promote_one(tenant, plugin, meant, &request, actor).await
    }

    /// Promotes the candidate of a comparison if it keeps to its gates: that one, whatever else of the plugin waits.
    pub(super) async fn promote_compared(
        &self,
        tenant: &str,
        rollout: &StoredRollout,
        actor: Actor,
    ) -> Result<Promoted, RolloutError> {
        let meant = Meant::Number(rollout.other);
        self.promote_one(tenant, &rollout.plugin, meant, &PromoteRequest::default(), actor)
            .await
    }

    async fn promote_one(
        &self,
        tenant: &str,
        plugin: &str,
        meant: Meant<'_>,
        request: &PromoteRequest,
        actor: Actor,
    ) -> Result<Promoted, RolloutError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        self.flush_tenant(&slot).await?;
        let revisions = self.store.revisions(tenant, plugin).await?;
        let candidate = candidate(plugin, &revisions, meant)?;
        let current = self.open(tenant, plugin).await?;
        let current = current.filter(|current| current.other == candidate.id && current.phase != RolloutPhase::Watch);
        let gates = current
            .as_ref()
            .map(|current| current.gates.clone())
            .unwrap_or_default();
        let comparison = match &current {
            Some(current) => self.compared(tenant, current).await?.0,
            None => ComparisonReport::default(),
        };
        let failures = gates.failures(&comparison);
        if !failures.is_empty() && !request.force {
            return Err(RolloutError::Gates(failures));
        }
        let gates = if failures.is_empty() {
            gates
        } else {
            gates.faults_only()
        }
        .watching();
        let had_active = revisions.iter().any(|known| known.state == RevisionState::Active);
        let watch = request.watch.unwrap_or(WATCH);
        let until = SignedDuration::try_from(watch)
            .ok()
            .and_then(|watch| Timestamp::now().checked_add(watch).ok())
            .filter(|_| had_active && !watch.is_zero());
        let actor = if failures.is_empty() || actor.reason.is_some() {
            actor
        } else {
            let overruled = format!("forced: {}", list(&failures));
            actor.because(overruled)
        };
        let activation = Activation {
            revision: candidate.id,
            actor,
            force: request.force,
            watch: until.map(|until| (until, gates)),
        };
        self.store.activate(tenant, activation).await?;
        let generation = self.refresh(&slot, None).await?;
        tracing::info!(
            tenant.name = tenant,
            plugin.name = plugin,
            plugin.digest = candidate.digest,
            generation,
            overruled = failures.len(),
            "plugin revision promoted"
        );
        self.now(tenant, plugin, generation, until, failures).await
    }

    /// Goes back to the revision that was active before the active one: it is loaded, so that this is one swap.
    ///
    /// # Errors
    ///
    /// There is nothing to go back to, or the store failed.
    pub async fn rollback(&self, tenant: &str, plugin: &str, actor: Actor) -> Result<Promoted, RolloutError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        self.store.rollback(tenant, plugin, actor).await?;
        let generation = self.refresh(&slot, None).await?;
        tracing::warn!(
            tenant.name = tenant,
            plugin.name = plugin,
            generation,
            "plugin rolled back"
        );
        self.now(tenant, plugin, generation, None, Vec::new()).await
    }

    /// What happened to the revisions of a plugin, newest first.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn history(
        &self,
        tenant: &str,
        plugin: &str,
        limit: u32,
    ) -> Result<Vec<RevisionEvent>, RevisionStoreError> {
        self.store.history(tenant, plugin, limit).await
    }

    /// The revisions of a plugin that are stored, newest first.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn revisions(&self, tenant: &str, plugin: &str) -> Result<Vec<RevisionSummary>, RevisionStoreError> {
        let revisions = self.store.revisions(tenant, plugin).await?;
        Ok(revisions.iter().map(RevisionSummary::of).collect())
    }

    /// Puts a revision into quarantine, and goes back to the one before it if it was active.
    ///
    /// # Errors
    ///
    /// There is no such revision, or the store failed.
    pub(super) async fn quarantine(
        &self,
        tenant: &str,
        plugin: &str,
        revision: i64,
        reason: &str,
    ) -> Result<(), RevisionStoreError> {
        let slot = self.tenant(tenant);
        let _change = slot.change.lock().await;
        let revisions = self.store.revisions(tenant, plugin).await?;
        let known = revisions.iter().find(|known| known.id == revision);
        if !known.is_some_and(|known| {
            matches!(
                known.state,
                RevisionState::Active | RevisionState::Shadow | RevisionState::Canary
            )
        }) {
            // Another node was faster, or somebody changed it meanwhile.
            return Ok(());
        }
        let actor = Actor::default().because(reason);
        let done = self.store.quarantine(tenant, revision, actor).await?;
        self.refresh(&slot, None).await?;
        tracing::error!(
            tenant.name = tenant,
            plugin.name = plugin,
            revision,
            reason,
            instead = done.instead,
            "{}",
            match (done.was_active, done.instead) {
                (true, Some(_)) => "the active revision is in quarantine, and the one before it answers again",
                (true, None) => "the active revision is in quarantine; its hooks fail until another one is installed",
                (false, _) => "the candidate is in quarantine",
            }
        );
        Ok(())
    }

    pub(super) async fn compared(
        &self,
        tenant: &str,
        rollout: &StoredRollout,
    ) -> Result<(ComparisonReport, Vec<Sample>), RevisionStoreError> {
        let counted = self.store.counted(tenant, rollout.id).await?;
        let watching = rollout.phase == RolloutPhase::Watch;
        let mut samples = counted.samples;
        if watching {
            for sample in &mut samples {
                std::mem::swap(&mut sample.active, &mut sample.candidate);
            }
        }
        Ok((ComparisonReport::read(&counted.totals, watching), samples))
    }

    async fn open(&self, tenant: &str, plugin: &str) -> Result<Option<StoredRollout>, RevisionStoreError> {
        let newest = self.store.rollout(tenant, plugin).await?;
        Ok(newest.filter(|rollout| rollout.ended_at.is_none()))
    }

    async fn now(
        &self,
        tenant: &str,
        plugin: &str,
        generation: u64,
        watch_until: Option<Timestamp>,
        overruled: Vec<GateFailure>,
    ) -> Result<Promoted, RolloutError> {
        let revisions = self.store.revisions(tenant, plugin).await?;
        let active = revisions.iter().find(|known| known.state == RevisionState::Active);
        Ok(Promoted {
            plugin: plugin.to_owned(),
            active: active.map(RevisionSummary::of),
            generation,
            watch_until,
            overruled,
        })
    }
}

/// Which revision is meant.
#[derive(Clone, Copy, Debug)]
enum Meant<'a> {
    /// The one that is compared, else the newest that waits.
    Compared,
    /// The newest that waits, else the one that is compared.
    Waiting,
    /// The one whose digest begins so, or that has this number.
    Named(&'a str),
    /// The one that has this number.
    Number(i64),
}

impl<'a> Meant<'a> {
    fn of(named: Option<&'a str>, otherwise: Self) -> Self {
        named.map_or(otherwise, Self::Named)
    }
}

/// The revision that is meant.
fn candidate<'a>(
    plugin: &str,
    revisions: &'a [StoredRevision],
    meant: Meant<'_>,
) -> Result<&'a StoredRevision, RolloutError> {
    let none = || RolloutError::NoCandidate(plugin.to_owned());
    let compared = || {
        let is_compared = |state| matches!(state, RevisionState::Shadow | RevisionState::Canary);
        revisions.iter().find(|known| is_compared(known.state))
    };
    let waiting = || revisions.iter().find(|known| known.state.waits());
    let found = match meant {
        Meant::Compared => compared().or_else(waiting).ok_or_else(none)?,
        Meant::Waiting => waiting().or_else(compared).ok_or_else(none)?,
        Meant::Number(number) => revisions.iter().find(|known| known.id == number).ok_or_else(none)?,
        Meant::Named(named) => {
            let mut those = revisions.iter().filter(|known| {
                let digest = known.revision.as_deref().unwrap_or_default();
                known.id.to_string() == named || (named.len() >= 4 && digest.starts_with(named))
            });
            let first = those.next().ok_or_else(none)?;
            // The same component, settings and grants installed again are the same revision: the newest is meant.
            if those.any(|other| other.revision != first.revision) {
                return Err(RolloutError::Ambiguous(plugin.to_owned(), named.to_owned()));
            }
            first
        }
    };
    match found.state {
        RevisionState::Pending => Err(RolloutError::Pending(plugin.to_owned())),
        RevisionState::Active | RevisionState::Rejected => Err(none()),
        _ => Ok(found),
    }
}
