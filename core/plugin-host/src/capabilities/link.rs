//! How a granted function becomes a function of the linker. By hand, because functions of one interface are granted apart.

use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower};

use crate::Grants;
use crate::journal::{self, HostAnswer, HostCall};
use crate::ports::CallError;
use crate::state::CallState;

/// A wait from which on processor time is counted anew: what is shorter is the guest's own.
const WAITED: Duration = Duration::from_millis(1);

/// The functions of one interface that were granted.
pub(super) struct Interface<'a> {
    name: &'static str,
    grants: &'a Grants,
    instance: LinkerInstance<'a, CallState>,
}

impl<'a> Interface<'a> {
    /// The interface of that name, unless none of it is granted.
    pub(super) fn of(
        linker: &'a mut Linker<CallState>,
        grants: &'a Grants,
        name: &'static str,
    ) -> wasmtime::Result<Option<Self>> {
        let granted = |capability: &String| {
            capability
                .strip_prefix(name)
                .is_some_and(|function| function.starts_with('.'))
        };
        if !grants.capabilities.iter().any(granted) {
            return Ok(None);
        }
        let instance = linker.instance(&format!("russet:plugin/{name}@0.1.0"))?;
        Ok(Some(Self { name, grants, instance }))
    }

    /// Links a function if it is granted: `ask` checks what the guest asks for, the journal answers, and `tell` says it in
    /// the guest's words.
    pub(super) fn function<P, R>(
        &mut self,
        name: &str,
        ask: fn(P) -> Result<HostCall, CallError>,
        tell: fn(&mut CallState, HostAnswer) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + 'static,
        R: Lower + wasmtime::component::ComponentType + Send + 'static,
    {
        if !self.grants.allows(&format!("{}.{name}", self.name)) {
            return Ok(());
        }
        self.instance.func_wrap_async(name, move |mut store, params: P| {
            Box::new(async move {
                let state = store.data_mut();
                state.count_host_call()?;
                let answer = match ask(params) {
                    Ok(call) => {
                        let began = Instant::now();
                        let answer = journal::call(state, call).await?;
                        resume(&mut store, began.elapsed());
                        answer
                    }
                    // What is refused for its form is the same at every replay: nothing to write down.
                    Err(refusal) => Err(refusal),
                };
                Ok((tell(store.data_mut(), answer)?,))
            })
        })
    }
}

/// The clock of processor time went on while the call waited: the guest starts a new tick.
fn resume(store: &mut StoreContextMut<'_, CallState>, waited: Duration) {
    if waited >= WAITED {
        store.set_epoch_deadline(1);
    }
}
