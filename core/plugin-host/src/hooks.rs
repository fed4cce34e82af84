//! The hooks of a plugin as services: from a request to a call of the export, from its answer to a verdict.

use std::borrow::Cow;
use std::sync::Arc;

use russet_hooks::{
    Ask, CallLimits, DirectoryHook, DirectoryRequest, DirectoryVerdict, EscrowHook, EscrowOperation, EscrowVerdict,
    FaultKind, GateHook, GateVerdict, Hook, HookService, Implementor, PluginFault, RenderedProfile, TemplateHook,
    guarded, native,
};

use crate::answers;
use crate::capabilities::one_line;
use crate::context::borrowed;
use crate::plugin::Prepared;
use crate::state::{Subject, cut};

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

pub(crate) fn gate(plugin: &Arc<Prepared>) -> HookService<GateHook> {
    native(Arc::clone(plugin), |plugin, ask| {
        Box::pin(async move { check_enrollment(&plugin, ask).await })
    })
}

pub(crate) fn directory(plugin: &Arc<Prepared>) -> HookService<DirectoryHook> {
    native(Arc::clone(plugin), |plugin, ask| {
        Box::pin(async move { ask_directory(&plugin, ask).await })
    })
}

pub(crate) fn escrow(plugin: &Arc<Prepared>) -> HookService<EscrowHook> {
    native(Arc::clone(plugin), |plugin, ask| {
        Box::pin(async move { decide_escrow(&plugin, ask).await })
    })
}

pub(crate) fn template(plugin: &Arc<Prepared>) -> HookService<TemplateHook> {
    native(Arc::clone(plugin), |plugin, ask| {
        Box::pin(async move { render(&plugin, ask).await })
    })
}

async fn check_enrollment(plugin: &Prepared, ask: Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.gate.as_ref())?;
    let answer = plugin
        .run(ask.scope, Subject::Enrollment(ask.request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_check(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, answers::gate)
}

async fn ask_directory(plugin: &Prepared, ask: Ask<DirectoryHook>) -> Result<DirectoryVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.directory.as_ref())?;
    match ask.request.as_ref() {
        DirectoryRequest::SignIn(sign_in) => {
            let answer = plugin
                .run(ask.scope, Subject::Name, async |store, instance| {
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
                .run(ask.scope, Subject::Name, async |store, instance| {
                    let guest = indices.load(&mut *store, instance)?;
                    guest.call_find(&mut *store, name).await
                })
                .await?;
            decided(plugin, answer, answers::found)
        }
    }
}

async fn decide_escrow(plugin: &Prepared, ask: Ask<EscrowHook>) -> Result<EscrowVerdict, PluginFault> {
    let indices = implemented(plugin, plugin.escrow.as_ref())?;
    let operation = ask.request.operation;
    let answer = plugin
        .run(ask.scope, Subject::Escrow(ask.request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            match operation {
                EscrowOperation::Deposit => guest.call_deposit(&mut *store, borrowed()).await,
                EscrowOperation::Release => guest.call_release(&mut *store, borrowed()).await,
            }
        })
        .await?;
    decided(plugin, answer, answers::escrow)
}

async fn render(plugin: &Prepared, ask: Ask<TemplateHook>) -> Result<RenderedProfile, PluginFault> {
    let indices = implemented(plugin, plugin.template.as_ref())?;
    let size = ask.request.template.len() + ask.request.variables.len();
    if size > plugin.limits().input_bytes {
        return Err(plugin
            .fault(
                FaultKind::HostCallLimit,
                format!(
                    "the template and its variables have {size} bytes; the plugin may be given {}",
                    plugin.limits().input_bytes
                ),
            )
            .blamed_on(russet_hooks::Blame::Configuration));
    }
    let answer = plugin
        .run(ask.scope, Subject::Template(ask.request), async |store, instance| {
            let guest = indices.load(&mut *store, instance)?;
            guest.call_render(&mut *store, borrowed()).await
        })
        .await?;
    decided(plugin, answer, |profile| {
        answers::rendered(profile, plugin.limits().output_bytes)
    })
}

fn implemented<'a, T>(plugin: &Prepared, indices: Option<&'a T>) -> Result<&'a T, PluginFault> {
    indices.ok_or_else(|| plugin.fault(FaultKind::Unusable, "the plugin does not implement this hook"))
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
