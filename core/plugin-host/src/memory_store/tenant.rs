//! The plugins of one tenant, in memory.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Component;
use crate::revisions::{ActiveRevisions, Actor, RevisionEvent, RevisionState, StoredPlugin, StoredRevision};
use crate::rollout::{Counted, Gates, RolloutPhase, StagedRollout, StoredRollout};

/// How many retired revisions of a plugin are kept, and as many rejected ones, as in the database.
const KEPT: usize = 5;

/// How many quarantined revisions of a plugin are kept.
const KEPT_IN_QUARANTINE: usize = 50;

/// How many events of a tenant are kept.
const EVENTS: usize = 1_000;

/// How many ended comparisons of a tenant are kept.
const ROLLOUTS: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub(super) generation: u64,
    pub(super) next: i64,
    pub(super) plugins: Vec<StoredPlugin>,
    pub(super) revisions: Vec<StoredRevision>,
    pub(super) components: BTreeMap<String, Component>,
    /// With the name of the plugin, oldest first.
    pub(super) events: Vec<(String, RevisionEvent)>,
    /// Plugins whose hooks fail by a quarantined revision.
    pub(super) halted: BTreeMap<String, i64>,
    pub(super) rollouts: Vec<StoredRollout>,
    pub(super) counted: BTreeMap<i64, BTreeMap<uuid::Uuid, Counted>>,
}

