//! Stored sets of declarations for administrators: checked, stored, given to devices; and what a device has and says of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use russet_protocol::ddm::DeclarationKind;
use russet_store::{
    DeclarationSet, EnrollmentId, PlanToken, PlannedItem, SetAssignment, SetDeclaration, StatusItem, StatusProblem,
};
use serde_json::Value as Json;

use crate::plan::{Checked, MAX_PLAN};
use crate::{Administrator, Engine, EngineError, TenantRef};

/// The longest name of a set.
const MAX_NAME: usize = 128;

/// What storing a set did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclarationSetReport {
    /// There was none of this name.
    pub created: bool,
    /// How many devices get a new plan.
    pub replanned: u64,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// What a device has, and what it says of it.
#[derive(Clone, Debug)]
pub struct DeviceDeclarations {
    /// The token of its plan; `None` if it has none.
    pub token: Option<PlanToken>,
    /// Whether its plan is about to be made anew.
    pub planning: bool,
    /// The sets that it has.
    pub sets: Vec<SetAssignment>,
    /// What its plan holds.
    pub declarations: Vec<DeclarationView>,
    /// What was kept out of its plan, because another source has the identifier with another content.
    pub conflicts: Vec<ConflictView>,
    /// Planners that failed, with what failed; what they planned before stays.
    pub faults: BTreeMap<String, String>,
    /// What could not be read of its reports, the newest first.
    pub problems: Vec<StatusProblem>,
}

/// A declaration that a device has.
#[derive(Clone, Debug)]
pub struct DeclarationView {
    /// Where it comes from, what it is, and its token.
    pub planned: PlannedItem,
    /// What the device last said of it.
    pub state: Option<DeclarationState>,
}

/// A declaration that was kept out of a plan.
#[derive(Clone, Debug)]
pub struct ConflictView {
    /// What was kept out.
    pub planned: PlannedItem,
    /// The source whose declaration the device has.
    pub kept: String,
}

/// What a device says of a declaration (Apple: the status item `management.declarations`).
#[derive(Clone, Debug, PartialEq)]
pub struct DeclarationState {
    /// `server-token`: of the content that it has.
    pub server_token: Option<String>,
    /// `active`.
    pub active: Option<bool>,
    /// `valid`: `valid`, `invalid` or `unknown`.
    pub valid: Option<String>,
    /// `reasons`, as the device wrote them.
    pub reasons: Json,
    /// When it said so first.
    pub reported_at: Timestamp,
}

impl Engine {
    /// Stores a set of declarations in place of the one of that name. Devices that have it get a new plan.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with every problem; nothing is stored then.
    pub async fn put_declaration_set(
        &self,
        tenant: &TenantRef,
        name: &str,
        declarations: Vec<SetDeclaration>,
        now: Timestamp,
    ) -> Result<DeclarationSetReport, EngineError> {
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        {
            return Err(EngineError::invalid(format!(
                "the name of a set of declarations has 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"
            )));
        }
        let details = problems(&declarations);
        if !details.is_empty() {
            return Err(EngineError::Invalid {
                message: "the set of declarations is not valid".to_owned(),
                details,
            });
        }
        let warnings = unreferenced(&declarations);
        let set = DeclarationSet {
            name: name.to_owned(),
            declarations,
            updated_at: now,
        };
        let written = self.inner.store.put_declaration_set(tenant.id, set).await?;
        Ok(DeclarationSetReport {
            created: written.created,
            replanned: written.replanned,
            warnings,
        })
    }

    /// Gives a set to a device; whether it did not have it already.
    ///
    /// # Errors
    ///
    /// Not found, or a failure of the store.
    pub async fn assign_declaration_set(
        &self,
        tenant: &TenantRef,
        device: &str,
        name: &str,
        by: &Administrator,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let device = self.device(tenant, device).await?;
        let store = &self.inner.store;
        Ok(store
            .assign_declaration_set(tenant.id, device.id, name, &by.name, now)
            .await?)
    }

