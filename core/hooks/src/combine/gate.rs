//! Several gates: all must allow, and the strictest verdict wins.

use std::sync::Arc;

use super::{Outcome, ask, fail};
use crate::{EnrollmentRequest, FailureRule, GateVerdict, HookSet, Scope};

impl HookSet {
    /// Asks every gate. The strictest verdict wins; the attributes of several that allow are united, later gates winning.
    /// With no gate the verdict is to allow: whether that is wanted is for the caller ([`HookSet::has_gate`]).
    pub async fn check_enrollment(&self, scope: &Scope, request: EnrollmentRequest) -> Outcome<GateVerdict> {
        let request = Arc::new(request);
        let mut decisions = Vec::with_capacity(self.gates.len());
        let mut combined = GateVerdict::Allow(Default::default());
        let mut failed = None;
        for gate in &self.gates {
            let (answer, mut record) = ask(gate, scope, &request).await;
            match answer {
                Ok(verdict) => {
                    if let GateVerdict::Deny(denial) = &verdict {
                        record.reason = Some(denial.reason.clone());
                    }
                    combined = stricter(combined, verdict);
                }
                Err(fault) => failed = Some(fail(&mut record, fault, FailureRule::Closed)),
            }
            decisions.push(record);
            if matches!(combined, GateVerdict::Deny(_)) {
                break;
            }
        }
        // A denial stands even if another gate failed; anything milder does not.
        let verdict = match (combined, failed) {
            (GateVerdict::Deny(denial), _) => Ok(GateVerdict::Deny(denial)),
            (_, Some(undecided)) => Err(undecided),
            (verdict, None) => Ok(verdict),
        };
        Outcome { verdict, decisions }
    }
}

fn stricter(one: GateVerdict, other: GateVerdict) -> GateVerdict {
    match (one, other) {
        (GateVerdict::Allow(mut attributes), GateVerdict::Allow(more)) => {
            attributes.extend(more);
            GateVerdict::Allow(attributes)
        }
        (one, other) if other.strictness() > one.strictness() => other,
        (one, _) => one,
    }
}
