//! A call of a hook, as a tower service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use crate::PluginFault;

/// The extension points. The names are those of the WIT interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookKind {
    /// Who may enroll.
    EnrollmentGate,
    /// Who a person is.
    Directory,
    /// What happens to escrowed secrets.
    EscrowPolicy,
    /// How a template becomes a profile.
    ProfileTemplate,
}

impl HookKind {
    /// Every hook.
    pub const ALL: [Self; 4] = [
        Self::EnrollmentGate,
        Self::Directory,
        Self::EscrowPolicy,
        Self::ProfileTemplate,
    ];

    /// The name, as in `wit/` and in decision records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnrollmentGate => "enrollment-gate",
            Self::Directory => "directory",
            Self::EscrowPolicy => "escrow-policy",
            Self::ProfileTemplate => "profile-template",
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One extension point as a type: its request and its verdict.
pub trait Hook: Send + Sync + 'static {
    /// Which one.
    const KIND: HookKind;
    /// What is asked.
    type Request: Send + Sync + fmt::Debug + 'static;
    /// What is answered.
    type Verdict: Send + 'static;
}

/// What all hook calls of one device request share.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The name of the tenant.
    pub tenant: Arc<str>,
    /// The identifier of the request, for logs.
    pub request_id: Arc<str>,
    /// When the answer has to be there; the calls of one request share what is left.
    pub deadline: Instant,
}

impl Scope {
    /// A scope that ends after `budget`.
    pub fn new(tenant: impl Into<Arc<str>>, request_id: impl Into<Arc<str>>, budget: Duration) -> Self {
        Self {
            tenant: tenant.into(),
            request_id: request_id.into(),
            deadline: Instant::now() + budget,
        }
    }
}

/// One question to one implementor.
#[derive(Debug)]
pub struct Ask<H: Hook> {
    /// Tenant, request and deadline.
    pub scope: Scope,
    /// The question, shared by all implementors that are asked.
    pub request: Arc<H::Request>,
}

impl<H: Hook> Clone for Ask<H> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            request: Arc::clone(&self.request),
        }
    }
}

/// An implementor of a hook: WASM or native, with whatever layers are over it.
pub type HookService<H> = BoxCloneSyncService<Ask<H>, <H as Hook>::Verdict, PluginFault>;

/// The answer of an implementor, on its way.
pub type Answer<H> = BoxFuture<'static, Result<<H as Hook>::Verdict, PluginFault>>;

/// Makes a service of a native implementor and a function that calls it.
pub fn native<H: Hook, T: Send + Sync + 'static>(
    implementor: T,
    call: fn(Arc<T>, Ask<H>) -> Answer<H>,
) -> HookService<H> {
    let implementor = Arc::new(implementor);
    BoxCloneSyncService::new(tower::service_fn(move |ask| call(Arc::clone(&implementor), ask)))
}
