//! The typed commands: their fields, and how they are read from and written to a checked dictionary.

use std::fmt;

use plist::{Dictionary, Value};

use super::{Command, KeyProblem, known};
use crate::fields::{FieldError, Fields, required};
use crate::secret::{SecretBytes, SecretString};

/// `DeviceInformation`: what the device is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInformation {
    /// What is asked, such as `OSVersion`; at least one.
    pub queries: Vec<String>,
    /// What an attestation must cover to be fresh; at most 32 bytes.
    pub device_attestation_nonce: Option<Vec<u8>>,
}

/// `ProfileList`: the installed profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileList {
    /// Only those that device management installed.
    pub managed_only: Option<bool>,
}

/// `InstallProfile`: installs a profile or replaces the one with the same identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallProfile {
    /// The profile, signed or not. It may hold passwords.
    pub payload: SecretBytes,
}

/// `RemoveProfile`: removes a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveProfile {
    /// The profile's `PayloadIdentifier`.
    pub identifier: String,
}

/// `DeviceLock`: locks the screen; with a PIN, a Mac as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceLock {
    /// Shown on the locked screen.
    pub message: Option<String>,
    /// Shown on the locked screen.
    pub phone_number: Option<String>,
    /// Six characters that unlock the Mac again.
    pub pin: Option<SecretString>,
}

/// `EraseDevice`: erases the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EraseDevice {
    /// Keep the eSIM.
    pub preserve_data_plan: Option<bool>,
    /// Leave the setup from a nearby device out.
    pub disallow_proximity_setup: Option<bool>,
    /// Six characters that unlock the Mac again.
    pub pin: Option<SecretString>,
    /// What a Mac does when it cannot erase content and settings alone.
    pub obliteration_behavior: Option<ObliterationBehavior>,
    /// Set up and enroll again without a person.
    pub return_to_service: Option<ReturnToService>,
}

/// What a Mac does when it cannot erase content and settings alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObliterationBehavior {
    /// Reports an error, then erases the whole disk.
    Default,
    /// Reports an error and stays as it is.
    DoNotObliterate,
    /// Acknowledges, then erases the whole disk.
    ObliterateWithWarning,
    /// Erases the whole disk at once.
    Always,
}

impl ObliterationBehavior {
    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::DoNotObliterate => "DoNotObliterate",
            Self::ObliterateWithWarning => "ObliterateWithWarning",
            Self::Always => "Always",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Default,
            Self::DoNotObliterate,
            Self::ObliterateWithWarning,
            Self::Always,
        ]
        .into_iter()
        .find(|behavior| behavior.as_str() == text)
    }
}

/// How a device sets itself up after it is erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReturnToService {
    /// Whether it does.
    pub enabled: bool,
    /// The Wi-Fi profile it needs to come back, unless it has Ethernet.
    pub wifi_profile: Option<SecretBytes>,
    /// The management profile, for devices that do not fetch theirs at activation.
    pub mdm_profile: Option<SecretBytes>,
    /// The bootstrap token, to keep managed apps (OS 26).
    pub bootstrap_token: Option<SecretBytes>,
    /// Try the enrollment again when it fails (OS 27).
    pub should_retry_enrollment: Option<bool>,
}

/// A command that this crate does not check.
#[derive(Clone, PartialEq)]
pub struct RawCommand {
    request_type: String,
    dictionary: Dictionary,
}

impl RawCommand {
    /// A command as it goes on the wire; its `RequestType` is set to `request_type`.
    pub fn new(request_type: impl Into<String>, mut dictionary: Dictionary) -> Self {
        let request_type = request_type.into();
        dictionary.insert("RequestType".to_owned(), Value::from(request_type.as_str()));
        Self {
            request_type,
            dictionary,
        }
    }

    /// The `RequestType`.
    pub fn request_type(&self) -> &str {
        &self.request_type
    }

    /// The whole command with its `RequestType`.
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }
}

impl fmt::Debug for RawCommand {
    /// The request type alone: nobody knows what is in the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCommand")
            .field("request_type", &self.request_type)
            .finish_non_exhaustive()
    }
}

/// Reads a command from a dictionary that was checked against its schema.
pub(super) fn read(request_type: &'static str, body: Dictionary) -> Result<Command, KeyProblem> {
    if request_type == "DeviceInformation" && body.contains_key("DeviceAttestationNonce") && !asks_attestation(&body) {
        let problem = "needs the query DevicePropertiesAttestation".to_owned();
        return Err(KeyProblem {
            key: "DeviceAttestationNonce".to_owned(),
            problem,
        });
    }
    let wrong = |error: FieldError| {
        let (FieldError::Missing { key } | FieldError::WrongType { key, .. }) = &error;
        KeyProblem {
            key: (*key).to_owned(),
            problem: error.to_string(),
        }
    };
    read_fields(request_type, &mut Fields(body)).map_err(wrong)
}

fn asks_attestation(body: &Dictionary) -> bool {
    let queries = body.get("Queries").and_then(Value::as_array);
    queries.is_some_and(|queries| {
        queries
            .iter()
            .any(|query| query.as_string() == Some("DevicePropertiesAttestation"))
    })
}

