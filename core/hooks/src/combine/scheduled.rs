//! Scheduled work: each plugin does its own.

use std::sync::Arc;

use super::{Outcome, ask, fail, missing};
use crate::{FailureRule, HookSet, Schedule, ScheduledRun, Scope};

impl HookSet {
    /// The plugins with scheduled work, each with the schedules of its manifest (none for those that only effects call).
    pub fn schedules(&self) -> impl Iterator<Item = (&str, &[Schedule])> {
        self.scheduled
            .iter()
            .map(|work| (work.implementor.name.as_str(), work.schedules.as_slice()))
    }

    /// Has one plugin do work that is due.
    pub async fn run_scheduled(&self, scope: &Scope, plugin: &str, run: ScheduledRun) -> Outcome<()> {
        let Some(work) = self.scheduled.iter().find(|one| one.implementor.name == plugin) else {
            return missing(
                plugin,
                "no active plugin of this name has scheduled work",
                FailureRule::Retry,
            );
        };
        let (answer, mut record) = ask(&work.implementor, scope, &Arc::new(run)).await;
        Outcome {
            verdict: answer.map_err(|fault| fail(&mut record, fault, FailureRule::Retry)),
            decisions: vec![record],
        }
    }
}
