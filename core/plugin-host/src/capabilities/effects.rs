//! `effects`: what is to be done because of the call. Nothing is done here: each function measures what it is given and
//! appends to the call's list, which the engine applies in the transaction that records the decision.

use russet_hooks::{Effect, EffectAction, MAX_DEPTH, Secret};
use wasmtime::component::Linker;

use crate::Grants;
use crate::bindings::russet::plugin::effects as wit;
use crate::checks::{is_enrollment, is_event_kind, is_json_object, is_name, is_uuid};
use crate::journal::{self, HostCall, HostValue};
use crate::state::CallState;

/// The longest name of an attribute, profile, set, schedule or key, in bytes.
const MAX_NAME: usize = 256;
/// The longest name of a secret, in bytes: as in `secrets`.
const MAX_SECRET_NAME: usize = 128;
/// The largest secret, in bytes: as in `secrets`.
const MAX_SECRET: usize = 16 << 10;
/// The longest value of an attribute, in bytes.
const MAX_VALUE: usize = 4 << 10;
/// The largest payload of a scheduled call, and the largest detail of an event, in bytes.
const MAX_PAYLOAD: usize = 16 << 10;

type Answer<T> = wasmtime::Result<Result<T, wit::Error>>;

/// Links the granted functions. By hand, because each is granted by itself.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let granted = |function: &str| grants.allows(&format!("effects.{function}"));
    if !grants.capabilities.iter().any(|name| name.starts_with("effects.")) {
        return Ok(());
    }
    let mut interface = linker.instance("russet:plugin/effects@0.1.0")?;
    macro_rules! link {
        ($($name:literal ($($argument:ident: $type:ty),*) -> $answer:ty = $method:ident;)*) => {
            $(if granted($name) {
                interface.func_wrap($name, |mut store, ($($argument,)*): ($($type,)*)| {
                    let state: &mut CallState = store.data_mut();
                    state.count_host_call()?;
                    let answer: Result<$answer, wit::Error> = state.$method($($argument),*)?;
                    Ok((answer,))
                })?;
            })*
        };
    }
    link! {
        "set-attribute"(enrollment: Option<String>, name: String, value: String) -> () = set_attribute;
        "clear-attribute"(enrollment: Option<String>, name: String) -> () = clear_attribute;
        "enqueue-command"(enrollment: Option<String>, command: String, options: wit::CommandOptions) -> String
            = enqueue_command;
        "cancel-command"(enrollment: Option<String>, uuid: String) -> () = cancel_command;
        "push"(enrollment: Option<String>) -> () = push_device;
        "assign-profile"(enrollment: Option<String>, profile: String) -> () = assign_profile;
        "unassign-profile"(enrollment: Option<String>, profile: String) -> () = unassign_profile;
        "assign-declarations"(enrollment: Option<String>, name: String) -> () = assign_declarations;
        "unassign-declarations"(enrollment: Option<String>, name: String) -> () = unassign_declarations;
        "put-secret"(name: String, value: Bytes) -> () = put_secret;
        "schedule-call"(name: String, at: u64, payload: String) -> () = schedule_call;
        "emit-event"(enrollment: Option<String>, kind: String, detail: String) -> () = emit_event;
    }
    Ok(())
}

/// Bytes that are wiped when dropped.
type Bytes = Vec<u8>;

