//! Plans of declarations: what the sets of a device and the planners give, united.
//!
//! A plan is made in the background, when something that it may rest on has changed, and stored whole: what devices ask for
//! is read from there. Sets come first, by name, then planners in their order; of two declarations with one identifier the
//! first one stays, and a second one that differs is a conflict, which is shown. A planner that fails keeps its last good
//! plan, and is asked again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_hooks::PlanRequest;
use russet_protocol::ddm::TokensResponse;
use russet_protocol::{codec, plist};
use russet_store::{
    CommandOrigin, EnrollmentLookup, EnrollmentRecord, EnrollmentState, NewCommand, NewPlan, PlanChange, PlanJob,
    StoreError, TenantId,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::plan::{Checked, Union, checked_plan, status};
use crate::{Engine, EngineError, Request, subject};

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
    /// more to do. `swept` remembers the tenants and generations that are done with.
    async fn sweep_plans(&self, swept: &mut HashMap<TenantId, u64>, now: Timestamp) -> Result<bool, StoreError> {
        let mut more = false;
        for tenant in self.inner.store.tenants().await? {
            let hooks = self.inner.hooks.pin(&tenant.name);
            let generation = hooks.generation();
            if swept.get(&tenant.id) == Some(&generation) {
                continue;
            }
            let number = i64::try_from(generation).unwrap_or(i64::MAX);
            let planners = hooks.has_planner();
            if self.inner.store.plan_sweep(tenant.id, number, planners, now).await? {
                more = true;
            } else {
                swept.insert(tenant.id, generation);
            }
        }
        Ok(more)
    }

    /// Makes plans until it is cancelled. Run it in a task of its own.
    pub async fn plan_declarations(self, cancel: CancellationToken) {
        let signal = self.inner.store.plan_signal();
        let mut swept = HashMap::new();
        while !cancel.is_cancelled() {
            // Registered before the requests are read, so that no announcement is missed in between.
            let mut announced = std::pin::pin!(signal.notified());
            announced.as_mut().enable();
            let now = Timestamp::now();
            let more = match self.sweep_plans(&mut swept, now).await {
                Ok(more) => self
                    .make_due_plans(now)
                    .await
                    .map(|taken| more || taken >= BATCH as usize),
                Err(error) => Err(error.into()),
            };
            let more = match more {
                Ok(more) => more,
                Err(error) => {
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
    use super::*;

    #[test]
    fn a_planner_that_goes_on_failing_is_asked_ever_more_rarely() {
        let now = Timestamp::UNIX_EPOCH;
        let wait = |attempts| again_at(attempts, now).duration_since(now);
        assert_eq!(wait(0), AGAIN_FIRST);
        assert_eq!(wait(1), AGAIN_FIRST * 2);
        assert_eq!(wait(60), AGAIN_LONGEST);
    }
}
