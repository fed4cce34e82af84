//! `declaration-planner`: which declarations a device has.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical::{canonical, digest};
use crate::{Ask, DecisionRecord, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, native};

/// What a planner plans for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The device.
    pub device: Device,
    /// The person behind the enrollment.
    pub person: Option<Person>,
    /// What the device last reported, by status item, such as `device.operating-system.version`: JSON texts.
    pub status: BTreeMap<String, String>,
}

/// A declaration of a plan (Apple: declarative management).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDeclaration {
    /// Its identifier, unique for the device.
    pub identifier: String,
    /// Its type, such as `com.apple.configuration.passcode.settings`.
    pub declaration_type: String,
    /// Its payload: a JSON object.
    pub payload: String,
}

/// What one planner answered.
#[derive(Clone, Debug)]
pub struct PluginPlan {
    /// The planner.
    pub plugin: String,
    /// The digest of its revision.
    pub revision: String,
    /// The plan. On a fault the planner's last good plan stays.
    pub plan: Result<Vec<PlannedDeclaration>, PluginFault>,
    /// The record of the call.
    pub decision: DecisionRecord,
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct PlannerHook;

impl Hook for PlannerHook {
    const KIND: HookKind = HookKind::DeclarationPlanner;
    type Request = PlanRequest;
    type Verdict = Vec<PlannedDeclaration>;

    fn subject(request: &PlanRequest) -> &str {
        request.device.label()
    }

    fn input(request: &Arc<PlanRequest>) -> Option<HookInput> {
        Some(HookInput::DeclarationPlanner(Arc::clone(request)))
    }

    fn verdict_name(_: &Self::Verdict) -> &'static str {
        "planned"
    }

    fn verdict_json(plan: &Self::Verdict) -> String {
        // In the order of identifiers, because a plan is a set.
        let by_identifier: BTreeMap<&str, Value> = plan
            .iter()
            .map(|declaration| {
                let shown = json!({
                    "payload": digest(declaration.payload.as_bytes()),
                    "type": declaration.declaration_type,
                });
                (declaration.identifier.as_str(), shown)
            })
            .collect();
        canonical(&json!({ "plan": by_identifier }))
    }
}

/// A planner in native Rust.
#[async_trait]
pub trait DeclarationPlanner: Send + Sync + 'static {
    /// Plans. The same question must get the same plan, or devices never come to rest.
    ///
    /// # Errors
    ///
    /// On a fault the last good plan of this planner stays.
    async fn plan(&self, ask: &Ask<PlannerHook>) -> Result<Vec<PlannedDeclaration>, PluginFault>;
}

impl PlannerHook {
    /// Makes a service of a native planner.
    pub fn service(planner: impl DeclarationPlanner) -> HookService<Self> {
        native(planner, |planner, ask| {
            Box::pin(async move { planner.plan(&ask).await })
        })
    }
}
