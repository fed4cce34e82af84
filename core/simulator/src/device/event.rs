//! What happens to a simulated device, for those who watch: a demonstration, a log, a load test.

use std::fmt;
use std::sync::Arc;

use super::facts::DeviceFacts;

/// Is called with everything that happens.
pub(crate) type Observer = Arc<dyn Fn(&DeviceFacts, &DeviceEvent) + Send + Sync>;

/// Something that happened to a device. `Display` says it in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// The enrollment profile arrived.
    ProfileReceived {
        /// The organization it names.
        organization: Option<String>,
        /// Whether it is signed.
        signed: bool,
    },
    /// The server refused to let the device in.
    EnrollmentRefused {
        /// The HTTP status.
        status: u16,
        /// The `code` of a refusal that a device acts on.
        code: Option<String>,
        /// The reason in the server's words.
        message: String,
    },
    /// SCEP issued an identity.
    IdentityIssued {
        /// The subject of the certificate.
        subject: String,
    },
    /// A check-in message was accepted.
    CheckedIn {
        /// The `MessageType`.
        message_type: &'static str,
    },
    /// A push woke it.
    Woken,
    /// A push came with its token and the wrong magic; a device does not act on it.
    PushIgnored,
    /// A command was answered and the server took the answer.
    Answered {
        /// The type of the command.
        request_type: String,
        /// The status of the answer.
        status: &'static str,
    },
    /// The server told it that it is not managed any more, or the profile was removed; the reason in plain words.
    Unenrolled {
        /// Why.
        reason: String,
    },
    /// Something failed and will be tried again.
    Failed {
        /// What, in plain words.
        reason: String,
    },
}

impl fmt::Display for DeviceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProfileReceived { organization, signed } => {
                let signed = if *signed { "signed" } else { "unsigned" };
                match organization {
                    Some(organization) => write!(f, "received the {signed} enrollment profile of {organization}"),
                    None => write!(f, "received the {signed} enrollment profile"),
                }
            }
            Self::EnrollmentRefused { status, code, message } => {
                write!(f, "was refused ({status}")?;
                if let Some(code) = code {
                    write!(f, ", {code}")?;
                }
                write!(f, "): {message}")
            }
            Self::IdentityIssued { subject } => write!(f, "received its identity {subject}"),
            Self::CheckedIn { message_type } => write!(f, "checked in with {message_type}"),
            Self::Woken => f.write_str("was woken by a push"),
            Self::PushIgnored => f.write_str("ignored a push with the wrong magic"),
            Self::Answered { request_type, status } => write!(f, "answered {request_type} with {status}"),
            Self::Unenrolled { reason } => write!(f, "is not managed any more: {reason}"),
            Self::Failed { reason } => write!(f, "failed and will try again: {reason}"),
        }
    }
}
