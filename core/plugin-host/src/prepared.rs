//! What the calls of one loaded plugin share, and how a call is made: a fresh instance, within the limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use russet_hooks::{Answers, Blame, FaultKind, PluginFault, Recorder, Scope};
use tokio::time::{Instant, timeout_at};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Store, UpdateDeadline};

use crate::engine::Compiled;
use crate::exports::Exports;
use crate::fault::{Phase, classify};
use crate::limits::Violation;
use crate::state::{CallInput, CallState, PluginContext, Subject};
use crate::{Limits, Manifest, PluginEngine};

/// The part of a plugin that calls share.
pub(crate) struct Prepared {
    pub(crate) engine: PluginEngine,
    pub(crate) context: Arc<PluginContext>,
    pub(crate) manifest: Manifest,
    pub(crate) revision: String,
    pub(crate) exports: Exports,
    pub(crate) pre: InstancePre<CallState>,
    /// Lets other tenants find the compiled component as long as this one uses it.
    pub(crate) compiled: Arc<Compiled>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("name", &self.context.name)
            .field("revision", &self.revision)
            .field("compiled", &self.compiled.initialized())
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub(crate) fn limits(&self) -> &Limits {
        &self.context.limits
    }

    pub(crate) fn fault(&self, kind: FaultKind, detail: impl Into<String>) -> PluginFault {
        PluginFault::new(self.context.name.as_ref(), kind, detail)
    }

    /// Runs one call in a fresh instance, which is gone when this returns, traps, or is dropped.
    pub(crate) async fn run<R>(
        &self,
        input: CallInput,
        subject: Subject,
        call: impl AsyncFnOnce(&mut Store<CallState>, &Instance) -> wasmtime::Result<R>,
    ) -> Result<R, PluginFault> {
        let permit = match self.engine.free_permit() {
            Some(permit) => Some(permit),
            None => timeout_at(input.scope.deadline, self.engine.permit())
                .await
                .ok()
                .flatten(),
        };
        let Some(_permit) = permit else {
            return Err(self.fault(FaultKind::Busy, "no free instance before the deadline"));
        };
        // Declared after the permit, so dropped before it: the place in the pool is free when the permit is.
        let mut store = self.store(input, subject);
        let instance = match self.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Err(classify(store.data(), Phase::Start, &error)),
        };
        let answer = call(&mut store, &instance)
            .await
            .map_err(|error| classify(store.data(), Phase::Call, &error))?;
        // Host calls end with the deadline too, and what a plugin makes of that is no decision of its own.
        if Instant::now() >= store.data().scope.deadline {
            return Err(self.fault(FaultKind::Deadline, "no answer before the deadline"));
        }
        Ok(answer)
    }

    fn store(&self, input: CallInput, subject: Subject) -> Store<CallState> {
        let state = CallState::new(Arc::clone(&self.context), input, subject);
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(self.context.limits.transfer_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            // One tick at a time, and the next one starts when the guest runs again: time in which the guest did not
            // run costs it nothing.
            let state = store.data_mut();
            state.meter.ticks += 1;
            if state.meter.ticks > state.plugin.limits.cpu_ticks() {
                return Err(Violation::Cpu(state.plugin.limits.cpu_ms).into());
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }

    /// Starts an instance and looks its exports up with their types.
    pub(crate) async fn probe(&self) -> Result<(), PluginFault> {
        let scope = Scope::new(
            Arc::clone(&self.context.space.tenant),
            "probe",
            Duration::from_millis(self.context.limits.wall_ms),
        );
        let deadline = scope.deadline;
        let input = CallInput {
            scope,
            // Nothing that a start function asks for reaches the server.
            answers: Answers::Recorded {
                entries: Arc::default(),
                strict: false,
            },
            recorder: Recorder::default(),
        };
        let tried = self.run(input, Subject::Name, async |store, instance| {
            self.exports.check(store, instance)
        });
        match timeout_at(deadline, tried).await {
            // Nothing of the hook ran, so an answer that can not be read means an export of another shape.
            Ok(Err(fault)) if fault.kind == FaultKind::BadAnswer => Err(PluginFault {
                kind: FaultKind::Unusable,
                blame: Blame::Guest,
                ..fault
            }),
            Ok(answer) => answer,
            Err(_) => Err(self.fault(FaultKind::Deadline, "it did not start in time")),
        }
    }
}
