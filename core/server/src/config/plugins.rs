//! What plugins may use.

use std::path::PathBuf;

use super::problems::Problems;
use super::settings::{choice, settings};

settings! {
    /// How plugins are run. Which plugins run, with which settings and grants, is kept in the database and changed
    /// through the API.
    pub struct Plugins {
        /// The folder where compiled plugins are kept, so that a restart need not compile them again. Left out, it is
        /// `cache/plugins` in the data directory.
        cache_directory: Option<PathBuf> = None => "\"/var/cache/russet/plugins\"",
        /// The longest that all plugin calls of one device request may take together, in milliseconds.
        request_budget_milliseconds: u64 = 5_000,
        /// How many days the records of decisions are kept. A tenant can have its own retention (through the API).
        decisions_days: u32 = 90,
        /// How many hours a decision's question, its answer and what the plugin asked the server are kept in full, sealed, so
        /// that the decision can be replayed. 0 keeps none. Sign-ins are never kept.
        recorded_input_hours: u32 = 72,
        /// How many days events are kept after every observer has taken them, so that they can be replayed.
        events_days: u32 = 7,
        /// How many days a plugin's store, secrets and keys are kept after it was taken out of use.
        removed_data_days: u32 = 90,
        /// How often an event is handed to an observer, or scheduled work is tried, before it is given up and shown.
        observer_attempts: u32 = 10,
        /// How many events are handed to one observer at once. Those of one device always go one after the other.
        observer_parallel: usize = 8,
        /// What happens to plugins that nobody signed: `refuse` or `allow`. Set `allow` only where plugins are developed:
        /// whoever may install then decides alone what runs. Signed plugins have to be of a publisher whom the tenant
        /// trusts either way.
        unsigned: UnsignedPlugins = UnsignedPlugins::Refuse,
        /// What happens to a command when a command policy fails: `open` lets it go on, `closed` keeps it back. What erases or
        /// locks a device, takes a passcode away or ends the management is always kept back.
        command_policy_failure: PolicyFailure = PolicyFailure::Open,
    }
    sections {
        limits: PluginLimits,
    }
}

settings! {
    /// What one call of a plugin may use. A call that goes over a limit is ended, and the hook's rule for failures
    /// decides what happens then.
    pub struct PluginLimits {
        /// The memory of one call, in bytes.
        memory_bytes: usize = 16 * 1024 * 1024,
        /// The computing time of one call, in milliseconds; measured in steps of 10. Waiting for the directory does not
        /// count.
        cpu_milliseconds: u64 = 50,
        /// How long one call may take in all, in milliseconds.
        deadline_milliseconds: u64 = 2_000,
        /// How many calls of one plugin may run at once; more wait.
        concurrency: usize = 64,
        /// How often one call may ask the server for something.
        host_calls: u32 = 1_000,
        /// How many lines one call may log.
        log_lines: u32 = 100,
        /// The largest profile that a template may become, in bytes.
        output_bytes: usize = 1024 * 1024,
        /// How many keys the store of one plugin of one tenant may hold.
        store_keys: u64 = 10_000,
        /// How large the store of one plugin of one tenant may be, in bytes.
        store_bytes: u64 = 16 * 1024 * 1024,
    }
}

choice! {
    /// What happens to plugins that nobody signed.
    pub enum UnsignedPlugins {
        /// They are refused.
        Refuse = "refuse",
        /// They are installed.
        Allow = "allow",
    }
}

choice! {
    /// What the failure of a command policy means for a command that destroys nothing.
    pub enum PolicyFailure {
        /// It goes on.
        Open = "open",
        /// It is kept back.
        Closed = "closed",
    }
}

impl Plugins {
    pub(super) fn check(&self, problems: &mut Problems) {
        let limits = &self.limits;
        problems.range(
            "plugins.request_budget_milliseconds",
            self.request_budget_milliseconds,
            100..=60_000,
        );
        problems.range("plugins.decisions_days", self.decisions_days, 1..=3_650);
        problems.range("plugins.recorded_input_hours", self.recorded_input_hours, 0..=24 * 365);
        problems.range("plugins.events_days", self.events_days, 0..=365);
        problems.range("plugins.removed_data_days", self.removed_data_days, 1..=3_650);
        problems.range("plugins.observer_attempts", self.observer_attempts, 1..=100);
        problems.range("plugins.observer_parallel", self.observer_parallel, 1..=256);
        problems.range(
            "plugins.limits.memory_bytes",
            limits.memory_bytes,
            1024 * 1024..=1024 * 1024 * 1024,
        );
        problems.range("plugins.limits.cpu_milliseconds", limits.cpu_milliseconds, 10..=10_000);
        problems.range(
            "plugins.limits.deadline_milliseconds",
            limits.deadline_milliseconds,
            10..=60_000,
        );
        problems.range("plugins.limits.concurrency", limits.concurrency, 1..=10_000);
        problems.range("plugins.limits.host_calls", limits.host_calls, 1..=1_000_000);
        problems.range("plugins.limits.log_lines", limits.log_lines, 0..=10_000);
        problems.range(
            "plugins.limits.output_bytes",
            limits.output_bytes,
            4 * 1024..=64 * 1024 * 1024,
        );
        problems.range("plugins.limits.store_keys", limits.store_keys, 0..=10_000_000);
        problems.range(
            "plugins.limits.store_bytes",
            limits.store_bytes,
            0..=16 * 1024 * 1024 * 1024,
        );
    }
}
