//! Several directories: the first that knows the person answers.

use std::sync::Arc;

use super::{Outcome, ask, fail};
use crate::{DirectoryRequest, DirectoryVerdict, FailureRule, HookSet, Scope};

impl HookSet {
    /// Asks the directories in order; the first that knows the person answers. A failure ends a sign-in, because a later
    /// directory could know somebody else by the same name; for a look-up the next directory is asked.
    pub async fn ask_directory(&self, scope: &Scope, request: DirectoryRequest) -> Outcome<DirectoryVerdict> {
        let sign_in = matches!(request, DirectoryRequest::SignIn(_));
        let request = Arc::new(request);
        let mut decisions = Vec::with_capacity(1);
        for directory in &self.directories {
            let (answer, mut record) = ask(directory, scope, &request).await;
            match answer {
                Ok(verdict) => {
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
}
