//! Failures as answers: the one place where errors become status codes.
//!
//! What goes out is the error's own short text; what caused it goes to the log, once, at the boundary. One rule stands
//! above the table: **no failure of a device message is a 401**, because a device that reads 401 removes its profile.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use russet_engine::store::StoreError;
use russet_engine::{DeviceError, EngineError, IdentityError};
use russet_plugin_host::package::PackageError;
use russet_plugin_host::{InstallError, LoadError, RevisionStoreError, RolloutError, SettingsError};
use russet_protocol::codec::DecodeError;
use russet_protocol::{CheckInError, MessageError};
use serde_json::json;

use crate::body::BodyError;
use crate::context::Cause;
use crate::query::QueryError;

/// A failure, on its way out. Boxed, because it is the smaller half of many results.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    details: Vec<String>,
    retry_after: Option<Duration>,
    authenticate: Option<HeaderValue>,
    cause: Option<Cause>,
    text: bool,
}

/// What the log is told of a failure; travels as an extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
    pub(crate) cause: Option<Cause>,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            code: code.into(),
            message: message.into(),
            details: Vec::new(),
            retry_after: None,
            authenticate: None,
            cause: None,
            text: false,
        }))
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("no such {what}"))
    }

    fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// Something inside does not work at the moment. Never a 500: that would be for a defect of this program.
    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.0.details = details;
        self
    }

    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Says how to sign in. Never for device messages.
    pub(crate) fn authenticate(mut self, challenge: HeaderValue) -> Self {
        self.0.authenticate = Some(challenge);
        self
    }

    pub(crate) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// Answers in plain text: for people and for SCEP clients.
    pub(crate) fn in_text(mut self) -> Self {
        self.0.text = true;
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let failure = *self.0;
        let mut response = if failure.text {
            let mut text = format!("{}\n", failure.message);
            for detail in &failure.details {
                text.push_str(detail);
                text.push('\n');
            }
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        } else {
            let error = json!({ "code": failure.code, "message": failure.message, "details": failure.details });
            axum::Json(json!({ "error": error })).into_response()
        };
        *response.status_mut() = failure.status;
        let headers = response.headers_mut();
        if let Some(after) = failure.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(challenge) = failure.authenticate {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(Logged {
            code: failure.code,
            message: failure.message,
            cause: failure.cause,
        });
        response
    }
}

/// How long to wait when the store does not answer.
const STORE_RETRY: Duration = Duration::from_secs(30);

fn store_failed(error: StoreError) -> Failure {
    let failure = match &error {
        StoreError::NotFound(what) => return Failure::not_found(what),
        StoreError::InUse(_) => return Failure::new(StatusCode::CONFLICT, "in-use", error.to_string()),
        StoreError::Exists(_) | StoreError::Ambiguous(_) | StoreError::CertificateBound | StoreError::Removed => {
            return Failure::new(StatusCode::CONFLICT, "conflict", error.to_string());
        }
        // It will not mend by waiting.
        StoreError::Corrupt(_) | StoreError::Sealed(_) => {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", error.to_string())
        }
        _ => Failure::unavailable("the server cannot reach its data now; try again later").retry_after(STORE_RETRY),
    };
    failure.caused_by(error)
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::UnknownTenant => Self::not_found("tenant"),
            EngineError::NotFound(what) => Self::not_found(what),
            EngineError::Invalid { message, details } => Self::invalid(message).details(details),
            EngineError::Refused(_) => Self::new(StatusCode::FORBIDDEN, "refused", message),
            // The reason is a policy's word: as a detail it is never mistaken for one of this server's codes.
            EngineError::Denied { reason, message } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "denied", message).details(vec![reason])
            }
            EngineError::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            EngineError::Undecided => Self::new(StatusCode::SERVICE_UNAVAILABLE, "undecided", message),
            EngineError::PushCertificate(_) => Self::invalid(message),
            EngineError::OtherTopic { .. } => Self::new(StatusCode::CONFLICT, "other-topic", message),
            EngineError::Store(error) => store_failed(error),
            other => Self::unavailable("the server cannot do this now; try again later").caused_by(other),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        store_failed(error)
    }
}

impl From<IdentityError> for Failure {
    /// A 400 in every case: see the head of this file.
    fn from(error: IdentityError) -> Self {
        let code = match &error {
            IdentityError::Missing => "identity-missing",
            IdentityError::Signature(_) => "identity-signature",
            IdentityError::UnknownAuthority => "identity-unknown-authority",
            IdentityError::NotValidNow => "identity-not-valid-now",
            IdentityError::Revoked => "identity-revoked",
            IdentityError::OtherEnrollment => "identity-other-enrollment",
            IdentityError::OtherDevice => "identity-other-device",
            IdentityError::Superseded => "identity-superseded",
            _ => "identity-unknown",
        };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let message = error.to_string();
        match error {
            DeviceError::Identity(error) => error.into(),
            DeviceError::NotEnrolled => Self::new(StatusCode::BAD_REQUEST, "not-enrolled", message),
            // The code sits below "error", where no device looks for one of Apple's: a policy that calls its reason
            // com.apple.unrecognized.device removes nobody's profile.
            DeviceError::Denied { reason, message } => Self::new(StatusCode::FORBIDDEN, reason, message),
            DeviceError::TryLater { after } => Self::unavailable(message).retry_after(after),
            DeviceError::Unsupported(_) => Self::new(StatusCode::BAD_REQUEST, "unsupported", message),
            DeviceError::Store(error) => Self::unavailable(message).retry_after(STORE_RETRY).caused_by(error),
            _ => Self::unavailable(message),
        }
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        let too_large = matches!(
            error,
            MessageError::Plist(DecodeError::TooLarge { .. })
                | MessageError::CheckIn(CheckInError::Plist(DecodeError::TooLarge { .. }))
        );
        if too_large {
            Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", error.to_string())
        } else {
            Self::new(StatusCode::BAD_REQUEST, "message", error.to_string())
        }
    }
}

