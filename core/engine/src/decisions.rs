//! Decisions of hooks, on their way into the store: with digests, with the call in full where that is kept, and with
//! effects that were looked at.

use std::collections::VecDeque;

use russet_hooks::DecisionRecord;
use russet_pki::fingerprint::sha256;
use russet_store::{EnrollmentId, NewDecision, RecordedCall, StoreError};

use crate::{Engine, Request};

impl Engine {
    /// What was decided, to be stored with what follows from it. Effects are checked, and command policies asked about
    /// commands among them; what these decide is part of the answer. What can not be done is recorded as refused.
    ///
    /// # Errors
    ///
    /// A failure of the store or its vault.
    pub(crate) async fn decided(
        &self,
        request: &Request,
        records: Vec<DecisionRecord>,
        about: Option<EnrollmentId>,
    ) -> Result<Vec<NewDecision>, StoreError> {
        let mut decisions = Vec::with_capacity(records.len());
        let mut records = VecDeque::from(records);
        while let Some(mut record) = records.pop_front() {
            note_fault(&record);
            let wanted = std::mem::take(&mut record.effects);
            let (effects, asked) = self.effects(request, &record, wanted, about).await?;
            // Theirs can not go on for ever: the policies are not asked about the effects of policies.
            records.extend(asked);
            let mut decision = self.row(request, record)?;
            decision.effects = effects;
            decision.enrollment = about;
            decisions.push(decision);
        }
        Ok(decisions)
    }

    fn row(&self, request: &Request, record: DecisionRecord) -> Result<NewDecision, StoreError> {
        let input = record.input.as_ref().and_then(|input| input.to_json().ok());
        let journal = request
            .scope
            .recording
            .then(|| serde_json::to_string(&record.journal).ok())
            .flatten();
        let call = match (&input, &journal) {
            (Some(input), Some(journal)) => self.inner.store.sealed_call(
                request.tenant.id,
                &RecordedCall {
                    input: input.clone(),
                    journal: journal.clone(),
                    verdict: record.verdict_json.clone(),
                },
            )?,
            _ => None,
        };
        let digest = |text: &Option<String>| text.as_ref().map(|text| sha256(text.as_bytes()));
        Ok(NewDecision {
            enrollment: None,
            hook: record.hook.as_str().to_owned(),
            plugin: Some(record.plugin),
            revision: Some(record.revision),
            subject: record.subject,
            verdict: record.verdict,
            reason: record.reason,
            fault: record.fault.map(|fault| format!("{}: {}", fault.kind, fault.detail)),
            failure_rule: record.failure_rule.map(|rule| rule.as_str().to_owned()),
            duration_us: i64::try_from(record.duration.as_micros()).unwrap_or(i64::MAX),
            effects: Vec::new(),
            depth: request.scope.depth,
            input_sha256: digest(&input),
            journal_sha256: digest(&journal),
            verdict_sha256: Some(sha256(record.verdict_json.as_bytes())),
            host_calls: record.usage.host_calls,
            cpu_ticks: record.usage.cpu_ticks,
            memory_bytes: record.usage.memory_bytes,
            call,
        })
    }
}

fn note_fault(record: &DecisionRecord) {
    if let Some(fault) = &record.fault {
        tracing::warn!(
            hook = %record.hook,
            plugin.name = %record.plugin,
            fault.kind = %fault.kind,
            fault.detail = %fault.detail,
            "a hook failed and its failure rule was applied"
        );
    }
}
