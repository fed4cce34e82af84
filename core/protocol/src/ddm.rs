//! Declarative management: what a device asks for, the answers, and the status it reports. All of it is JSON inside
//! check-in messages.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::fields::printable;

/// The longest declarations token a device takes, in bytes.
pub const MAX_DECLARATIONS_TOKEN: usize = 256;

/// The declarations token of an enrollment that has no declarations.
pub const EMPTY_DECLARATIONS_TOKEN: &str = "none";

/// The four kinds of declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeclarationKind {
    /// Which configurations apply, and when.
    Activation,
    /// Data that configurations refer to.
    Asset,
    /// What the device shall be like.
    Configuration,
    /// What the organization and server are.
    Management,
}

impl DeclarationKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Activation, Self::Asset, Self::Configuration, Self::Management];

    /// The kind as in an endpoint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Asset => "asset",
            Self::Configuration => "configuration",
            Self::Management => "management",
        }
    }

    /// The kind of a declaration's type, such as `com.apple.configuration.passcode.settings`; `None` for a type of none of
    /// the four.
    pub fn of_type(declaration_type: &str) -> Option<Self> {
        let (kind, name) = declaration_type.strip_prefix("com.apple.")?.split_once('.')?;
        let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
        Self::parse(kind).filter(|_| !name.is_empty() && printable)
    }

    /// Reads the kind of an endpoint.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What a [`DeclarativeManagement`](crate::checkin::DeclarativeManagement) message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The tokens that tell whether anything changed.
    Tokens,
    /// The list of declarations.
    DeclarationItems,
    /// One declaration. An answer of "not found" makes the device drop it.
    Declaration {
        /// Its kind.
        kind: DeclarationKind,
        /// Its identifier.
        identifier: String,
    },
    /// A status report is in the message's data.
    Status,
    /// An endpoint that this crate does not know, shortened and made printable.
    Unknown(String),
}

impl Endpoint {
    /// Reads the `Endpoint` of a message.
    pub fn parse(text: &str) -> Self {
        match text {
            "tokens" => return Self::Tokens,
            "declaration-items" => return Self::DeclarationItems,
            "status" => return Self::Status,
            _ => {}
        }
        let declaration = text.strip_prefix("declaration/").and_then(|rest| rest.split_once('/'));
        if let Some((kind, identifier)) = declaration
            && let Some(kind) = DeclarationKind::parse(kind)
            && !identifier.is_empty()
        {
            return Self::Declaration {
                kind,
                identifier: identifier.to_owned(),
            };
        }
        Self::Unknown(printable(text))
    }
}

/// The answer to `tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokensResponse {
    /// The tokens.
    pub sync_tokens: SyncTokens,
}

/// The tokens that tell whether anything changed. Also the data of the command that starts a synchronisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SyncTokens {
    /// Covers all declarations and their content; at most [`MAX_DECLARATIONS_TOKEN`] bytes.
    pub declarations_token: String,
    /// When the declarations last changed.
    #[serde(serialize_with = "whole_seconds")]
    pub timestamp: Timestamp,
}

impl TokensResponse {
    /// The tokens for declarations that have `declarations_token` and last changed at `timestamp`.
    pub fn new(declarations_token: impl Into<String>, timestamp: Timestamp) -> Self {
        Self {
            sync_tokens: SyncTokens {
                declarations_token: declarations_token.into(),
                timestamp,
            },
        }
    }

    /// The tokens of an enrollment without declarations.
    pub fn empty() -> Self {
        Self::new(EMPTY_DECLARATIONS_TOKEN, Timestamp::UNIX_EPOCH)
    }

    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The answer to `declaration-items`. A device needs all four lists, empty or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeclarationItems {
    /// The lists.
    pub declarations: Manifest,
    /// The same token as in [`SyncTokens`].
    pub declarations_token: String,
}

/// The declarations that a device shall have, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// The activations.
    pub activations: Vec<ManifestItem>,
    /// The assets.
    pub assets: Vec<ManifestItem>,
    /// The configurations.
    pub configurations: Vec<ManifestItem>,
    /// The management declarations.
    pub management: Vec<ManifestItem>,
}

impl Manifest {
    /// The list of one kind.
    pub fn of_mut(&mut self, kind: DeclarationKind) -> &mut Vec<ManifestItem> {
        match kind {
            DeclarationKind::Activation => &mut self.activations,
            DeclarationKind::Asset => &mut self.assets,
            DeclarationKind::Configuration => &mut self.configurations,
            DeclarationKind::Management => &mut self.management,
        }
    }
}

