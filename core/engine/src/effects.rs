//! Effects of plugins, before they are applied: each is checked against its caps, commands are validated and put to the
//! command policies. What is wrong with one is recorded in its place; the others go on.

use jiff::Timestamp;
use russet_hooks::{DecisionRecord, Effect, EffectAction as Wanted, HookKind, HookSet, MAX_DEPTH, Requester};
use russet_store::{EffectAction, EnrollmentId, EnrollmentLookup, EnrollmentRecord, NewCall, NewEffect, StoreError};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::commands::{CommandAsk, CommandSource};
use crate::{Engine, EngineError, Request, subject};

/// The most effects of one call.
const MAX_EFFECTS: usize = 100;

/// The longest name, in bytes.
const MAX_NAME: usize = 128;

/// The longest value of an attribute, in bytes.
const MAX_VALUE: usize = 4 << 10;

/// The largest payload of a call and the largest detail of an event, in bytes.
const MAX_PAYLOAD: usize = 64 << 10;

/// The largest secret, in bytes.
const MAX_SECRET: usize = 16 << 10;

/// How far ahead a call may be scheduled, in hours.
const MAX_AHEAD: i64 = 10 * 366 * 24;

/// Why an effect is refused.
struct Refusal(String);

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// What an effect became: something to be done, or the reason why not.
type Checked = Result<EffectAction, Refusal>;

impl Engine {
    /// The effects of a decision, checked, and what command policies decided about the commands among them.
    pub(crate) async fn effects(
        &self,
        request: &Request,
        record: &DecisionRecord,
        wanted: Vec<Effect>,
        about: Option<EnrollmentId>,
    ) -> Result<(Vec<NewEffect>, Vec<DecisionRecord>), StoreError> {
        let mut effects = Vec::with_capacity(wanted.len());
        let mut asked = Vec::new();
        for (at, effect) in wanted.into_iter().enumerate() {
            let name = effect.action.as_str();
            let checked = if at < MAX_EFFECTS {
                self.checked(request, record, &effect, about, &mut asked).await?
            } else {
                Err(format!("a call has at most {MAX_EFFECTS} effects").as_str().into())
            };
            effects.push(NewEffect {
                enrollment: effect.target,
                action: checked.unwrap_or_else(|Refusal(reason)| EffectAction::Refused {
                    effect: name.to_owned(),
                    reason,
                }),
            });
        }
        Ok((effects, asked))
    }

    async fn checked(
        &self,
        request: &Request,
        record: &DecisionRecord,
        effect: &Effect,
        about: Option<EnrollmentId>,
        asked: &mut Vec<DecisionRecord>,
    ) -> Result<Checked, StoreError> {
        let tenant = request.tenant.id;
        let by = format!("plugin:{}", record.plugin);
        Ok(match &effect.action {
            Wanted::SetAttribute { name, value } => attribute(name).and_then(|name| {
                if value.len() > MAX_VALUE {
                    return Err("the value of an attribute has at most 4,096 bytes".into());
                }
                let value = value.clone();
                Ok(EffectAction::SetAttribute { name, value })
            }),
            Wanted::ClearAttribute { name } => attribute(name).map(|name| EffectAction::ClearAttribute { name }),
            Wanted::EnqueueCommand { .. } => return self.command(request, record, effect, about, asked).await,
            Wanted::CancelCommand { uuid } => uuid_of(uuid).map(|uuid| EffectAction::CancelCommand { uuid }),
            Wanted::Push => Ok(EffectAction::Push),
            Wanted::AssignProfile { profile } | Wanted::UnassignProfile { profile } => match text(profile) {
                Err(refusal) => Err(refusal),
                Ok(profile) => {
                    let commands = Box::new(self.inner.store.profile_commands(tenant, &profile, &by)?);
                    Ok(if matches!(effect.action, Wanted::AssignProfile { .. }) {
                        EffectAction::AssignProfile { profile, commands }
                    } else {
                        EffectAction::UnassignProfile { profile, commands }
                    })
                }
            },
            Wanted::AssignDeclarations { name } => text(name).map(|name| EffectAction::AssignDeclarations { name }),
            Wanted::UnassignDeclarations { name } => text(name).map(|name| EffectAction::UnassignDeclarations { name }),
            Wanted::PutSecret { name, value } => match text(name) {
                Err(refusal) => Err(refusal),
                Ok(_) if value.expose().len() > MAX_SECRET => Err("a secret has at most 16,384 bytes".into()),
                Ok(name) => {
                    let (store, plugin) = (&self.inner.store, &record.plugin);
                    let secret = store.sealed_plugin_secret(tenant, plugin, &name, value.expose())?;
                    Ok(EffectAction::PutSecret(secret))
                }
            },
            Wanted::ScheduleCall { name, at_ms, payload } => call(request, record, name, *at_ms, payload),
            Wanted::EmitEvent { kind, detail } => event(request, record, kind, detail),
        })
    }

