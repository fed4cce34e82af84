//! Plans of declarations: what the sets of a device and the planners give, united.
//!
//! A plan is made in the background, when something that it may rest on has changed, and stored whole: what devices ask for
//! is read from there. Sets come first, by name, then planners in their order; of two declarations with one identifier the
//! first one stays, and a second one that differs is a conflict, which is shown. A planner that fails keeps its last good
//! plan, and is asked again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_hooks::{PlanRequest, PlannedDeclaration};
use russet_pki::fingerprint;
use russet_protocol::ddm::{DeclarationKind, EMPTY_DECLARATIONS_TOKEN, TokensResponse};
use russet_protocol::{codec, plist};
use russet_store::{
    CommandOrigin, EnrollmentLookup, EnrollmentRecord, EnrollmentState, NewCommand, NewPlan, PlanChange, PlanItem,
    PlanJob, PlannedContent, SetDeclaration, StatusItem, StoreError,
};
use serde_json::{Map, Value as Json, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Engine, EngineError, Request, subject};

/// The most declarations of a plan, and of a set.
pub(crate) const MAX_PLAN: usize = 1000;

/// The longest identifier, in bytes.
const MAX_IDENTIFIER: usize = 128;

/// The largest payload, in bytes of JSON.
const MAX_PAYLOAD: usize = 1 << 20;

/// The largest plan of one source, in bytes of JSON.
const MAX_SOURCE: usize = 8 << 20;

/// The command that starts a synchronisation.
const REQUEST_TYPE: &str = "DeclarativeManagement";

/// How long a plan belongs to the node that makes it.
const LEASE: SignedDuration = SignedDuration::from_mins(2);

/// How often to look for plans that nobody announced, and for plugins that changed.
const LOOK: Duration = Duration::from_secs(1);

/// How many plans are taken at once, and how many of them are made at the same time.
const BATCH: u32 = 64;
const AT_ONCE: usize = 8;

/// When a plan is tried again whose planner failed: first, and at the latest.
const AGAIN_FIRST: SignedDuration = SignedDuration::from_secs(30);
const AGAIN_LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// How long a plan waits for a node that runs the newer plugins.
const FOR_NEWER: SignedDuration = SignedDuration::from_secs(2);

/// A declaration that passed its checks.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    identifier: String,
    kind: DeclarationKind,
    content: PlannedContent,
}

impl Checked {
    /// Checks a declaration of a set.
    pub(crate) fn of_set(declaration: &SetDeclaration) -> Result<Self, String> {
        Self::new(
            &declaration.identifier,
            &declaration.declaration_type,
            Json::Object(declaration.payload.clone()),
        )
    }

    fn of_plugin(declaration: &PlannedDeclaration) -> Result<Self, String> {
        let payload: Json = serde_json::from_str(&declaration.payload).map_err(|_| {
            let identifier = shown(&declaration.identifier);
            format!("the payload of {identifier} is not JSON")
        })?;
        Self::new(&declaration.identifier, &declaration.declaration_type, payload)
    }

    fn new(identifier: &str, declaration_type: &str, mut payload: Json) -> Result<Self, String> {
        if identifier.is_empty()
            || identifier.len() > MAX_IDENTIFIER
            || !identifier.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!(
                "an identifier has 1 to {MAX_IDENTIFIER} printable ASCII characters and no spaces"
            ));
        }
        let kind = DeclarationKind::of_type(declaration_type)
            .filter(|_| declaration_type.len() <= MAX_IDENTIFIER)
            .ok_or_else(|| {
                format!(
                    "the type of {identifier} must begin with com.apple.activation., com.apple.asset., \
                     com.apple.configuration. or com.apple.management."
                )
            })?;
        if !payload.is_object() {
            return Err(format!("the payload of {identifier} is not a JSON object"));
        }
        payload.sort_all_objects();
        let text = payload.to_string();
        if text.len() > MAX_PAYLOAD {
            return Err(format!("the payload of {identifier} has more than {MAX_PAYLOAD} bytes"));
        }
        let whole = json!([identifier, declaration_type, payload]).to_string();
        Ok(Self {
            identifier: identifier.to_owned(),
            kind,
            content: PlannedContent {
                server_token: hex::encode(fingerprint::sha256(whole.as_bytes())),
                declaration_type: declaration_type.to_owned(),
                payload: text,
            },
        })
    }
}

