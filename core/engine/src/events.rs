//! Events: who wants which, and what an observer is handed.
//!
//! The store writes an event in the transaction of what it tells of, and asks here first whether anybody wants it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russet_hooks::{Event, HookSource, event_matches};
use russet_store::{EnrollmentLookup, EventDelivery, NewEvent, Observed, StoreError, TenantId, Wanted};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Engine, Request, TenantRef, subject};

/// The largest report of a device that an event carries, in bytes.
const MAX_REPORT: usize = 256 << 10;

/// What is known, without asking the database, of who observes what.
#[derive(Debug)]
pub(crate) struct Observing {
    hooks: Arc<dyn HookSource>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tenants: HashMap<TenantId, Arc<str>>,
    /// The observers that certainly have a cursor.
    cursors: HashSet<(TenantId, String)>,
    /// The tenants that say themselves whether calls are kept in full.
    recorded: HashMap<TenantId, bool>,
}

impl Observing {
    pub(crate) fn new(hooks: Arc<dyn HookSource>) -> Self {
        Self {
            hooks,
            known: RwLock::default(),
        }
    }

    /// Notes a tenant: events of one that is not known are not written.
    pub(crate) fn tenant(&self, tenant: &TenantRef) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tenants.insert(tenant.id, Arc::clone(&tenant.name));
    }

    /// Notes which tenants say themselves whether calls are kept in full.
    pub(crate) fn recorded(&self, tenants: HashMap<TenantId, bool>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.recorded = tenants;
    }

    /// Whether a tenant says itself whether calls are kept in full, and if so what.
    pub(crate) fn is_recorded(&self, tenant: TenantId) -> Option<bool> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.recorded.get(&tenant).copied()
    }

    /// Notes which observers of a tenant have a cursor.
    pub(crate) fn cursors(&self, tenant: TenantId, plugins: Vec<String>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.cursors.retain(|(of, _)| *of != tenant);
        known.cursors.extend(plugins.into_iter().map(|plugin| (tenant, plugin)));
    }
}

impl Observed for Observing {
    fn wanted(&self, tenant: TenantId, kind: &str) -> Option<Wanted> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let hooks = self.hooks.pin(known.tenants.get(&tenant)?);
        if !hooks.observes(kind) {
            return None;
        }
        let wants = |prefixes: &[String]| prefixes.iter().any(|wanted| event_matches(wanted, kind));
        let first_of = hooks
            .observers()
            .filter(|(_, prefixes)| wants(prefixes))
            .filter(|(plugin, _)| !known.cursors.contains(&(tenant, (*plugin).to_owned())))
            .map(|(plugin, _)| plugin.to_owned())
            .collect();
        Some(Wanted { first_of })
    }

    fn anywhere(&self, kind: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .tenants
            .values()
            .any(|tenant| self.hooks.pin(tenant).observes(kind))
    }
}

impl Engine {
    /// An event for a write that tells of it; `None` if nobody wants to know.
    pub(crate) fn event(&self, request: &Request, kind: &str, detail: Json) -> Option<NewEvent> {
        request.hooks.observes(kind).then(|| NewEvent {
            kind: kind.to_owned(),
            enrollment: None,
            detail,
            depth: request.scope.depth,
        })
    }

    /// An event as an observer is handed it: with the device and person as they are now.
    pub(crate) async fn observed_event(
        &self,
        tenant: &TenantRef,
        delivery: EventDelivery,
    ) -> Result<Event, StoreError> {
        let store = &self.inner.store;
        let mut event = delivery.event;
        let enrollment = match event.enrollment {
            Some(id) => store.enrollment(tenant.id, EnrollmentLookup::Id(id)).await?,
            None => None,
        };
        if event.kind == "command.answered"
            && let (Some(id), Json::Object(detail)) = (event.enrollment, &mut event.detail)
            && let Some(uuid) = detail.get("command_uuid").and_then(Json::as_str)
            && let Ok(uuid) = Uuid::parse_str(uuid)
        {
            // The report is in one place, sealed, and goes with it.
            let entry = store.command_entry(id, uuid).await?;
            if let Some(report) = entry
                .and_then(|entry| entry.result)
                .filter(|report| report.len() <= MAX_REPORT)
            {
                detail.insert("report".to_owned(), STANDARD.encode(report).into());
            }
        }
        Ok(Event {
            id: u64::try_from(event.id.0).unwrap_or_default(),
            kind: event.kind,
            time: event.created_at.as_millisecond(),
            device: enrollment.as_ref().map(subject::device),
            person: enrollment
                .as_ref()
                .and_then(|device| subject::person(device.person.as_ref())),
            detail: event.detail.to_string(),
            attempt: delivery.attempts,
            depth: event.depth,
        })
    }
}
