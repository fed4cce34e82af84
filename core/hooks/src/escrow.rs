//! `escrow-policy`: what happens to secrets that are kept for a device.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical::canonical;
use crate::{Ask, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, Requester, Secret, native};

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
    /// It is about to be removed.
    Clear,
}

/// What a policy decides about.
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
    /// The secret: on a deposit what is handed over, on a release what is kept, or what the policy before made of it.
    /// Plugins see it only with a grant, and it is never recorded.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

/// The decision of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EscrowVerdict {
    /// Keep it, release it, or remove it.
    Allow,
    /// Keep or release this in its place.
    AllowAs(Secret),
    /// Do not; with the reason.
    Deny(String),
}

impl EscrowVerdict {
    /// The stable name, as recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::AllowAs(_) => "allow-as",
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

    fn subject(request: &EscrowRequest) -> &str {
        request.device.label()
    }

    /// Without the secret, which only a plugin that reads it would miss: the host then keeps no question at all.
    fn input(request: &Arc<EscrowRequest>) -> Option<HookInput> {
        Some(HookInput::EscrowPolicy(if request.secret.is_none() {
            Arc::clone(request)
        } else {
            Arc::new(EscrowRequest {
                secret: None,
                ..EscrowRequest::clone(request)
            })
        }))
    }

    fn verdict_name(verdict: &EscrowVerdict) -> &'static str {
        verdict.as_str()
    }

    fn verdict_json(verdict: &EscrowVerdict) -> String {
        canonical(&match verdict {
            EscrowVerdict::Allow => json!("allow"),
            // No digest: that of a short passcode would give it away.
            EscrowVerdict::AllowAs(secret) => json!({ "allow-as": { "bytes": secret.expose().len() } }),
            EscrowVerdict::Deny(reason) => json!({ "deny": reason }),
        })
    }
}

/// An escrow policy in native Rust.
#[async_trait]
pub trait EscrowPolicy: Send + Sync + 'static {
    /// Decides.
    ///
    /// # Errors
    ///
    /// On a fault a release or removal is refused; a deposit is kept sealed and marked.
    async fn decide(&self, ask: &Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault>;
}

impl EscrowHook {
    /// Makes a service of a native policy.
    pub fn service(policy: impl EscrowPolicy) -> HookService<Self> {
        native(policy, |policy, ask| Box::pin(async move { policy.decide(&ask).await }))
    }
}
