//! Several command policies: a chain, in which each sees what the one before made of the command.

use std::sync::Arc;

use serde_json::Value;

use super::{Outcome, ask, fail};
use crate::{
    CommandFailure, CommandRequest, CommandVerdict, FailureRule, FaultKind, HookSet, PluginFault, Scope, Undecided,
};

impl HookSet {
    /// Asks the command policies in order. A denial ends it; of what is left, a failure that closes stands before a hold,
    /// and a hold before an approval. With no policy every command goes on.
    pub async fn check_command(
        &self,
        scope: &Scope,
        request: CommandRequest,
        non_destructive_failure: CommandFailure,
    ) -> Outcome<CommandVerdict> {
        let rule = match non_destructive_failure {
            CommandFailure::Open if !request.destructive => FailureRule::Open,
            CommandFailure::Open | CommandFailure::Closed => FailureRule::Closed,
        };
        let mut request = Arc::new(request);
        let mut decisions = Vec::with_capacity(self.command_policies.len());
        let mut closed: Option<Undecided> = None;
        let mut held = None;
        let mut replaced = false;
        for policy in &self.command_policies {
            let (answer, mut record) = ask(policy, scope, &request).await;
            let answer = match answer {
                Ok(CommandVerdict::Replace(command)) if !same_type(&command, &request.request_type) => {
                    let fault = PluginFault::new(
                        &policy.name,
                        FaultKind::BadAnswer,
                        format!(
                            "the command in its place is not a JSON object of RequestType {}",
                            request.request_type
                        ),
                    );
                    record.failed(&fault);
                    Err(fault)
                }
                answer => answer,
            };
            match answer {
                Ok(CommandVerdict::Deny(explanation)) => {
                    record.reason = Some(explanation.reason.clone());
                    decisions.push(record);
                    return Outcome {
                        verdict: Ok(CommandVerdict::Deny(explanation)),
                        decisions,
                    };
                }
                Ok(CommandVerdict::Hold(explanation)) => {
                    record.reason = Some(explanation.reason.clone());
                    held.get_or_insert(explanation);
                }
                Ok(CommandVerdict::Replace(command)) => {
                    request = Arc::new(CommandRequest {
                        command: command.into(),
                        ..CommandRequest::clone(&request)
                    });
                    replaced = true;
                }
                Ok(CommandVerdict::Allow) => {}
                Err(fault) => {
                    let undecided = fail(&mut record, fault, rule);
                    if rule == FailureRule::Closed {
                        closed.get_or_insert(undecided);
                    }
                }
            }
            decisions.push(record);
        }
        let verdict = match (closed, held) {
            (Some(undecided), _) => Err(undecided),
            (None, Some(explanation)) => Ok(CommandVerdict::Hold(explanation)),
            (None, None) if replaced => Ok(CommandVerdict::Replace(request.command.as_ref().to_owned())),
            (None, None) => Ok(CommandVerdict::Allow),
        };
        Outcome { verdict, decisions }
    }
}

fn same_type(command: &str, request_type: &str) -> bool {
    serde_json::from_str::<Value>(command)
        .is_ok_and(|command| command.get("RequestType").and_then(Value::as_str) == Some(request_type))
}
