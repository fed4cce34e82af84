//! Decision records: what plugins and policies decided, and why.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use russet_engine::store::{DecisionId, DecisionRecord};
use serde::Serialize;

use super::auth::AtTenant;
use super::input::{OfDevice, Params};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/decisions", get(list))
}

#[derive(Debug, Serialize)]
struct DecisionView {
    id: DecisionId,
    hook: String,
    plugin: Option<String>,
    revision: Option<String>,
    subject: String,
    verdict: String,
    reason: Option<String>,
    fault: Option<String>,
    failure_rule: Option<String>,
    duration_us: i64,
    created_at: Timestamp,
}

impl From<DecisionRecord> for DecisionView {
    fn from(record: DecisionRecord) -> Self {
        let decision = record.decision;
        Self {
            id: record.id,
            hook: decision.hook,
            plugin: decision.plugin,
            revision: decision.revision,
            subject: decision.subject,
            verdict: decision.verdict,
            reason: decision.reason,
            fault: decision.fault,
            failure_rule: decision.failure_rule,
            duration_us: decision.duration_us,
            created_at: record.created_at,
        }
    }
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(of): Params<OfDevice>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<DecisionView>>, Failure> {
    let device = of.find(&api, &at.tenant).await?;
    let page = api
        .engine
        .store()
        .decisions(at.tenant.id, device, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, DecisionView::from)))
}
