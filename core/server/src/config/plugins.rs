//! What plugins may use.

use std::path::PathBuf;

use super::problems::Problems;
use super::settings::settings;

settings! {
    /// How plugins are run. Which plugins run, with which settings and grants, is kept in the database and changed
    /// through the API.
    pub struct Plugins {
        /// The folder where compiled plugins are kept, so that a restart need not compile them again. Left out, it is
        /// `cache/plugins` in the data directory.
        cache_directory: Option<PathBuf> = None => "\"/var/cache/russet/plugins\"",
        /// The longest that all plugin calls of one device request may take together, in milliseconds.
        request_budget_milliseconds: u64 = 5_000,
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
    }
}
