//! `scheduled`: work at certain times.

use serde::de::DeserializeOwned;

use crate::Error;
use crate::bindings::russet::plugin::context as host;
use crate::input::input;

/// Does work at the times that `plugin.toml` names (`[[schedules]]`), and at those that effects asked for
/// ([`effects::schedule_call`](crate::effects::schedule_call)). At one node of a cluster at a time, at least once.
pub trait Scheduled {
    /// The plugin's settings; `()` if it has none.
    type Settings: DeserializeOwned + 'static;

    /// Does the work.
    ///
    /// # Errors
    ///
    /// An error means that it is to be tried again, later.
    fn run(settings: Self::Settings, run: &ScheduledRun<'_>) -> Result<(), Error>;
}

input! {
    /// Work that is due.
    ScheduledRun, ScheduledRunBuilder, ScheduledRun;
    /// The name that the manifest, or the effect that asked for it, gave the work.
    name: text;
    /// The name of the tenant.
    tenant: text;
    /// When it was due, in milliseconds since 1970-01-01T00:00:00Z.
    due_ms: value<u64>;
    /// What the effect that asked for it gave along; empty for the manifest's own schedules.
    payload: text;
    /// How often it was tried before: 0 the first time.
    attempt: value<u32>;
}

impl ScheduledRun<'_> {
    /// A run in memory, for tests: at first in the tenant `default`, without a payload, for the first time.
    pub fn builder(name: impl Into<String>) -> ScheduledRunBuilder {
        ScheduledRunBuilder(Memory {
            name: name.into(),
            tenant: "default".to_owned(),
            due_ms: 0,
            payload: String::new(),
            attempt: 0,
        })
    }

    /// The payload, parsed as JSON.
    ///
    /// # Errors
    ///
    /// If it does not fit the type.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(serde_json::from_str(&self.payload())?)
    }
}

/// What the macro calls.
#[doc(hidden)]
pub fn __run<S: Scheduled>(run: &host::ScheduledRun) -> Result<(), String> {
    crate::glue::call(|settings| S::run(settings, &ScheduledRun(Source::Host(run))))
}

/// Exports a type as the plugin's scheduled work.
///
/// The type implements [`scheduled::Scheduled`](crate::scheduled::Scheduled).
#[macro_export]
macro_rules! scheduled {
    ($scheduled:ty) => {
        $crate::__export!(scheduled, $crate::scheduled::Scheduled, $scheduled, {
            fn run(run: &$crate::bindings::russet::plugin::context::ScheduledRun) -> Result<(), String> {
                $crate::scheduled::__run::<$scheduled>(run)
            }
        });
    };
}
