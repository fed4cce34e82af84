//! Commands: typed where this crate knows Apple's schema, passed through where it does not.
//!
//! The JSON form of a command is its property list with Apple's own spelling, such as
//! `{"RequestType": "DeviceLock", "Message": "Please return me", "PIN": "123456"}`. In the typed commands data is
//! base64 text; in the others it is written as [`codec::from_json`] describes.

mod check;
mod known;
mod schema;
mod typed;

use std::fmt;

use plist::{Dictionary, Value};

use crate::codec::{self, DecodeError, FromJsonError, Limits};
use crate::fields::printable;

pub use typed::{
    DeviceInformation, DeviceLock, EraseDevice, InstallProfile, ObliterationBehavior, ProfileList, RawCommand,
    RemoveProfile, ReturnToService,
};

/// The longest request type, in bytes.
const MAX_REQUEST_TYPE: usize = 64;

/// One command for a device, without the identifier that it is sent under.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Query of what the device is.
    DeviceInformation(DeviceInformation),
    /// Query of the device's security state.
    SecurityInfo,
    /// Query of the installed profiles.
    ProfileList(ProfileList),
    /// Installs or replaces a profile.
    InstallProfile(InstallProfile),
    /// Removes a profile.
    RemoveProfile(RemoveProfile),
    /// Locks the device.
    DeviceLock(DeviceLock),
    /// Erases the device.
    EraseDevice(EraseDevice),
    /// A command that this crate does not check.
    Raw(RawCommand),
}

impl fmt::Debug for Command {
    /// The request type alone: commands carry PINs, passwords and profiles.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.request_type())
    }
}

/// A command that passed validation, and what the sender should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    /// The command.
    pub command: Command,
    /// Texts for the person or program that sent it; none when all is well.
    pub warnings: Vec<String>,
}

/// One wrong key of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProblem {
    /// The key and, when nested, the keys above it: `ReturnToService.Enabled`.
    pub key: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Why a document is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The property list cannot be read.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// The JSON has no form as a property list.
    #[error(transparent)]
    Json(#[from] FromJsonError),
    /// Not an object.
    #[error("a command is an object with a RequestType")]
    NotObject,
    /// There is no usable `RequestType`.
    #[error("RequestType must be a string of 1 to {MAX_REQUEST_TYPE} letters, such as \"DeviceInformation\"")]
    RequestType,
    /// Keys are missing, unknown or have wrong values.
    #[error("the {request_type} command is wrong: {}", list(problems))]
    Invalid {
        /// The request type.
        request_type: &'static str,
        /// Every wrong key.
        problems: Vec<KeyProblem>,
    },
}

