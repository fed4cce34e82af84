//! A call of a hook, as a tower service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

use crate::{Answers, HookInput, PluginFault, Recorder};

/// How often plugins may cause one another: at this depth no effect that calls further plugins can be recorded.
pub const MAX_DEPTH: u8 = 8;

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
    /// Which commands go out.
    CommandPolicy,
    /// Which declarations a device has.
    DeclarationPlanner,
    /// What follows from what happened.
    Observer,
    /// What is done at certain times.
    Scheduled,
}

impl HookKind {
    /// Every hook.
    pub const ALL: [Self; 8] = [
        Self::EnrollmentGate,
        Self::Directory,
        Self::EscrowPolicy,
        Self::ProfileTemplate,
        Self::CommandPolicy,
        Self::DeclarationPlanner,
        Self::Observer,
        Self::Scheduled,
    ];

    /// The name, as in `wit/` and in decision records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnrollmentGate => "enrollment-gate",
            Self::Directory => "directory",
            Self::EscrowPolicy => "escrow-policy",
            Self::ProfileTemplate => "profile-template",
            Self::CommandPolicy => "command-policy",
            Self::DeclarationPlanner => "declaration-planner",
            Self::Observer => "observer",
            Self::Scheduled => "scheduled",
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

    /// What the question is about, for reports: a serial number, a user name.
    fn subject(request: &Self::Request) -> &str;

    /// The question as it may be recorded and asked again; absent where it holds what is never recorded, such as a
    /// password.
    fn input(request: &Arc<Self::Request>) -> Option<HookInput>;

    /// The verdict's stable name, as recorded.
    fn verdict_name(verdict: &Self::Verdict) -> &'static str;

    /// The verdict as canonical JSON: two verdicts are the same if and only if this is. Secrets and documents are in it as
    /// lengths and digests.
    fn verdict_json(verdict: &Self::Verdict) -> String;
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
    /// How many plugins caused one another before this call: 0 for what devices and administrators ask, one more than its
    /// event for an observer. See [`MAX_DEPTH`].
    pub depth: u8,
    /// Whether the answers that a plugin gets from the host are to be written to the journal.
    pub recording: bool,
    /// What decides whether a candidate answers, where one has a share of the calls.
    pub share: ShareKey,
}

/// What decides which of two revisions of a plugin answers while they share the calls. Clones share it, so that all hooks
/// of one request about one enrollment get the same: see [`ShareKey::of`].
#[derive(Clone, Debug, Default)]
pub struct ShareKey(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    label: Arc<str>,
    person: bool,
}

impl ShareKey {
    /// The key of a call. It is what the call is about, a device in most hooks; but a directory, which is asked about
    /// people, follows the device that the request was about before, and a request that began with a person keeps to the
    /// person.
    pub fn of(&self, hook: HookKind, subject: &str) -> Arc<str> {
        let person = hook == HookKind::Directory;
        // Nobody panics while it is held, and if somebody did, what is there would still be whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.person || person) {
            return Arc::clone(&known.label);
        }
        let label: Arc<str> = subject.into();
        *known = Some(Known {
            label: Arc::clone(&label),
            person,
        });
        label
    }
}

impl Scope {
    /// A scope that ends after `budget`, at depth 0, without a journal.
    pub fn new(tenant: impl Into<Arc<str>>, request_id: impl Into<Arc<str>>, budget: Duration) -> Self {
        Self {
            tenant: tenant.into(),
            request_id: request_id.into(),
            deadline: Instant::now() + budget,
            depth: 0,
            recording: false,
            share: ShareKey::default(),
        }
    }

    /// The same at another depth.
    #[must_use]
    pub fn at_depth(mut self, depth: u8) -> Self {
        self.depth = depth;
        self
    }

    /// The same with or without a journal.
    #[must_use]
    pub fn recording(mut self, recording: bool) -> Self {
        self.recording = recording;
        self
    }
}

/// One question to one implementor.
#[derive(Debug)]
pub struct Ask<H: Hook> {
    /// Tenant, request and deadline.
    pub scope: Scope,
    /// The question, shared by all implementors that are asked.
    pub request: Arc<H::Request>,
    /// Where the implementor's own calls of the host get their answers.
    pub answers: Answers,
    /// What the call leaves beside its verdict. Clones of an ask share it.
    pub recorder: Recorder,
}

impl<H: Hook> Ask<H> {
    /// A question whose host calls are answered by the server, with an empty recorder.
    pub fn new(scope: Scope, request: Arc<H::Request>) -> Self {
        Self {
            scope,
            request,
            answers: Answers::Live,
            recorder: Recorder::default(),
        }
    }

    /// The same question with other answers and an empty recorder of its own: for a call beside the one that counts.
    #[must_use]
    pub fn beside(&self, answers: Answers) -> Self {
        Self {
            scope: self.scope.clone(),
            request: Arc::clone(&self.request),
            answers,
            recorder: Recorder::default(),
        }
    }
}

impl<H: Hook> Clone for Ask<H> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            request: Arc::clone(&self.request),
            answers: self.answers.clone(),
            recorder: self.recorder.clone(),
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
