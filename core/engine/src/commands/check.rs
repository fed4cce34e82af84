//! A command before it is stored: parsed, validated, and put to the command policies.

use jiff::{SignedDuration, Timestamp};
use russet_hooks::{
    CommandFailure, CommandRequest, CommandStage, CommandVerdict, DecisionRecord, Device, Person, Requester,
};
use russet_protocol::command::{Command, CommandError, Validated};
use russet_protocol::{Limits, codec, plist};
use russet_store::{ApiTokenId, CommandOrigin, Hold, NewCommand};
use uuid::Uuid;

use super::CommandSource;
use crate::{Engine, EngineError, Request};

/// A command that somebody wants queued.
#[derive(Clone, Debug)]
pub(crate) struct CommandAsk {
    /// `CommandUUID`.
    pub(crate) uuid: Uuid,
    /// The command.
    pub(crate) source: CommandSource,
    /// Lower goes first; 0 is usual.
    pub(crate) priority: i16,
    /// Not delivered before this.
    pub(crate) not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub(crate) expires_at: Option<Timestamp>,
    /// In place of the key that the command itself has, if it has one.
    pub(crate) dedupe_key: Option<String>,
    /// How many devices a minute get it.
    pub(crate) pace: Option<u32>,
    /// Who asks.
    pub(crate) requester: Requester,
    /// The token of an administrator who asks: somebody else has to approve if a policy holds the command.
    pub(crate) token: Option<ApiTokenId>,
    /// For how many devices it is.
    pub(crate) targets: u32,
    /// The device, and the person behind it, if it is for one.
    pub(crate) device: Option<(Device, Option<Person>)>,
}

/// What came of checking a command.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The command, to be stored (held, if a policy says so) with the decisions; or why it is not queued.
    pub(crate) command: Result<NewCommand, EngineError>,
    /// What the policies decided, for the record in either case.
    pub(crate) decisions: Vec<DecisionRecord>,
}

/// What the policies are asked about, beside the command itself.
#[derive(Clone, Debug)]
pub(crate) struct PolicyAsk<'a> {
    pub(crate) stage: CommandStage,
    pub(crate) uuid: Uuid,
    pub(crate) request_type: &'a str,
    pub(crate) command: &'a plist::Dictionary,
    pub(crate) requester: Requester,
    pub(crate) approved_by: Option<String>,
    pub(crate) targets: u32,
    pub(crate) device: Option<(Device, Option<Person>)>,
}

/// What the policies make of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PolicyVerdict {
    /// It goes on as it is.
    Unchanged,
    /// It goes on as this.
    Replaced(plist::Dictionary),
    /// It waits for an approval.
    Held(Hold),
    /// It does not go out.
    Denied {
        /// A short, stable name.
        reason: String,
        /// For the administrator.
        message: String,
    },
    /// No policy could decide; the text says which failed.
    Undecided(String),
}

impl Engine {
    /// Checks a command and asks the command policies about it, for the stage of queueing. Nothing is written.
    ///
    /// # Errors
    ///
    /// A failure of the store. What is wrong with the command is in the answer.
    pub(crate) async fn checked_command(&self, request: &Request, ask: CommandAsk) -> Result<Checked, EngineError> {
        let prepared = match self.prepare(request, &ask.source).await {
            Ok(prepared) => prepared,
            Err(EngineError::Store(error)) => return Err(EngineError::Store(error)),
            Err(error) => return Ok(Checked::refused(error, Vec::new())),
        };
        if let (Some(not_before), Some(expires_at)) = (ask.not_before, ask.expires_at)
            && expires_at <= not_before
        {
            let error = EngineError::invalid("expires_at must be later than not_before");
            return Ok(Checked::refused(error, Vec::new()));
        }
        let mut new = self.new_command(request, &ask, &prepared);
        if !request.hooks.has_command_policy() {
            return Ok(Checked {
                command: Ok(new),
                decisions: Vec::new(),
            });
        }
        let policy = PolicyAsk {
            stage: CommandStage::Enqueue,
            uuid: ask.uuid,
            request_type: &prepared.request_type,
            command: &prepared.dictionary,
            requester: ask.requester,
            approved_by: None,
            targets: ask.targets,
            device: ask.device,
        };
        let (verdict, decisions) = self.ask_policies(request, policy).await;
        let command = match verdict {
            PolicyVerdict::Unchanged => Ok(new),
            PolicyVerdict::Replaced(command) => {
                new.replace(&command);
                Ok(new)
            }
            PolicyVerdict::Held(hold) => {
                new.hold = Some(hold);
                Ok(new)
            }
            PolicyVerdict::Denied { reason, message } => Err(EngineError::Denied { reason, message }),
            PolicyVerdict::Undecided(_) => Err(EngineError::Undecided),
        };
        Ok(Checked { command, decisions })
    }

