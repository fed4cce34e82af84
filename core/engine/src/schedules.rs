//! The runner of scheduled work: what manifests name again and again, and what effects asked for once.
//!
//! A piece of work is leased while it runs, so that one node of a cluster runs it. What it wants done, and that it was
//! done, is one transaction. A time that was missed while no server ran is made up for once.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_hooks::{Schedule, ScheduleTime, ScheduledRun};
use russet_store::{AfterFailure, AfterRun, ManifestSchedule, ScheduleJob, ScheduleOrigin, StoreError, TenantId};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::observers::{SaidAt, backoff, later, was_not_asked};
use crate::{Engine, TenantRef};

/// How long the work of a plugin is kept that no node has any more.
const FORGET: SignedDuration = SignedDuration::from_hours(1);

/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Runs the scheduled work of all tenants.
#[derive(Debug)]
pub struct ScheduleRunner {
    engine: Engine,
}

/// What a tenant's plugins have to do, as it was said to the store.
type Said = (Vec<String>, Vec<(String, Schedule)>);

impl Engine {
    /// Makes the runner of this process. Run it in a task of its own.
    pub fn schedule_runner(&self) -> ScheduleRunner {
        ScheduleRunner { engine: self.clone() }
    }
}

impl ScheduleRunner {
    /// Works until it is cancelled; what runs then is finished.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let (store, settings) = (&this.engine.inner.store, &this.engine.inner.settings.work);
        let signal = store.schedule_signal();
        let mut said = HashMap::new();
        let mut tenants = HashMap::new();
        let mut looked: Option<Instant> = None;
        let mut running = JoinSet::new();
        let most = settings.observers.max(1);
        while !cancel.is_cancelled() {
            // Registered before anything is read, so that no announcement is missed in between.
            let mut announced = pin!(signal.notified());
            if looked.is_none_or(|looked| looked.elapsed() >= settings.idle_interval) {
                match this.say(&mut said).await {
                    Ok(known) => tenants = known,
                    Err(error) => tracing::error!(error = %error, "the schedules of plugins cannot be noted"),
                }
                looked = Some(Instant::now());
            }
            let room = most.saturating_sub(running.len());
            for job in this.claim(room).await {
                let Some(tenant) = tenants.get(&job.work.tenant).cloned() else {
                    continue;
                };
                let this = Arc::clone(&this);
                running.spawn(async move { this.run_job(&tenant, job).await });
            }
            let look = Instant::now() + this.until_next_due().await;
            tokio::select! {
                Some(done) = running.join_next() => settled(done),
                () = &mut announced, if running.len() < most => {}
                () = tokio::time::sleep_until(look), if running.len() < most => {}
                () = cancel.cancelled() => {}
            }
        }
        while let Some(done) = running.join_next().await {
            settled(done);
        }
    }

    /// Says to the store what this node's plugins have to do, where that changed or was said long ago.
    async fn say(
        &self,
        said: &mut HashMap<TenantId, (Said, SaidAt)>,
    ) -> Result<HashMap<TenantId, TenantRef>, StoreError> {
        let (store, hooks) = (&self.engine.inner.store, &self.engine.inner.hooks);
        let now = Timestamp::now();
        let tenants = self.engine.all_tenants().await?;
        for tenant in &tenants {
            let hooks = hooks.pin(&tenant.name);
            let plugins: Vec<_> = hooks.schedules().map(|(plugin, _)| plugin.to_owned()).collect();
            let schedules: Vec<_> = hooks
                .schedules()
                .flat_map(|(plugin, schedules)| schedules.iter().map(|one| (plugin.to_owned(), one.clone())))
                .collect();
            let what = (plugins, schedules);
            let same = said
                .get(&tenant.id)
                .is_some_and(|(said, at)| *said == what && at.is_recent(now));
            if same || (what.0.is_empty() && !said.contains_key(&tenant.id)) {
                continue;
            }
            let schedules = what.1.iter().map(|(plugin, schedule)| ManifestSchedule {
                plugin: plugin.clone(),
                name: schedule.name.clone(),
                rule: rule(schedule.when),
                next: next(schedule.when, now),
            });
            store
                .schedules_seen(tenant.id, what.0.clone(), schedules.collect(), now)
                .await?;
            said.insert(tenant.id, (what, SaidAt::new(now)));
        }
        store
            .forget_schedules(now.checked_sub(FORGET).unwrap_or(Timestamp::MIN))
            .await?;
        Ok(tenants.into_iter().map(|tenant| (tenant.id, tenant)).collect())
    }

    async fn claim(&self, room: usize) -> Vec<ScheduleJob> {
        let Some(limit) = u32::try_from(room).ok().filter(|limit| *limit > 0) else {
            return Vec::new();
        };
        let now = Timestamp::now();
        let lease = later(now, self.engine.inner.settings.work.lease);
        let claimed = self.engine.inner.store.schedules_claim(limit, lease, now).await;
        claimed.unwrap_or_else(|error| {
            tracing::error!(error = %error, "the scheduled work cannot be read");
            Vec::new()
        })
    }

    async fn until_next_due(&self) -> Duration {
        let idle = self.engine.inner.settings.work.idle_interval;
        match self.engine.inner.store.schedules_next_due().await {
            Ok(Some(due)) => {
                let wait = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
                wait.clamp(SHORTEST_PAUSE.min(idle), idle)
            }
            Ok(None) | Err(_) => idle,
        }
    }

    async fn run_job(&self, tenant: &TenantRef, job: ScheduleJob) -> Result<(), StoreError> {
        let (store, settings) = (&self.engine.inner.store, &self.engine.inner.settings.work);
        let work = &job.work;
        let request = self.engine.background(tenant, work.depth);
        let hooks = Arc::clone(&request.hooks);
        let schedule = hooks
            .schedules()
            .filter(|(plugin, _)| *plugin == work.plugin)
            .flat_map(|(_, schedules)| schedules)
            .find(|schedule| work.origin == ScheduleOrigin::Manifest && schedule.name == work.name);
        let run = ScheduledRun {
            name: work.name.clone(),
            due: work.due_at.as_millisecond(),
            payload: work.payload.clone(),
            attempt: work.attempts,
        };
        let outcome = hooks.run_scheduled(&request.scope, &work.plugin, run).await;
        let decisions = self.engine.decided(&request, outcome.decisions, None).await?;
        let now = Timestamp::now();
        let again = schedule.map(|schedule| next(schedule.when, now));
        let Err(undecided) = outcome.verdict else {
            let after = again.map_or(AfterRun::Over, AfterRun::Next);
            store.schedule_done(&job, after, decisions, now).await?;
            return Ok(());
        };
        let asked = !was_not_asked(&undecided.fault);
        let tried = work.attempts.saturating_add(u32::from(asked));
        let again_at = later(now, backoff(settings, tried.max(1)));
        let exhausted = asked && tried >= settings.attempts.max(1);
        let after = match (asked, exhausted, again) {
            (false, ..) => AfterFailure::Wait(again_at),
            (true, false, _) => AfterFailure::Retry(again_at),
            (true, true, Some(next)) => AfterFailure::Next(next),
            (true, true, None) => AfterFailure::Park,
        };
        if exhausted {
            tracing::error!(
                plugin.name = %work.plugin,
                schedule.name = %work.name,
                fault = %undecided.fault,
                "scheduled work failed as often as it may and is given up for this time"
            );
        }
        store
            .schedule_failed(&job, after, &undecided.fault.to_string(), decisions, now)
            .await
    }
}

fn settled(done: Result<Result<(), StoreError>, tokio::task::JoinError>) {
    // Either way the lease runs out, and the work is done again.
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = %error, "what became of scheduled work cannot be stored"),
        Err(error) => tracing::error!(error = %error, "scheduled work ended badly"),
    }
}

/// When a schedule comes, in words that are shown, and that change with it.
fn rule(when: ScheduleTime) -> String {
    match when {
        ScheduleTime::EveryMinutes(minutes) => format!("every {minutes} minutes"),
        ScheduleTime::DailyAt { hour, minute } => format!("daily at {hour:02}:{minute:02} UTC"),
    }
}

fn next(when: ScheduleTime, now: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(when.next_after(now.as_millisecond())).unwrap_or(Timestamp::MAX)
}
