//! Sets of declarations, who has them, and what devices have and say of it.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use russet_engine::store::{DeclarationSet, PlannedItem, SetDeclaration, StatusProblem};
use russet_engine::{ConflictView, DeclarationState, DeclarationView, DeviceDeclarations};
use russet_protocol::ddm::DeclarationKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::assigned::{Assignment, given, taken};
use super::auth::AtTenant;
use super::input::{self, Id, Named};
use super::page::List;
use crate::Api;
use crate::failure::Failure;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/declaration-sets", get(list))
        .route("/declaration-sets/{name}", get(show).put(store).delete(remove))
        .route("/devices/{id}/declarations", get(of_device))
        .route("/devices/{id}/declaration-sets/{name}", put(assign).delete(unassign))
        .route("/devices/{id}/status", get(status))
}

#[derive(Debug, Serialize)]
struct SetView {
    name: String,
    declarations: usize,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct WholeSet {
    name: String,
    declarations: Vec<SetDeclaration>,
    updated_at: Timestamp,
}

impl From<DeclarationSet> for WholeSet {
    fn from(set: DeclarationSet) -> Self {
        Self {
            name: set.name,
            declarations: set.declarations,
            updated_at: set.updated_at,
        }
    }
}

#[derive(Deserialize)]
struct SetName {
    name: String,
}

async fn list(State(api): State<Api>, at: AtTenant) -> Result<Json<List<SetView>>, Failure> {
    let sets = api.engine.store().declaration_sets(at.tenant.id).await?;
    Ok(Json(List::whole(sets.into_iter().map(|set| SetView {
        declarations: set.declarations.len(),
        name: set.name,
        updated_at: set.updated_at,
    }))))
}

async fn show(
    State(api): State<Api>,
    at: AtTenant,
    Named(SetName { name }): Named<SetName>,
) -> Result<Json<WholeSet>, Failure> {
    let found = api.engine.store().declaration_set(at.tenant.id, &name).await?;
    let found = found.ok_or_else(|| Failure::not_found("declaration set"))?;
    Ok(Json(found.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSet {
    declarations: Vec<SetDeclaration>,
}

#[derive(Debug, Serialize)]
struct Stored {
    name: String,
    /// How many devices get a new plan.
    replanned: u64,
    warnings: Vec<String>,
}

async fn store(
    State(api): State<Api>,
    at: AtTenant,
    Named(SetName { name }): Named<SetName>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Stored>), Failure> {
    let new: NewSet = input::json(&api, &headers, body).await?;
    let report = api
        .engine
        .put_declaration_set(&at.tenant, &name, new.declarations, Timestamp::now())
        .await?;
    let status = if report.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let stored = Stored {
        name,
        replanned: report.replanned,
        warnings: report.warnings,
    };
    Ok((status, Json(stored)))
}

async fn remove(
    State(api): State<Api>,
    at: AtTenant,
    Named(SetName { name }): Named<SetName>,
) -> Result<StatusCode, Failure> {
    if api.engine.store().delete_declaration_set(at.tenant.id, &name).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::not_found("declaration set"))
    }
}

async fn assign(
    State(api): State<Api>,
    at: AtTenant,
    Named(Assignment { id, name }): Named<Assignment>,
) -> Result<StatusCode, Failure> {
    let assigned = api
        .engine
        .assign_declaration_set(&at.tenant, &id, &name, &at.administrator, Timestamp::now())
        .await?;
    Ok(given(assigned))
}

async fn unassign(
    State(api): State<Api>,
    at: AtTenant,
    Named(Assignment { id, name }): Named<Assignment>,
) -> Result<StatusCode, Failure> {
    let had = api
        .engine
        .unassign_declaration_set(&at.tenant, &id, &name, Timestamp::now())
        .await?;
    taken(had, "declaration set of this device")
}

#[derive(Debug, Serialize)]
struct PlanView {
    /// The token over all declarations; absent if the device has none.
    token: Option<String>,
    changed_at: Option<Timestamp>,
    /// Whether the plan is about to be made anew.
    planning: bool,
    sets: Vec<SetAssignmentView>,
    declarations: Vec<PlannedView>,
    conflicts: Vec<KeptOutView>,
    /// Planners that failed, with what failed.
    faults: BTreeMap<String, String>,
    /// What could not be read of the device's reports.
    problems: Vec<ProblemView>,
}

#[derive(Debug, Serialize)]
struct SetAssignmentView {
    name: String,
    assigned_by: String,
    created_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct PlannedView {
    identifier: String,
    kind: DeclarationKind,
    #[serde(rename = "type")]
    declaration_type: String,
    server_token: String,
    /// `set:NAME` or `planner:NAME`.
    source: String,
    payload: Value,
    /// What the device says of it; null before it said anything.
    state: Option<StateView>,
}

#[derive(Debug, Serialize)]
struct StateView {
    active: Option<bool>,
    valid: Option<String>,
    /// Whether it speaks of the content that the plan has now.
    current: bool,
    reasons: Value,
    reported_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct KeptOutView {
    identifier: String,
    /// Whose declaration was kept out.
    source: String,
    /// Whose the device has.
    kept: String,
    payload: Value,
}

#[derive(Debug, Serialize)]
struct ProblemView {
    problem: String,
    times: i64,
    reported_at: Timestamp,
    /// The beginning of a report that does not read.
    excerpt: Option<String>,
}

fn payload(planned: &PlannedItem) -> Value {
    let text = planned.payload.as_deref();
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

impl From<DeclarationView> for PlannedView {
    fn from(view: DeclarationView) -> Self {
        let payload = payload(&view.planned);
        let item = view.planned.item;
        let state = view.state.map(|state| StateView::new(state, &item.server_token));
        Self {
            identifier: item.identifier,
            kind: item.kind,
            declaration_type: view.planned.declaration_type,
            server_token: item.server_token,
            source: item.source,
            payload,
            state,
        }
    }
}

impl StateView {
    fn new(state: DeclarationState, planned: &str) -> Self {
        Self {
            active: state.active,
            valid: state.valid,
            current: state.server_token.as_deref() == Some(planned),
            reasons: state.reasons,
            reported_at: state.reported_at,
        }
    }
}

impl From<ConflictView> for KeptOutView {
    fn from(view: ConflictView) -> Self {
        let payload = payload(&view.planned);
        Self {
            identifier: view.planned.item.identifier,
            source: view.planned.item.source,
            kept: view.kept,
            payload,
        }
    }
}

impl From<StatusProblem> for ProblemView {
    fn from(problem: StatusProblem) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            problem: problem.problem,
            times: problem.times,
            reported_at: problem.reported_at,
            excerpt: problem.excerpt.map(text),
        }
    }
}

impl From<DeviceDeclarations> for PlanView {
    fn from(view: DeviceDeclarations) -> Self {
        let (token, changed_at) = view.token.map(|token| (token.token, token.changed_at)).unzip();
        let sets = view.sets.into_iter().map(|set| SetAssignmentView {
            name: set.set,
            assigned_by: set.assigned_by,
            created_at: set.created_at,
        });
        Self {
            token,
            changed_at,
            planning: view.planning,
            sets: sets.collect(),
            declarations: view.declarations.into_iter().map(Into::into).collect(),
            conflicts: view.conflicts.into_iter().map(Into::into).collect(),
            faults: view.faults,
            problems: view.problems.into_iter().map(Into::into).collect(),
        }
    }
}

async fn of_device(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<Json<PlanView>, Failure> {
    Ok(Json(api.engine.device_declarations(&at.tenant, &id).await?.into()))
}

#[derive(Debug, Serialize)]
struct StatusView {
    item: String,
    value: Value,
    reported_at: Timestamp,
}

async fn status(
    State(api): State<Api>,
    at: AtTenant,
    Named(Id { id }): Named<Id>,
) -> Result<Json<List<StatusView>>, Failure> {
    let items = api.engine.device_status(&at.tenant, &id).await?;
    Ok(Json(List::whole(items.into_iter().map(|item| StatusView {
        item: item.item,
        value: item.value,
        reported_at: item.reported_at,
    }))))
}
