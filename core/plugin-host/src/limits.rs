//! What one call of a plugin may use.

use std::time::Duration;

use russet_hooks::CallLimits;
use serde::{Deserialize, Serialize};

use crate::engine::TICK;

/// The limits of a plugin. Every call has all of them to itself, because every call has a fresh instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes, summed over all memories of the component.
    pub memory_bytes: usize,
    /// Table elements, summed over all tables of the component.
    pub table_elements: usize,
    /// Processor time in milliseconds, counted in ticks of 10 ms. The time that host calls wait is not counted.
    pub cpu_ms: u64,
    /// The longest time that a call may take, in milliseconds, waiting included.
    pub wall_ms: u64,
    /// Calls of host functions, getters included.
    pub host_calls: u32,
    /// Lines of log; more are dropped and counted.
    pub log_lines: u32,
    /// The length of one line of log in bytes; the rest is cut off.
    pub log_line_bytes: usize,
    /// What may go from the plugin to the host in one host call or one answer, in bytes.
    pub transfer_bytes: usize,
    /// The size of a rendered profile in bytes.
    pub output_bytes: usize,
    /// The size of a template with its variables in bytes.
    pub input_bytes: usize,
    /// Effects that one call may record.
    pub effects: u32,
    /// The size of all effects of one call in bytes.
    pub effect_bytes: usize,
    /// Keys of the plugin's own store.
    pub kv_keys: u64,
    /// The size of the plugin's own store in bytes, keys and values.
    pub kv_bytes: u64,
    /// How many calls of the plugin may run at once.
    pub concurrency: usize,
}

impl Default for Limits {
    /// 16 MiB of memory, 50 ms of processor time, 2 s in all, 1,000 host calls, 100 lines of log of 4 KiB, profiles up to
    /// 1 MiB, 64 effects of 1 MiB in all, a store of 10,000 keys and 16 MiB, 64 calls at once.
    fn default() -> Self {
        Self {
            memory_bytes: 16 << 20,
            table_elements: 100_000,
            cpu_ms: 50,
            wall_ms: 2_000,
            host_calls: 1_000,
            log_lines: 100,
            log_line_bytes: 4 << 10,
            // A profile of the largest size, and something to spare for what is around it.
            transfer_bytes: (1 << 20) + (64 << 10),
            output_bytes: 1 << 20,
            input_bytes: 1 << 20,
            effects: 64,
            effect_bytes: 1 << 20,
            kv_keys: 10_000,
            kv_bytes: 16 << 20,
            concurrency: 64,
        }
    }
}

impl Limits {
    /// The layers over the calls.
    pub(crate) fn call_limits(&self) -> CallLimits {
        CallLimits {
            wall: Duration::from_millis(self.wall_ms),
            concurrency: self.concurrency,
        }
    }

    /// Processor time in ticks.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        self.cpu_ms.div_ceil(TICK.as_millis() as u64).max(1)
    }
}

/// A limit that a call hit. It travels through wasmtime as an error, so that the fault is told apart from a trap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("used more than {0} ms of processor time")]
    Cpu(u64),
    #[error("asked for {asked} bytes of memory, may have {limit}")]
    Memory { asked: usize, limit: usize },
    #[error("asked for {asked} table elements, may have {limit}")]
    Tables { asked: usize, limit: usize },
    #[error("called the host more than {0} times")]
    HostCalls(u32),
    #[error("held more than {0} devices at once; drop those that are done")]
    HeldDevices(usize),
    #[error("asked for what was not recorded: {0}")]
    NotRecorded(String),
}
