//! The hooks of a plugin as services: from a request to a call of the export, from its answer to a verdict.

use std::borrow::Cow;
use std::sync::Arc;

use russet_hooks::{
    Ask, Blame, CallLimits, CommandHook, CommandVerdict, DirectoryHook, DirectoryRequest, DirectoryVerdict, EscrowHook,
    EscrowOperation, EscrowVerdict, FaultKind, GateHook, GateVerdict, Hook, HookService, Implementor, ObserverHook,
    PlannedDeclaration, PlannerHook, PluginFault, RenderedProfile, ScheduledHook, TemplateHook, guarded, native,
};

use crate::answers;
use crate::capabilities::one_line;
use crate::context::borrowed;
use crate::prepared::Prepared;
use crate::state::{CallInput, Subject, cut};

/// The longest explanation of a plugin that could not decide, in bytes.
const MAX_EXPLANATION: usize = 1_024;

/// Puts permits and the deadline over a service.
pub(crate) fn implementor<H: Hook>(
    name: &str,
    revision: &str,
    limits: CallLimits,
    service: HookService<H>,
) -> Implementor<H> {
    Implementor {
        name: name.to_owned(),
        revision: revision.to_owned(),
        service: guarded(name, service, limits),
    }
}

/// A hook of a plugin as a service.
macro_rules! service {
    ($name:ident, $hook:ty, $call:ident) => {
        pub(crate) fn $name(plugin: &Arc<Prepared>) -> HookService<$hook> {
            native(Arc::clone(plugin), |plugin, ask| {
                Box::pin(async move { $call(&plugin, ask).await })
            })
        }
    };
}

service!(gate, GateHook, check_enrollment);
service!(directory, DirectoryHook, ask_directory);
service!(escrow, EscrowHook, decide_escrow);
service!(template, TemplateHook, render);
service!(command, CommandHook, check_command);
service!(planner, PlannerHook, plan);
service!(observer, ObserverHook, observe);
service!(scheduled, ScheduledHook, run_scheduled);

async fn check_enrollment(plugin: &Prepared, ask: Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.exports.gate.as_ref())?;
    let (input, request) = CallInput::of(ask);
    let answer = plugin
        .run(input, Subject::Enrollment(request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_check(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, answers::gate)
}

async fn ask_directory(plugin: &Prepared, ask: Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.exports.directory.as_ref())?;
    let (input, request) = CallInput::of(ask);
    match request.as_ref() {
        DirectoryRequest::SignIn(sign_in) => {
            let answer = plugin
                .run(input, Subject::Name, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest
                        .call_sign_in(&mut *store, &sign_in.user_name, &sign_in.password)
                        .await
                })
                .await?;
            decided(plugin, answer, answers::sign_in)
        }
        DirectoryRequest::Find(name) => {
            let answer = plugin
                .run(input, Subject::Name, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_find(&mut *store, name).await
                })
                .await?;
            decided(plugin, answer, answers::found)
        }
    }
}

async fn decide_escrow(plugin: &Prepared, ask: Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.exports.escrow.as_ref())?;
    let (input, request) = CallInput::of(ask);
    let operation = request.operation;
    let subject = Subject::Escrow(request);
    match operation {
        EscrowOperation::Deposit => {
            let answer = plugin
                .run(input, subject, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_deposit(&mut *store, borrowed()).await
                })
                .await?;
            decided(plugin, answer, answers::deposit)
        }
        EscrowOperation::Release => {
            let answer = plugin
                .run(input, subject, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_release(&mut *store, borrowed()).await
                })
                .await?;
            decided(plugin, answer, answers::release)
        }
        EscrowOperation::Clear => {
            let answer = plugin
                .run(input, subject, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_clear(&mut *store, borrowed()).await
                })
                .await?;
            decided(plugin, answer, answers::clear)
        }
    }
}

