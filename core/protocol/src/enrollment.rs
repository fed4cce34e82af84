//! Who a message is from: the channel it came on and the one name of the enrollment behind it.

use std::fmt;
use std::str::FromStr;

use plist::{Dictionary, Value};
use serde::{Deserialize, Serialize};

/// The `UserID` a Shared iPad sends for every user; such users are told apart by `UserShortName`.
pub const SHARED_IPAD_USER_ID: &str = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF";

/// The longest device identifier taken, in bytes. Apple's are 40 or less.
pub const MAX_DEVICE_ID: usize = 128;

/// The longest user identifier taken, in bytes. The longest of Apple's is an account name, so an e-mail address.
pub const MAX_USER_ID: usize = 320;

/// How an enrollment came about and whether it is of a device or of a user on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// A device that names itself by its hardware `UDID`.
    Device,
    /// A user of a Mac.
    User,
    /// A user of a Shared iPad.
    SharedIpadUser,
    /// A person's own device with a user enrollment, named by `EnrollmentID`.
    UserEnrollmentDevice,
    /// The user channel of a Mac with a user enrollment.
    UserEnrollmentUser,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 5] = [
        Self::Device,
        Self::User,
        Self::SharedIpadUser,
        Self::UserEnrollmentDevice,
        Self::UserEnrollmentUser,
    ];

    /// The text form, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
            Self::SharedIpadUser => "shared-ipad-user",
            Self::UserEnrollmentDevice => "user-enrollment-device",
            Self::UserEnrollmentUser => "user-enrollment-user",
        }
    }

    /// Reads the text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text)
    }

    /// Whether this is a user on a device, and so has a parent enrollment.
    pub fn is_user(self) -> bool {
        self.parent().is_some()
    }

    /// The channel of the device that a user channel belongs to.
    pub fn parent(self) -> Option<Self> {
        match self {
            Self::Device | Self::UserEnrollmentDevice => None,
            Self::User | Self::SharedIpadUser => Some(Self::Device),
            Self::UserEnrollmentUser => Some(Self::UserEnrollmentDevice),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Channel {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text).ok_or(KeyError::Invalid { key: "channel" })
    }
}

/// Why a message or a text does not name an enrollment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The identifier is absent or empty.
    #[error("{key} is missing")]
    Missing {
        /// The key as on the wire.
        key: &'static str,
    },
    /// The identifier is not a string.
    #[error("{key} must be a string")]
    WrongType {
        /// The key as on the wire.
        key: &'static str,
    },
    /// The identifier is longer than this server takes.
    #[error("{key} is longer than {max} bytes")]
    TooLong {
        /// The key as on the wire.
        key: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// The identifier has characters that no identifier of Apple's has.
    #[error("{key} has characters that an identifier cannot have")]
    Invalid {
        /// The key as on the wire.
        key: &'static str,
    },
}

/// The name of one enrollment: a device, or a user on a device.
///
/// The text form is `<device>` or `<device>:<user>`. A device identifier never has a colon, so the text is unambiguous.
/// Identifiers are kept as the device spells them: a device always spells its own the same way.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct EnrollmentKey {
    channel: Channel,
    text: String,
    device_len: usize,
}

impl EnrollmentKey {
    /// Builds a key from its parts. `user` is needed exactly when the channel is a user's.
    ///
    /// # Errors
    /// [`KeyError`] names the part by its key on the wire.
    pub fn new(channel: Channel, device: &str, user: Option<&str>) -> Result<Self, KeyError> {
        let (device_key, user_key) = match channel {
            Channel::Device | Channel::User => ("UDID", "UserID"),
            Channel::SharedIpadUser => ("UDID", "UserShortName"),
            Channel::UserEnrollmentDevice | Channel::UserEnrollmentUser => ("EnrollmentID", "EnrollmentUserID"),
        };
        check(device, device_key, MAX_DEVICE_ID)?;
        if device.contains([':', ' ']) {
            return Err(KeyError::Invalid { key: device_key });
        }
        let text = match (channel.is_user(), user) {
            (false, None) => device.to_owned(),
            (false, Some(_)) => return Err(KeyError::Invalid { key: user_key }),
            (true, None) => return Err(KeyError::Missing { key: user_key }),
            (true, Some(user)) => {
                check(user, user_key, MAX_USER_ID)?;
                format!("{device}:{user}")
            }
        };
        Ok(Self {
            channel,
            text,
            device_len: device.len(),
        })
    }

