//! What a transaction leaves to do: its commit wakes whoever does it.
//!
//! A signal says that there may be something, in this process; what there is, and what another process left, is found in
//! the tables.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

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

/// Who waits for signals.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) pushes: std::sync::Arc<Notify>,
    pub(crate) events: std::sync::Arc<Notify>,
    pub(crate) schedules: std::sync::Arc<Notify>,
}

impl Signals {
    /// Wakes whoever waits for what was asked for.
    pub(crate) fn send(&self, asked: &Asked) {
        for (signal, notify) in [
            (Signal::Push, &self.pushes),
            (Signal::Event, &self.events),
            (Signal::Schedule, &self.schedules),
        ] {
            if asked.has(signal) {
                notify.notify_one();
            }
        }
    }
}
