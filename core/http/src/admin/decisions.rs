//! Decision records: what plugins and policies decided, and why; their chain; and what is kept to ask again.

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::HeaderMap;
use jiff::Timestamp;
use russet_engine::store::{
    ChainBreak, ChainHead, ChainReport, DecisionFilter, DecisionId, DecisionRecord, DecisionRetention, RecordedCall,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::AtTenant;
use super::input::{Named, OfDevice, Params, json};
use super::page::{List, Paging};
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/decisions", get(list))
        .route("/decisions/export", get(export))
        .route("/decisions/verify", get(verify))
        .route("/decisions/retention", get(retention).put(set_retention))
        .route("/decisions/{id}", get(one))
}

#[derive(Debug, Serialize)]
struct DecisionView {
    id: DecisionId,
    hook: String,
    plugin: Option<String>,
    revision: Option<String>,
    /// The key of the enrollment.
    enrollment: Option<String>,
    subject: String,
    verdict: String,
    reason: Option<String>,
    fault: Option<String>,
    failure_rule: Option<String>,
    duration_us: i64,
    effects: Value,
    usage: Usage,
    input_sha256: Option<String>,
    journal_sha256: Option<String>,
    verdict_sha256: Option<String>,
    /// Whether question, journal and answer are still kept.
    has_call: bool,
    chain: Option<HeadView>,
    created_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Usage {
    host_calls: i64,
    cpu_ticks: i64,
    memory_bytes: i64,
}

#[derive(Debug, Serialize)]
struct HeadView {
    seq: i64,
    hash: String,
}

impl From<ChainHead> for HeadView {
    fn from(head: ChainHead) -> Self {
        Self {
            seq: head.seq,
            hash: hex::encode(head.hash),
        }
    }
}

impl From<DecisionRecord> for DecisionView {
    fn from(record: DecisionRecord) -> Self {
        Self {
            id: record.id,
            hook: record.hook,
            plugin: record.plugin,
            revision: record.revision,
            enrollment: record.enrollment_key,
            subject: record.subject,
            verdict: record.verdict,
            reason: record.reason,
            fault: record.fault,
            failure_rule: record.failure_rule,
            duration_us: record.duration_us,
            effects: record.effects,
            usage: Usage {
                host_calls: record.host_calls,
                cpu_ticks: record.cpu_ticks,
                memory_bytes: record.memory_bytes,
            },
            input_sha256: record.input_sha256.map(hex::encode),
            journal_sha256: record.journal_sha256.map(hex::encode),
            verdict_sha256: record.verdict_sha256.map(hex::encode),
            has_call: record.has_call,
            chain: record.chain.map(HeadView::from),
            created_at: record.created_at,
        }
    }
}

/// A call in full. JSON as text, so that it stays the same byte for byte.
#[derive(Debug, Serialize)]
struct CallView {
    input: String,
    journal: String,
    verdict: String,
}

impl From<RecordedCall> for CallView {
    fn from(call: RecordedCall) -> Self {
        Self {
            input: call.input,
            journal: call.journal,
            verdict: call.verdict,
        }
    }
}

#[derive(Debug, Serialize)]
struct OneView {
    #[serde(flatten)]
    decision: DecisionView,
    call: Option<CallView>,
}

/// A line of an export.
#[derive(Debug, Serialize)]
struct ExportView {
    id: DecisionId,
    time: Timestamp,
    tenant: String,
    enrollment: Option<String>,
    hook: String,
    plugin: Option<String>,
    revision: Option<String>,
    subject: String,
    verdict: String,
    reason: Option<String>,
    fault: Option<String>,
    call: Option<CallView>,
}

/// Which decisions.
#[derive(Debug, Deserialize)]
struct Which {
    hook: Option<String>,
    plugin: Option<String>,
    verdict: Option<String>,
    since: Option<Timestamp>,
    /// Only those that are kept in full.
    #[serde(default)]
    with_call: bool,
}

impl Which {
    async fn filter(self, of: &OfDevice, api: &Api, at: &AtTenant) -> Result<DecisionFilter, Failure> {
        Ok(DecisionFilter {
            enrollment: of.find(api, &at.tenant).await?,
            hook: self.hook,
            plugin: self.plugin,
            verdict: self.verdict,
            since: self.since,
            with_call: self.with_call,
        })
    }
}

async fn list(
    State(api): State<Api>,
    at: AtTenant,
    Params(of): Params<OfDevice>,
    Params(which): Params<Which>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<DecisionView>>, Failure> {
    let filter = which.filter(&of, &api, &at).await?;
    let store = api.engine.store();
    let page = store
        .decisions_where(at.tenant.id, &filter, paging.cursor(), paging.limit())
        .await?;
    Ok(Json(List::of(page, DecisionView::from)))
}

#[derive(Debug, Deserialize)]
struct Id {
    id: DecisionId,
}

async fn one(State(api): State<Api>, at: AtTenant, Named(of): Named<Id>) -> Result<Json<OneView>, Failure> {
    let store = api.engine.store();
    let decision = store.decision(at.tenant.id, of.id).await?;
    let decision = decision.ok_or_else(|| Failure::not_found("decision"))?;
    let call = store.recorded_call(at.tenant.id, of.id).await?;
    Ok(Json(OneView {
        decision: decision.into(),
        call: call.map(CallView::from),
    }))
}

async fn export(
    State(api): State<Api>,
    at: AtTenant,
    Params(of): Params<OfDevice>,
    Params(which): Params<Which>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<ExportView>>, Failure> {
    let filter = which.filter(&of, &api, &at).await?;
    let store = api.engine.store();
    let page = store
        .export_decisions(at.tenant.id, &filter, paging.cursor(), paging.limit())
        .await?;
    let view = |(record, call): (DecisionRecord, Option<RecordedCall>)| ExportView {
        id: record.id,
        time: record.created_at,
        tenant: at.tenant.name.to_string(),
        enrollment: record.enrollment_key,
        hook: record.hook,
        plugin: record.plugin,
        revision: record.revision,
        subject: record.subject,
        verdict: record.verdict,
        reason: record.reason,
        fault: record.fault,
        call: call.map(CallView::from),
    };
    Ok(Json(List::of(page, view)))
}

#[derive(Debug, Serialize)]
struct VerifyView {
    intact: bool,
    verified: u64,
    waiting: u64,
    anchor: HeadView,
    head: HeadView,
    broken: Option<BreakView>,
}

#[derive(Debug, Serialize)]
struct BreakView {
    what: &'static str,
    seq: i64,
    id: Option<DecisionId>,
    created_at: Option<Timestamp>,
}

impl From<ChainBreak> for BreakView {
    fn from(broken: ChainBreak) -> Self {
        match broken {
            ChainBreak::Changed { seq, id, created_at } => Self {
                what: "changed",
                seq,
                id: Some(id),
                created_at: Some(created_at),
            },
            ChainBreak::Missing { seq } => Self {
                what: "missing",
                seq,
                id: None,
                created_at: None,
            },
            ChainBreak::HeadGone { seq } => Self {
                what: "head-gone",
                seq,
                id: None,
                created_at: None,
            },
            ChainBreak::OtherHead { seq } => Self {
                what: "other-head",
                seq,
                id: None,
                created_at: None,
            },
        }
    }
}

impl From<ChainReport> for VerifyView {
    fn from(report: ChainReport) -> Self {
        Self {
            intact: report.broken.is_none(),
            verified: report.verified,
            waiting: report.waiting,
            anchor: report.anchor.into(),
            head: report.head.into(),
            broken: report.broken.map(BreakView::from),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Noted {
    /// A head that was noted earlier: `SEQ:HASH`.
    head: Option<String>,
}

async fn verify(
    State(api): State<Api>,
    at: AtTenant,
    Params(noted): Params<Noted>,
) -> Result<Json<VerifyView>, Failure> {
    let noted = noted.head.as_deref().map(head).transpose()?;
    let report = api.engine.store().verify_decisions(at.tenant.id, noted).await?;
    Ok(Json(report.into()))
}

fn head(text: &str) -> Result<ChainHead, Failure> {
    let wrong = || Failure::bad_request("give a head as an earlier verification named it: SEQ:HASH");
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(hash, &mut digest).map_err(|_| wrong())?;
    Ok(ChainHead {
        seq: seq.parse().map_err(|_| wrong())?,
        hash: digest,
    })
}

/// A tenant's own retention; `null` is as the server's settings say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionView {
    #[serde(default)]
    decisions_days: Option<u32>,
    #[serde(default)]
    input_hours: Option<u32>,
}

impl From<DecisionRetention> for RetentionView {
    fn from(retention: DecisionRetention) -> Self {
        Self {
            decisions_days: retention.decisions_days,
            input_hours: retention.input_hours,
        }
    }
}

async fn retention(State(api): State<Api>, at: AtTenant) -> Result<Json<RetentionView>, Failure> {
    let retention = api.engine.store().decision_retention(at.tenant.id).await?;
    Ok(Json(retention.into()))
}

async fn set_retention(
    State(api): State<Api>,
    at: AtTenant,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RetentionView>, Failure> {
    let wanted: RetentionView = json(&api, &headers, body).await?;
    let retention = DecisionRetention {
        decisions_days: wanted.decisions_days,
        input_hours: wanted.input_hours,
    };
    api.engine.set_decision_retention(&at.tenant, retention).await?;
    Ok(Json(wanted))
}
