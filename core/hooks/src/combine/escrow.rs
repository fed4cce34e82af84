//! Several escrow policies: all must agree, and each sees what the one before made of the secret.

use std::sync::Arc;

use super::{Outcome, ask, fail};
use crate::{EscrowOperation, EscrowRequest, EscrowVerdict, FailureRule, HookSet, Requester, Scope};

impl HookSet {
    /// Asks every escrow policy; all must agree. With none, a secret is kept, goes back to its own device only, and is
    /// removed by whoever may.
    pub async fn decide_escrow(&self, scope: &Scope, request: EscrowRequest) -> Outcome<EscrowVerdict> {
        let operation = request.operation;
        let rule = match operation {
            EscrowOperation::Deposit => FailureRule::KeepMarked,
            EscrowOperation::Release | EscrowOperation::Clear => FailureRule::Closed,
        };
        if self.escrow.is_empty() && operation == EscrowOperation::Release && request.requester != Requester::Device {
            return Outcome {
                verdict: Ok(EscrowVerdict::Deny("no escrow policy is installed".to_owned())),
                decisions: Vec::new(),
            };
        }
        let mut request = Arc::new(request);
        let mut decisions = Vec::with_capacity(self.escrow.len());
        let mut agreed = EscrowVerdict::Allow;
        let mut failed = None;
        for policy in &self.escrow {
            let (answer, mut record) = ask(policy, scope, &request).await;
            match answer {
                Ok(EscrowVerdict::Deny(reason)) => {
                    record.reason = Some(reason.clone());
                    decisions.push(record);
                    return Outcome {
                        verdict: Ok(EscrowVerdict::Deny(reason)),
                        decisions,
                    };
                }
                Ok(EscrowVerdict::AllowAs(secret)) => {
                    request = Arc::new(EscrowRequest {
                        secret: Some(secret.clone()),
                        ..EscrowRequest::clone(&request)
                    });
                    agreed = EscrowVerdict::AllowAs(secret);
                }
                Ok(EscrowVerdict::Allow) => {}
                Err(fault) => failed = Some(fail(&mut record, fault, rule)),
            }
            decisions.push(record);
        }
        Outcome {
            verdict: failed.map_or(Ok(agreed), Err),
            decisions,
        }
    }
}