impl CallState {
    fn set_attribute(&mut self, enrollment: Option<String>, name: String, value: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of an attribute", &name, MAX_NAME)?;
            sized("the value of an attribute", value.len(), MAX_VALUE)?;
            Ok(EffectAction::SetAttribute { name, value })
        })
    }

    fn clear_attribute(&mut self, enrollment: Option<String>, name: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of an attribute", &name, MAX_NAME)?;
            Ok(EffectAction::ClearAttribute { name })
        })
    }

    fn enqueue_command(
        &mut self,
        enrollment: Option<String>,
        command: String,
        options: wit::CommandOptions,
    ) -> Answer<String> {
        // The plugin may keep the UUID, so a call that is run again has to get the same.
        let uuid = match journal::call_now(self, &HostCall::RandomBytes { count: 16 })? {
            Ok(HostValue::Bytes(bytes)) if bytes.len() == 16 => uuid_of(&bytes),
            Ok(_) => return Err(journal::shapeless()),
            Err(error) => return Ok(Err(wit::Error::Invalid(error.to_string()))),
        };
        let answer = self.about(enrollment, |state| {
            state.may_cause_more()?;
            sized("the command", command.len(), state.plugin.limits.output_bytes)?;
            if !is_json_object(&command) {
                return Err(wit::Error::Invalid("the command is not a JSON object".to_owned()));
            }
            if let Some(key) = &options.dedupe_key {
                named("the key", key, MAX_NAME)?;
            }
            Ok(EffectAction::EnqueueCommand {
                uuid: uuid.clone(),
                command,
                priority: options.priority,
                not_before_ms: options.not_before_ms,
                expires_at_ms: options.expires_at_ms,
                dedupe_key: options.dedupe_key,
            })
        })?;
        Ok(answer.map(|()| uuid))
    }

    fn cancel_command(&mut self, enrollment: Option<String>, uuid: String) -> Answer<()> {
        self.about(enrollment, |_| {
            if !is_uuid(&uuid) {
                return Err(wit::Error::Invalid("the UUID is not one".to_owned()));
            }
            Ok(EffectAction::CancelCommand { uuid })
        })
    }

    fn push_device(&mut self, enrollment: Option<String>) -> Answer<()> {
        self.about(enrollment, |_| Ok(EffectAction::Push))
    }

    fn assign_profile(&mut self, enrollment: Option<String>, profile: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of the profile", &profile, MAX_NAME)?;
            Ok(EffectAction::AssignProfile { profile })
        })
    }

    fn unassign_profile(&mut self, enrollment: Option<String>, profile: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of the profile", &profile, MAX_NAME)?;
            Ok(EffectAction::UnassignProfile { profile })
        })
    }

    fn assign_declarations(&mut self, enrollment: Option<String>, name: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of the set", &name, MAX_NAME)?;
            Ok(EffectAction::AssignDeclarations { name })
        })
    }

    fn unassign_declarations(&mut self, enrollment: Option<String>, name: String) -> Answer<()> {
        self.about(enrollment, |_| {
            named("the name of the set", &name, MAX_NAME)?;
            Ok(EffectAction::UnassignDeclarations { name })
        })
    }

    fn put_secret(&mut self, name: String, value: Bytes) -> Answer<()> {
        let value = Secret::new(value);
        Ok(self.record(None, |_| {
            named("the name of a secret", &name, MAX_SECRET_NAME)?;
            sized("a secret", value.expose().len(), MAX_SECRET)?;
            Ok(EffectAction::PutSecret { name, value })
        }))
    }

    fn schedule_call(&mut self, name: String, at_ms: u64, payload: String) -> Answer<()> {
        Ok(self.record(None, |state| {
            if !state.plugin.scheduled {
                return Err(wit::Error::Invalid(
                    "the plugin does not implement `scheduled`, so it can not be called".to_owned(),
                ));
            }
            named("the name of the work", &name, MAX_NAME)?;
            sized("the payload", payload.len(), MAX_PAYLOAD)?;
            if i64::try_from(at_ms).is_err() {
                return Err(wit::Error::Invalid("the time is too far away".to_owned()));
            }
            Ok(EffectAction::ScheduleCall { name, at_ms, payload })
        }))
    }

    fn emit_event(&mut self, enrollment: Option<String>, kind: String, detail: String) -> Answer<()> {
        Ok(target(enrollment).and_then(|target| {
            self.record(target, |state| {
                state.may_cause_more()?;
                if !is_event_kind(&kind) {
                    return Err(wit::Error::Invalid(
                        "the kind is not made of words of a-z, 0-9 and - with dots between them".to_owned(),
                    ));
                }
                sized("the detail", detail.len(), MAX_PAYLOAD)?;
                if !is_json_object(&detail) {
                    return Err(wit::Error::Invalid("the detail is not a JSON object".to_owned()));
                }
                Ok(EffectAction::EmitEvent { kind, detail })
            })
        }))
    }

    /// Records an effect on an enrollment: that which was named, or that of the call.
    fn about(
        &mut self,
        enrollment: Option<String>,
        action: impl FnOnce(&Self) -> Result<EffectAction, wit::Error>,
    ) -> Answer<()> {
        let own = || self.subject.device().and_then(|device| device.enrollment_id.as_ref());
        if enrollment.is_none() && own().is_none() {
            return Ok(Err(wit::Error::NoTarget));
        }
        Ok(target(enrollment).and_then(|target| self.record(target, action)))
    }

    fn record(
        &mut self,
        target: Option<String>,
        action: impl FnOnce(&Self) -> Result<EffectAction, wit::Error>,
    ) -> Result<(), wit::Error> {
        let limits = &self.plugin.limits;
        if self.meter.effects >= limits.effects {
            return Err(wit::Error::Budget(format!(
                "a call may record {} effects",
                limits.effects
            )));
        }
        let action = action(self)?;
        let size = self.meter.effect_bytes.saturating_add(size_of(&action));
        if size > limits.effect_bytes {
            return Err(wit::Error::Budget(format!(
                "the effects of a call may have {} bytes in all",
                limits.effect_bytes
            )));
        }
        self.meter.effects += 1;
        self.meter.effect_bytes = size;
        self.recorder.effect(Effect { target, action });
        Ok(())
    }

    /// Whether the call may still cause other plugins to be called.
    fn may_cause_more(&self) -> Result<(), wit::Error> {
        if self.scope.depth >= MAX_DEPTH {
            return Err(wit::Error::Budget(format!(
                "{MAX_DEPTH} plugins have caused one another; this is where it ends"
            )));
        }
        Ok(())
    }
}

