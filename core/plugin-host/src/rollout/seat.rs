//! What answers the calls of one hook of a plugin: the active revision, and, while two are compared, the one of them whose
//! turn it is; the other one is asked the same beside it.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russet_hooks::{
    Answers, Ask, Effect, EffectAction, FaultKind, Hook, HookKind, HookService, Implementor, PluginFault,
};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout_at;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::breaker::{Breaker, BreakerSettings};
use super::lane::{Lane, Place};
use super::tally::{Said, Tally, Who};
use crate::LoadedPlugin;

/// How long a call beside the others may take, its own deadline apart: it waits behind others of its kind.
const BESIDE: Duration = Duration::from_secs(10);

/// A revision that keeps failing, for whoever puts it into quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trip {
    pub(crate) tenant: Arc<str>,
    pub(crate) plugin: String,
    pub(crate) revision: i64,
    pub(crate) reason: String,
}

/// A loaded revision as this node has it: what is kept of it outlives the generations that it is in.
#[derive(Clone)]
pub(crate) struct Member(Arc<Inner>);

struct Inner {
    id: i64,
    tenant: Arc<str>,
    revision: Arc<str>,
    plugin: LoadedPlugin,
    breaker: Breaker,
    /// The plugin's share of the places, over all its hooks.
    places: Arc<Semaphore>,
    trips: mpsc::UnboundedSender<Trip>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.0.id)
            .field("plugin", &self.0.plugin)
            .finish_non_exhaustive()
    }
}

impl Member {
    pub(crate) fn new(
        id: i64,
        tenant: Arc<str>,
        plugin: LoadedPlugin,
        breaker: BreakerSettings,
        trips: mpsc::UnboundedSender<Trip>,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            tenant,
            revision: plugin.revision().into(),
            breaker: Breaker::new(plugin.name(), breaker),
            places: Arc::new(Semaphore::new(plugin.limits().concurrency.max(1))),
            plugin,
            trips,
        }))
    }

    pub(crate) fn plugin(&self) -> &LoadedPlugin {
        &self.0.plugin
    }

    fn fault(&self, kind: FaultKind, detail: &str) -> PluginFault {
        PluginFault::new(self.0.plugin.name(), kind, detail)
    }

    /// Calls it as devices do: within its and its tenant's share of the places, and if its breaker lets it.
    async fn call<H: Hook>(
        &self,
        service: &HookService<H>,
        tenant: &Arc<Semaphore>,
        ask: Ask<H>,
    ) -> Result<H::Verdict, PluginFault> {
        let admission = self.0.breaker.admit()?;
        let deadline = ask
            .scope
            .deadline
            .min(tokio::time::Instant::now() + Duration::from_millis(self.0.plugin.limits().wall_ms));
        let _places = match (free(&self.0.places), free(tenant)) {
            (Some(own), Some(shared)) => (own, shared),
            // One after the other in one order, so that nobody who holds the one waits for whom holds the other.
            (own, shared) => {
                drop((own, shared));
                let waited = timeout_at(deadline, async {
                    let own = Arc::clone(&self.0.places).acquire_owned().await.ok()?;
                    Some((own, Arc::clone(tenant).acquire_owned().await.ok()?))
                });
                match waited.await {
                    Ok(Some(places)) => places,
                    _ => {
                        return Err(self.fault(FaultKind::Busy, "the plugin's or the tenant's share of calls is taken"));
                    }
                }
            }
        };
        let answer = service.clone().oneshot(ask).await;
        if let Some(tripped) = admission.result(&answer) {
            // Nobody listens in a host without a manager; the breaker stays open then.
            let _ = self.0.trips.send(Trip {
                tenant: Arc::clone(&self.0.tenant),
                plugin: self.0.plugin.name().to_owned(),
                revision: self.0.id,
                reason: tripped.reason,
            });
        }
        answer
    }
}

fn free(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}

/// A comparison as a node has it: what it counts outlives the generations.
#[derive(Clone, Debug)]
pub(crate) struct Duel {
    pub(crate) other: Member,
    /// The share of enrollments that the other one answers, in thousandths.
    pub(crate) permille: u16,
    pub(crate) tally: Arc<Tally>,
    pub(crate) lane: Lane,
}

