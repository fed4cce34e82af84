//! `command-policy`: which commands go out.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::canonical::{canonical, digest};
use crate::{Ask, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, Requester, native};

/// When a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandStage {
    /// The command was handed in and is not stored yet: once, for however many devices it is.
    Enqueue,
    /// The command is about to go to one device.
    Send,
}

impl CommandStage {
    /// The stable name, as plugins read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Send => "send",
        }
    }
}

/// What a policy decides about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// When it is asked.
    pub stage: CommandStage,
    /// The command's UUID.
    pub uuid: String,
    /// Its `RequestType`.
    pub request_type: String,
    /// The command: a JSON object with Apple's key names; data is in base64, dates are RFC 3339.
    pub command: Arc<str>,
    /// Whether the server takes it for destructive: it erases, locks, clears a passcode, or takes the management away.
    pub destructive: bool,
    /// Who handed it in.
    pub requester: Requester,
    /// Who approved it after it was held, by the name of the API token.
    pub approved_by: Option<String>,
    /// How many devices it is for.
    pub targets: u32,
    /// The device, if it is for one.
    pub device: Option<Device>,
    /// The person behind the enrollment, if it is for one device and the person is known.
    pub person: Option<Person>,
}

/// A refusal, or why a command waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// A short, stable name, such as `erase-needs-approval`.
    pub reason: String,
    /// What the administrator reads.
    pub message: String,
}

/// The decision of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandVerdict {
    /// Goes on as it is.
    Allow,
    /// Goes on as this: a JSON object of the same `RequestType`.
    Replace(String),
    /// Waits until another administrator than the one who handed it in approves.
    Hold(Explanation),
    /// Does not go out.
    Deny(Explanation),
}

impl CommandVerdict {
    /// The stable name, as recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Replace(_) => "replace",
            Self::Hold(_) => "hold",
            Self::Deny(_) => "deny",
        }
    }
}

/// What the failure of a policy means for a command that is not destructive. For one that is, it always closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandFailure {
    /// The command does not go out for now.
    #[default]
    Closed,
    /// The command goes on as if the policy were not there.
    Open,
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct CommandHook;

impl Hook for CommandHook {
    const KIND: HookKind = HookKind::CommandPolicy;
    type Request = CommandRequest;
    type Verdict = CommandVerdict;

    fn subject(request: &CommandRequest) -> &str {
        request.device.as_ref().map_or(&request.request_type, Device::label)
    }

    fn input(request: &Arc<CommandRequest>) -> Option<HookInput> {
        Some(HookInput::CommandPolicy(Arc::clone(request)))
    }

    fn verdict_name(verdict: &CommandVerdict) -> &'static str {
        verdict.as_str()
    }

    fn verdict_json(verdict: &CommandVerdict) -> String {
        match verdict {
            // A command may hold a password.
            CommandVerdict::Replace(command) => {
                canonical(&serde_json::json!({ "replace": digest(command.as_bytes()) }))
            }
            other => canonical(other),
        }
    }
}

/// A command policy in native Rust.
#[async_trait]
pub trait CommandPolicy: Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    ///
    /// A fault closes for destructive commands; for others the operator's setting decides ([`CommandFailure`]).
    async fn check(&self, ask: &Ask<CommandHook>) -> Result<CommandVerdict, PluginFault>;
}

impl CommandHook {
    /// Makes a service of a native policy.
    pub fn service(policy: impl CommandPolicy) -> HookService<Self> {
        native(policy, |policy, ask| Box::pin(async move { policy.check(&ask).await }))
    }
}
