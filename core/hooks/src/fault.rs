//! What can go wrong in an implementor of a hook, as a value.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has to act on a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The plugin's author.
    Guest,
    /// The operator of the server, or Russet itself.
    Host,
    /// Whoever set grants, settings or connections.
    Configuration,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The plugin trapped: a panic, an out-of-bounds access, an exhausted stack.
    Trap,
    /// The plugin used up its processor time.
    CpuLimit,
    /// The plugin asked for more memory than it may have.
    MemoryLimit,
    /// The call did not end before its deadline.
    Deadline,
    /// The plugin moved more data to or from the host, or called it more often, than it may.
    HostCallLimit,
    /// An answer was too large or not well formed.
    BadAnswer,
    /// The plugin answered that it could not decide.
    CouldNotDecide,
    /// All of the implementor's permits were taken until the deadline.
    Busy,
    /// The implementor does not match its contract, or could not be started.
    Unusable,
    /// The implementor failed so often that it is not called for a while.
    CircuitOpen,
    /// The revision failed so much that it is not called until somebody lets it.
    Quarantined,
    /// A call that is run again asked the host for what its journal does not have.
    NotRecorded,
}

impl FaultKind {
    /// The stable name, as recorded and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::CpuLimit => "cpu-limit",
            Self::MemoryLimit => "memory-limit",
            Self::Deadline => "deadline",
            Self::HostCallLimit => "host-call-limit",
            Self::BadAnswer => "bad-answer",
            Self::CouldNotDecide => "could-not-decide",
            Self::Busy => "busy",
            Self::Unusable => "unusable",
            Self::CircuitOpen => "circuit-open",
            Self::Quarantined => "quarantined",
            Self::NotRecorded => "not-recorded",
        }
    }

    /// Who has to act on a fault of this kind, unless more is known.
    pub fn usual_blame(self) -> Blame {
        match self {
            Self::Trap
            | Self::CpuLimit
            | Self::MemoryLimit
            | Self::HostCallLimit
            | Self::BadAnswer
            | Self::CircuitOpen
            | Self::Quarantined => Blame::Guest,
            Self::Deadline | Self::Busy | Self::NotRecorded => Blame::Host,
            Self::CouldNotDecide | Self::Unusable => Blame::Configuration,
        }
    }
}

/// A fault of one call: never a panic, never an HTTP status. The hook's failure rule turns it into a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin}: {kind}: {detail}")]
pub struct PluginFault {
    /// The name of the implementor.
    pub plugin: String,
    /// What went wrong.
    pub kind: FaultKind,
    /// Who has to act.
    pub blame: Blame,
    /// More, for the log and the administrator. Never sent to a device.
    pub detail: String,
}

impl PluginFault {
    /// A fault with the usual blame of its kind.
    pub fn new(plugin: impl Into<String>, kind: FaultKind, detail: impl Into<String>) -> Self {
        Self {
            plugin: plugin.into(),
            kind,
            blame: kind.usual_blame(),
            detail: detail.into(),
        }
    }

    /// The same fault, with somebody else to act on it.
    #[must_use]
    pub fn blamed_on(mut self, blame: Blame) -> Self {
        self.blame = blame;
        self
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
