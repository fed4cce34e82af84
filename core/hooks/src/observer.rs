//! `observer`: what follows from what happened.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Ask, Device, Hook, HookInput, HookKind, HookService, Person, PluginFault, native};

/// Something that happened, after it was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: grows, with gaps; the same each time the event is handed over.
    pub id: u64,
    /// What happened, such as `enrollment.enrolled`.
    pub kind: String,
    /// When, in milliseconds since the epoch.
    pub time: i64,
    /// The device, if it is about one.
    pub device: Option<Device>,
    /// The person behind the enrollment.
    pub person: Option<Person>,
    /// More: a JSON object.
    pub detail: String,
    /// How often it was handed over before.
    pub attempt: u32,
    /// How many plugins caused one another until it happened.
    pub depth: u8,
}

/// Whether an observer that asks for `wanted` takes events of this kind: `*` takes all, `enrollment` takes `enrollment` and
/// all that starts with `enrollment.`; a dot at the end changes nothing.
pub fn event_matches(wanted: &str, kind: &str) -> bool {
    if wanted == "*" {
        return true;
    }
    let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
    !wanted.is_empty()
        && kind
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The hook, as a type.
#[derive(Clone, Copy, Debug)]
pub struct ObserverHook;

impl Hook for ObserverHook {
    const KIND: HookKind = HookKind::Observer;
    type Request = Event;
    type Verdict = ();

    fn subject(event: &Event) -> &str {
        event.device.as_ref().map_or(&event.kind, Device::label)
    }

    fn input(event: &Arc<Event>) -> Option<HookInput> {
        Some(HookInput::Observer(Arc::clone(event)))
    }

    fn verdict_name((): &()) -> &'static str {
        "observed"
    }

    fn verdict_json((): &()) -> String {
        "\"observed\"".to_owned()
    }
}

/// An observer in native Rust.
#[async_trait]
pub trait Observer: Send + Sync + 'static {
    /// Takes an event.
    ///
    /// # Errors
    ///
    /// On a fault the event is tried again, and events of the same enrollment wait behind it.
    async fn observe(&self, ask: &Ask<ObserverHook>) -> Result<(), PluginFault>;
}

impl ObserverHook {
    /// Makes a service of a native observer.
    pub fn service(observer: impl Observer) -> HookService<Self> {
        native(observer, |observer, ask| {
            Box::pin(async move { observer.observe(&ask).await })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::event_matches;

    #[test]
    fn a_prefix_ends_at_a_dot() {
        assert!(event_matches("*", "enrollment.enrolled"));
        assert!(event_matches("enrollment", "enrollment.enrolled"));
        assert!(event_matches("enrollment.", "enrollment.enrolled"));
        assert!(event_matches("enrollment.enrolled", "enrollment.enrolled"));
        assert!(!event_matches("enroll", "enrollment.enrolled"));
        assert!(!event_matches("enrollment.enrolled", "enrollment.enrolled-late"));
        assert!(!event_matches("", "enrollment.enrolled"));
        assert!(!event_matches(".", ".x"));
    }
}
