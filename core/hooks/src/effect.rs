//! What is to be done because of a call: data, applied by the engine in the transaction that records the decision.

use serde::Serialize;

use crate::Secret;

/// One effect, in the order in which the call asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// The canonical key of the enrollment; the one that the call is about if absent.
    pub target: Option<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub action: EffectAction,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum EffectAction {
    /// Set an attribute of the enrollment.
    SetAttribute {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// Remove an attribute of the enrollment.
    ClearAttribute {
        /// The name.
        name: String,
    },
    /// Queue a command. Command policies are asked before.
    EnqueueCommand {
        /// Its UUID, which the plugin knows already.
        uuid: String,
        /// The command: a JSON object with Apple's key names.
        command: String,
        /// Lower goes first; 0 is usual.
        priority: i16,
        /// Not sent before this, in milliseconds since the epoch.
        not_before_ms: Option<u64>,
        /// Not sent after this, in milliseconds since the epoch.
        expires_at_ms: Option<u64>,
        /// At most one command with this key waits in a queue.
        dedupe_key: Option<String>,
    },
    /// Take a command back.
    CancelCommand {
        /// Its UUID.
        uuid: String,
    },
    /// Wake the device.
    Push,
    /// Give the device a stored profile.
    AssignProfile {
        /// The profile's name.
        profile: String,
    },
    /// Take a stored profile away again.
    UnassignProfile {
        /// The profile's name.
        profile: String,
    },
    /// Give the device a stored set of declarations.
    AssignDeclarations {
        /// The set's name.
        name: String,
    },
    /// Take a stored set of declarations away again.
    UnassignDeclarations {
        /// The set's name.
        name: String,
    },
    /// Keep a secret of the plugin's own.
    PutSecret {
        /// The name.
        name: String,
        /// The value; never serialised.
        #[serde(skip)]
        value: Secret,
    },
    /// Call the plugin's `scheduled` hook.
    ScheduleCall {
        /// The name of the work; what was scheduled under it before is replaced.
        name: String,
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// What the hook is given.
        payload: String,
    },
    /// Tell observers.
    EmitEvent {
        /// The last part of the kind: `plugin.NAME.` stands before it.
        kind: String,
        /// A JSON object.
        detail: String,
    },
}

impl EffectAction {
    /// The stable name: that of the function of `wit/capabilities.wit`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SetAttribute { .. } => "set-attribute",
            Self::ClearAttribute { .. } => "clear-attribute",
            Self::EnqueueCommand { .. } => "enqueue-command",
            Self::CancelCommand { .. } => "cancel-command",
            Self::Push => "push",
            Self::AssignProfile { .. } => "assign-profile",
            Self::UnassignProfile { .. } => "unassign-profile",
            Self::AssignDeclarations { .. } => "assign-declarations",
            Self::UnassignDeclarations { .. } => "unassign-declarations",
            Self::PutSecret { .. } => "put-secret",
            Self::ScheduleCall { .. } => "schedule-call",
            Self::EmitEvent { .. } => "emit-event",
        }
    }
}