/// A plugin of a generation: the revision that is active, and what it is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) active: Member,
    pub(crate) duel: Option<Duel>,
    /// The tenant's share of the places.
    pub(crate) tenant: Arc<Semaphore>,
}

/// One hook of a seat.
struct HookSeat<H: Hook> {
    seat: Seat,
    active: HookService<H>,
    other: Option<HookService<H>>,
}

impl Seat {
    /// What answers one of the hooks, if the active revision implements it. A hook that only a candidate has is asked once
    /// it is active.
    pub(crate) fn implementor<H: Hook>(
        &self,
        of: fn(&LoadedPlugin) -> Option<&Implementor<H>>,
    ) -> Option<Implementor<H>> {
        let active = of(self.active.plugin())?;
        let other = self.duel.as_ref().and_then(|duel| of(duel.other.plugin()));
        let hook = Arc::new(HookSeat {
            seat: self.clone(),
            active: active.service.clone(),
            other: other.map(|other| other.service.clone()),
        });
        let service = tower::service_fn(move |ask: Ask<H>| {
            let hook = Arc::clone(&hook);
            async move { hook.answer(ask).await }
        });
        Some(Implementor {
            name: active.name.clone(),
            revision: active.revision.clone(),
            service: BoxCloneSyncService::new(service),
        })
    }
}

impl<H: Hook> HookSeat<H> {
    async fn answer(&self, ask: Ask<H>) -> Result<H::Verdict, PluginFault> {
        let Seat { active, tenant, duel } = &self.seat;
        let (Some(duel), Some(other)) = (duel, &self.other) else {
            return active.call(&self.active, tenant, ask).await;
        };
        let by_other = H::KIND != HookKind::Scheduled && {
            let subject = H::subject(&ask.request);
            chosen(&duel.other.0.revision, duel.permille, || {
                ask.scope.share.of(H::KIND, subject)
            })
        };
        let (who, member, service) = if by_other {
            let revision = duel.other.0.revision.to_string();
            ask.recorder.with(|recorded| recorded.revision = Some(revision));
            (Who::Other, &duel.other, other)
        } else {
            (Who::Base, active, &self.active)
        };
        let Some(place) = duel.lane.reserve() else {
            // Nothing of it is kept, and nothing measured: under load this is nearly every call.
            let answer = member.call(service, tenant, ask).await;
            duel.tally.called(who, answer.as_ref().err(), None);
            duel.tally.shed();
            return answer;
        };
        let mut live = ask.clone();
        live.scope.recording = true;
        let started = Instant::now();
        let answer = member.call(service, tenant, live).await;
        duel.tally.called(who, answer.as_ref().err(), Some(started.elapsed()));
        self.compare(duel, place, by_other, ask, &answer);
        answer
    }

    /// Has the revision that did not answer asked the same, with the same answers of the host, beside the devices' calls.
    fn compare(
        &self,
        duel: &Duel,
        place: Place<'_>,
        by_other: bool,
        ask: Ask<H>,
        answer: &Result<H::Verdict, PluginFault>,
    ) {
        let (journal, effects) = ask.recorder.with(|recorded| {
            let journal = if ask.scope.recording {
                recorded.journal.clone()
            } else {
                std::mem::take(&mut recorded.journal)
            };
            (journal, recorded.effects.clone())
        });
        let answered = Answered::of::<H>(answer, effects);
        let second = match (&self.other, by_other) {
            (Some(other), false) => other.clone(),
            _ => self.active.clone(),
        };
        let tally = Arc::downgrade(&duel.tally);
        place.send(Box::pin(async move {
            // The rollout has ended: what still waits is only in the way of the next one.
            let Some(tally) = tally.upgrade() else {
                return;
            };
            let entries = journal.into();
            let mut beside = ask.beside(Answers::Recorded { entries, strict: true });
            beside.scope.recording = false;
            beside.scope.deadline = tokio::time::Instant::now() + BESIDE;
            let recorder = beside.recorder.clone();
            let request = Arc::clone(&beside.request);
            let started = Instant::now();
            let answer = second.oneshot(beside).await;
            if !by_other && !matches!(&answer, Err(fault) if fault.kind == FaultKind::NotRecorded) {
                tally.called(Who::Beside, answer.as_ref().err(), Some(started.elapsed()));
            }
            let second = Answered::of::<H>(&answer, recorder.take().effects).said();
            let (active, candidate) = if by_other {
                (second, answered.said())
            } else {
                (answered.said(), second)
            };
            tally.compared(H::KIND, H::subject(&request), active, candidate);
        }));
    }
}