/// One declaration in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestItem {
    /// The declaration's identifier.
    pub identifier: String,
    /// Covers the declaration's content: another token makes the device fetch it again.
    pub server_token: String,
}

impl DeclarationItems {
    /// The list of an enrollment without declarations.
    pub fn empty() -> Self {
        Self {
            declarations: Manifest::default(),
            declarations_token: EMPTY_DECLARATIONS_TOKEN.to_owned(),
        }
    }

    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// One declaration: the answer to `declaration/<kind>/<identifier>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Declaration {
    /// Its type, such as `com.apple.configuration.passcode.settings`.
    #[serde(rename = "Type")]
    pub declaration_type: String,
    /// Its identifier.
    pub identifier: String,
    /// The token that the list has for it.
    pub server_token: String,
    /// Its content.
    pub payload: Map<String, Json>,
}

impl Declaration {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Why a status report cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusReportError {
    /// Larger than the limit.
    #[error("the status report is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON.
    #[error("the status report is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("the status report is not a JSON object")]
    NotObject,
}

/// What a device reports about itself, whole or in part.
#[derive(Clone, Default, PartialEq)]
pub struct StatusReport {
    /// The status items, nested by the parts of their names.
    pub status_items: Map<String, Json>,
    /// The items that the device could not report.
    pub errors: Vec<StatusError>,
    /// The report replaces everything known, array items included.
    pub full_report: bool,
    /// What was wrong with the report and therefore left out; for a person to look at.
    pub problems: Vec<String>,
}

impl std::fmt::Debug for StatusReport {
    /// Without the items, which say much about a person's device.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusReport")
            .field("status_items", &self.status_items.len())
            .field("errors", &self.errors)
            .field("full_report", &self.full_report)
            .field("problems", &self.problems)
            .finish()
    }
}

/// A status item that a device could not report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusError {
    /// The item's name.
    pub status_item: String,
    /// Why.
    #[serde(default)]
    pub reasons: Vec<StatusReason>,
}

/// A reason, in a status report's errors and in the state of a declaration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReason {
    /// A code such as `Error.ConfigurationNotSupported`.
    pub code: String,
    /// A text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Json>,
}

impl StatusReport {
    /// Reads a report, keeping what can be read and naming what cannot: a device repeats a refused report for ever.
    ///
    /// # Errors
    /// Only when the bytes are larger than `max_bytes` or no JSON object.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, StatusReportError> {
        if bytes.len() > max_bytes {
            return Err(StatusReportError::TooLarge { limit: max_bytes });
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|error| StatusReportError::NotJson {
            line: error.line(),
            column: error.column(),
        })?;
        let Json::Object(mut body) = json else {
            return Err(StatusReportError::NotObject);
        };
        let mut report = Self::default();
        match body.remove("StatusItems") {
            Some(Json::Object(items)) => report.status_items = items,
            Some(_) => report.problems.push("StatusItems is not an object".to_owned()),
            None => report.problems.push("StatusItems is missing".to_owned()),
        }
        match body.remove("Errors") {
            Some(Json::Array(errors)) => report.read_errors(errors),
            Some(Json::Null) | None => {}
            Some(_) => report.problems.push("Errors is not an array".to_owned()),
        }
        match body.remove("FullReport") {
            Some(Json::Bool(full)) => report.full_report = full,
            Some(Json::Null) | None => {}
            Some(_) => report.problems.push("FullReport is not a boolean".to_owned()),
        }
        report
            .problems
            .extend(body.keys().map(|key| format!("{} is not a known key", printable(key))));
        Ok(report)
    }

    fn read_errors(&mut self, errors: Vec<Json>) {
        for (index, error) in errors.into_iter().enumerate() {
            match serde_json::from_value(error) {
                Ok(error) => self.errors.push(error),
                Err(_) => self.problems.push(format!("Errors[{index}] is not a status error")),
            }
        }
    }

    /// The value of a status item by its full name, such as `device.operating-system.version`.
    pub fn item(&self, name: &str) -> Option<&Json> {
        let mut parts = name.split('.');
        let mut value = self.status_items.get(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }
}

/// Serialising these types cannot fail: they are structs of strings, lists and JSON maps.
fn encode(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// RFC 3339 without a fraction, as Apple's own examples are.
fn whole_seconds<S: serde::Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&timestamp.strftime("%Y-%m-%dT%H:%M:%SZ"))
}