    /// Asks the command policies. Without any the command goes on, and nothing is asked.
    pub(crate) async fn ask_policies(
        &self,
        request: &Request,
        ask: PolicyAsk<'_>,
    ) -> (PolicyVerdict, Vec<DecisionRecord>) {
        let (device, person) = ask.device.unzip();
        let sent = CommandRequest {
            stage: ask.stage,
            uuid: crate::connect::wire_uuid(ask.uuid),
            request_type: ask.request_type.to_owned(),
            command: codec::to_json(&plist::Value::Dictionary(ask.command.clone()))
                .to_string()
                .into(),
            destructive: self.is_destructive(ask.request_type, ask.command),
            requester: ask.requester,
            approved_by: ask.approved_by,
            targets: ask.targets,
            device,
            person: person.flatten(),
        };
        let open = self.inner.settings.queue.open_on_policy_failure;
        let failure = if open {
            CommandFailure::Open
        } else {
            CommandFailure::Closed
        };
        let outcome = request.hooks.check_command(&request.scope, sent, failure).await;
        let verdict = match outcome.verdict {
            Ok(CommandVerdict::Allow) => PolicyVerdict::Unchanged,
            Ok(CommandVerdict::Replace(json)) => replacement(&json, ask.request_type, ask.command),
            Ok(CommandVerdict::Hold(why)) => PolicyVerdict::Held(Hold {
                reason: why.reason,
                message: why.message,
            }),
            Ok(CommandVerdict::Deny(why)) => PolicyVerdict::Denied {
                reason: why.reason,
                message: why.message,
            },
            Err(undecided) => PolicyVerdict::Undecided(undecided.fault.to_string()),
        };
        (verdict, outcome.decisions)
    }

    /// Whether a failing policy closes whatever the operator set: the command erases, locks, takes a passcode or an account
    /// away, or ends the management.
    fn is_destructive(&self, request_type: &str, command: &plist::Dictionary) -> bool {
        DESTRUCTIVE.contains(&request_type)
            || (request_type == "RemoveProfile" && {
                let identifier = command.get("Identifier").and_then(plist::Value::as_string);
                identifier == Some(self.inner.settings.enrollment.profile_identifier.as_str())
            })
    }

    async fn prepare(&self, request: &Request, source: &CommandSource) -> Result<Prepared, EngineError> {
        match source {
            CommandSource::Json(json) => Ok(Prepared::of(Command::from_json(json).map_err(command_error)?)),
            CommandSource::Plist(plist) => {
                let command = Command::from_plist(plist, &Limits::default()).map_err(command_error)?;
                Ok(Prepared::of(command))
            }
            CommandSource::StoredProfile(name) => {
                if self.inner.store.profile(request.tenant.id, name).await?.is_none() {
                    return Err(EngineError::NotFound("profile"));
                }
                Ok(Prepared::install_profile(name.clone()))
            }
        }
    }