    /// Takes a set away from a device; whether it had it.
    ///
    /// # Errors
    ///
    /// No such device, or a failure of the store.
    pub async fn unassign_declaration_set(
        &self,
        tenant: &TenantRef,
        device: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, EngineError> {
        let device = self.device(tenant, device).await?;
        let store = &self.inner.store;
        Ok(store.unassign_declaration_set(tenant.id, device.id, name, now).await?)
    }

    /// What a device has, and what it says of it.
    ///
    /// # Errors
    ///
    /// No such device, or a failure of the store.
    pub async fn device_declarations(
        &self,
        tenant: &TenantRef,
        device: &str,
    ) -> Result<DeviceDeclarations, EngineError> {
        let id = self.device(tenant, device).await?.id;
        let store = &self.inner.store;
        let plan = store.plan(id, true).await?;
        let states = self.declaration_states(id).await?;
        let mut view = DeviceDeclarations {
            token: None,
            planning: store.plan_requested(id).await?,
            sets: store.assigned_declaration_sets(id).await?,
            declarations: Vec::new(),
            conflicts: Vec::new(),
            faults: BTreeMap::new(),
            problems: store.status_problems(id).await?,
        };
        let Some(plan) = plan else { return Ok(view) };
        view.token = Some(plan.token);
        view.faults = plan.faults;
        let mut kept: HashMap<String, (String, String)> = HashMap::new();
        // Of those with one identifier, the one that the device has comes first.
        for planned in plan.items {
            let item = &planned.item;
            if !item.kept_out {
                kept.insert(
                    item.identifier.clone(),
                    (item.source.clone(), item.server_token.clone()),
                );
                let state = states.get(&item.identifier).cloned();
                view.declarations.push(DeclarationView { planned, state });
            } else if let Some((source, token)) = kept.get(&item.identifier)
                && *token != item.server_token
            {
                let kept = source.clone();
                view.conflicts.push(ConflictView { planned, kept });
            }
        }
        Ok(view)
    }

    /// The status items that a device reported.
    ///
    /// # Errors
    ///
    /// No such device, or a failure of the store.
    pub async fn device_status(&self, tenant: &TenantRef, device: &str) -> Result<Vec<StatusItem>, EngineError> {
        let id = self.device(tenant, device).await?.id;
        Ok(self.inner.store.status_items(id).await?)
    }

    async fn declaration_states(
        &self,
        id: EnrollmentId,
    ) -> Result<HashMap<String, DeclarationState>, russet_store::StoreError> {
        let items = self.inner.store.status_items(id).await?;
        let lists = items.iter().filter(|item| item.item.starts_with(DECLARATION_STATES));
        Ok(lists
            .flat_map(|list| {
                let states = list.value.as_array().into_iter().flatten();
                states.filter_map(|state| state_of(state, list.reported_at))
            })
            .collect())
    }
}

/// What the names of the status items begin with that tell of declarations.
pub(crate) const DECLARATION_STATES: &str = "management.declarations.";

fn state_of(state: &Json, reported_at: Timestamp) -> Option<(String, DeclarationState)> {
    let text = |key: &str| state.get(key).and_then(Json::as_str).map(str::to_owned);
    Some((
        text("identifier")?,
        DeclarationState {
            server_token: text("server-token"),
            active: state.get("active").and_then(Json::as_bool),
            valid: text("valid"),
            reasons: state.get("reasons").cloned().unwrap_or_else(|| Json::Array(Vec::new())),
            reported_at,
        },
    ))
}

/// What is wrong with a set, each with the place.
fn problems(declarations: &[SetDeclaration]) -> Vec<String> {
    let mut problems = Vec::new();
    if declarations.len() > MAX_PLAN {
        problems.push(format!("a set has at most {MAX_PLAN} declarations"));
        return problems;
    }
    let mut seen = BTreeSet::new();
    for (index, declaration) in declarations.iter().enumerate() {
        if let Err(problem) = Checked::of_set(declaration) {
            problems.push(format!("declarations[{index}]: {problem}"));
        }
        if !seen.insert(&declaration.identifier) {
            problems.push(format!(
                "declarations[{index}]: the identifier {} is there twice",
                declaration.identifier
            ));
        }
    }
    problems
}

/// Configurations that no activation of the set names: without one a device keeps them inactive (Apple: activations).
fn unreferenced(declarations: &[SetDeclaration]) -> Vec<String> {
    let of_kind = |kind: DeclarationKind| {
        declarations
            .iter()
            .filter(move |declaration| DeclarationKind::of_type(&declaration.declaration_type) == Some(kind))
    };
    let activated: BTreeSet<&str> = of_kind(DeclarationKind::Activation)
        .filter_map(|activation| activation.payload.get("StandardConfigurations")?.as_array())
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    of_kind(DeclarationKind::Configuration)
        .filter(|configuration| !activated.contains(configuration.identifier.as_str()))
        .map(|configuration| {
            format!(
                "no activation of this set names the configuration {}; unless another one does, it stays inactive",
                configuration.identifier
            )
        })
        .collect()
}
