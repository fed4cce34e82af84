//! One template engine, by its name.

use std::sync::Arc;

use super::{Outcome, ask, fail, missing};
use crate::{FailureRule, HookSet, RenderedProfile, Scope, TemplateRequest};

impl HookSet {
    /// Asks the template engine of that name.
    pub async fn render(&self, scope: &Scope, engine: &str, request: TemplateRequest) -> Outcome<RenderedProfile> {
        let Some(implementor) = self.templates.iter().find(|template| template.name == engine) else {
            return missing(
                engine,
                "no active plugin of this name renders templates",
                FailureRule::Wait,
            );
        };
        let request = Arc::new(request);
        let (answer, mut record) = ask(implementor, scope, &request).await;
        let verdict = match answer {
            Ok(profile) => Ok(profile),
            Err(fault) => Err(fail(&mut record, fault, FailureRule::Wait)),
        };
        Outcome {
            verdict,
            decisions: vec![record],
        }
    }
}
