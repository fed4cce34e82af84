//! How the answers of several implementors become one, and what a failure means.

use std::sync::Arc;
use std::time::Instant;

use tower::ServiceExt;

use crate::{
    Ask, DecisionRecord, DirectoryRequest, DirectoryVerdict, EnrollmentRequest, EscrowOperation, EscrowRequest,
    EscrowVerdict, FailureRule, FaultKind, GateVerdict, Hook, HookSet, Implementor, PluginFault, RenderedProfile,
    Scope, TemplateRequest,
};

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

impl HookSet {
    /// Asks every gate. The strictest verdict wins; the attributes of several that allow are united, later gates winning.
    /// With no gate the verdict is to allow: whether that is wanted is for the caller ([`HookSet::has_gate`]).
    pub async fn check_enrollment(&self, scope: &Scope, request: EnrollmentRequest) -> Outcome<GateVerdict> {
        let subject = request.device.label().to_owned();
        let request = Arc::new(request);
        let mut decisions = Vec::with_capacity(self.gates.len());
        let mut combined = GateVerdict::Allow(Default::default());
        let mut failed = None;
        for gate in &self.gates {
            let (answer, mut record) = call(gate, scope, &request, &subject).await;
            match answer {
                Ok(verdict) => {
                    verdict.as_str().clone_into(&mut record.verdict);
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

    /// Asks the directories in order; the first that knows the person answers. A failure ends a sign-in, because a later
    /// directory could know somebody else by the same name; for a look-up the next directory is asked.
    pub async fn ask_directory(&self, scope: &Scope, request: DirectoryRequest) -> Outcome<DirectoryVerdict> {
        let subject = request.user_name().to_owned();
        let sign_in = matches!(request, DirectoryRequest::SignIn(_));
        let request = Arc::new(request);
        let mut decisions = Vec::with_capacity(1);
        for directory in &self.directories {
            let (answer, mut record) = call(directory, scope, &request, &subject).await;
            match answer {
                Ok(verdict) => {
                    verdict.as_str().clone_into(&mut record.verdict);
                    decisions.push(record);
                    if verdict != DirectoryVerdict::Unknown {
                        return Outcome {
                            verdict: Ok(verdict),
                            decisions,
                        };
                    }
                }
                Err(fault) => {
                    let rule = if sign_in {
                        FailureRule::Closed
                    } else {
                        FailureRule::UnknownPerson
                    };
                    let undecided = fail(&mut record, fault, rule);
                    decisions.push(record);
                    if sign_in {
                        return Outcome {
                            verdict: Err(undecided),
                            decisions,
                        };
                    }
                }
            }
        }
        Outcome {
            verdict: Ok(DirectoryVerdict::Unknown),
            decisions,
        }
    }

    /// Asks every escrow policy; all must agree. With none, a secret is kept and goes back to its own device only.
    pub async fn decide_escrow(&self, scope: &Scope, request: EscrowRequest) -> Outcome<EscrowVerdict> {
        let subject = request.device.label().to_owned();
        let rule = match request.operation {
            EscrowOperation::Deposit => FailureRule::KeepMarked,
            EscrowOperation::Release => FailureRule::Closed,
        };
        let own_device = request.requester == crate::Requester::Device;
        let operation = request.operation;
        let request = Arc::new(request);
        let mut decisions = Vec::with_capacity(self.escrow.len());
        let mut failed = None;
        for policy in &self.escrow {
            let (answer, mut record) = call(policy, scope, &request, &subject).await;
            match answer {
                Ok(verdict) => {
                    verdict.as_str().clone_into(&mut record.verdict);
                    if let EscrowVerdict::Deny(reason) = &verdict {
                        record.reason = Some(reason.clone());
                        decisions.push(record);
                        return Outcome {
                            verdict: Ok(verdict),
                            decisions,
                        };
                    }
                }
                Err(fault) => failed = Some(fail(&mut record, fault, rule)),
            }
            decisions.push(record);
        }
        let verdict = match failed {
            Some(undecided) => Err(undecided),
            None if self.escrow.is_empty() && operation == EscrowOperation::Release && !own_device => {
                Ok(EscrowVerdict::Deny("no escrow policy is installed".to_owned()))
            }
            None => Ok(EscrowVerdict::Allow),
        };
        Outcome { verdict, decisions }
    }

    /// Asks the template engine of that name.
    pub async fn render(&self, scope: &Scope, engine: &str, request: TemplateRequest) -> Outcome<RenderedProfile> {
        let Some(implementor) = self.templates.iter().find(|template| template.name == engine) else {
            let fault = PluginFault::new(
                engine,
                FaultKind::Unusable,
                "no active plugin of this name renders templates",
            );
            return Outcome {
                verdict: Err(Undecided {
                    rule: FailureRule::Wait,
                    fault,
                }),
                decisions: Vec::new(),
            };
        };
        let subject = request.device.label().to_owned();
        let request = Arc::new(request);
        let (answer, mut record) = call(implementor, scope, &request, &subject).await;
        let verdict = match answer {
            Ok(profile) => {
                "rendered".clone_into(&mut record.verdict);
                Ok(profile)
            }
            Err(fault) => Err(fail(&mut record, fault, FailureRule::Wait)),
        };
        Outcome {
            verdict,
            decisions: vec![record],
        }
    }
}

async fn call<H: Hook>(
    implementor: &Implementor<H>,
    scope: &Scope,
    request: &Arc<H::Request>,
    subject: &str,
) -> (Result<H::Verdict, PluginFault>, DecisionRecord) {
    let ask = Ask {
        scope: scope.clone(),
        request: Arc::clone(request),
    };
    let started = Instant::now();
    let answer = implementor.service.clone().oneshot(ask).await;
    let record = DecisionRecord {
        hook: H::KIND,
        plugin: implementor.name.clone(),
        revision: implementor.revision.clone(),
        subject: subject.to_owned(),
        verdict: String::new(),
        reason: None,
        fault: None,
        failure_rule: None,
        duration: started.elapsed(),
    };
    (answer, record)
}

fn fail(record: &mut DecisionRecord, fault: PluginFault, rule: FailureRule) -> Undecided {
    "fault".clone_into(&mut record.verdict);
    record.fault = Some(fault.clone());
    record.failure_rule = Some(rule);
    Undecided { rule, fault }
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
