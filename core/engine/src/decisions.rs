//! Decisions of hooks, on their way into the store.

use russet_hooks::DecisionRecord;
use russet_store::NewDecision;

/// The rows of what was decided.
pub(crate) fn rows(decisions: &[DecisionRecord]) -> Vec<NewDecision> {
    decisions.iter().map(row).collect()
}

fn row(decision: &DecisionRecord) -> NewDecision {
    if let Some(fault) = &decision.fault {
        tracing::warn!(
            hook = %decision.hook,
            plugin.name = %decision.plugin,
            fault.kind = %fault.kind,
            fault.detail = %fault.detail,
            "a hook failed and its failure rule was applied"
        );
    }
    NewDecision {
        enrollment: None,
        hook: decision.hook.as_str().to_owned(),
        plugin: Some(decision.plugin.clone()),
        revision: Some(decision.revision.clone()),
        subject: decision.subject.clone(),
        verdict: decision.verdict.clone(),
        reason: decision.reason.clone(),
        fault: decision
            .fault
            .as_ref()
            .map(|fault| format!("{}: {}", fault.kind, fault.detail)),
        failure_rule: decision.failure_rule.map(|rule| rule.as_str().to_owned()),
        duration_us: i64::try_from(decision.duration.as_micros()).unwrap_or(i64::MAX),
    }
}