    fn new_command(&self, request: &Request, ask: &CommandAsk, prepared: &Prepared) -> NewCommand {
        let (origin, created_by) = match &ask.requester {
            Requester::Administrator(name) => (CommandOrigin::Administrator, name.clone()),
            Requester::Plugin(name) => (CommandOrigin::Plugin, name.clone()),
            Requester::Server | Requester::Device => (CommandOrigin::Server, super::SERVER.to_owned()),
        };
        // A question that nobody waits for any more is not asked for ever.
        let lifetime = self.inner.settings.queue.query_lifetime.filter(|_| prepared.is_query);
        let start = ask.not_before.unwrap_or_else(Timestamp::now);
        let forgotten = lifetime
            .and_then(|lifetime| SignedDuration::try_from(lifetime).ok())
            .and_then(|lifetime| start.checked_add(lifetime).ok());
        NewCommand {
            uuid: ask.uuid,
            tenant: request.tenant.id,
            request_type: prepared.request_type.clone(),
            payload: codec::encode(&prepared.dictionary),
            profile_name: prepared.profile_name.clone(),
            priority: ask.priority,
            not_before: ask.not_before,
            expires_at: ask.expires_at.or(forgotten),
            dedupe_key: ask.dedupe_key.clone().or_else(|| prepared.dedupe_key.clone()),
            origin,
            created_by,
            creator_token: ask.token,
            pace: ask.pace,
            hold: None,
            warnings: prepared.warnings.clone(),
        }
    }
}

impl Checked {
    fn refused(error: EngineError, decisions: Vec<DecisionRecord>) -> Self {
        Self {
            command: Err(error),
            decisions,
        }
    }
}

/// Takes a policy's command in place of the one that was handed in.
trait Replace {
    fn replace(&mut self, command: &plist::Dictionary);
}

impl Replace for NewCommand {
    fn replace(&mut self, command: &plist::Dictionary) {
        self.payload = codec::encode(command);
        // It brings its own payload.
        self.profile_name = None;
    }
}

/// What erases, locks, takes a passcode or an account away: see [`Engine::is_destructive`] for the rest.
const DESTRUCTIVE: [&str; 14] = [
    "ClearPasscode",
    "ClearRestrictionsPassword",
    "DeleteUser",
    "DeviceLock",
    "EnableLostMode",
    "EraseDevice",
    "LogOutUser",
    "RestartDevice",
    "RotateFileVaultKey",
    "SetAutoAdminPassword",
    "SetFirmwarePassword",
    "SetRecoveryLock",
    "ShutDownDevice",
    "UnlockUserAccount",
];

/// A policy's command, if it may stand for the one that was handed in.
fn replacement(json: &str, request_type: &str, before: &plist::Dictionary) -> PolicyVerdict {
    let Ok(json) = serde_json::from_str(json) else {
        return PolicyVerdict::Undecided("the command in its place is not JSON".to_owned());
    };
    if codec::to_json(&plist::Value::Dictionary(before.clone())) == json {
        return PolicyVerdict::Unchanged;
    }
    match Command::from_json(&json) {
        Ok(checked) if checked.command.request_type() == request_type => {
            PolicyVerdict::Replaced(checked.command.dictionary())
        }
        Ok(_) => PolicyVerdict::Undecided(format!("the command in its place is no {request_type}")),
        Err(error) => PolicyVerdict::Undecided(format!("the command in its place is not valid: {error}")),
    }
}

/// A command that passed its checks.
struct Prepared {
    request_type: String,
    dictionary: plist::Dictionary,
    profile_name: Option<String>,
    dedupe_key: Option<String>,
    /// It only asks.
    is_query: bool,
    warnings: Vec<String>,
}

impl Prepared {
    fn of(checked: Validated) -> Self {
        Self {
            request_type: checked.command.request_type().to_owned(),
            dictionary: checked.command.dictionary(),
            profile_name: None,
            is_query: checked.command.is_query(),
            dedupe_key: checked.command.dedupe_key(),
            warnings: checked.warnings,
        }
    }

    /// InstallProfile of a stored profile: the payload is put in at delivery, so it is the newest then, and one waiting
    /// entry for a device is enough.
    fn install_profile(name: String) -> Self {
        Self {
            request_type: "InstallProfile".to_owned(),
            dictionary: super::dictionary([("RequestType", "InstallProfile".into())]),
            dedupe_key: Some(format!("InstallProfile:{name}")),
            profile_name: Some(name),
            is_query: false,
            warnings: Vec::new(),
        }
    }
}

fn command_error(error: CommandError) -> EngineError {
    match error {
        CommandError::Invalid { request_type, problems } => EngineError::Invalid {
            message: format!("the {request_type} command is not valid"),
            details: problems.iter().map(ToString::to_string).collect(),
        },
        other => EngineError::invalid(other.to_string()),
    }
}