    /// The key of a device that names itself by `UDID`.
    pub fn device(udid: &str) -> Result<Self, KeyError> {
        Self::new(Channel::Device, udid, None)
    }

    /// Reads the text form back, as stored beside its channel.
    pub fn parse(channel: Channel, text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            Some((device, user)) => Self::new(channel, device, Some(user)),
            None => Self::new(channel, text, None),
        }
    }

    /// Finds the enrollment that a check-in or connect message is from. This is the only place that knows how:
    ///
    /// - `UDID` names a device; with `UserID` a user on it; with the `UserID` of a Shared iPad the user is
    ///   `UserShortName`.
    /// - `EnrollmentID` names a user enrollment; with `EnrollmentUserID` its user channel.
    /// - When both are there, `UDID` wins.
    pub fn from_message(message: &Dictionary) -> Result<Self, KeyError> {
        if let Some(udid) = string(message, "UDID")? {
            return match string(message, "UserID")? {
                None => Self::new(Channel::Device, udid, None),
                Some(SHARED_IPAD_USER_ID) => {
                    Self::new(Channel::SharedIpadUser, udid, string(message, "UserShortName")?)
                }
                Some(user) => Self::new(Channel::User, udid, Some(user)),
            };
        }
        match (string(message, "EnrollmentID")?, string(message, "EnrollmentUserID")?) {
            (Some(device), None) => Self::new(Channel::UserEnrollmentDevice, device, None),
            (Some(device), user) => Self::new(Channel::UserEnrollmentUser, device, user),
            (None, _) => Err(KeyError::Missing {
                key: "UDID or EnrollmentID",
            }),
        }
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The device's `UDID` or `EnrollmentID`.
    pub fn device_id(&self) -> &str {
        &self.text[..self.device_len]
    }

    /// The user on a user channel: `UserID`, `UserShortName` on a Shared iPad, or `EnrollmentUserID`.
    pub fn user_id(&self) -> Option<&str> {
        self.text.get(self.device_len + 1..)
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The enrollment of the device that this user is on; `None` for a device.
    pub fn parent(&self) -> Option<Self> {
        let channel = self.channel.parent()?;
        Some(Self {
            channel,
            text: self.device_id().to_owned(),
            device_len: self.device_len,
        })
    }
}

impl fmt::Display for EnrollmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EnrollmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrollmentKey({} {})", self.channel, self.text)
    }
}

/// The serialised form.
#[derive(Serialize, Deserialize)]
struct Wire {
    channel: Channel,
    id: String,
}

impl From<EnrollmentKey> for Wire {
    fn from(key: EnrollmentKey) -> Self {
        Self {
            channel: key.channel,
            id: key.text,
        }
    }
}

impl TryFrom<Wire> for EnrollmentKey {
    type Error = KeyError;

    fn try_from(wire: Wire) -> Result<Self, KeyError> {
        Self::parse(wire.channel, &wire.id)
    }
}

fn check(text: &str, key: &'static str, max: usize) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Missing { key });
    }
    if text.len() > max {
        return Err(KeyError::TooLong { key, max });
    }
    if text.chars().any(char::is_control) {
        return Err(KeyError::Invalid { key });
    }
    Ok(())
}

/// A string of the message; an empty one counts as absent.
fn string<'a>(message: &'a Dictionary, key: &'static str) -> Result<Option<&'a str>, KeyError> {
    match message.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(KeyError::WrongType { key }),
    }
}
