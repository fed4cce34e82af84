//! Commands: checked, stored once, and queued for the devices that they are for.

mod approval;
mod check;
mod groups;

use jiff::Timestamp;
use russet_hooks::Requester;
use russet_protocol::{codec, plist};
use russet_store::{CommandOrigin, EnrollmentId, EnrollmentLookup, FlushFilter, NewCommand, TargetName, Targets};
use uuid::Uuid;

use crate::{Administrator, Engine, EngineError, Request, TenantRef, subject};

pub(crate) use approval::requester;
pub(crate) use check::{CommandAsk, PolicyAsk, PolicyVerdict};
pub use groups::GroupChange;

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

/// Whom a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These devices: enrollment keys, serial numbers or UDIDs.
    Devices(Vec<String>),
    /// The members of a group.
    Group(String),
    /// Every device of the tenant; not the users on them.
    All,
}

/// A command for devices.
#[derive(Clone, Debug)]
pub struct EnqueueRequest {
    /// The command.
    pub source: CommandSource,
    /// Whom it is for.
    pub audience: Audience,
    /// Lower goes first; 0 is usual.
    pub priority: i16,
    /// Not delivered before this.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub expires_at: Option<Timestamp>,
    /// How many devices a minute get it; `None` for all at once.
    pub pace: Option<u32>,
    /// Who asks.
    pub administrator: Administrator,
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
    /// Of the devices that were named one by one and have the same question unanswered in their queue, the first hundred.
    pub deduplicated: Vec<String>,
    /// How many devices have the same question unanswered in their queue.
    pub duplicates: u64,
    /// Why it waits for an approval, if it does: a short name, and a text.
    pub held: Option<(String, String)>,
    /// What the sender should know.
    pub warnings: Vec<String>,
}

/// The most devices that one call may name.
const MAX_DEVICES: usize = 10_000;

/// The most names that an answer or an error repeats.
const MAX_SHOWN: usize = 100;

/// Who commands of the server's own come from.
const SERVER: &str = "russet";

/// Whom a command is for, as the store knows them.
struct Addressed {
    targets: Targets,
    /// Beside the targets, as they were named.
    names: Vec<String>,
    count: u32,
    /// The only one.
    one: Option<EnrollmentId>,
}

impl Engine {
    /// Checks a command, asks the command policies once, and queues it; devices that can be woken are pushed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with every problem, [`EngineError::Denied`] if a policy says so, or
    /// [`EngineError::Undecided`] if one failed; nothing is queued then.
    pub async fn enqueue(
        &self,
        request: &Request,
        ask: EnqueueRequest,
        now: Timestamp,
    ) -> Result<EnqueueReport, EngineError> {
        let addressed = self.addressed(request, ask.audience).await?;
        if ask.pace == Some(0) {
            return Err(EngineError::invalid("pace is devices a minute: at least 1"));
        }
        let device = match addressed.one {
            Some(id) if request.hooks.has_command_policy() => self.device_and_person(request, id).await?,
            _ => None,
        };
        let checked = self
            .checked_command(
                request,
                CommandAsk {
                    uuid: Uuid::now_v7(),
                    source: ask.source,
                    priority: ask.priority,
                    not_before: ask.not_before,
                    expires_at: ask.expires_at,
                    dedupe_key: None,
                    pace: ask.pace,
                    requester: Requester::Administrator(ask.administrator.name),
                    token: Some(ask.administrator.token),
                    targets: addressed.count,
                    device,
                },
            )
            .await?;
        let decisions = self.decided(request, checked.decisions, addressed.one).await?;
        let new = match checked.command {
            Ok(new) => new,
            Err(error) => {
                self.inner
                    .store
                    .record_decisions(request.tenant.id, decisions, now)
                    .await?;
                return Err(error);
            }
        };
        let mut report = EnqueueReport {
            command_uuid: new.uuid,
            request_type: new.request_type.clone(),
            queued: 0,
            deduplicated: Vec::new(),
            duplicates: 0,
            held: new.hold.clone().map(|hold| (hold.reason, hold.message)),
            warnings: new.warnings.clone(),
        };
        let store = &self.inner.store;
        let enqueued = store
            .enqueue_decided(new, addressed.targets.clone(), decisions, now)
            .await?;
        report.queued = enqueued.queued;
        report.duplicates = enqueued.duplicates;
        if let Targets::Enrollments(ids) = &addressed.targets {
            let named = |id: &EnrollmentId| {
                let at = ids.iter().position(|target| target == id)?;
                addressed.names.get(at).cloned()
            };
            report.deduplicated = enqueued.deduplicated.iter().take(MAX_SHOWN).filter_map(named).collect();
        }
        Ok(report)
    }

