//! Several planners: each has a plan of its own; the engine unites them, because it knows the last good ones.

use std::sync::Arc;

use super::{ask, fail};
use crate::{FailureRule, HookSet, PlanRequest, PluginPlan, Scope};

impl HookSet {
    /// Asks every planner, in order.
    pub async fn plan(&self, scope: &Scope, request: PlanRequest) -> Vec<PluginPlan> {
        let request = Arc::new(request);
        let mut plans = Vec::with_capacity(self.planners.len());
        for planner in &self.planners {
            let (answer, mut decision) = ask(planner, scope, &request).await;
            let plan = answer.map_err(|fault| fail(&mut decision, fault, FailureRule::LastGoodPlan).fault);
            plans.push(PluginPlan {
                plugin: planner.name.clone(),
                revision: planner.revision.clone(),
                plan,
                decision,
            });
        }
        plans
    }
}