impl Tenant {
    pub(super) fn change(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    pub(super) fn position(&self, plugin: &str) -> Option<i64> {
        self.plugins
            .iter()
            .find(|known| known.name == plugin)
            .map(|known| known.position)
    }

    pub(super) fn positioned(&self, revision: &StoredRevision) -> StoredRevision {
        StoredRevision {
            position: self.position(&revision.plugin).unwrap_or_default(),
            ..revision.clone()
        }
    }

    pub(super) fn find(&mut self, id: i64) -> Option<&mut StoredRevision> {
        self.revisions.iter_mut().find(|known| known.id == id)
    }

    fn get(&self, id: i64) -> Option<&StoredRevision> {
        self.revisions.iter().find(|known| known.id == id)
    }

    pub(super) fn active_of(&self, plugin: &str) -> Option<i64> {
        self.revisions
            .iter()
            .find(|known| known.plugin == plugin && known.state == RevisionState::Active)
            .map(|known| known.id)
    }

    pub(super) fn active_revisions(&self) -> ActiveRevisions {
        let mut revisions: Vec<StoredRevision> = self
            .revisions
            .iter()
            .filter(|revision| {
                revision.state == RevisionState::Active || self.halted.get(&revision.plugin) == Some(&revision.id)
            })
            .map(|revision| self.positioned(revision))
            .collect();
        revisions.sort_by_key(|revision| (revision.position, revision.plugin.clone()));
        let rollouts = self
            .rollouts
            .iter()
            .filter(|rollout| rollout.ended_at.is_none())
            .filter_map(|rollout| {
                Some(StagedRollout {
                    rollout: rollout.clone(),
                    other: self.positioned(self.get(rollout.other)?),
                })
            })
            .collect();
        let warm = revisions
            .iter()
            .filter(|revision| revision.state == RevisionState::Active)
            .filter_map(|revision| self.get(self.warm(revision.id)?))
            .map(|revision| self.positioned(revision))
            .collect();
        ActiveRevisions {
            generation: self.generation,
            revisions,
            rollouts,
            warm,
        }
    }

    /// The revision that was active before one. One of the same digest would decide and fail the same.
    pub(super) fn warm(&self, current: i64) -> Option<i64> {
        let current = self.get(current)?;
        self.revisions
            .iter()
            .filter(|known| known.plugin == current.plugin && known.state == RevisionState::Retired)
            .filter(|known| known.activated_at.is_some() && known.activated_at < current.activated_at)
            .filter(|known| known.revision.is_none() || known.revision != current.revision)
            .filter(|known| !self.in_quarantine(known.id))
            .max_by_key(|known| known.activated_at)
            .map(|known| known.id)
    }

    pub(super) fn in_quarantine(&self, id: i64) -> bool {
        self.get(id).is_some_and(|revision| {
            self.revisions.iter().any(|known| {
                known.plugin == revision.plugin
                    && known.state == RevisionState::Quarantined
                    && (known.id == id || (known.revision.is_some() && known.revision == revision.revision))
            })
        })
    }

    pub(super) fn note(&mut self, id: i64, from: Option<RevisionState>, to: RevisionState, actor: &Actor) {
        let Some(revision) = self.get(id) else { return };
        let event = RevisionEvent {
            id,
            version: revision.version.clone(),
            digest: revision.digest.clone(),
            from,
            to,
            by: actor.name.clone(),
            reason: actor.reason.clone(),
            at: Timestamp::now(),
        };
        self.events.push((revision.plugin.clone(), event));
        if self.events.len() > EVENTS {
            self.events.drain(..EVENTS / 10);
        }
    }

    pub(super) fn transition(&mut self, id: i64, to: RevisionState, actor: &Actor) {
        let Some(revision) = self.find(id).filter(|revision| revision.state != to) else {
            return;
        };
        let from = std::mem::replace(&mut revision.state, to);
        revision.reason.clone_from(&actor.reason);
        self.note(id, Some(from), to, actor);
    }

    /// Rejects the revisions of a plugin that wait and are older than one.
    pub(super) fn supersede(&mut self, plugin: &str, before: i64, why: &str, actor: &Actor) {
        let waiting: Vec<i64> = self
            .revisions
            .iter()
            .filter(|known| known.plugin == plugin && known.id < before && known.state.waits())
            .map(|known| known.id)
            .collect();
        for id in waiting {
            self.transition(id, RevisionState::Rejected, &Actor::new(&actor.name).because(why));
        }
    }

    pub(super) fn put_active(&mut self, plugin: &str, id: i64, back: bool, actor: &Actor) {
        let outcome = if back { "rolled-back" } else { "promoted" };
        self.end_rollout(plugin, Some(id), outcome, actor);
        if let Some(active) = self.active_of(plugin).filter(|active| *active != id) {
            self.transition(active, RevisionState::Retired, actor);
            // Nobody goes back to what was gone back from.
            if let Some(active) = self.find(active).filter(|_| back) {
                active.activated_at = None;
            }
        }
        self.transition(id, RevisionState::Active, actor);
        self.halted.remove(plugin);
        if back {
            return;
        }
        let last = self
            .revisions
            .iter()
            .filter(|known| known.plugin == plugin)
            .filter_map(|known| known.activated_at)
            .max();
        // The times order the activations, so they are never equal.
        let next = last.and_then(|last| last.checked_add(SignedDuration::from_millis(1)).ok());
        let now = Timestamp::now();
        if let Some(revision) = self.find(id) {
            revision.activated_at = Some(next.map_or(now, |next| next.max(now)));
        }
        self.supersede(plugin, id, "a newer revision is in use", actor);
    }

    pub(super) fn watch(&mut self, plugin: &str, base: i64, other: i64, until: Timestamp, gates: Gates, actor: &Actor) {
        self.next += 1;
        self.rollouts.push(StoredRollout {
            id: self.next,
            plugin: plugin.to_owned(),
            phase: RolloutPhase::Watch,
            base,
            other,
            permille: 0,
            gates,
            automatic: false,
            started_by: actor.name.clone(),
            started_at: Timestamp::now(),
            watch_until: Some(until),
            ended_at: None,
            outcome: None,
        });
    }

    pub(super) fn is_candidate(&self, plugin: &str, id: i64) -> bool {
        self.rollouts.iter().any(|rollout| {
            rollout.plugin == plugin
                && rollout.ended_at.is_none()
                && rollout.other == id
                && rollout.phase != RolloutPhase::Watch
        })
    }

    /// Ends the open comparison of a plugin; its candidate is retired, unless it is `next`.
    pub(super) fn end_rollout(&mut self, plugin: &str, next: Option<i64>, outcome: &str, actor: &Actor) -> bool {
        let Some(rollout) = self
            .rollouts
            .iter_mut()
            .find(|rollout| rollout.plugin == plugin && rollout.ended_at.is_none())
        else {
            return false;
        };
        rollout.ended_at = Some(Timestamp::now());
        let outcome = match (rollout.phase, outcome) {
            (RolloutPhase::Watch, "stopped" | "replaced") => "kept",
            (_, "promoted") if next != Some(rollout.other) => "replaced",
            (_, outcome) => outcome,
        };
        rollout.outcome = Some(outcome.to_owned());
        let (other, phase) = (rollout.other, rollout.phase);
        if phase != RolloutPhase::Watch && next != Some(other) {
            self.transition(other, RevisionState::Retired, actor);
        }
        true
    }

    /// Forgets old revisions of a plugin, and what nothing names any more.
    pub(super) fn prune(&mut self, plugin: &str) {
        for (state, kept) in [
            (RevisionState::Retired, KEPT),
            (RevisionState::Rejected, KEPT),
            (RevisionState::Quarantined, KEPT_IN_QUARANTINE),
        ] {
            let mut those: Vec<_> = self
                .revisions
                .iter()
                .filter(|known| known.plugin == plugin && known.state == state)
                .map(|known| (known.activated_at, known.id))
                .collect();
            those.sort_unstable_by(|one, other| other.cmp(one));
            let old: Vec<i64> = those.into_iter().skip(kept).map(|(_, id)| id).collect();
            let (rollouts, halted) = (&self.rollouts, &self.halted);
            self.revisions.retain(|known| {
                !old.contains(&known.id)
                    || halted.get(plugin) == Some(&known.id)
                    || rollouts.iter().any(|rollout| {
                        rollout.ended_at.is_none() && (rollout.other == known.id || rollout.base == known.id)
                    })
            });
        }
        let revisions = &self.revisions;
        self.components.retain(|digest, _| {
            revisions
                .iter()
                .any(|known| known.digest == *digest && known.state != RevisionState::Rejected)
        });
        let ended = self
            .rollouts
            .iter()
            .filter(|rollout| rollout.ended_at.is_some())
            .count();
        let mut surplus = ended.saturating_sub(ROLLOUTS);
        self.rollouts.retain(|rollout| {
            let goes = rollout.ended_at.is_some() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
        let rollouts = &self.rollouts;
        self.counted
            .retain(|id, _| rollouts.iter().any(|rollout| rollout.id == *id));
    }
}
