//! What can become of a push that APNs did not take, sorted by what to do about it.

use std::fmt;
use std::time::Duration;

use a2::ErrorReason;
use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls::AlertDescription;
use serde::Deserialize;

/// A push that was not delivered to APNs. The variant says what to do; see [`PushError::scope`] for whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The device token is dead (410 `Unregistered` or `ExpiredToken`). Stop pushing to it until the device sends a new
    /// TokenUpdate.
    #[error("the device token is no longer valid; stop pushing until the device reports a new one")]
    TokenDead {
        /// When APNs last saw the token invalid. A token reported after this moment is alive.
        timestamp: Option<Timestamp>,
    },
    /// Sending the same push again would fail again: the certificate, the topic or the request is wrong.
    #[error("push refused: {reason}; {}", advice(.reason))]
    Configuration {
        /// APNs's word for it, or this client's if there was no answer.
        reason: Reason,
    },
    /// A passing trouble: rate limit, trouble at APNs, or no connection. Try again later.
    #[error("push not delivered: {reason}; try again later")]
    Retry {
        /// What happened.
        reason: RetryReason,
        /// How long APNs asked to wait (`Retry-After`), if it did.
        after: Option<Duration>,
    },
}

/// Whom a [`PushError`] concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The device token that was pushed to. Other devices are unaffected.
    Token,
    /// Every push with this certificate and endpoint.
    AllPushes,
}

impl PushError {
    /// Whether only this token is concerned, or every push would meet the same error now.
    pub fn scope(&self) -> Scope {
        let reason = match self {
            Self::TokenDead { .. } => return Scope::Token,
            Self::Configuration { reason }
            | Self::Retry {
                reason: RetryReason::Refused(reason),
                ..
            } => reason,
            Self::Retry {
                reason: RetryReason::NoAnswer,
                ..
            } => return Scope::Token,
            Self::Retry { .. } => return Scope::AllPushes,
        };
        match reason.known() {
            Some(
                ErrorReason::BadDeviceToken
                | ErrorReason::DeviceTokenNotForTopic
                | ErrorReason::MissingDeviceToken
                | ErrorReason::PayloadTooLarge
                | ErrorReason::TooManyRequests,
            ) => Scope::Token,
            _ => Scope::AllPushes,
        }
    }

    /// Sorts an answer other than 200.
    pub(crate) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Self {
        let body = AnswerBody::parse(body);
        let reason = body
            .reason
            .unwrap_or_else(|| Reason::of(&format!("HTTP {}", status.as_u16())));
        let retry = match status {
            StatusCode::GONE => {
                let timestamp = body.timestamp.and_then(|ms| Timestamp::from_millisecond(ms).ok());
                return Self::TokenDead { timestamp };
            }
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::BAD_REQUEST => matches!(reason.known(), Some(ErrorReason::IdleTimeout)),
            other => other.is_server_error(),
        };
        if retry {
            Self::Retry {
                reason: RetryReason::Refused(reason),
                after: retry_after(headers, now),
            }
        } else {
            Self::Configuration { reason }
        }
    }

    /// Sorts a failed TLS handshake, or an alert that ended a connection.
    ///
    /// A refusal of either certificate will not go away by itself; everything else may.
    pub(crate) fn from_tls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        let refused = match error {
            rustls::Error::InvalidCertificate(_) => true,
            rustls::Error::AlertReceived(alert) => matches!(
                alert,
                Alert::AccessDenied
                    | Alert::BadCertificate
                    | Alert::CertificateExpired
                    | Alert::CertificateRequired
                    | Alert::CertificateRevoked
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::UnsupportedCertificate
            ),
            _ => false,
        };
        let reason = format!("TLS: {error}");
        if refused {
            Self::Configuration {
                reason: Reason::of(&reason),
            }
        } else {
            Self::Retry {
                reason: RetryReason::Connection(reason),
                after: None,
            }
        }
    }

    pub(crate) fn connection(what: impl fmt::Display) -> Self {
        Self::Retry {
            reason: RetryReason::Connection(what.to_string()),
            after: None,
        }
    }
}

/// Why a push may succeed later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryReason {
    /// APNs answered that it cannot take the push now, for example `TooManyRequests` or `ServiceUnavailable`.
    #[error("APNs answered {0}")]
    Refused(Reason),
    /// No connection could be made, or it was lost before the answer came (twice, if the first try had been sent).
    #[error("no connection to APNs: {0}")]
    Connection(String),
    /// The connection stood, but no answer came within [`ClientOptions::response_timeout`](crate::ClientOptions).
    #[error("APNs did not answer in time")]
    NoAnswer,
}

/// The `reason` of an APNs answer, kept as it came, known or not (Apple: "Handling notification responses from APNs").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

/// A reason is one word in practice; this keeps a confused peer from filling logs.
const REASON_LIMIT: usize = 200;

impl Reason {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(REASON_LIMIT).collect())
    }

    /// APNs's word, for example `BadDeviceToken`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The documented reason that this is, if it is one.
    pub fn known(&self) -> Option<ErrorReason> {
        ErrorReason::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(
            &self.0,
        ))
        .ok()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the operator can do about a refusal.
fn advice(reason: &Reason) -> &'static str {
    match reason.known() {
        Some(ErrorReason::BadDeviceToken) => {
            "the token is not one of this service; check that the enrollment is not from a development profile"
        }
        Some(ErrorReason::DeviceTokenNotForTopic) => {
            "the device enrolled with another push topic; upload the push certificate with the topic of its profile"
        }
        Some(
            ErrorReason::BadCertificate | ErrorReason::BadCertificateEnvironment | ErrorReason::MissingProviderToken,
        ) => "upload a valid MDM push certificate",
        Some(ErrorReason::BadTopic | ErrorReason::MissingTopic | ErrorReason::TopicDisallowed) => {
            "the push certificate does not allow this topic; upload the MDM push certificate again"
        }
        _ if reason.as_str().starts_with("TLS:") => {
            "check that the push certificate has not expired and that the endpoint's trust roots are right"
        }
        _ => "check the push certificate and the endpoint",
    }
}

#[derive(Default)]
struct AnswerBody {
    reason: Option<Reason>,
    timestamp: Option<i64>,
}

impl AnswerBody {
    /// The model's own body type refuses unknown reasons, and they must not be lost; so the fields are read one by one.
    fn parse(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Self::default();
        };
        Self {
            reason: value.get("reason").and_then(serde_json::Value::as_str).map(Reason::of),
            timestamp: value.get("timestamp").and_then(serde_json::Value::as_i64),
        }
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}
