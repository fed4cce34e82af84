//! The circuit breaker of a revision: one that keeps failing by its own fault is not called for a while, then tried once;
//! and if that keeps happening it is to be put into quarantine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use russet_hooks::{Blame, FaultKind, PluginFault};
use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// How many calls in a row have to fail by the plugin's own fault.
    pub faults: u32,
    /// How long it is open the first time; each further time is twice as long.
    pub first: Duration,
    /// How long it is open at most.
    pub longest: Duration,
    /// At this opening the revision is put into quarantine.
    pub openings: u32,
    /// After so long without opening, earlier openings are forgotten.
    pub forget: Duration,
}

impl Default for BreakerSettings {
    /// Ten faults, one second to one minute, five openings within ten minutes of one another.
    fn default() -> Self {
        Self {
            faults: 10,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            openings: 5,
            forget: Duration::from_secs(600),
        }
    }
}

#[derive(Debug)]
struct State {
    faults: u32,
    openings: u32,
    open_until: Option<Instant>,
    opened_last: Option<Instant>,
    probing: bool,
    last: String,
}

/// The breaker of one revision on this node, over all its hooks.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    plugin: String,
    /// Whether there is anything to look at: healthy plugins take no lock.
    troubled: AtomicBool,
    state: Mutex<State>,
}

/// A call that the breaker let through. Dropped without a result, it counts for nothing.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

/// The revision is to be put into quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    pub(crate) reason: String,
}

impl Breaker {
    pub(crate) fn new(plugin: impl Into<String>, settings: BreakerSettings) -> Self {
        Self {
            settings,
            plugin: plugin.into(),
            troubled: AtomicBool::new(false),
            state: Mutex::new(State {
                faults: 0,
                openings: 0,
                open_until: None,
                opened_last: None,
                probing: false,
                last: String::new(),
            }),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // Nothing panics while it is held, and if it did the state would still be whole.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a call through, or answers for the plugin.
    pub(crate) fn admit(&self) -> Result<Admission<'_>, PluginFault> {
        if !self.troubled.load(Ordering::Relaxed) {
            return Ok(Admission {
                breaker: self,
                probe: false,
            });
        }
        self.with(|state| {
            let Some(until) = state.open_until else {
                return Ok(false);
            };
            if Instant::now() >= until && !state.probing && state.openings < self.settings.openings {
                state.probing = true;
                return Ok(true);
            }
            Err(PluginFault::new(
                self.plugin.as_str(),
                FaultKind::CircuitOpen,
                format!(
                    "it failed {} times in a row and is not called for a while; last: {}",
                    self.settings.faults, state.last
                ),
            ))
        })
        .map(|probe| Admission { breaker: self, probe })
    }

    fn failed(&self, probe: bool, fault: &PluginFault) -> Option<Tripped> {
        self.troubled.store(true, Ordering::Relaxed);
        self.with(|state| {
            state.faults = state.faults.saturating_add(1);
            state.last = fault.to_string();
            // Calls that were let through before it opened open it only once.
            let opens = probe || (state.open_until.is_none() && state.faults >= self.settings.faults);
            if !opens {
                return None;
            }
            let now = Instant::now();
            if state
                .opened_last
                .is_some_and(|last| now.duration_since(last) > self.settings.forget)
            {
                state.openings = 0;
            }
            state.openings += 1;
            state.opened_last = Some(now);
            let pause = self
                .settings
                .first
                .saturating_mul(1 << (state.openings - 1).min(16))
                .min(self.settings.longest);
            state.open_until = Some(now + uneven(pause));
            tracing::warn!(
                plugin.name = %self.plugin,
                openings = state.openings,
                seconds = pause.as_secs(),
                reason = %fault,
                "the plugin keeps failing and is not called for a while"
            );
            (state.openings == self.settings.openings).then(|| Tripped {
                reason: format!(
                    "it failed {} times in a row, {} times over; last: {fault}",
                    self.settings.faults, state.openings
                ),
            })
        })
    }

    fn succeeded(&self, probe: bool) {
        if !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        self.with(|state| {
            state.faults = 0;
            if probe {
                state.open_until = None;
                tracing::info!(plugin.name = %self.plugin, "the plugin answers again");
            }
            if state.open_until.is_none() && state.openings == 0 {
                self.troubled.store(false, Ordering::Relaxed);
            }
        });
    }
}

impl Admission<'_> {
    /// Takes the result of the call. What is not the plugin's own fault counts for nothing.
    pub(crate) fn result<V>(self, answer: &Result<V, PluginFault>) -> Option<Tripped> {
        match answer {
            Ok(_) => {
                self.breaker.succeeded(self.probe);
                None
            }
            Err(fault) if fault.blame == Blame::Guest => self.breaker.failed(self.probe, fault),
            Err(_) => None,
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.with(|state| state.probing = false);
        }
    }
}

/// A quarter more or less, so that nodes do not try again all at once.
fn uneven(pause: Duration) -> Duration {
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    pause * (192 + random / 2) / 256
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn call(breaker: &Breaker, answer: Result<(), FaultKind>) -> Result<Option<Tripped>, FaultKind> {
        let admitted = breaker.admit().map_err(|fault| fault.kind)?;
        Ok(admitted.result(&answer.map_err(|kind| PluginFault::new("gate", kind, "on purpose"))))
    }

    fn open(breaker: &Breaker) {
        for _ in 0..10 {
            assert_eq!(call(breaker, Err(FaultKind::Trap)), Ok(None));
        }
        assert_eq!(call(breaker, Ok(())), Err(FaultKind::CircuitOpen));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_and_tries_again_with_one_call() {
        let breaker = Breaker::new("gate", BreakerSettings::default());
        open(&breaker);
        tokio::time::advance(Duration::from_secs(2)).await;
        let probe = breaker.admit().unwrap();
        assert_eq!(
            breaker.admit().unwrap_err().kind,
            FaultKind::CircuitOpen,
            "one probe at a time"
        );
        // A probe whose request went away leaves the next one its turn.
        drop(probe);
        assert_eq!(call(&breaker, Ok(())), Ok(None));
        assert_eq!(call(&breaker, Ok(())), Ok(None), "closed again");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_open_longer_each_time_and_then_gives_up() {
        let breaker = Breaker::new("gate", BreakerSettings::default());
        open(&breaker);
        for (opening, seconds) in [(2, 2), (3, 4), (4, 8), (5, 16)] {
            // A quarter more than the longest that the time before could be.
            tokio::time::advance(Duration::from_millis(seconds * 1_000 * 5 / 8)).await;
            let tripped = call(&breaker, Err(FaultKind::CpuLimit)).unwrap();
            assert_eq!(tripped.is_some(), opening == 5, "opening {opening}");
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(
            call(&breaker, Ok(())),
            Err(FaultKind::CircuitOpen),
            "until somebody acts"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_the_plugins_fault_does_not_count() {
        let breaker = Breaker::new("gate", BreakerSettings::default());
        for kind in [FaultKind::Busy, FaultKind::Deadline, FaultKind::CouldNotDecide].repeat(20) {
            assert_eq!(call(&breaker, Err(kind)), Ok(None));
        }
        for _ in 0..9 {
            call(&breaker, Err(FaultKind::Trap)).unwrap();
        }
        call(&breaker, Ok(())).unwrap();
        assert_eq!(
            call(&breaker, Err(FaultKind::Trap)),
            Ok(None),
            "only faults in a row count"
        );
        assert_eq!(call(&breaker, Ok(())), Ok(None));
    }
}
