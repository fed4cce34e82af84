//! How the answers of several implementors become one, and what a failure means: one file for each hook.

mod command;
mod directory;
mod escrow;
mod gate;
mod observer;
mod planner;
mod scheduled;
mod template;

use std::sync::Arc;
use std::time::Instant;

use tower::ServiceExt;

use crate::{Ask, DecisionRecord, FailureRule, FaultKind, Hook, Implementor, PluginFault, Scope};

/// No decision could be made, and the hook's failure rule says what that means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no decision ({}): {fault}", .rule.as_str())]
pub struct Undecided {
    /// The rule to apply.
    pub rule: FailureRule,
    /// What failed.
    pub fault: PluginFault,
}

/// What came of asking all implementors of a hook.
#[derive(Clone, Debug)]
pub struct Outcome<V> {
    /// The combined verdict.
    pub verdict: Result<V, Undecided>,
    /// One record for each implementor that was asked, to be stored with what follows.
    pub decisions: Vec<DecisionRecord>,
}

impl<H: Hook> Implementor<H> {
    /// Asks this implementor alone, and makes the record of it. The failure rule is not in the record yet: it is for
    /// whoever applies it.
    pub async fn ask(&self, ask: Ask<H>) -> (Result<H::Verdict, PluginFault>, DecisionRecord) {
        let request = Arc::clone(&ask.request);
        let recorder = ask.recorder.clone();
        let started = Instant::now();
        let answer = self.service.clone().oneshot(ask).await;
        let duration = started.elapsed();
        let recorded = recorder.take();
        let (verdict, verdict_json) = match &answer {
            Ok(verdict) => (H::verdict_name(verdict), H::verdict_json(verdict)),
            Err(_) => ("", String::new()),
        };
        let mut record = DecisionRecord {
            hook: H::KIND,
            plugin: self.name.clone(),
            revision: recorded.revision.unwrap_or_else(|| self.revision.clone()),
            subject: H::subject(&request).to_owned(),
            verdict: verdict.to_owned(),
            reason: None,
            fault: None,
            failure_rule: None,
            duration,
            effects: recorded.effects,
            input: (!recorded.read_unrecorded).then(|| H::input(&request)).flatten(),
            journal: recorded.journal,
            verdict_json,
            usage: recorded.usage,
            enrollment: None,
        };
        if let Err(fault) = &answer {
            record.failed(fault);
        }
        (answer, record)
    }
}

/// Asks one of several implementors.
async fn ask<H: Hook>(
    implementor: &Implementor<H>,
    scope: &Scope,
    request: &Arc<H::Request>,
) -> (Result<H::Verdict, PluginFault>, DecisionRecord) {
    implementor.ask(Ask::new(scope.clone(), Arc::clone(request))).await
}

/// Applies a failure rule, and writes down that it was.
fn fail(record: &mut DecisionRecord, fault: PluginFault, rule: FailureRule) -> Undecided {
    record.failure_rule = Some(rule);
    Undecided { rule, fault }
}

/// What comes of asking an implementor that is not there.
fn missing<V>(plugin: &str, detail: &str, rule: FailureRule) -> Outcome<V> {
    let fault = PluginFault::new(plugin, FaultKind::Unusable, detail);
    Outcome {
        verdict: Err(Undecided { rule, fault }),
        decisions: Vec::new(),
    }
}
