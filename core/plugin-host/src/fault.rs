//! From what wasmtime reports to a [`PluginFault`].

use russet_hooks::{FaultKind, PluginFault};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::limits::Violation;
use crate::state::{CallState, cut};

/// The longest detail in bytes.
const MAX_DETAIL: usize = 1_024;

/// Where a call was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The instance was made; start functions ran.
    Start,
    /// The hook ran.
    Call,
}

/// The fault of a failed call.
pub(crate) fn classify(state: &CallState, phase: Phase, error: &wasmtime::Error) -> PluginFault {
    let (kind, detail) = kind(phase, error);
    let detail = match state.log.as_ref().and_then(|log| log.last_words()) {
        Some(words) if kind == FaultKind::Trap => format!("{detail}; it said: {words}"),
        _ => detail,
    };
    PluginFault::new(state.plugin.name.as_ref(), kind, cut(&detail, MAX_DETAIL))
}

fn kind(phase: Phase, error: &wasmtime::Error) -> (FaultKind, String) {
    if let Some(violation) = error.downcast_ref::<Violation>() {
        let kind = match violation {
            Violation::Cpu(_) => FaultKind::CpuLimit,
            Violation::Memory { .. } | Violation::Tables { .. } => FaultKind::MemoryLimit,
            Violation::HostCalls(_) | Violation::HeldDevices(_) => FaultKind::HostCallLimit,
            Violation::NotRecorded(_) => FaultKind::NotRecorded,
        };
        return (kind, violation.to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return (FaultKind::Busy, "no free instance in the pool".to_owned());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let at = match phase {
            Phase::Start => " while it started",
            Phase::Call => "",
        };
        return (FaultKind::Trap, format!("{trap}{at}"));
    }
    let text = format!("{:#}", error.root_cause());
    // The error has no type that could be named.
    if text.contains("fuel allocated for hostcalls") {
        return (
            FaultKind::HostCallLimit,
            "moved more data to the host at once than it may".to_owned(),
        );
    }
    match phase {
        Phase::Start => (FaultKind::Unusable, format!("can not be started: {text}")),
        // The guest did not trap, so what it handed back could not be read: a bad pointer, text that is not UTF-8.
        Phase::Call => (FaultKind::BadAnswer, text),
    }
}