    /// Takes a command back, from one device or from all; how many had it open. A device that has it already may still do
    /// it, and its answer is then stored.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`] if there is no such command or device.
    pub async fn cancel_command(
        &self,
        tenant: &TenantRef,
        uuid: Uuid,
        device: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, EngineError> {
        let enrollment = match device {
            Some(device) => Some(self.device(tenant, device).await?.id),
            None => None,
        };
        Ok(self.inner.store.cancel(tenant.id, uuid, enrollment, now).await?)
    }

    /// Empties a device's queue, of everything or of one request type; how many commands were open.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotFound`] if there is no such device.
    pub async fn flush_queue(
        &self,
        tenant: &TenantRef,
        device: &str,
        request_type: Option<String>,
        now: Timestamp,
    ) -> Result<u64, EngineError> {
        let enrollment = self.device(tenant, device).await?.id;
        let filter = FlushFilter { request_type };
        Ok(self.inner.store.flush(enrollment, filter, now).await?)
    }

    async fn addressed(&self, request: &Request, audience: Audience) -> Result<Addressed, EngineError> {
        let whole = |targets, count: u64| Addressed {
            targets,
            names: Vec::new(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            one: None,
        };
        let store = &self.inner.store;
        match audience {
            Audience::Devices(names) => {
                let ids = self.named(&request.tenant, &names).await?;
                let one = match ids[..] {
                    [id] => Some(id),
                    _ => None,
                };
                Ok(Addressed {
                    count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                    targets: Targets::Enrollments(ids),
                    names,
                    one,
                })
            }
            Audience::Group(name) => {
                let group = store.group(request.tenant.id, &name).await?;
                let group = group.ok_or(EngineError::NotFound("group"))?;
                Ok(whole(Targets::Group(group.id), group.members))
            }
            // Nobody is counted for nobody's sake.
            Audience::All if !request.hooks.has_command_policy() => Ok(whole(Targets::All, 0)),
            Audience::All => Ok(whole(Targets::All, store.device_count(request.tenant.id).await?)),
        }
    }

    /// The enrollments that these names mean, in their order.
    pub(crate) async fn named(&self, tenant: &TenantRef, devices: &[String]) -> Result<Vec<EnrollmentId>, EngineError> {
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
        let mut ids = Vec::with_capacity(devices.len());
        let mut details = Vec::new();
        let meanings = self.inner.store.resolve_names(tenant.id, devices).await?;
        for (name, meaning) in devices.iter().zip(meanings) {
            let problem = match meaning {
                TargetName::Enrollment(id) => {
                    ids.push(id);
                    continue;
                }
                TargetName::Unknown => "no such device".to_owned(),
                TargetName::Removed => "is not enrolled any more".to_owned(),
                TargetName::Ambiguous => russet_store::StoreError::Ambiguous("device").to_string(),
            };
            details.push(format!("{name}: {problem}"));
        }
        if details.is_empty() {
            return Ok(ids);
        }
        let more = details.len().saturating_sub(MAX_SHOWN);
        details.truncate(MAX_SHOWN);
        if more > 0 {
            details.push(format!("and {more} more"));
        }
        Err(EngineError::Invalid {
            message: "some devices cannot be found".to_owned(),
            details,
        })
    }

    /// What a policy is told of one device.
    pub(crate) async fn device_and_person(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
    ) -> Result<Option<(russet_hooks::Device, Option<russet_hooks::Person>)>, russet_store::StoreError> {
        let store = &self.inner.store;
        let device = store
            .enrollment(request.tenant.id, EnrollmentLookup::Id(enrollment))
            .await?;
        Ok(device.map(|device| (subject::device(&device), subject::person(device.person.as_ref()))))
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
        origin: CommandOrigin::Server,
        created_by: SERVER.to_owned(),
        creator_token: None,
        pace: None,
        hold: None,
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