fn target(enrollment: Option<String>) -> Result<Option<String>, wit::Error> {
    match enrollment {
        Some(enrollment) if !is_enrollment(&enrollment) => Err(wit::Error::Invalid(
            "the identifier of the enrollment is empty, too long, or has control characters".to_owned(),
        )),
        enrollment => Ok(enrollment),
    }
}

fn named(what: &str, name: &str, longest: usize) -> Result<(), wit::Error> {
    if is_name(name, longest) {
        return Ok(());
    }
    Err(wit::Error::Invalid(format!(
        "{what} is empty, longer than {longest} bytes, or has control characters"
    )))
}

fn sized(what: &str, size: usize, most: usize) -> Result<(), wit::Error> {
    if size <= most {
        return Ok(());
    }
    Err(wit::Error::Invalid(format!(
        "{what} has {size} bytes; at most {most} are allowed"
    )))
}

/// What an effect weighs, about: its texts.
fn size_of(action: &EffectAction) -> usize {
    match action {
        EffectAction::SetAttribute { name, value } => name.len() + value.len(),
        EffectAction::EnqueueCommand { command, .. } => command.len(),
        EffectAction::PutSecret { name, value } => name.len() + value.expose().len(),
        EffectAction::ScheduleCall { name, payload, .. } => name.len() + payload.len(),
        EffectAction::EmitEvent { kind, detail } => kind.len() + detail.len(),
        EffectAction::ClearAttribute { name }
        | EffectAction::AssignDeclarations { name }
        | EffectAction::UnassignDeclarations { name } => name.len(),
        EffectAction::AssignProfile { profile } | EffectAction::UnassignProfile { profile } => profile.len(),
        EffectAction::CancelCommand { .. } | EffectAction::Push => 0,
    }
}

/// A random UUID (RFC 9562, version 4) of 16 random bytes.
fn uuid_of(random: &[u8]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(random);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode_upper(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
