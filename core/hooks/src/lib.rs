//! The port between the engine and whatever extends it.
//!
//! Each extension point (hook) has a request, a verdict, one Rust trait, a rule by which the answers of several
//! implementors combine, and a rule for failures. A hook call is a [`tower::Service`]; permits and deadlines are layers
//! over it, and an embedding server can add its own. WASM plugins implement the same services as native Rust does.
//!
//! This crate knows neither wasmtime nor HTTP nor SQL, and nothing in it has a side effect: implementors answer, the
//! engine acts.

mod call;
mod canonical;
mod combine;
mod command;
mod directory;
mod effect;
mod escrow;
mod fault;
mod gate;
mod input;
mod layers;
mod observer;
mod planner;
mod record;
mod recorder;
mod scheduled;
mod secret;
mod set;
mod subject;
mod template;

pub use call::{Answer, Ask, Hook, HookKind, HookService, MAX_DEPTH, Scope, ShareKey, native};
pub use combine::{Outcome, Undecided};
pub use command::{
    CommandFailure, CommandHook, CommandPolicy, CommandRequest, CommandStage, CommandVerdict, Explanation,
};
pub use directory::{Directory, DirectoryHook, DirectoryRequest, DirectoryVerdict, SignIn};
pub use effect::{Effect, EffectAction};
pub use escrow::{EscrowHook, EscrowKind, EscrowOperation, EscrowPolicy, EscrowRequest, EscrowVerdict};
pub use fault::{Blame, FaultKind, PluginFault};
pub use gate::{
    BetaProgram, Denial, EnrollmentGate, EnrollmentMethod, EnrollmentRequest, GateHook, GateStage, GateVerdict,
    Ownership, SoftwareUpdate,
};
pub use input::HookInput;
pub use layers::{CallLimits, Deadline, DeadlineLayer, guarded};
pub use observer::{Event, Observer, ObserverHook, event_matches};
pub use planner::{DeclarationPlanner, PlanRequest, PlannedDeclaration, PlannerHook, PluginPlan};
pub use record::{DecisionRecord, FailureRule};
pub use recorder::{Answers, JournalEntry, Recorded, Recorder, Usage};
pub use scheduled::{Schedule, ScheduleTime, Scheduled, ScheduledHook, ScheduledRun};
pub use secret::Secret;
pub use set::{FixedHooks, HookSet, HookSetBuilder, HookSource, Implementor};
pub use subject::{Device, Person, Requester};
pub use template::{ProfileTemplate, RenderedProfile, TemplateHook, TemplateRequest};
