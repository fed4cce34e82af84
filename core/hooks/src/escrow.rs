//! `escrow-policy`: what happens to secrets that are kept for a device.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Ask, Device, Hook, HookKind, HookService, Person, PluginFault, native};

/// A secret that is escrowed on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscrowKind {
    /// `SetBootstrapToken`.
    BootstrapToken,
    /// `UnlockToken` of TokenUpdate.
    UnlockToken,
}

impl EscrowKind {
    /// The stable name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BootstrapToken => "bootstrap-token",
            Self::UnlockToken => "unlock-token",
        }
    }
}

/// What is to be done with the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscrowOperation {
    /// It is handed over to be kept.
    Deposit,
    /// It is asked for.
    Release,
}

/// Who hands a secret over or wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requester {
    /// The device, by check-in.
    Device,
    /// An administrator, by the name of the API token.
    Administrator(String),
}

/// What a policy decides about. The secret itself is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowRequest {
    /// What is to be done.
    pub operation: EscrowOperation,
    /// Which secret.
    pub kind: EscrowKind,
    /// Whose secret.
    pub device: Device,
    /// The person behind the enrollment.
    pub person: Option<Person>,
    /// Who asks.
    pub requester: Requester,
    /// Seconds since the stored secret was deposited; absent if there is none.
    pub age_seconds: Option<u64>,
}

/// The decision of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscrowVerdict {
    /// Keep it, or release it.
    Allow,
    /// Do not; with the reason.
    Deny(String),
}

impl EscrowVerdict {
    /// The stable name, as recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
        }
    }
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct EscrowHook;

impl Hook for EscrowHook {
    const KIND: HookKind = HookKind::EscrowPolicy;
    type Request = EscrowRequest;
    type Verdict = EscrowVerdict;
}

/// An escrow policy in native Rust.
#[async_trait]
pub trait EscrowPolicy: Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    ///
    /// On a fault a release is refused; a deposit is kept sealed and marked.
    async fn decide(&self, ask: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault>;
}

impl EscrowHook {
    /// Makes a service of a native policy.
    pub fn service(policy: impl EscrowPolicy) -> HookService<Self> {
        native(policy, |policy, ask| Box::pin(async move { policy.decide(&ask).await }))
    }
}