fn read_fields(request_type: &'static str, fields: &mut Fields) -> Result<Command, FieldError> {
    Ok(match request_type {
        "DeviceInformation" => Command::DeviceInformation(DeviceInformation {
            queries: required("Queries", fields.strings("Queries")?)?,
            device_attestation_nonce: fields.data("DeviceAttestationNonce")?,
        }),
        "SecurityInfo" => Command::SecurityInfo,
        "ProfileList" => Command::ProfileList(ProfileList {
            managed_only: fields.boolean("ManagedOnly")?,
        }),
        "InstallProfile" => Command::InstallProfile(InstallProfile {
            payload: required("Payload", fields.secret_data("Payload")?)?,
        }),
        "RemoveProfile" => Command::RemoveProfile(RemoveProfile {
            identifier: required("Identifier", fields.string("Identifier")?)?,
        }),
        "DeviceLock" => Command::DeviceLock(DeviceLock {
            message: fields.string("Message")?,
            phone_number: fields.string("PhoneNumber")?,
            pin: fields.secret_string("PIN")?,
        }),
        "EraseDevice" => Command::EraseDevice(EraseDevice {
            preserve_data_plan: fields.boolean("PreserveDataPlan")?,
            disallow_proximity_setup: fields.boolean("DisallowProximitySetup")?,
            pin: fields.secret_string("PIN")?,
            obliteration_behavior: fields
                .string("ObliterationBehavior")?
                .and_then(|text| ObliterationBehavior::parse(&text)),
            return_to_service: fields
                .dictionary("ReturnToService")?
                .map(ReturnToService::read)
                .transpose()?,
        }),
        other => Command::Raw(RawCommand::new(other, std::mem::take(&mut fields.0))),
    })
}

/// Adds what a sender should know about a valid command.
pub(super) fn advise(command: &Command, warnings: &mut Vec<String>) {
    match command {
        Command::DeviceInformation(command) => {
            warnings.extend(command.queries.iter().filter_map(|query| known::query_warning(query)));
        }
        Command::InstallProfile(command) => {
            let payload = command.payload.expose().trim_ascii_start();
            // XML, with or without a byte order mark, or a DER sequence.
            if !(payload.starts_with(b"<") || payload.starts_with(b"\xef\xbb\xbf<") || payload.starts_with(b"\x30")) {
                warnings.push("Payload looks like neither a profile in XML nor a signed one".to_owned());
            }
        }
        _ => {}
    }
}

impl DeviceInformation {
    pub(super) fn write(&self, to: &mut Dictionary) {
        let queries = self.queries.iter().map(|query| Value::from(query.as_str())).collect();
        to.insert("Queries".to_owned(), Value::Array(queries));
        put(
            to,
            "DeviceAttestationNonce",
            self.device_attestation_nonce.clone().map(Value::Data),
        );
    }

    /// A nonce asks for a new attestation, so no other answer serves.
    pub(super) fn dedupe_key(&self) -> Option<String> {
        if self.device_attestation_nonce.is_some() {
            return None;
        }
        let mut queries: Vec<&str> = self.queries.iter().map(String::as_str).collect();
        queries.sort_unstable();
        queries.dedup();
        Some(format!("DeviceInformation:{}", queries.join(",")))
    }
}

impl ProfileList {
    pub(super) fn write(&self, to: &mut Dictionary) {
        put(to, "ManagedOnly", self.managed_only.map(Value::from));
    }

    pub(super) fn dedupe_key(&self) -> String {
        let which = if self.managed_only == Some(true) {
            "managed"
        } else {
            "all"
        };
        format!("ProfileList:{which}")
    }
}

impl InstallProfile {
    pub(super) fn write(&self, to: &mut Dictionary) {
        put(to, "Payload", Some(Value::Data(self.payload.expose().to_vec())));
    }
}

impl RemoveProfile {
    pub(super) fn write(&self, to: &mut Dictionary) {
        put(to, "Identifier", Some(Value::from(self.identifier.as_str())));
    }
}

impl DeviceLock {
    pub(super) fn write(&self, to: &mut Dictionary) {
        put(to, "Message", self.message.as_deref().map(Value::from));
        put(to, "PhoneNumber", self.phone_number.as_deref().map(Value::from));
        put(to, "PIN", self.pin.as_ref().map(|pin| Value::from(pin.expose())));
    }
}

impl EraseDevice {
    pub(super) fn write(&self, to: &mut Dictionary) {
        put(to, "PreserveDataPlan", self.preserve_data_plan.map(Value::from));
        put(
            to,
            "DisallowProximitySetup",
            self.disallow_proximity_setup.map(Value::from),
        );
        put(to, "PIN", self.pin.as_ref().map(|pin| Value::from(pin.expose())));
        put(
            to,
            "ObliterationBehavior",
            self.obliteration_behavior
                .map(|behavior| Value::from(behavior.as_str())),
        );
        let return_to_service = self.return_to_service.as_ref().map(ReturnToService::dictionary);
        put(to, "ReturnToService", return_to_service.map(Value::Dictionary));
    }
}

impl ReturnToService {
    fn read(body: Dictionary) -> Result<Self, FieldError> {
        let mut fields = Fields(body);
        Ok(Self {
            enabled: required("Enabled", fields.boolean("Enabled")?)?,
            wifi_profile: fields.secret_data("WiFiProfileData")?,
            mdm_profile: fields.secret_data("MDMProfileData")?,
            bootstrap_token: fields.secret_data("BootstrapToken")?,
            should_retry_enrollment: fields.boolean("ShouldRetryEnrollment")?,
        })
    }

    fn dictionary(&self) -> Dictionary {
        let data = |bytes: &Option<SecretBytes>| bytes.as_ref().map(|bytes| Value::Data(bytes.expose().to_vec()));
        let mut to = Dictionary::new();
        put(&mut to, "Enabled", Some(Value::from(self.enabled)));
        put(&mut to, "WiFiProfileData", data(&self.wifi_profile));
        put(&mut to, "MDMProfileData", data(&self.mdm_profile));
        put(&mut to, "BootstrapToken", data(&self.bootstrap_token));
        put(
            &mut to,
            "ShouldRetryEnrollment",
            self.should_retry_enrollment.map(Value::from),
        );
        to
    }
}

fn put(to: &mut Dictionary, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        to.insert(key.to_owned(), value);
    }
}
