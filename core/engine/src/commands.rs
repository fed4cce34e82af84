//! Commands: checked, stored once, and queued for the devices that they are for.

use jiff::Timestamp;
use russet_protocol::command::{Command, CommandError, Validated};
use russet_protocol::{Limits, codec, plist};
use russet_store::{EnrollmentId, EnrollmentState, NewCommand};
use uuid::Uuid;

use crate::{Engine, EngineError, Request};

/// Where a command comes from.
#[derive(Clone, Debug)]
pub enum CommandSource {
    /// JSON with Apple's key names.
    Json(serde_json::Value),
    /// A property list: the command, or the whole envelope.
    Plist(Vec<u8>),
    /// InstallProfile of a profile that is stored here, made at delivery.
    StoredProfile(String),
}

/// A command for devices.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The command.
    pub source: CommandSource,
    /// The devices: enrollment keys, serial numbers or UDIDs.
    pub devices: Vec<String>,
    /// Lower goes first; 0 is usual.
    pub priority: i16,
    /// Not delivered before this.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub expires_at: Option<Timestamp>,
    /// Who asks: the name of a token.
    pub created_by: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnqueueReport {
    /// `CommandUUID`.
    pub command_uuid: Uuid,
    /// `RequestType`.
    pub request_type: String,
    /// How many queues have it now.
    pub queued: u64,
    /// The devices that have the same question unanswered in their queue.
    pub deduplicated: Vec<String>,
    /// What the sender should know.
    pub warnings: Vec<String>,
}

/// The most devices that one call may name.
const MAX_DEVICES: usize = 10_000;

impl Engine {
    /// Checks a command and queues it; devices that can be woken are pushed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with every problem; nothing is queued then.
    pub async fn enqueue(
        &self,
        request: &Request,
        ask: EnqueueRequest,
        now: Timestamp,
    ) -> Result<EnqueueReport, EngineError> {
        let targets = self.targets(request, &ask.devices).await?;
        if let (Some(not_before), Some(expires_at)) = (ask.not_before, ask.expires_at)
            && expires_at <= not_before
        {
            return Err(EngineError::invalid("expires_at must be later than not_before"));
        }
        let prepared = match ask.source {
            CommandSource::Json(json) => Prepared::of(Command::from_json(&json).map_err(command_error)?),
            CommandSource::Plist(plist) => {
                Prepared::of(Command::from_plist(&plist, &Limits::default()).map_err(command_error)?)
            }
            CommandSource::StoredProfile(name) => {
                if self.inner.store.profile(request.tenant.id, &name).await?.is_none() {
                    return Err(EngineError::NotFound("profile"));
                }
                Prepared::install_profile(name)
            }
        };
        let uuid = Uuid::now_v7();
        let (request_type, warnings) = (prepared.request_type.clone(), prepared.warnings.clone());
        let new = NewCommand {
            uuid,
            tenant: request.tenant.id,
            request_type: prepared.request_type,
            payload: codec::encode(&prepared.dictionary),
            profile_name: prepared.profile_name,
            priority: ask.priority,
            not_before: ask.not_before,
            expires_at: ask.expires_at,
            dedupe_key: prepared.dedupe_key,
            created_by: ask.created_by,
            warnings: prepared.warnings,
        };
        let ids = targets.iter().map(|(id, _)| *id).collect();
        let enqueued = self.inner.store.enqueue(new, ids, now).await?;
        let name = |id: &EnrollmentId| {
            targets
                .iter()
                .find(|(target, _)| target == id)
                .map(|(_, name)| name.clone())
        };
        Ok(EnqueueReport {
            command_uuid: uuid,
            request_type,
            queued: enqueued.queued,
            deduplicated: enqueued.deduplicated.iter().filter_map(name).collect(),
            warnings,
        })
    }

