//! What can go wrong in a step of a simulated device; a refusal keeps the server's whole answer.

use std::fmt;

use russet_protocol::codec::{self, DecodeError, Limits};
use russet_protocol::plist::Value;

use super::profile::ProfileError;
use super::scep::ScepFailure;
use super::transport::RawResponse;

/// What a device was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Asking for the enrollment profile.
    EnrollmentProfile,
    /// SCEP `GetCACaps`.
    ScepCapabilities,
    /// SCEP `GetCACert`.
    ScepCaCertificate,
    /// SCEP `PKIOperation`.
    ScepOperation,
    /// A check-in message, by its `MessageType`.
    CheckIn(&'static str),
    /// A report on the command channel.
    Connect,
    /// A request that a test made up.
    Raw,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnrollmentProfile => f.write_str("the request for the enrollment profile"),
            Self::ScepCapabilities => f.write_str("SCEP GetCACaps"),
            Self::ScepCaCertificate => f.write_str("SCEP GetCACert"),
            Self::ScepOperation => f.write_str("SCEP PKIOperation"),
            Self::CheckIn(message_type) => f.write_str(message_type),
            Self::Connect => f.write_str("the report"),
            Self::Raw => f.write_str("the request"),
        }
    }
}

/// The answer of a server that did not accept a request.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What was refused.
    pub step: Step,
    /// The server's answer.
    pub response: RawResponse,
}

impl Refusal {
    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        self.response.status.as_u16()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        self.response.text()
    }

    /// A key of the body when that is a property list or JSON, as the refusals are that a device acts on. A key of
    /// `details` is found too, and one of `error`, where many servers put what is meant for people.
    pub fn field(&self, key: &str) -> Option<String> {
        let body = self.body_json()?;
        let nested = || ["details", "error"].iter().find_map(|outer| body.get(outer)?.get(key));
        let value = body.get(key).or_else(nested)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The `code` of the body, such as `com.apple.softwareupdate.required`.
    pub fn code(&self) -> Option<String> {
        self.field("code")
    }

    /// The `message` of the body, which a device shows to the person in front of it.
    pub fn message(&self) -> Option<String> {
        self.field("message")
    }

    fn body_json(&self) -> Option<serde_json::Value> {
        let body = &self.response.body;
        serde_json::from_slice(body).ok().or_else(|| {
            let dictionary = codec::decode(body, &Limits::default()).ok()?;
            Some(codec::to_json(&Value::Dictionary(dictionary)))
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.message().unwrap_or_else(|| self.text());
        let shown: String = text.chars().filter(|letter| !letter.is_control()).take(200).collect();
        write!(f, "the server answered {} with {}: {shown}", self.step, self.status())
    }
}

/// Why a step of a simulated device failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The server answered with a status other than 2xx.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// There was no answer.
    #[error("{step} did not reach the server")]
    Transport {
        /// What the device was doing.
        step: Step,
        /// The client's error.
        #[source]
        source: reqwest::Error,
    },
    /// An answer of status 2xx that a device cannot use.
    #[error("the answer to {step} is unusable: {reason}")]
    Answer {
        /// What was answered.
        step: Step,
        /// What is wrong with it.
        reason: String,
    },
    /// The profile is not one a device would install.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The SCEP server did not issue a certificate.
    #[error(transparent)]
    Scep(#[from] ScepFailure),
    /// A step was taken before the one that it needs.
    #[error("{step} needs {needs} first")]
    NotReady {
        /// What was tried.
        step: &'static str,
        /// What has to happen before.
        needs: &'static str,
    },
    /// A key or a signature could not be made.
    #[error("the device's own cryptography failed: {0}")]
    Crypto(String),
    /// A setting of the device makes no sense.
    #[error("the simulated device cannot be set up: {0}")]
    Setup(String),
}

impl DeviceError {
    /// The server's refusal, when it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The HTTP status code of a refusal.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(Refusal::status)
    }

    /// The error with its causes, in one line.
    pub fn with_causes(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    pub(crate) fn answer(step: Step, reason: impl fmt::Display) -> Self {
        Self::Answer {
            step,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn plist(step: Step) -> impl FnOnce(DecodeError) -> Self {
        move |error| Self::answer(step, error)
    }

    pub(crate) fn crypto(error: impl fmt::Display) -> Self {
        Self::Crypto(error.to_string())
    }

    /// Whether the same request may succeed later: the server was not reached or is in trouble.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Refused(refusal) => refusal.response.status.is_server_error() || refusal.status() == 429,
            _ => false,
        }
    }
}
