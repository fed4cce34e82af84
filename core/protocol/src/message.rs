//! Telling check-in and connect messages apart, and reading either from one decoding.
//!
//! A profile without a check-in URL makes the device send both to the server URL, and proxies drop or change
//! `Content-Type`; so the message itself decides, and the header only where the message does not.

use plist::Dictionary;

use crate::checkin::{CheckIn, CheckInError};
use crate::codec::{self, DecodeError, Limits};
use crate::connect::{Report, ReportError};
use crate::content_type;
use crate::enrollment::EnrollmentKey;

/// Which of the two protocols a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// The check-in protocol.
    CheckIn,
    /// The command channel.
    Connect,
}

impl MessageKind {
    /// The kind of a decoded message: one with a `MessageType` is a check-in, one with a `Status` a report. When it has
    /// both or neither, the `Content-Type` decides; `None` when that does not help.
    pub fn of(content_type: Option<&str>, message: &Dictionary) -> Option<Self> {
        match (message.contains_key("MessageType"), message.contains_key("Status")) {
            (true, false) => Some(Self::CheckIn),
            (false, true) => Some(Self::Connect),
            (both, _) => match content_type {
                Some(header) if content_type::is(header, content_type::CHECK_IN) => Some(Self::CheckIn),
                Some(header) if content_type::is(header, content_type::CONNECT) => Some(Self::Connect),
                _ => both.then_some(Self::CheckIn),
            },
        }
    }
}

/// Why a body is not a message of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The body is not a property list.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// A property list, but neither a check-in message nor a report.
    #[error("the message has neither a MessageType nor a Status")]
    Unrecognized,
    /// A check-in message that cannot be read.
    #[error(transparent)]
    CheckIn(CheckInError),
    /// A report that cannot be read.
    #[error(transparent)]
    Connect(ReportError),
}

/// A message of a device, of either protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum DeviceMessage {
    /// A check-in message.
    CheckIn(CheckIn),
    /// A report on the command channel.
    Connect(Report),
}

impl DeviceMessage {
    /// Reads a message by what is in it.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, MessageError> {
        Self::decode_as(None, bytes, limits)
    }

    /// Reads a message by what is in it, and by its `Content-Type` where that leaves a doubt.
    pub fn decode_as(content_type: Option<&str>, bytes: &[u8], limits: &Limits) -> Result<Self, MessageError> {
        let message = codec::decode(bytes, limits)?;
        match MessageKind::of(content_type, &message) {
            Some(MessageKind::CheckIn) => CheckIn::from_dictionary(message)
                .map(Self::CheckIn)
                .map_err(MessageError::CheckIn),
            Some(MessageKind::Connect) => Report::from_dictionary(message)
                .map(Self::Connect)
                .map_err(MessageError::Connect),
            None => Err(MessageError::Unrecognized),
        }
    }

    /// The enrollment that the message is from.
    pub fn key(&self) -> &EnrollmentKey {
        match self {
            Self::CheckIn(message) => message.key(),
            Self::Connect(report) => &report.key,
        }
    }
}
