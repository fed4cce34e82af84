//! Declarations: stored sets and who has them, the plan of each enrollment, and what devices report about them.
//!
//! This module knows no planner: a plan is handed in whole, and only what changed of it is written. It does not look into
//! payloads either.

mod plan;
mod requests;
mod sets;
mod status;

pub use plan::{NewPlan, PlanChange, PlanItem, PlanToken, PlanView, PlannedContent, PlannedItem, StoredDeclaration};
pub(crate) use plan::{UNUSED_CONTENTS, forget};
pub use requests::PlanJob;
pub(crate) use requests::{request_first_plan, request_plan};
pub use sets::{DeclarationSet, SetAssignment, SetDeclaration, SetWritten};
pub(crate) use sets::{assign_declarations, unassign_declarations};
pub use status::{StatusItem, StatusProblem, StatusWrite};