async fn render(plugin: &Prepared, ask: Ask<TemplateHook>) -> Result<RenderedProfile, PluginFault> {
    let indices = implemented(plugin, plugin.exports.template.as_ref())?;
    let (input, request) = CallInput::of(ask);
    let size = request.template.len() + request.variables.len();
    fits(plugin, "the template and its variables have", size)?;
    let answer = plugin
        .run(input, Subject::Template(request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_render(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, |profile| {
        answers::rendered(profile, plugin.limits().output_bytes)
    })
}

async fn check_command(plugin: &Prepared, ask: Ask<CommandHook>) -> Result<CommandVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.exports.command.as_ref())?;
    let (input, request) = CallInput::of(ask);
    fits(plugin, "the command has", request.command.len())?;
    let answer = plugin
        .run(input, Subject::Command(request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_check(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, |verdict| {
        answers::command(verdict, plugin.limits().output_bytes)
    })
}

async fn plan(plugin: &Prepared, ask: Ask<PlannerHook>) -> Result<Vec<PlannedDeclaration>, PluginFault> {
    let indices = implemented(plugin, plugin.exports.planner.as_ref())?;
    let (input, request) = CallInput::of(ask);
    let answer = plugin
        .run(input, Subject::Plan(request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_plan(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, |plan| answers::plan(plan, plugin.limits().output_bytes))
}

async fn observe(plugin: &Prepared, ask: Ask<ObserverHook>) -> Result<(), PluginFault> {
    let indices = implemented(plugin, plugin.exports.observer.as_ref())?;
    let (input, event) = CallInput::of(ask);
    fits(plugin, "the event has", event.detail.len())?;
    let answer = plugin
        .run(input, Subject::Event(event), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_observe(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, Ok)
}

async fn run_scheduled(plugin: &Prepared, ask: Ask<ScheduledHook>) -> Result<(), PluginFault> {
    let indices = implemented(plugin, plugin.exports.scheduled.as_ref())?;
    let (input, run) = CallInput::of(ask);
    fits(plugin, "the payload has", run.payload.len())?;
    let answer = plugin
        .run(input, Subject::Run(run), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_run(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, Ok)
}

fn implemented<'a, T>(plugin: &Prepared, indices: Option<&'a T>) -> Result<&'a T, PluginFault> {
    indices.ok_or_else(|| plugin.fault(FaultKind::Unusable, "the plugin does not implement this hook"))
}

/// Whether what the plugin is given is not larger than it may be.
fn fits(plugin: &Prepared, what: &str, size: usize) -> Result<(), PluginFault> {
    let limit = plugin.limits().input_bytes;
    if size <= limit {
        return Ok(());
    }
    let detail = format!("{what} {size} bytes; the plugin may be given {limit}");
    Err(plugin
        .fault(FaultKind::HostCallLimit, detail)
        .blamed_on(Blame::Configuration))
}

fn decided<A, V>(
    plugin: &Prepared,
    answer: Result<A, String>,
    verdict: impl FnOnce(A) -> Result<V, answers::Bad>,
) -> Result<V, PluginFault> {
    match answer {
        Ok(answer) => verdict(answer).map_err(|bad| plugin.fault(FaultKind::BadAnswer, bad)),
        Err(explanation) => Err(plugin.fault(FaultKind::CouldNotDecide, shown(&explanation))),
    }
}

/// A plugin's explanation as it gets into the log and the records.
fn shown(explanation: &str) -> Cow<'_, str> {
    one_line(cut(explanation, MAX_EXPLANATION))
}

#[cfg(test)]
mod tests {
    use super::{MAX_EXPLANATION, shown};

    #[test]
    fn an_explanation_is_one_short_line() {
        assert_eq!(
            shown("no answer\n2026-01-01 ERROR forged\0"),
            "no answer 2026-01-01 ERROR forged "
        );
        assert_eq!(shown(&"x".repeat(1 << 20)).len(), MAX_EXPLANATION);
    }
}
