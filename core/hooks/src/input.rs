//! A recorded question: what is needed to ask it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    CommandRequest, DirectoryRequest, EnrollmentRequest, EscrowRequest, Event, HookKind, PlanRequest, ScheduledRun,
    TemplateRequest,
};

/// The question of a call, of whichever hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", content = "request", rename_all = "kebab-case")]
pub enum HookInput {
    /// To a gate.
    EnrollmentGate(Arc<EnrollmentRequest>),
    /// To a directory: look-ups only, because sign-ins have passwords.
    Directory(Arc<DirectoryRequest>),
    /// To an escrow policy, without the secret.
    EscrowPolicy(Arc<EscrowRequest>),
    /// To a template engine.
    ProfileTemplate(Arc<TemplateRequest>),
    /// To a command policy.
    CommandPolicy(Arc<CommandRequest>),
    /// To a planner.
    DeclarationPlanner(Arc<PlanRequest>),
    /// To an observer.
    Observer(Arc<Event>),
    /// To a plugin with scheduled work.
    Scheduled(Arc<ScheduledRun>),
}

impl HookInput {
    /// The hook that is asked.
    pub fn kind(&self) -> HookKind {
        match self {
            Self::EnrollmentGate(_) => HookKind::EnrollmentGate,
            Self::Directory(_) => HookKind::Directory,
            Self::EscrowPolicy(_) => HookKind::EscrowPolicy,
            Self::ProfileTemplate(_) => HookKind::ProfileTemplate,
            Self::CommandPolicy(_) => HookKind::CommandPolicy,
            Self::DeclarationPlanner(_) => HookKind::DeclarationPlanner,
            Self::Observer(_) => HookKind::Observer,
            Self::Scheduled(_) => HookKind::Scheduled,
        }
    }

    /// The question as JSON, without the name of the hook.
    ///
    /// # Errors
    ///
    /// It is a sign-in.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::EnrollmentGate(request) => serde_json::to_string(request),
            Self::Directory(request) => serde_json::to_string(request),
            Self::EscrowPolicy(request) => serde_json::to_string(request),
            Self::ProfileTemplate(request) => serde_json::to_string(request),
            Self::CommandPolicy(request) => serde_json::to_string(request),
            Self::DeclarationPlanner(request) => serde_json::to_string(request),
            Self::Observer(request) => serde_json::to_string(request),
            Self::Scheduled(request) => serde_json::to_string(request),
        }
    }

    /// Reads what [`HookInput::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// The text is no question to this hook.
    pub fn from_json(kind: HookKind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            HookKind::EnrollmentGate => Self::EnrollmentGate(serde_json::from_str(text)?),
            HookKind::Directory => Self::Directory(serde_json::from_str(text)?),
            HookKind::EscrowPolicy => Self::EscrowPolicy(serde_json::from_str(text)?),
            HookKind::ProfileTemplate => Self::ProfileTemplate(serde_json::from_str(text)?),
            HookKind::CommandPolicy => Self::CommandPolicy(serde_json::from_str(text)?),
            HookKind::DeclarationPlanner => Self::DeclarationPlanner(serde_json::from_str(text)?),
            HookKind::Observer => Self::Observer(serde_json::from_str(text)?),
            HookKind::Scheduled => Self::Scheduled(serde_json::from_str(text)?),
        })
    }
}