    async fn targets(&self, request: &Request, devices: &[String]) -> Result<Vec<(EnrollmentId, String)>, EngineError> {
        if devices.is_empty() {
            return Err(EngineError::invalid(
                "name at least one device (serial number, UDID or enrollment id)",
            ));
        }
        if devices.len() > MAX_DEVICES {
            return Err(EngineError::invalid(format!(
                "name at most {MAX_DEVICES} devices in one call"
            )));
        }
        let mut targets = Vec::with_capacity(devices.len());
        let mut details = Vec::new();
        for device in devices {
            match self.device(&request.tenant, device).await {
                Ok(found) if found.state == EnrollmentState::Removed => {
                    details.push(format!("{device}: is not enrolled any more"));
                }
                Ok(found) => targets.push((found.id, device.clone())),
                Err(EngineError::NotFound(_)) => details.push(format!("{device}: no such device")),
                Err(EngineError::Invalid { message, .. }) => details.push(format!("{device}: {message}")),
                Err(error) => return Err(error),
            }
        }
        if details.is_empty() {
            Ok(targets)
        } else {
            Err(EngineError::Invalid {
                message: "some devices cannot get the command".to_owned(),
                details,
            })
        }
    }

    /// What an enrollment is sent with its first TokenUpdate, and with each that says that it waits in Setup Assistant.
    /// Queued in the transaction of the TokenUpdate, so that neither is there without the other.
    pub(crate) fn greeting(
        &self,
        request: &Request,
        awaiting_configuration: bool,
        is_user: bool,
    ) -> (Vec<NewCommand>, Vec<NewCommand>) {
        let wanted = self.inner.settings.enrollment.on_enrollment;
        let (mut at_first, mut always) = (Vec::new(), Vec::new());
        if !is_user && wanted.device_information {
            let queries = DEVICE_QUERIES.map(plist::Value::from).to_vec();
            let command = dictionary([("RequestType", "DeviceInformation".into()), ("Queries", queries.into())]);
            at_first.push(own_command(request, "DeviceInformation", &command, 0));
        }
        if awaiting_configuration && wanted.device_configured {
            let request_type = if is_user { "UserConfigured" } else { "DeviceConfigured" };
            let command = dictionary([("RequestType", request_type.into())]);
            // After everything else that waits: it ends Setup Assistant.
            always.push(own_command(request, request_type, &command, i16::MAX));
        }
        (at_first, always)
    }
}

/// A command of the server's own; at most one of its kind waits in a queue.
fn own_command(request: &Request, request_type: &str, command: &plist::Dictionary, priority: i16) -> NewCommand {
    NewCommand {
        uuid: Uuid::now_v7(),
        tenant: request.tenant.id,
        request_type: request_type.to_owned(),
        payload: codec::encode(command),
        profile_name: None,
        priority,
        not_before: None,
        expires_at: None,
        dedupe_key: Some(format!("russet:{request_type}")),
        created_by: "russet".to_owned(),
        warnings: Vec::new(),
    }
}

/// What is asked of every device once it has enrolled (Apple: DeviceInformation).
const DEVICE_QUERIES: [&str; 12] = [
    "UDID",
    "SerialNumber",
    "DeviceName",
    "OSVersion",
    "BuildVersion",
    "ModelName",
    "Model",
    "ProductName",
    "IsSupervised",
    "AvailableDeviceCapacity",
    "BatteryLevel",
    "WiFiMAC",
];

fn dictionary<const N: usize>(pairs: [(&str, plist::Value); N]) -> plist::Dictionary {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A command that passed its checks.
struct Prepared {
    request_type: String,
    dictionary: plist::Dictionary,
    profile_name: Option<String>,
    dedupe_key: Option<String>,
    warnings: Vec<String>,
}

impl Prepared {
    fn of(checked: Validated) -> Self {
        Self {
            request_type: checked.command.request_type().to_owned(),
            dictionary: checked.command.dictionary(),
            profile_name: None,
            dedupe_key: checked.command.dedupe_key(),
            warnings: checked.warnings,
        }
    }

    /// InstallProfile of a stored profile: the payload is put in at delivery, so it is the newest then, and one waiting
    /// entry for a device is enough.
    fn install_profile(name: String) -> Self {
        Self {
            request_type: "InstallProfile".to_owned(),
            dictionary: dictionary([("RequestType", "InstallProfile".into())]),
            dedupe_key: Some(format!("InstallProfile:{name}")),
            profile_name: Some(name),
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