/// An identifier that was not checked, for a message.
fn shown(identifier: &str) -> String {
    identifier
        .chars()
        .take(MAX_IDENTIFIER)
        .filter(|c| !c.is_control())
        .collect()
}

/// Checks what a planner planned.
fn checked_plan(plan: &[PlannedDeclaration]) -> Result<Vec<Checked>, String> {
    if plan.len() > MAX_PLAN {
        return Err(format!("it planned more than {MAX_PLAN} declarations"));
    }
    let mut seen = BTreeSet::new();
    let mut size = 0;
    let mut checked = Vec::with_capacity(plan.len());
    for declaration in plan {
        let declaration = Checked::of_plugin(declaration)?;
        size += declaration.content.payload.len();
        if !seen.insert(declaration.identifier.clone()) {
            return Err(format!("it planned {} twice", declaration.identifier));
        }
        checked.push(declaration);
    }
    if size > MAX_SOURCE {
        return Err(format!("its plan has more than {MAX_SOURCE} bytes"));
    }
    Ok(checked)
}

/// Unites sources, in the order of precedence.
#[derive(Default)]
struct Union {
    items: Vec<PlanItem>,
    contents: HashMap<String, PlannedContent>,
    identifiers: BTreeSet<String>,
}

impl Union {
    fn add(&mut self, source: String, declarations: Vec<Checked>) {
        for declaration in declarations {
            let token = declaration.content.server_token.clone();
            self.item(source.clone(), declaration.identifier, declaration.kind, token.clone());
            self.contents.entry(token).or_insert(declaration.content);
        }
    }

    fn item(&mut self, source: String, identifier: String, kind: DeclarationKind, server_token: String) {
        self.items.push(PlanItem {
            source,
            kept_out: !self.identifiers.insert(identifier.clone()),
            identifier,
            kind,
            server_token,
        });
    }

    /// Covers what a device gets, and with the tokens of the declarations their contents.
    fn token(&self) -> String {
        let had = self.items.iter().filter(|item| !item.kept_out);
        let lines: BTreeMap<&str, &str> = had
            .map(|item| (item.identifier.as_str(), item.server_token.as_str()))
            .collect();
        if lines.is_empty() {
            return EMPTY_DECLARATIONS_TOKEN.to_owned();
        }
        let text = json!(lines).to_string();
        hex::encode(fingerprint::sha256(text.as_bytes()))
    }
}

/// Status items as planners see them: each by its name, and the objects that are made of several.
fn status(items: &[StatusItem]) -> BTreeMap<String, String> {
    let mut objects: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
    for item in items {
        let mut name = item.item.as_str();
        let mut value = item.value.clone();
        // No status item has a name of one part.
        while let Some((parent, key)) = name.rsplit_once('.').filter(|(parent, _)| parent.contains('.')) {
            let object = objects.entry(parent.to_owned()).or_default();
            match (object.get_mut(key), value) {
                (Some(Json::Object(own)), Json::Object(more)) => own.extend(more),
                (_, value) => {
                    object.insert(key.to_owned(), value);
                }
            }
            value = Json::Object(object.clone());
            name = parent;
        }
    }
    let mut all: BTreeMap<String, String> = objects
        .into_iter()
        .map(|(name, object)| (name, Json::Object(object).to_string()))
        .collect();
    all.extend(items.iter().map(|item| (item.item.clone(), item.value.to_string())));
    all
}

