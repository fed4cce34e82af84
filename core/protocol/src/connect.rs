//! The command channel: what a device reports when it polls, and the envelope a command goes out in.

use plist::{Dictionary, Value};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, Limits};
use crate::enrollment::{EnrollmentKey, KeyError};
use crate::fields::{FieldError, Fields, printable, required};

/// The longest command identifier taken back from a device, in bytes.
pub const MAX_COMMAND_UUID: usize = 128;

/// How many levels of a report's error chain are kept.
const MAX_ERROR_CHAIN: usize = 16;

/// Why a body is not a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The body is not a property list.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// A field is missing or has another type.
    #[error("the report cannot be read: {0}")]
    Field(#[from] FieldError),
    /// The `CommandUUID` is longer than any that a server gives.
    #[error("the report's CommandUUID is longer than {MAX_COMMAND_UUID} bytes")]
    CommandUuidTooLong,
    /// The report does not say which enrollment it is from.
    #[error("the report names no enrollment: {0}")]
    Enrollment(#[from] KeyError),
}

/// What a device says about the command it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReportStatus {
    /// Nothing to report; the device asks for a command.
    Idle,
    /// The command was carried out.
    Acknowledged,
    /// The command failed; the error chain says why.
    Error,
    /// The device did not understand the command.
    CommandFormatError,
    /// The device cannot do it now. The command was not kept: send it again.
    NotNow,
    /// A status this crate does not know, shortened and made printable. Refusing it would make the device repeat the
    /// report for ever.
    Unknown(String),
}

impl ReportStatus {
    /// The status as on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Idle => "Idle",
            Self::Acknowledged => "Acknowledged",
            Self::Error => "Error",
            Self::CommandFormatError => "CommandFormatError",
            Self::NotNow => "NotNow",
            Self::Unknown(text) => text,
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "Idle" => Self::Idle,
            "Acknowledged" => Self::Acknowledged,
            "Error" => Self::Error,
            "CommandFormatError" => Self::CommandFormatError,
            "NotNow" => Self::NotNow,
            other => Self::Unknown(printable(other)),
        }
    }
}

/// One error of a chain: the first is the outermost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorChainItem {
    /// The number of the error within its domain.
    pub error_code: i64,
    /// The domain of the error, such as `MCMDMErrorDomain`.
    pub error_domain: String,
    /// The description in the device's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localized_description: Option<String>,
    /// The description in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub us_english_description: Option<String>,
}

/// What a device sends to the server URL.
#[derive(Clone, PartialEq)]
pub struct Report {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// What became of the command.
    pub status: ReportStatus,
    /// Which command; never there when idle, always otherwise.
    pub command_uuid: Option<String>,
    /// Why it failed; empty unless it did.
    pub error_chain: Vec<ErrorChainItem>,
    /// On a Mac: the user is logged in but not at the console.
    pub not_on_console: bool,
    /// The whole report as it came, with the result of the command.
    pub body: Dictionary,
}

impl std::fmt::Debug for Report {
    /// Without the body: results hold recovery keys and unlock tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("key", &self.key)
            .field("status", &self.status)
            .field("command_uuid", &self.command_uuid)
            .field("error_chain", &self.error_chain)
            .field("body_keys", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Report {
    /// Reads a report.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, ReportError> {
        Self::from_dictionary(codec::decode(bytes, limits)?)
    }

    /// Reads a report that was decoded already.
    pub fn from_dictionary(body: Dictionary) -> Result<Self, ReportError> {
        let key = EnrollmentKey::from_message(&body)?;
        let status = match body.get("Status") {
            Some(Value::String(status)) => ReportStatus::parse(status),
            Some(_) => {
                return Err(FieldError::WrongType {
                    key: "Status",
                    expected: "string",
                }
                .into());
            }
            None => return Err(FieldError::Missing { key: "Status" }.into()),
        };
        let command_uuid = match body.get("CommandUUID") {
            _ if status == ReportStatus::Idle => None,
            Some(Value::String(uuid)) if uuid.len() > MAX_COMMAND_UUID => return Err(ReportError::CommandUuidTooLong),
            Some(Value::String(uuid)) => Some(uuid.clone()),
            Some(_) => {
                return Err(FieldError::WrongType {
                    key: "CommandUUID",
                    expected: "string",
                }
                .into());
            }
            None => None,
        };
        if status != ReportStatus::Idle {
            required("CommandUUID", command_uuid.as_ref())?;
        }
        let not_on_console = body.get("NotOnConsole").and_then(Value::as_boolean).unwrap_or(false);
        Ok(Self {
            key,
            status,
            command_uuid,
            error_chain: error_chain(&body),
            not_on_console,
            body,
        })
    }

    /// The result of the command as JSON: the body without what names the device and the command.
    pub fn result_json(&self) -> serde_json::Value {
        const ENVELOPE: [&str; 9] = [
            "UDID",
            "EnrollmentID",
            "EnrollmentUserID",
            "UserID",
            "UserShortName",
            "UserLongName",
            "NotOnConsole",
            "Status",
            "CommandUUID",
        ];
        let result = self.body.iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str()));
        serde_json::Value::Object(
            result
                .map(|(key, value)| (key.clone(), codec::to_json(value)))
                .collect(),
        )
    }
}

/// The error chain, as far as it can be read: a malformed one must not make the device repeat the report for ever.
fn error_chain(body: &Dictionary) -> Vec<ErrorChainItem> {
    let items = body
        .get("ErrorChain")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let read = |item: &Value| {
        let mut fields = Fields(item.as_dictionary()?.clone());
        Some(ErrorChainItem {
            error_code: fields.integer("ErrorCode").ok().flatten().unwrap_or_default(),
            error_domain: fields.string("ErrorDomain").ok().flatten().unwrap_or_default(),
            localized_description: fields.string("LocalizedDescription").ok().flatten(),
            us_english_description: fields.string("USEnglishDescription").ok().flatten(),
        })
    };
    items.iter().take(MAX_ERROR_CHAIN).filter_map(read).collect()
}

/// The body that hands a command to a device. `command` is the bare command with its `RequestType`.
pub fn command_envelope(command_uuid: &str, command: &Dictionary) -> Vec<u8> {
    codec::encode(&Dictionary::from_iter([
        ("Command", Value::Dictionary(command.clone())),
        ("CommandUUID", Value::from(command_uuid)),
    ]))
}
