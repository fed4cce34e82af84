//! Decisions and events on their way into the store.

use russet_hooks::DecisionRecord;
use russet_store::{EnrollmentId, NewDecision, NewEvent};

use crate::{Engine, EngineError, Request, decisions};

impl Engine {
    pub(crate) async fn decided(
        &self,
        _request: &Request,
        records: Vec<DecisionRecord>,
        about: Option<EnrollmentId>,
    ) -> Result<Vec<NewDecision>, EngineError> {
        let mut rows = decisions::rows(&records);
        for row in &mut rows {
            row.enrollment = about;
        }
        Ok(rows)
    }

    pub(crate) fn event(&self, _request: &Request, _kind: &str, _detail: serde_json::Value) -> Option<NewEvent> {
        None
    }
}