impl Engine {
    /// Makes the plan of an enrollment.
    async fn make_plan(
        &self,
        request: &Request,
        device: &EnrollmentRecord,
        attempts: i64,
        now: Timestamp,
    ) -> Result<NewPlan, EngineError> {
        let store = &self.inner.store;
        let mut union = Union::default();
        for set in store.declaration_sets_of(device.id).await? {
            let checked = set.declarations.iter().map(Checked::of_set);
            // What was stored was checked then; what damage made of it stays out.
            union.add(format!("set:{}", set.name), checked.filter_map(Result::ok).collect());
        }
        let mut faults = BTreeMap::new();
        let mut records = Vec::new();
        if request.hooks.has_planner() {
            let before = store.plan(device.id, false).await?;
            let ask = PlanRequest {
                device: subject::device(device),
                person: subject::person(device.person.as_ref()),
                status: status(&store.status_items(device.id).await?),
            };
            for answer in request.hooks.plan(&request.scope, ask).await {
                let source = format!("planner:{}", answer.plugin);
                let mut record = answer.decision;
                let fault = match answer.plan {
                    Ok(plan) => checked_plan(&plan).map(|plan| union.add(source.clone(), plan)).err(),
                    Err(fault) => Some(format!("{}: {}", fault.kind, fault.detail)),
                };
                if let Some(fault) = fault {
                    if record.fault.is_none() {
                        // An answer that cannot be used is a failure: nothing of it is done.
                        record.effects.clear();
                        record.reason = Some(fault.clone());
                    }
                    let last = before.iter().flat_map(|before| &before.items);
                    for item in last.map(|planned| &planned.item).filter(|item| item.source == source) {
                        let item = item.clone();
                        union.item(item.source, item.identifier, item.kind, item.server_token);
                    }
                    faults.insert(answer.plugin, fault);
                }
                records.push(record);
            }
        }
        let token = union.token();
        let announcement = announcement(request, &token, now);
        let again_at = (!faults.is_empty()).then(|| again_at(attempts, now));
        Ok(NewPlan {
            enrollment: device.id,
            tenant: request.tenant.id,
            announcement: store.sealed_command(announcement)?,
            token,
            items: union.items,
            contents: union.contents.into_values().collect(),
            faults,
            decisions: self.decided(request, records, Some(device.id)).await?,
            again_at,
        })
    }

    /// Makes the plan of an enrollment that has none, because its device asks for it.
    pub(crate) async fn first_plan(
        &self,
        request: &Request,
        enrollment: russet_store::EnrollmentId,
        now: Timestamp,
    ) -> Result<(), EngineError> {
        let lookup = EnrollmentLookup::Id(enrollment);
        let device = self.inner.store.enrollment(request.tenant.id, lookup).await?;
        let device = device.ok_or(EngineError::NotFound("device"))?;
        let plan = self.make_plan(request, &device, 0, now).await?;
        if plan.items.is_empty() && plan.faults.is_empty() {
            return Ok(());
        }
        let again_at = plan.again_at;
        self.inner.store.put_plan(plan, None, now).await?;
        if let Some(again_at) = again_at {
            self.inner.store.plan_request(enrollment, again_at).await?;
        }
        Ok(())
    }

    /// Makes the plans that are due, at most a batch; how many were taken. Several nodes may do so at the same time.
    ///
    /// # Errors
    ///
    /// A failure of the store. A plan that cannot be made is tried again later.
    pub async fn make_due_plans(&self, now: Timestamp) -> Result<usize, EngineError> {
        let lease = now.checked_add(LEASE).unwrap_or(Timestamp::MAX);
        let jobs = self.inner.store.plan_claim(BATCH, lease, now).await?;
        let taken = jobs.len();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut making = JoinSet::new();
        for job in jobs {
            let (engine, room) = (self.clone(), Arc::clone(&room));
            making.spawn(async move {
                let _room = room.acquire().await;
                if let Err(error) = engine.make_due_plan(job.clone(), now).await {
                    tracing::warn!(enrollment.id = %job.enrollment, error = %error, "a plan of declarations waits");
                    let again = engine.inner.store.plan_again(&job, again_at(job.attempts, now), true);
                    if let Err(error) = again.await {
                        // Its lease runs out by itself.
                        tracing::warn!(enrollment.id = %job.enrollment, error = %error, "a plan was not given back");
                    }
                }
            });
        }
        while let Some(made) = making.join_next().await {
            if let Err(error) = made {
                tracing::error!(error = %error, "a plan of declarations failed by a bug");
            }
        }
        Ok(taken)
    }

