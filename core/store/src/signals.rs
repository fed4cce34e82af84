//! What a transaction leaves to do: its commit wakes whoever does it.
//!
//! A signal says that there may be something, in this process; what there is, and what another process left, is found in
//! the tables.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::ids::TenantId;

/// Something that is done after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    /// A push is due.
    Push = 1,
    /// Observers have something to take.
    Event = 2,
    /// A plugin's work was scheduled.
    Schedule = 4,
    /// A plan of declarations is to be made.
    Plan = 8,
}

/// The signals of one transaction, or of several that share a commit.
#[derive(Debug, Default)]
pub(crate) struct Asked(AtomicU8);

impl Asked {
    pub(crate) fn ask(&self, signal: Signal) {
        self.0.fetch_or(signal as u8, Ordering::Relaxed);
    }

    /// Takes over what another transaction asked for.
    pub(crate) fn merge(&self, other: &Self) {
        self.0.fetch_or(other.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn has(&self, signal: Signal) -> bool {
        self.0.load(Ordering::Relaxed) & signal as u8 != 0
    }
}

/// Who knows what observers want: events that nobody wants are not written.
pub trait Observed: Send + Sync + std::fmt::Debug {
    /// Whether any observer of the tenant wants events of this kind; asked on the way of every write, so it must not wait.
    fn wanted(&self, tenant: TenantId, kind: &str) -> Option<Wanted>;

    /// Whether any observer of any tenant may want events of this kind: for a write that would have to look its tenant up.
    fn anywhere(&self, kind: &str) -> bool;
}

/// Somebody wants the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those who want it and are not known to have a cursor: if they have none, theirs begins with this event.
    pub first_of: Vec<String>,
}

/// Who waits for signals, and who is asked before there is one.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    observed: RwLock<Option<Arc<dyn Observed>>>,
    pub(crate) pushes: Arc<Notify>,
    pub(crate) events: Arc<Notify>,
    pub(crate) schedules: Arc<Notify>,
    pub(crate) plans: Arc<Notify>,
    /// Told by the listener on PostgreSQL: see [`crate::plugins::PLUGINS_CHANGED`].
    pub(crate) plugins: Arc<Notify>,
}

impl Signals {
    pub(crate) fn set_observed(&self, observed: Arc<dyn Observed>) {
        *self.observed.write().unwrap_or_else(PoisonError::into_inner) = Some(observed);
    }

    pub(crate) fn wanted_anywhere(&self, kind: &str) -> bool {
        let observed = self.observed.read().unwrap_or_else(PoisonError::into_inner);
        observed.as_ref().is_some_and(|observed| observed.anywhere(kind))
    }

    pub(crate) fn wanted(&self, tenant: TenantId, kind: &str) -> Option<Wanted> {
        let observed = self.observed.read().unwrap_or_else(PoisonError::into_inner);
        observed.as_ref()?.wanted(tenant, kind)
    }

    /// Wakes whoever waits for what was asked for.
    pub(crate) fn send(&self, asked: &Asked) {
        for (signal, notify) in [
            (Signal::Push, &self.pushes),
            (Signal::Event, &self.events),
            (Signal::Schedule, &self.schedules),
            (Signal::Plan, &self.plans),
        ] {
            if asked.has(signal) {
                notify.notify_one();
            }
        }
    }
}
