//! What plugins want done because of a decision, done in the transaction that records it.
//!
//! Everything that can be refused is looked at before anything is written, so that a refused effect costs the others
//! nothing; what fails for another reason takes the whole transaction with it.

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::assignments::ProfileCommands;
use crate::commands::NewCommand;
use crate::db::{Db, Sql, ms, values};
use crate::enrollments::EnrollmentState;
use crate::error::StoreError;
use crate::events;
use crate::ids::{EnrollmentId, TenantId};
use crate::plugin_secrets::{SealedPluginSecret, store_secret};
use crate::schedules::{self, NewCall};
use crate::store::Store;
use crate::{assignments, commands, declarations, push};

/// The most attributes of one enrollment.
const MAX_ATTRIBUTES: usize = 256;

/// The most bytes of all attributes of one enrollment, as JSON.
const MAX_ATTRIBUTES_BYTES: usize = 64 << 10;

/// A command as it is stored: its payload can be read with the data key only. Made by [`Store::sealed_command`].
#[derive(Clone, Debug)]
pub struct SealedCommand(pub(crate) NewCommand);

/// Something that a plugin wants done.
#[derive(Clone, Debug)]
pub struct NewEffect {
    /// The enrollment that it is for, by its key in the tenant of the decision; the one that the decision is about if absent.
    pub enrollment: Option<String>,
    /// What is to be done.
    pub action: EffectAction,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum EffectAction {
    /// Sets an attribute.
    SetAttribute {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Removes an attribute.
    ClearAttribute {
        /// Its name.
        name: String,
    },
    /// Queues a command.
    EnqueueCommand(Box<SealedCommand>),
    /// Takes a command back, as long as it is not answered.
    CancelCommand {
        /// `CommandUUID`.
        uuid: Uuid,
    },
    /// Wakes the device.
    Push,
    /// Keeps a secret of the plugin's own.
    PutSecret(SealedPluginSecret),
    /// Calls the plugin again at a time.
    ScheduleCall(NewCall),
    /// Gives the device a stored profile.
    AssignProfile {
        /// Its name.
        profile: String,
        /// What is queued with it.
        commands: Box<ProfileCommands>,
    },
    /// Takes a stored profile away again.
    UnassignProfile {
        /// Its name.
        profile: String,
        /// What is queued with it.
        commands: Box<ProfileCommands>,
    },
    /// Gives the device a stored set of declarations.
    AssignDeclarations {
        /// Its name.
        name: String,
    },
    /// Takes a stored set of declarations away again.
    UnassignDeclarations {
        /// Its name.
        name: String,
    },
    /// Tells observers.
    EmitEvent {
        /// The kind, in full: `plugin.NAME.KIND`.
        kind: String,
        /// More: an object.
        detail: Json,
    },
    /// Found to be impossible before: only recorded.
    Refused {
        /// The effect's name in the contract.
        effect: String,
        /// Why.
        reason: String,
    },
}

impl EffectAction {
    /// The name in the contract.
    fn name(&self) -> &str {
        match self {
            Self::SetAttribute { .. } => "set-attribute",
            Self::ClearAttribute { .. } => "clear-attribute",
            Self::EnqueueCommand(_) => "enqueue-command",
            Self::CancelCommand { .. } => "cancel-command",
            Self::Push => "push",
            Self::PutSecret(_) => "put-secret",
            Self::ScheduleCall(_) => "schedule-call",
            Self::AssignProfile { .. } => "assign-profile",
            Self::UnassignProfile { .. } => "unassign-profile",
            Self::AssignDeclarations { .. } => "assign-declarations",
            Self::UnassignDeclarations { .. } => "unassign-declarations",
            Self::EmitEvent { .. } => "emit-event",
            Self::Refused { effect, .. } => effect,
        }
    }

    /// What the record shows of it: never a value that may be secret.
    fn facts(&self) -> Map<String, Json> {
        let facts = match self {
            Self::SetAttribute { name, value } => json!({ "name": name, "value": value }),
            Self::ClearAttribute { name } => json!({ "name": name }),
            Self::EnqueueCommand(command) => {
                json!({ "uuid": command.0.uuid, "request_type": command.0.request_type })
            }
            Self::CancelCommand { uuid } => json!({ "uuid": uuid }),
            Self::PutSecret(secret) => json!({ "name": secret.name }),
            Self::ScheduleCall(call) => json!({ "name": call.name, "at": call.at }),
            Self::AssignProfile { profile, .. } | Self::UnassignProfile { profile, .. } => {
                json!({ "profile": profile })
            }
            Self::AssignDeclarations { name } | Self::UnassignDeclarations { name } => json!({ "name": name }),
            Self::EmitEvent { kind, .. } => json!({ "kind": kind }),
            Self::Push | Self::Refused { .. } => json!({}),
        };
        match facts {
            Json::Object(facts) => facts,
            _ => Map::new(),
        }
    }
}

/// What became of an effect.
enum Done {
    Applied,
    /// Nothing was left to do, and that is in order.
    Unchanged(&'static str),
    Refused(String),
}

fn changed(changed: bool, otherwise: &'static str) -> Done {
    if changed {
        Done::Applied
    } else {
        Done::Unchanged(otherwise)
    }
}

/// Somebody else's answer that nothing was changed, as an effect's.
fn looked_up(done: Result<bool, StoreError>, otherwise: &'static str) -> Result<Done, StoreError> {
    match done {
        Ok(done) => Ok(changed(done, otherwise)),
        Err(error @ (StoreError::NotFound(_) | StoreError::Exists(_) | StoreError::Removed)) => {
            Ok(Done::Refused(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn refused(reason: &str) -> Result<Done, StoreError> {
    Ok(Done::Refused(reason.to_owned()))
}

impl Store {
    /// Seals a command, so that it can be part of an effect.
    ///
    /// # Errors
    /// When the vault fails.
    pub fn sealed_command(&self, command: NewCommand) -> Result<SealedCommand, StoreError> {
        self.seal_command(command).map(SealedCommand)
    }
}

/// Whose effects they are.
#[derive(Clone, Copy)]
pub(crate) struct Cause<'a> {
    pub(crate) tenant: TenantId,
    /// What the decision is about: the target of an effect that names none.
    pub(crate) about: Option<EnrollmentId>,
    pub(crate) plugin: &'a str,
    pub(crate) now: Timestamp,
}

impl Cause<'_> {
    /// Whom what follows is from, as lists show it.
    fn by(&self) -> String {
        format!("plugin:{}", self.plugin)
    }
}

/// Applies effects in their order; what became of each, as the record shows it.
pub(crate) async fn apply(db: &Db, cause: Cause<'_>, effects: &[NewEffect]) -> Result<Json, StoreError> {
    let mut shown = Vec::with_capacity(effects.len());
    for effect in effects {
        let done = one(db, cause, effect).await?;
        let mut facts = effect.action.facts();
        facts.insert("effect".to_owned(), effect.action.name().into());
        if let Some(enrollment) = &effect.enrollment {
            facts.insert("enrollment".to_owned(), enrollment.as_str().into());
        }
        let (outcome, reason) = match done {
            Done::Applied => ("applied", None),
            Done::Unchanged(reason) => ("unchanged", Some(reason.to_owned())),
            Done::Refused(reason) => ("refused", Some(reason)),
        };
        facts.insert("outcome".to_owned(), outcome.into());
        if let Some(reason) = reason {
            facts.insert("reason".to_owned(), reason.into());
        }
        shown.push(Json::Object(facts));
    }
    Ok(Json::Array(shown))
}

/// The row, locked against another transaction's change of its attributes where there can be one.
const BY_KEY: Sql = Sql::per(
    "SELECT id, state, attributes FROM enrollments WHERE tenant_id = $1 AND enrollment_key = $2",
    "SELECT id, state, attributes FROM enrollments WHERE tenant_id = $1 AND enrollment_key = $2 FOR UPDATE",
);
const BY_ID: Sql = Sql::per(
    "SELECT id, state, attributes FROM enrollments WHERE tenant_id = $1 AND id = $2",
    "SELECT id, state, attributes FROM enrollments WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
);

struct Target {
    id: EnrollmentId,
    attributes: Map<String, Json>,
}

/// Whom an effect is for; `None` if it is for nobody.
async fn target(
    db: &Db,
    cause: Cause<'_>,
    effect: &NewEffect,
) -> Result<Result<Option<Target>, &'static str>, StoreError> {
    let row = match (&effect.enrollment, cause.about) {
        (Some(key), _) => db.one(BY_KEY, values![cause.tenant, key.as_str()]).await?,
        (None, Some(id)) => db.one(BY_ID, values![cause.tenant, id]).await?,
        (None, None) => return Ok(Ok(None)),
    };
    let Some(row) = row else {
        return Ok(Err("the tenant has no such enrollment"));
    };
    if row.word(1, EnrollmentState::from_word, "enrollment state")? == EnrollmentState::Removed {
        return Ok(Err("the device is not enrolled any more"));
    }
    let Json::Object(attributes) = row.json(2)? else {
        return Err(StoreError::Corrupt("attributes"));
    };
    Ok(Ok(Some(Target {
        id: EnrollmentId(row.get(0)?),
        attributes,
    })))
}

async fn one(db: &Db, cause: Cause<'_>, effect: &NewEffect) -> Result<Done, StoreError> {
    if let EffectAction::Refused { reason, .. } = &effect.action {
        return refused(reason);
    }
    match &effect.action {
        EffectAction::ScheduleCall(call) => {
            schedules::call(db, cause, call).await?;
            return Ok(Done::Applied);
        }
        EffectAction::PutSecret(secret) => {
            return if store_secret(db, cause.tenant, secret, cause.now).await? {
                Ok(Done::Applied)
            } else {
                refused("the plugin has as many secrets as it may have")
            };
        }
        _ => {}
    }
    let target = match target(db, cause, effect).await? {
        Ok(target) => target,
        Err(reason) => return refused(reason),
    };
    match (&effect.action, target) {
        (EffectAction::EmitEvent { kind, detail }, target) => {
            let enrollment = target.map(|target| target.id);
            let told = events::tell(db, cause.tenant, enrollment, kind, || detail.clone(), cause.now).await?;
            Ok(changed(told, "nobody observes events of this kind"))
        }
        (_, None) => refused("the call is about no enrollment, and none was named"),
        (action, Some(target)) => on_enrollment(db, cause, action, target).await,
    }
}

async fn on_enrollment(db: &Db, cause: Cause<'_>, action: &EffectAction, target: Target) -> Result<Done, StoreError> {
    match action {
        EffectAction::SetAttribute { name, value } => {
            let mut attributes = target.attributes;
            let before = attributes.insert(name.clone(), value.as_str().into());
            if before.as_ref().and_then(Json::as_str) == Some(value) {
                return Ok(Done::Unchanged("the attribute has this value"));
            }
            let text = Json::Object(attributes.clone()).to_string();
            if attributes.len() > MAX_ATTRIBUTES || text.len() > MAX_ATTRIBUTES_BYTES {
                return refused("the enrollment has as many attributes as it may have");
            }
            set_attributes(db, cause, target.id, text).await
        }
        EffectAction::ClearAttribute { name } => {
            let mut attributes = target.attributes;
            if attributes.remove(name).is_none() {
                return Ok(Done::Unchanged("there is no such attribute"));
            }
            set_attributes(db, cause, target.id, Json::Object(attributes).to_string()).await
        }
        EffectAction::EnqueueCommand(command) => {
            let enqueued = match commands::enqueue(db, &command.0, &[target.id], cause.now).await {
                Ok(enqueued) => enqueued,
                Err(StoreError::Exists(_)) => return refused("a command with this UUID exists"),
                Err(error) => return Err(error),
            };
            Ok(if enqueued.deduplicated.is_empty() {
                Done::Applied
            } else {
                Done::Unchanged("a command with the same dedupe key waits already")
            })
        }
        EffectAction::CancelCommand { uuid } => {
            let cancelled = db
                .exec(
                    "UPDATE queue_entries SET state = 'cancelled', finished_at = $1 WHERE enrollment_id = $2 \
                     AND finished_at IS NULL AND command_id = (SELECT id FROM commands WHERE uuid = $3)",
                    values![ms(cause.now), target.id, *uuid],
                )
                .await?;
            if cancelled == 0 {
                return refused("no such command waits in this queue");
            }
            Ok(Done::Applied)
        }
        EffectAction::AssignProfile { profile, commands } => {
            let by = cause.by();
            let install = &commands.install;
            let done = assignments::assign_profile(db, cause.tenant, target.id, profile, &by, install, cause.now).await;
            looked_up(done, "the device has this profile already")
        }
        EffectAction::UnassignProfile { profile, commands } => {
            let remove = &commands.remove;
            let done = assignments::unassign_profile(db, cause.tenant, target.id, profile, remove, cause.now).await;
            looked_up(done, "the device does not have this profile")
        }
        EffectAction::AssignDeclarations { name } => {
            let by = cause.by();
            let done = declarations::assign_declarations(db, cause.tenant, target.id, name, &by, cause.now).await;
            looked_up(done, "the device has this set already")
        }
        EffectAction::UnassignDeclarations { name } => {
            let done = declarations::unassign_declarations(db, cause.tenant, target.id, name, cause.now).await;
            looked_up(done, "the device does not have this set")
        }
        EffectAction::Push => {
            push::request(db, &[target.id], cause.now).await?;
            Ok(Done::Applied)
        }
        EffectAction::ScheduleCall(_)
        | EffectAction::PutSecret(_)
        | EffectAction::EmitEvent { .. }
        | EffectAction::Refused { .. } => refused("this effect is about no enrollment"),
    }
}

async fn set_attributes(db: &Db, cause: Cause<'_>, id: EnrollmentId, attributes: String) -> Result<Done, StoreError> {
    let sql = "UPDATE enrollments SET attributes = $1 WHERE id = $2";
    db.exec(sql, values![attributes, id]).await?;
    declarations::request_plan(db, &[id], cause.now).await?;
    Ok(Done::Applied)
}