    async fn make_due_plan(&self, job: PlanJob, now: Timestamp) -> Result<(), EngineError> {
        let store = &self.inner.store;
        let request = self
            .begin(&job.tenant_name, &format!("plan-{}", job.enrollment))
            .await?;
        if i64::try_from(request.hooks.generation()).is_ok_and(|own| own < job.generation) {
            // Another node runs newer plugins already: this one will soon.
            let later = now.checked_add(FOR_NEWER).unwrap_or(Timestamp::MAX);
            return Ok(store.plan_again(&job, later, false).await?);
        }
        let device = store
            .enrollment(job.tenant, EnrollmentLookup::Id(job.enrollment))
            .await?;
        let Some(device) = device.filter(|device| device.state != EnrollmentState::Removed) else {
            return Ok(store.plan_done(job).await?);
        };
        let plan = self.make_plan(&request, &device, job.attempts, now).await?;
        match store.put_plan(plan, Some(job.clone()), now).await {
            Ok(PlanChange::Declarations) => {
                tracing::debug!(enrollment.key = %device.key, "the declarations changed");
                Ok(())
            }
            Ok(PlanChange::None | PlanChange::Detail) => Ok(()),
            Err(StoreError::Removed | StoreError::NotFound(_)) => Ok(store.plan_done(job).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the plans of all enrollments made anew whose tenant's plugins changed, a step for each tenant; whether there is
    /// more to do.
    ///
    /// # Errors
    ///
    /// A failure of the store.
    pub async fn sweep_plans(&self, now: Timestamp) -> Result<bool, EngineError> {
        let mut more = false;
        for tenant in self.inner.store.tenants().await? {
            let hooks = self.inner.hooks.pin(&tenant.name);
            let generation = i64::try_from(hooks.generation()).unwrap_or(i64::MAX);
            let planners = hooks.has_planner();
            more |= self
                .inner
                .store
                .plan_sweep(tenant.id, generation, planners, now)
                .await?;
        }
        Ok(more)
    }

    /// Makes plans until it is cancelled. Run it in a task of its own.
    pub async fn plan_declarations(self, cancel: CancellationToken) {
        let signal = self.inner.store.plan_signal();
        while !cancel.is_cancelled() {
            // Registered before the requests are read, so that no announcement is missed in between.
            let mut announced = std::pin::pin!(signal.notified());
            announced.as_mut().enable();
            let now = Timestamp::now();
            let swept = self.sweep_plans(now).await;
            let made = self.make_due_plans(now).await;
            let more = match (swept, made) {
                (Ok(more), Ok(taken)) => more || taken >= BATCH as usize,
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(error = %error, "plans of declarations cannot be made now");
                    false
                }
            };
            if more {
                continue;
            }
            tokio::select! {
                () = announced => {}
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => {}
            }
        }
    }
}

/// The command that tells a device of a plan (Apple: `DeclarativeManagement`).
fn announcement(request: &Request, token: &str, now: Timestamp) -> NewCommand {
    let data = plist::Value::Data(TokensResponse::new(token, now).encode());
    let fields = [
        ("RequestType".to_owned(), REQUEST_TYPE.into()),
        ("Data".to_owned(), data),
    ];
    NewCommand {
        uuid: Uuid::now_v7(),
        tenant: request.tenant.id,
        request_type: REQUEST_TYPE.to_owned(),
        payload: codec::encode(&fields.into_iter().collect()),
        profile_name: None,
        priority: 0,
        not_before: None,
        expires_at: None,
        dedupe_key: None,
        origin: CommandOrigin::Server,
        created_by: "russet".to_owned(),
        creator_token: None,
        pace: None,
        hold: None,
        warnings: Vec::new(),
    }
}

fn again_at(attempts: i64, now: Timestamp) -> Timestamp {
    let doubled = u32::try_from(attempts).ok().and_then(|times| 2_i32.checked_pow(times));
    let wait = doubled
        .and_then(|factor| AGAIN_FIRST.checked_mul(factor))
        .unwrap_or(AGAIN_LONGEST)
        .min(AGAIN_LONGEST);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn planned(identifier: &str, payload: &str) -> PlannedDeclaration {
        PlannedDeclaration {
            identifier: identifier.into(),
            declaration_type: "com.apple.configuration.passcode.settings".into(),
            payload: payload.into(),
        }
    }

    #[test]
    fn a_token_covers_the_content_and_not_its_spelling() {
        let token = |payload: &str| Checked::of_plugin(&planned("a", payload)).unwrap().content.server_token;
        assert_eq!(
            token(r#"{"a":1,"b":{"d":1,"c":2}}"#),
            token(r#" { "b": {"c":2,"d":1}, "a":1 }"#)
        );
        assert_ne!(token(r#"{"a":1}"#), token(r#"{"a":2}"#));
    }

    #[test]
    fn a_plan_that_devices_could_not_use_is_refused_whole() {
        for (plan, problem) in [
            (vec![planned("a", "{}"), planned("a", "{}")], "it planned a twice"),
            (vec![planned("a", "[]")], "the payload of a is not a JSON object"),
            (vec![planned("a", "{")], "the payload of a is not JSON"),
            (
                vec![planned("a b", "{}")],
                "an identifier has 1 to 128 printable ASCII characters and no spaces",
            ),
        ] {
            assert_eq!(checked_plan(&plan).unwrap_err(), problem);
        }
        let mut odd = planned("a", "{}");
        odd.declaration_type = "com.example.configuration.x".into();
        assert!(
            checked_plan(&[odd])
                .unwrap_err()
                .starts_with("the type of a must begin with")
        );
    }

    #[test]
    fn the_first_source_of_an_identifier_stays() {
        let mut union = Union::default();
        let checked = |payload: &str| vec![Checked::of_plugin(&planned("a", payload)).unwrap()];
        union.add("set:one".into(), checked("{}"));
        let token = union.token();
        union.add("planner:two".into(), checked(r#"{"other":true}"#));
        let kept_out: Vec<_> = union.items.iter().map(|item| item.kept_out).collect();
        assert_eq!(kept_out, [false, true]);
        assert_eq!(union.token(), token, "what is kept out changes nothing for the device");
    }

    #[test]
    fn status_items_are_found_alone_and_as_the_objects_that_they_make() {
        let item = |name: &str, value: Json| StatusItem {
            item: name.into(),
            value,
            reported_at: Timestamp::UNIX_EPOCH,
        };
        let status = status(&[
            item("device.operating-system.version", json!("27.1")),
            item("device.operating-system.family", json!("macOS")),
            item("passcode.is-present", json!(true)),
        ]);
        assert_eq!(status["device.operating-system.version"], "\"27.1\"");
        assert_eq!(
            status["device.operating-system"],
            r#"{"family":"macOS","version":"27.1"}"#
        );
        assert_eq!(status.get("device"), None);
        assert_eq!(status["passcode.is-present"], "true");
    }

    #[test]
    fn a_planner_that_goes_on_failing_is_asked_ever_more_rarely() {
        let now = Timestamp::UNIX_EPOCH;
        let wait = |attempts| again_at(attempts, now).duration_since(now);
        assert_eq!(wait(0), AGAIN_FIRST);
        assert_eq!(wait(1), AGAIN_FIRST * 2);
        assert_eq!(wait(60), AGAIN_LONGEST);
    }
}
