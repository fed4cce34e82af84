//! The bodies that make a device act on a refusal (HTTP 403): update first, or accept that it is not managed here.
//!
//! Apple's schema: `mdm/errors`. A device reads the body as JSON or as a property list, by its `Content-Type`.

use serde_json::{Map, Value as Json};

use crate::secret::SecretString;
use crate::{codec, content_type};

/// The form of a refusal body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// A property list in XML.
    Plist,
}

impl BodyFormat {
    /// The `Content-Type` that must go with the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => content_type::JSON,
            Self::Plist => content_type::PLIST,
        }
    }
}

/// Why a device is refused, in the cases that the device acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// `com.apple.softwareupdate.required`: the device updates, then asks for its profile again. Only for devices whose
    /// machine information says [`can_request_software_update`](crate::MachineInfo::can_request_software_update).
    SoftwareUpdateRequired(SoftwareUpdateRequired),
    /// `com.apple.unrecognized.device`: the device **removes its management profile**.
    UnrecognizedDevice,
    /// `com.apple.well-known.failed`: the discovery of an account-driven enrollment is refused.
    WellKnownFailed,
    /// `com.apple.watch.pairing.token.missing`: the watch fetches a pairing token from its phone's server and comes
    /// again.
    WatchPairingTokenMissing {
        /// What that server makes the token from: a random UUID.
        security_token: String,
    },
}

/// The update that a device must make before it enrolls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SoftwareUpdateRequired {
    /// The version, such as `26.1`, with a supplement such as `26.1 (a)` where needed.
    pub os_version: String,
    /// The build; the version wins where they disagree.
    pub build_version: Option<String>,
    /// The beta program that the device joins for the update, and stays in.
    pub require_beta_program: Option<BetaProgram>,
}

/// A beta program of Apple's seeding service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BetaProgram {
    /// Its description for people.
    pub description: String,
    /// The seeding service token of the organization.
    pub token: SecretString,
}

/// A refusal that a device acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// What the device acts on.
    pub reason: Reason,
    /// For the device's log.
    pub description: Option<String>,
    /// For the person at the device, which shows it where it can.
    pub message: Option<String>,
}

impl Forbidden {
    /// A refusal without texts.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            description: None,
            message: None,
        }
    }

    /// The demand to update.
    pub fn software_update_required(update: SoftwareUpdateRequired) -> Self {
        Self::new(Reason::SoftwareUpdateRequired(update))
    }

    /// The statement that the device is not managed here, which makes it **remove its management profile**.
    pub fn unrecognized_device() -> Self {
        Self::new(Reason::UnrecognizedDevice)
    }

    /// Adds the text for the device's log.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds the text for the person at the device.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The `code` on the wire.
    pub fn code(&self) -> &'static str {
        match self.reason {
            Reason::SoftwareUpdateRequired(_) => "com.apple.softwareupdate.required",
            Reason::UnrecognizedDevice => "com.apple.unrecognized.device",
            Reason::WellKnownFailed => "com.apple.well-known.failed",
            Reason::WatchPairingTokenMissing { .. } => "com.apple.watch.pairing.token.missing",
        }
    }

    /// The body; send it with [`BodyFormat::content_type`].
    pub fn encode(&self, format: BodyFormat) -> Vec<u8> {
        let json = Json::Object(self.fields());
        match format {
            BodyFormat::Json => json.to_string().into_bytes(),
            // Strings and objects only, so there is nothing that a property list cannot hold.
            BodyFormat::Plist => codec::from_json(&json)
                .map(|body| codec::encode_value(&body))
                .unwrap_or_default(),
        }
    }

    fn fields(&self) -> Map<String, Json> {
        let mut body = Map::new();
        let mut put = |key: &str, text: &str| body.insert(key.to_owned(), Json::from(text));
        put("code", self.code());
        if let Some(description) = &self.description {
            put("description", description);
        }
        if let Some(message) = &self.message {
            put("message", message);
        }
        if let Some(details) = self.details() {
            body.insert("details".to_owned(), Json::Object(details));
        }
        body
    }

    fn details(&self) -> Option<Map<String, Json>> {
        let mut details = Map::new();
        match &self.reason {
            Reason::UnrecognizedDevice | Reason::WellKnownFailed => return None,
            Reason::WatchPairingTokenMissing { security_token } => {
                details.insert("security-token".to_owned(), Json::from(security_token.as_str()));
            }
            Reason::SoftwareUpdateRequired(update) => {
                details.insert("OSVersion".to_owned(), Json::from(update.os_version.as_str()));
                if let Some(build) = &update.build_version {
                    details.insert("BuildVersion".to_owned(), Json::from(build.as_str()));
                }
                if let Some(beta) = &update.require_beta_program {
                    let mut program = Map::new();
                    program.insert("Description".to_owned(), Json::from(beta.description.as_str()));
                    program.insert("Token".to_owned(), Json::from(beta.token.expose()));
                    details.insert("RequireBetaProgram".to_owned(), Json::Object(program));
                }
            }
        }
        Some(details)
    }
}
