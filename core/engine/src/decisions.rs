//! Decisions of hooks, on their way into the store: with digests, with the call in full where that is kept, and with
//! effects that were looked at.

use std::collections::VecDeque;

use russet_hooks::DecisionRecord;
use russet_pki::fingerprint::sha256;
use russet_store::{DecisionRetention, EnrollmentId, NewDecision, RecordedCall, StoreError, TenantId};

use crate::{Engine, EngineError, Request, TenantRef};

/// The longest that decisions are kept, in days.
const MAX_DAYS: u32 = 3_650;

/// The longest that calls are kept in full, in hours.
const MAX_HOURS: u32 = 24 * 365;

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

    /// Whether calls of a tenant's plugins are kept in full.
    pub(crate) fn records_calls(&self, tenant: TenantId) -> bool {
        let own = self.inner.observing.is_recorded(tenant);
        own.unwrap_or(self.inner.settings.work.record_calls)
    }

    /// Sets how long a tenant's decisions are kept. Other nodes go by it within some seconds.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`], or a failure of the store.
    pub async fn set_decision_retention(
        &self,
        tenant: &TenantRef,
        retention: DecisionRetention,
    ) -> Result<(), EngineError> {
        if retention
            .decisions_days
            .is_some_and(|days| !(1..=MAX_DAYS).contains(&days))
        {
            return Err(EngineError::invalid(format!(
                "decisions_days must be between 1 and {MAX_DAYS}"
            )));
        }
        if retention.input_hours.is_some_and(|hours| hours > MAX_HOURS) {
            return Err(EngineError::invalid(format!(
                "input_hours must be between 0 and {MAX_HOURS}"
            )));
        }
        self.inner.store.set_decision_retention(tenant.id, retention).await?;
        Ok(self.note_retentions().await?)
    }

    /// Notes which tenants say themselves whether calls are kept in full.
    pub(crate) async fn note_retentions(&self) -> Result<(), StoreError> {
        let own = self.inner.store.decision_retentions().await?;
        let recorded = own
            .into_iter()
            .filter_map(|(tenant, own)| Some((tenant, own.input_hours? > 0)));
        self.inner.observing.recorded(recorded.collect());
        Ok(())
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