/// Whether a candidate answers: stable for a revision and a key, and the share of the keys that it says.
fn chosen(revision: &str, permille: u16, key: impl FnOnce() -> Arc<str>) -> bool {
    permille > 0 && (permille >= 1_000 || u64::from(permille) > place_of(revision, &key()))
}

/// Where a key stands among a thousand, for a revision: every node has to say the same, in every version.
fn place_of(revision: &str, key: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.write(revision.as_bytes());
    hash.write(&[0]);
    hash.write(key.as_bytes());
    // The low bits of this hash are uneven for short texts.
    let hash = hash.finish();
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000
}

/// FNV-1a, because the standard library's hashes may change.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What one of the two answered, as it is kept until there is time to compare it.
struct Answered {
    /// The verdict's name and its canonical form.
    verdict: Result<(&'static str, String), PluginFault>,
    effects: Vec<Effect>,
}

impl Answered {
    fn of<H: Hook>(answer: &Result<H::Verdict, PluginFault>, effects: Vec<Effect>) -> Self {
        let verdict = match answer {
            Ok(verdict) => Ok((H::verdict_name(verdict), H::verdict_json(verdict))),
            Err(fault) => Err(fault.clone()),
        };
        Self { verdict, effects }
    }

    fn said(self) -> Said {
        match self.verdict {
            Err(fault) => Said::fault(&fault),
            Ok((verdict, mut json)) => {
                let reason = reason(&json);
                for effect in self.effects {
                    json.push('\n');
                    json.push_str(&comparable(effect));
                }
                Said {
                    verdict: verdict.to_owned(),
                    json,
                    reason,
                    fault: None,
                }
            }
        }
    }
}

/// An effect without what is another one in each call.
fn comparable(mut effect: Effect) -> String {
    match &mut effect.action {
        EffectAction::EnqueueCommand { uuid, .. } => uuid.clear(),
        // A secret's value is not serialised, so that two differ by their names only.
        EffectAction::PutSecret { .. } => {}
        _ => {}
    }
    serde_json::to_string(&effect).unwrap_or_default()
}

/// The reason in a canonical verdict such as `{"deny":{"reason":"…"}}` or `{"deny":"…"}`.
fn reason(json: &str) -> Option<String> {
    if !json.contains("deny") && !json.contains("hold") {
        return None;
    }
    let verdict: Value = serde_json::from_str(json).ok()?;
    let refusal = verdict.get("deny").or_else(|| verdict.get("hold"))?;
    let reason = refusal.get("reason").unwrap_or(refusal);
    reason.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(revision: &str, permille: u16) -> usize {
        (0..10_000)
            .filter(|number| chosen(revision, permille, || format!("C02{number:07}").into()))
            .count()
    }

    #[test]
    fn the_share_is_the_one_that_was_asked_for() {
        assert_eq!(share("ab", 0), 0);
        assert_eq!(share("ab", 1_000), 10_000);
        for permille in [1, 50, 250, 500] {
            let wanted = usize::from(permille) * 10;
            let got = share("ab", permille);
            assert!(
                got.abs_diff(wanted) < wanted / 5 + 10,
                "{permille}‰ of 10,000 were {got}"
            );
        }
    }

    #[test]
    fn who_is_in_a_small_share_is_in_a_larger_one() {
        for number in 0..10_000 {
            let key: Arc<str> = format!("C02{number:07}").into();
            if chosen("ab", 50, || Arc::clone(&key)) {
                assert!(chosen("ab", 500, || Arc::clone(&key)));
            }
        }
    }

    #[test]
    fn each_candidate_has_others_go_first() {
        let first = |revision: &str| -> Vec<usize> {
            (0..1_000)
                .filter(|number| chosen(revision, 100, || format!("C02{number:07}").into()))
                .collect()
        };
        assert_ne!(first("ab"), first("cd"));
    }

    #[test]
    fn the_place_of_a_key_never_changes() {
        let places = [("ab", "C02A"), ("ab", "C02B"), ("cd", "C02A")].map(|(revision, key)| place_of(revision, key));
        assert_eq!(
            places,
            [321, 4, 52],
            "another version of this server would choose others"
        );
    }
}
