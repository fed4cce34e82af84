//! Observers: each on its own, because each has its own place in the row of events.

use std::sync::Arc;

use super::{Outcome, ask, fail, missing};
use crate::{Event, FailureRule, HookSet, Scope, event_matches};

impl HookSet {
    /// The observers, each with the kinds of events that it asks for (see [`event_matches`]).
    pub fn observers(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.observers
            .iter()
            .map(|observer| (observer.implementor.name.as_str(), observer.events.as_slice()))
    }

    /// Whether any observer takes events of this kind: what nobody takes need not be written down.
    pub fn observes(&self, kind: &str) -> bool {
        self.observers
            .iter()
            .any(|observer| observer.events.iter().any(|wanted| event_matches(wanted, kind)))
    }

    /// Hands an event to one observer.
    pub async fn observe(&self, scope: &Scope, plugin: &str, event: Event) -> Outcome<()> {
        let Some(observer) = self.observers.iter().find(|one| one.implementor.name == plugin) else {
            return missing(
                plugin,
                "no active plugin of this name observes events",
                FailureRule::Retry,
            );
        };
        let (answer, mut record) = ask(&observer.implementor, scope, &Arc::new(event)).await;
        Outcome {
            verdict: answer.map_err(|fault| fail(&mut record, fault, FailureRule::Retry)),
            decisions: vec![record],
        }
    }
}
