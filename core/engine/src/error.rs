//! What can go wrong, per operation. The display text may be shown outside; sources are for the log.

use std::time::Duration;

use russet_apns::{PushCertificateError, RootsError};
use russet_pki::CertificateError;
use russet_pki::ca::CaError;
use russet_pki::key::KeyError;
use russet_protocol::forbidden::Forbidden;
use russet_store::StoreError;

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store failed.
    #[error("the store failed while the server started")]
    Store(#[from] StoreError),
    /// An authority could not be made or used.
    #[error("the server's certificate authority cannot be used")]
    Authority(#[from] CaError),
    /// The stored authority does not read back.
    #[error("the stored certificate authority is damaged; restore the database from a backup")]
    CorruptAuthority,
    /// The profile signing certificate does not read.
    #[error("the certificate that signs profiles cannot be read; give it in PEM, followed by its issuers")]
    SigningCertificate(#[source] CertificateError),
    /// The profile signing key does not read.
    #[error("the key that signs profiles cannot be read; give it in PEM, not encrypted")]
    SigningKey(#[source] KeyError),
    /// Key and certificate do not belong together.
    #[error("the key that signs profiles does not belong to the certificate")]
    SigningMismatch,
    /// The device CA file does not read.
    #[error("the certificates that may sign a MachineInfo cannot be read; give them in PEM")]
    MachineInfoAnchors(#[source] CertificateError),
    /// A trust anchor for devices does not read.
    #[error("a trust anchor for the enrollment profile cannot be read; give it in PEM")]
    TrustAnchor(#[source] CertificateError),
    /// The trust roots for APNs do not read.
    #[error("the trust roots for APNs cannot be read")]
    PushRoots(#[from] RootsError),
}

/// A request of an administrator failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No tenant of this name.
    #[error("no such tenant")]
    UnknownTenant,
    /// What is named does not exist.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The request is not well formed; each line says what to do.
    #[error("{message}")]
    Invalid {
        /// What is wrong as a whole.
        message: String,
        /// Each single problem.
        details: Vec<String>,
    },
    /// A policy refuses.
    #[error("{0}")]
    Refused(String),
    /// A command policy does not let the command go out.
    #[error("{message}")]
    Denied {
        /// A short, stable name.
        reason: String,
        /// What the administrator reads.
        message: String,
    },
    /// It does not fit how things stand; the text says how they do.
    #[error("{0}")]
    Conflict(String),
    /// A hook could not decide.
    #[error("a plugin could not decide; see the decision records")]
    Undecided,
    /// The system gave no randomness.
    #[error("the system gave no random bytes")]
    Random,
    /// The push certificate is refused.
    #[error(transparent)]
    PushCertificate(#[from] PushCertificateError),
    /// A push certificate is good, and nobody would listen to it.
    #[error(
        "this push certificate has the topic {new}, and devices here listen to {}; with it none of them can be woken: \
         renew the certificate with the Apple account that it was made with, or say that you want a further topic",
        .known.join(", ")
    )]
    OtherTopic {
        /// The topic of the certificate.
        new: String,
        /// The topics that the tenant has certificates for.
        known: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl EngineError {
    /// A single problem with a request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            details: Vec::new(),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::NotFound(what),
            StoreError::Exists(what) => Self::invalid(format!("this {what} exists already")),
            StoreError::Ambiguous(_) => Self::invalid(error.to_string()),
            other => Self::Store(other),
        }
    }
}

/// Whether a certificate stands for a device of ours. None of these may ever make an honest device remove its profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No certificate, signature or trusted header came with the request.
    #[error("no client certificate and no Mdm-Signature header came with the request")]
    Missing,
    /// The certificate or signature does not read, or the signature is wrong.
    #[error("the signature of the message cannot be verified: {0}")]
    Signature(String),
    /// Not issued by this server.
    #[error("the certificate was not issued by this server")]
    UnknownAuthority,
    /// Expired, or not valid yet.
    #[error("the certificate is not valid at this time; renew it")]
    NotValidNow,
    /// Revoked.
    #[error("the certificate was revoked")]
    Revoked,
    /// Not among the certificates that this tenant issued.
    #[error("the certificate is not known here")]
    Unknown,
    /// Bound to another enrollment.
    #[error("the certificate belongs to another enrollment")]
    OtherEnrollment,
    /// From before the device enrolled anew.
    #[error("the device has enrolled anew since, with another certificate")]
    Superseded,
    /// Its challenge was for another device.
    #[error("the certificate was issued for another device")]
    OtherDevice,
}

/// A message of a device was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The identity is not good.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No enrollment of this name, or one that was removed: the device has to enroll again.
    #[error("this device is not enrolled here")]
    NotEnrolled,
    /// A policy refuses.
    #[error("{message}")]
    Denied {
        /// A short, stable name.
        reason: String,
        /// For the person.
        message: String,
    },
    /// No decision can be made now, or the store does not answer: the device should repeat the message.
    #[error("the server cannot decide now; try again later")]
    TryLater {
        /// How long to wait.
        after: Duration,
    },
    /// A message that this server does not take; the text says why.
    #[error("{0}")]
    Unsupported(String),
    /// The store failed.
    #[error("the server cannot store the message now; try again later")]
    Store(#[source] StoreError),
}

impl From<StoreError> for DeviceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) | StoreError::Removed => Self::NotEnrolled,
            StoreError::CertificateBound => Self::Identity(IdentityError::OtherEnrollment),
            other => Self::Store(other),
        }
    }
}

/// What an operation of the engine means for the device whose message needed it. A device that is told to try later comes
/// back; nothing but the absence of its enrollment may tell it that it is not enrolled.
impl From<EngineError> for DeviceError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => error.into(),
            error => {
                tracing::warn!(error = %error, "a device is told to try again later");
                Self::TryLater { after: RETRY_AFTER }
            }
        }
    }
}

/// How long a device or person is asked to wait before trying again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(60);

/// An enrollment profile was not handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileRefusal {
    /// Somebody has to sign in first.
    #[error("sign in to enroll this device")]
    SignIn,
    /// The credentials are wrong.
    #[error("the user name or password is wrong")]
    WrongCredentials,
    /// The device has to do something that it understands by itself.
    #[error("the device has to update its software first")]
    Forbidden(Box<Forbidden>),
    /// A gate denies.
    #[error("{message}")]
    Denied {
        /// A short, stable name.
        reason: String,
        /// For the person at the device.
        message: String,
    },
    /// The MachineInfo does not read or is not signed by Apple's device authority.
    #[error("the machine information is refused: {0}")]
    MachineInfo(String),
    /// The tenant has no push certificate yet.
    #[error("this server has no push certificate yet; upload one (russet push-cert upload), then try again")]
    NoPushCertificate,
    /// No decision can be made now.
    #[error("the server cannot decide now; try again later")]
    TryLater {
        /// How long to wait.
        after: Duration,
    },
    /// The database failed.
    #[error("the server cannot make the profile now; try again later")]
    Store(#[from] StoreError),
    /// Something inside failed.
    #[error("the server cannot make the profile now; try again later")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}