/// When a device whose message there is no room for is to come again.
const AGAIN: Duration = Duration::from_secs(30);

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", error.to_string()),
            BodyError::TooSlow => Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", error.to_string()),
            BodyError::Broken => Self::bad_request(error.to_string()),
            BodyError::NoRoom => Self::unavailable(error.to_string()).retry_after(AGAIN),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<RevisionStoreError> for Failure {
    fn from(error: RevisionStoreError) -> Self {
        match error {
            RevisionStoreError::NotFound(what) => Self::not_found(what),
            RevisionStoreError::Quarantined => Self::new(StatusCode::CONFLICT, "quarantined", error.to_string()),
            RevisionStoreError::Failed(_) => {
                Self::unavailable("the server cannot reach its data now; try again later").caused_by(error)
            }
        }
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let message = error.to_string();
        match error {
            InstallError::Store(error) => error.into(),
            InstallError::NoComponent(_) => Self::new(StatusCode::NOT_FOUND, "not-found", message),
            InstallError::Refused(LoadError::Settings(SettingsError::Invalid(problems))) => {
                let details = problems.iter().map(ToString::to_string).collect();
                Self::invalid("the settings are not valid").details(details)
            }
            InstallError::Refused(LoadError::Grants(error)) => {
                let details = error.missing.iter().map(ToString::to_string).collect();
                Self::invalid(format!("plugin {} asks for more than it was granted", error.plugin)).details(details)
            }
            InstallError::Quarantined(_) => Self::new(StatusCode::CONFLICT, "quarantined", message),
            InstallError::NothingActive(_) => Self::new(StatusCode::CONFLICT, "nothing-active", message),
            InstallError::Package(PackageError::Downgrade { .. } | PackageError::SameVersion { .. }) => {
                Self::new(StatusCode::CONFLICT, "downgrade", message)
            }
            InstallError::Package(PackageError::Manifest(_) | PackageError::Format(_)) => Self::invalid(message),
            InstallError::Package(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "untrusted", message),
            InstallError::NoName | InstallError::OtherPlugin { .. } | InstallError::Refused(_) => {
                Self::invalid(message)
            }
        }
    }
}

impl From<RolloutError> for Failure {
    fn from(error: RolloutError) -> Self {
        let message = error.to_string();
        let conflict = |code: &'static str, message| Self::new(StatusCode::CONFLICT, code, message);
        match error {
            RolloutError::Store(error) => error.into(),
            RolloutError::Gates(failures) => {
                let details = failures.iter().map(ToString::to_string).collect();
                conflict(
                    "gates",
                    "the candidate does not keep to its gates; force it if it is wanted all the same".to_owned(),
                )
                .details(details)
            }
            RolloutError::NoCandidate(_) => conflict("no-candidate", message),
            RolloutError::Pending(_) => conflict("pending", message),
            RolloutError::NothingActive(_) => conflict("nothing-active", message),
            RolloutError::Ambiguous(..) | RolloutError::Share => Self::invalid(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The status, and whether the answer says when to come again.
    fn of(failure: impl Into<Failure>) -> (u16, bool) {
        let response = failure.into().into_response();
        (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER))
    }

    #[test]
    fn what_waiting_mends_is_503_and_what_it_does_not_is_500() {
        assert_eq!(of(StoreError::Closed), (503, true));
        assert_eq!(of(EngineError::Store(StoreError::Closed)), (503, true));
        assert_eq!(of(DeviceError::Store(StoreError::Corrupt("date"))), (503, true));
        assert_eq!(of(EngineError::Random), (503, false));
        assert_eq!(of(EngineError::Undecided), (503, false));
        assert_eq!(of(StoreError::Corrupt("date")), (500, false));
        assert_eq!(of(StoreError::Sealed("escrow item")), (500, false));
        assert_eq!(of(StoreError::NotFound("profile")), (404, false));
        assert_eq!(of(StoreError::Removed), (409, false));
    }

    #[test]
    fn no_failure_of_a_device_message_is_401() {
        let identity = [
            IdentityError::Missing,
            IdentityError::Signature("x".to_owned()),
            IdentityError::UnknownAuthority,
            IdentityError::NotValidNow,
            IdentityError::Revoked,
            IdentityError::Unknown,
            IdentityError::OtherEnrollment,
            IdentityError::OtherDevice,
        ];
        for error in identity {
            assert_eq!(of(DeviceError::Identity(error)), (400, false));
        }
        assert_eq!(of(DeviceError::NotEnrolled), (400, false));
        assert_eq!(of(DeviceError::Unsupported(String::new())), (400, false));
        let after = Duration::ZERO;
        assert_eq!(of(DeviceError::TryLater { after }), (503, true));
        let (reason, message) = (String::new(), String::new());
        assert_eq!(of(DeviceError::Denied { reason, message }), (403, false));
    }
}