fn list(problems: &[KeyProblem]) -> String {
    problems
        .iter()
        .map(KeyProblem::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Whether data may be given as base64 text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Json,
    Plist,
}

impl Command {
    /// Reads and validates a command in JSON: the bare command, or one in its envelope (`{"Command": …}`).
    ///
    /// # Errors
    /// [`CommandError::Invalid`] lists every wrong key with what is expected.
    pub fn from_json(json: &serde_json::Value) -> Result<Validated, CommandError> {
        match codec::from_json(json)? {
            Value::Dictionary(dictionary) => validate(dictionary, Source::Json),
            _ => Err(CommandError::NotObject),
        }
    }

    /// Reads and validates a command as a property list: the bare command, or one in its envelope
    /// (`{CommandUUID, Command}`).
    ///
    /// # Errors
    /// As [`Command::from_json`].
    pub fn from_plist(bytes: &[u8], limits: &Limits) -> Result<Validated, CommandError> {
        validate(codec::decode(bytes, limits)?, Source::Plist)
    }

    /// The `RequestType` on the wire.
    pub fn request_type(&self) -> &str {
        match self {
            Self::DeviceInformation(_) => "DeviceInformation",
            Self::SecurityInfo => "SecurityInfo",
            Self::ProfileList(_) => "ProfileList",
            Self::InstallProfile(_) => "InstallProfile",
            Self::RemoveProfile(_) => "RemoveProfile",
            Self::DeviceLock(_) => "DeviceLock",
            Self::EraseDevice(_) => "EraseDevice",
            Self::Raw(raw) => raw.request_type(),
        }
    }

    /// The command on the wire, without its envelope; see [`crate::connect::command_envelope`].
    pub fn dictionary(&self) -> Dictionary {
        let mut dictionary = Dictionary::new();
        dictionary.insert("RequestType".to_owned(), Value::from(self.request_type()));
        match self {
            Self::DeviceInformation(command) => command.write(&mut dictionary),
            Self::SecurityInfo => {}
            Self::ProfileList(command) => command.write(&mut dictionary),
            Self::InstallProfile(command) => command.write(&mut dictionary),
            Self::RemoveProfile(command) => command.write(&mut dictionary),
            Self::DeviceLock(command) => command.write(&mut dictionary),
            Self::EraseDevice(command) => command.write(&mut dictionary),
            Self::Raw(raw) => dictionary.extend(raw.dictionary().clone()),
        }
        dictionary
    }

    /// Whether the command loses data, locks a person out or takes the device out of service, and no other command
    /// undoes it.
    pub fn is_destructive(&self) -> bool {
        known::is_destructive(self.request_type())
    }

    /// Whether the command only asks, so that nothing is lost when nobody waits for its answer any more.
    pub fn is_query(&self) -> bool {
        match self {
            Self::SecurityInfo | Self::ProfileList(_) | Self::DeviceInformation(_) => true,
            // With data, DeclarativeManagement tells the device something.
            Self::Raw(raw) => known::is_query(raw.request_type()) && !raw.dictionary().contains_key("Data"),
            Self::InstallProfile(_) | Self::RemoveProfile(_) | Self::DeviceLock(_) | Self::EraseDevice(_) => false,
        }
    }

    /// A key that two commands share when one answer serves both: queries that change nothing. `None` for a command
    /// that must be carried out as often as it is sent.
    pub fn dedupe_key(&self) -> Option<String> {
        match self {
            Self::SecurityInfo => Some("SecurityInfo".to_owned()),
            Self::ProfileList(command) => Some(command.dedupe_key()),
            Self::DeviceInformation(command) => command.dedupe_key(),
            Self::Raw(raw) => {
                let query = known::is_query(raw.request_type()) && raw.dictionary().len() == 1;
                query.then(|| raw.request_type().to_owned())
            }
            Self::InstallProfile(_) | Self::RemoveProfile(_) | Self::DeviceLock(_) | Self::EraseDevice(_) => None,
        }
    }
}

fn validate(dictionary: Dictionary, source: Source) -> Result<Validated, CommandError> {
    let mut warnings = Vec::new();
    let dictionary = unwrap_envelope(dictionary, &mut warnings);
    let request_type = match dictionary.get("RequestType") {
        Some(Value::String(name)) if is_request_type(name) => name.clone(),
        _ => return Err(CommandError::RequestType),
    };
    let Some(schema) = schema::of(&request_type) else {
        warnings.push(known::raw_warning(&request_type));
        return Ok(Validated {
            command: Command::Raw(RawCommand::new(request_type, dictionary)),
            warnings,
        });
    };
    let mut problems = Vec::new();
    let mut body = dictionary;
    body.remove("RequestType");
    let body = check::dictionary(body, schema.keys, source, &mut problems);
    if problems.is_empty() {
        match typed::read(schema.request_type, body) {
            Ok(command) => {
                typed::advise(&command, &mut warnings);
                return Ok(Validated { command, warnings });
            }
            Err(problem) => problems.push(problem),
        }
    }
    Err(CommandError::Invalid {
        request_type: schema.request_type,
        problems,
    })
}

/// Takes the command out of the envelope that a device gets it in.
fn unwrap_envelope(mut dictionary: Dictionary, warnings: &mut Vec<String>) -> Dictionary {
    if dictionary.contains_key("RequestType") || !matches!(dictionary.get("Command"), Some(Value::Dictionary(_))) {
        return dictionary;
    }
    let command = dictionary
        .remove("Command")
        .and_then(Value::into_dictionary)
        .unwrap_or_default();
    for (key, _) in &dictionary {
        warnings.push(match key.as_str() {
            "CommandUUID" => "CommandUUID is not used: the server gives each command its own".to_owned(),
            other => format!("{} beside Command is not used", printable(other)),
        });
    }
    command
}

fn is_request_type(name: &str) -> bool {
    (1..=MAX_REQUEST_TYPE).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