    async fn command(
        &self,
        request: &Request,
        record: &DecisionRecord,
        effect: &Effect,
        about: Option<EnrollmentId>,
        asked: &mut Vec<DecisionRecord>,
    ) -> Result<Checked, StoreError> {
        let target = self.target(request, effect, about).await?;
        let ask = match command_ask(request, record, &effect.action, target) {
            Ok(ask) => ask,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // A policy is not asked about what a policy wants.
        let request = if record.hook == HookKind::CommandPolicy {
            let hooks = std::sync::Arc::new(HookSet::default());
            &Request {
                hooks,
                ..request.clone()
            }
        } else {
            request
        };
        let checked = match self.checked_command(request, ask).await {
            Ok(checked) => checked,
            Err(EngineError::Store(error)) => return Err(error),
            Err(error) => return Ok(Err(Refusal(error.to_string()))),
        };
        asked.extend(checked.decisions);
        Ok(match checked.command {
            Ok(command) => {
                let command = self.inner.store.sealed_command(command)?;
                Ok(EffectAction::EnqueueCommand(Box::new(command)))
            }
            Err(EngineError::Store(error)) => return Err(error),
            Err(EngineError::Invalid { message, details }) => Err(Refusal(match details.as_slice() {
                [] => message,
                details => format!("{message}: {}", details.join("; ")),
            })),
            Err(error) => Err(Refusal(error.to_string())),
        })
    }

    /// The enrollment that an effect is for, as far as it is there already.
    async fn target(
        &self,
        request: &Request,
        effect: &Effect,
        about: Option<EnrollmentId>,
    ) -> Result<Option<EnrollmentRecord>, StoreError> {
        let lookup = match (&effect.target, about) {
            (Some(key), _) => EnrollmentLookup::Key(key),
            (None, Some(id)) => EnrollmentLookup::Id(id),
            (None, None) => return Ok(None),
        };
        self.inner.store.enrollment(request.tenant.id, lookup).await
    }
}

fn command_ask(
    request: &Request,
    record: &DecisionRecord,
    action: &Wanted,
    target: Option<EnrollmentRecord>,
) -> Result<CommandAsk, Refusal> {
    let Wanted::EnqueueCommand {
        uuid,
        command,
        priority,
        not_before_ms,
        expires_at_ms,
        dedupe_key,
    } = action
    else {
        return Err("this is no command".into());
    };
    if request.scope.depth >= MAX_DEPTH {
        return Err("too many plugins have caused one another".into());
    }
    if dedupe_key.as_ref().is_some_and(|key| text(key).is_err()) {
        return Err("the dedupe key has 1 to 128 bytes of plain text".into());
    }
    let json = serde_json::from_str(command).map_err(|_| Refusal::from("the command is not JSON"))?;
    Ok(CommandAsk {
        uuid: uuid_of(uuid)?,
        source: CommandSource::Json(json),
        priority: *priority,
        not_before: not_before_ms.map(time).transpose()?,
        expires_at: expires_at_ms.map(time).transpose()?,
        // A plugin's keys are its own: it must not keep others' commands out.
        dedupe_key: dedupe_key.as_ref().map(|key| format!("plugin:{}:{key}", record.plugin)),
        pace: None,
        requester: Requester::Plugin(record.plugin.clone()),
        token: None,
        targets: 1,
        device: target.map(|target| (subject::device(&target), subject::person(target.person.as_ref()))),
    })
}

fn call(request: &Request, record: &DecisionRecord, name: &str, at_ms: u64, payload: &str) -> Checked {
    if !request.hooks.schedules().any(|(plugin, _)| plugin == record.plugin) {
        return Err("the plugin has no scheduled hook".into());
    }
    if request.scope.depth >= MAX_DEPTH {
        return Err("too many plugins have caused one another".into());
    }
    if payload.len() > MAX_PAYLOAD {
        return Err("the payload of a call has at most 65,536 bytes".into());
    }
    let at = time(at_ms)?;
    if at.duration_since(Timestamp::now()).as_hours() > MAX_AHEAD {
        return Err("a call can be scheduled at most ten years ahead".into());
    }
    Ok(EffectAction::ScheduleCall(NewCall {
        name: text(name)?,
        at,
        payload: payload.to_owned(),
        // The call is caused by this one.
        depth: request.scope.depth + 1,
    }))
}

fn event(request: &Request, record: &DecisionRecord, kind: &str, detail: &str) -> Checked {
    if request.scope.depth >= MAX_DEPTH {
        return Err("too many plugins have caused one another".into());
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if kind.is_empty() || kind.len() > MAX_NAME || !kind.chars().all(allowed) {
        return Err("the kind of an event has 1 to 128 lower-case letters, digits, hyphens and dots".into());
    }
    if detail.len() > MAX_PAYLOAD {
        return Err("the detail of an event has at most 65,536 bytes".into());
    }
    let Ok(detail @ Json::Object(_)) = serde_json::from_str(detail) else {
        return Err("the detail of an event is a JSON object".into());
    };
    let kind = format!("plugin.{}.{kind}", record.plugin);
    Ok(EffectAction::EmitEvent { kind, detail })
}

fn attribute(name: &str) -> Result<String, Refusal> {
    if name == subject::METHOD {
        return Err("this attribute is the server's own".into());
    }
    text(name)
}

/// A name: short, and nothing that a list or a log would trip over.
fn text(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("a name has 1 to 128 bytes of plain text".into());
    }
    Ok(name.to_owned())
}

fn uuid_of(text: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(text).map_err(|_| "this is no UUID".into())
}

fn time(ms: u64) -> Result<Timestamp, Refusal> {
    let ms = i64::try_from(ms).ok();
    let time = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.ok_or_else(|| "this time is too far away".into())
}
