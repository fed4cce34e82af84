//! Check-in messages: what a device says about its enrollment, and the bodies that answer it.
//!
//! Field names follow Apple's check-in schema. Keys that this crate does not know are ignored, so that a newer system
//! can enroll.

use plist::{Dictionary, Value};

use crate::codec::{self, DecodeError, Limits};
use crate::enrollment::{EnrollmentKey, KeyError};
use crate::fields::{FieldError, Fields, printable, required};
use crate::secret::{SecretBytes, SecretString};

/// Why a body is not a check-in message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckInError {
    /// The body is not a property list.
    #[error(transparent)]
    Plist(#[from] DecodeError),
    /// There is no `MessageType`, or it is not a string.
    #[error("the check-in message has no MessageType")]
    MissingMessageType,
    /// A `MessageType` that this crate does not know.
    #[error("the check-in message type \"{name}\" is unknown")]
    UnknownMessageType {
        /// The type, shortened and made printable.
        name: String,
    },
    /// A field is missing or has another type.
    #[error("the {message} message cannot be read: {source}")]
    Field {
        /// The `MessageType`.
        message: &'static str,
        /// Which field, and what is wrong with it.
        source: FieldError,
    },
    /// The message does not say which enrollment it is from.
    #[error("the {message} message names no enrollment: {source}")]
    Enrollment {
        /// The `MessageType`.
        message: &'static str,
        /// Which identifier, and what is wrong with it.
        source: KeyError,
    },
}

/// Reads the fields of one message type.
type Reader = fn(EnrollmentKey, Fields) -> Result<CheckIn, FieldError>;

/// A check-in message.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckIn {
    /// A device starts an enrollment.
    Authenticate(Authenticate),
    /// A device or user can be reached by push.
    TokenUpdate(TokenUpdate),
    /// The management profile was removed. Sent once, if at all.
    CheckOut(CheckOut),
    /// A device deposits its bootstrap token.
    SetBootstrapToken(SetBootstrapToken),
    /// A device asks for its bootstrap token.
    GetBootstrapToken(GetBootstrapToken),
    /// A network or mobile user of a Mac logs in.
    UserAuthenticate(UserAuthenticate),
    /// A declarative management request.
    DeclarativeManagement(DeclarativeManagement),
    /// A device asks for a token of one of Apple's services.
    GetToken(GetToken),
}

/// `Authenticate`: the start of an enrollment. No push can be sent before the first [`TokenUpdate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The push topic the device will listen to.
    pub topic: String,
    /// The device's name.
    pub device_name: Option<String>,
    /// The device's model.
    pub model: Option<String>,
    /// The name of the model.
    pub model_name: Option<String>,
    /// The product name, such as `iPhone16,1`.
    pub product_name: Option<String>,
    /// The version of the operating system.
    pub os_version: Option<String>,
    /// The build of the operating system.
    pub build_version: Option<String>,
    /// The serial number. Absent in user enrollments.
    pub serial_number: Option<String>,
    /// The International Mobile Equipment Identity.
    pub imei: Option<String>,
    /// The Mobile Equipment Identifier.
    pub meid: Option<String>,
}

/// `TokenUpdate`: how to reach the enrollment by push, sent at its start and whenever something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUpdate {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The push topic.
    pub topic: String,
    /// The push token.
    pub token: SecretBytes,
    /// What the push must carry.
    pub push_magic: SecretString,
    /// What clears the passcode. Its absence says nothing about an earlier one.
    pub unlock_token: Option<SecretBytes>,
    /// The device or user waits in Setup Assistant to be released.
    pub awaiting_configuration: bool,
    /// On a Mac: the user is logged in but not at the console.
    pub not_on_console: bool,
    /// The short name of the user, on user channels.
    pub user_short_name: Option<String>,
    /// The full name of the user, on user channels.
    pub user_long_name: Option<String>,
}

/// `CheckOut`: the management profile was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOut {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The push topic.
    pub topic: Option<String>,
}

/// `SetBootstrapToken`: deposit, or removal when the token is absent or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBootstrapToken {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The token; `None` (also for one of zero length) asks to remove what is stored.
    pub bootstrap_token: Option<SecretBytes>,
    /// The device waits in Setup Assistant.
    pub awaiting_configuration: bool,
}

/// `GetBootstrapToken`: answered by [`bootstrap_token_response`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetBootstrapToken {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The device waits in Setup Assistant.
    pub awaiting_configuration: bool,
}

/// `UserAuthenticate`: answered by [`digest_challenge_response`], and when it comes again with a digest, by
/// [`auth_token_response`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAuthenticate {
    /// The enrollment of the user.
    pub key: EnrollmentKey,
    /// The answer to the challenge; absent or empty in the first request.
    pub digest_response: Option<SecretString>,
    /// The short name of the user.
    pub user_short_name: Option<String>,
    /// The full name of the user.
    pub user_long_name: Option<String>,
}

/// `DeclarativeManagement`: a request of the declarative management protocol; see [`crate::ddm`].
#[derive(Clone, PartialEq, Eq)]
pub struct DeclarativeManagement {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// What is asked for; [`crate::ddm::Endpoint::parse`] reads it.
    pub endpoint: String,
    /// JSON that comes with the request: the status report.
    pub data: Option<Vec<u8>>,
}

impl std::fmt::Debug for DeclarativeManagement {
    /// Without the report itself, which says much about a person's device.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeclarativeManagement")
            .field("key", &self.key)
            .field("endpoint", &self.endpoint)
            .field("data_len", &self.data.as_ref().map(Vec::len))
            .finish()
    }
}

/// `GetToken`: answered by [`get_token_response`].
#[derive(Debug, Clone, PartialEq)]
pub struct GetToken {
    /// The enrollment.
    pub key: EnrollmentKey,
    /// The service, such as `com.apple.maid` or `com.apple.watch.pairing`.
    pub token_service_type: String,
    /// What the service needs to make the token.
    pub token_parameters: TokenParameters,
}

/// The parameters of a [`GetToken`] for the pairing of a watch; absent for other services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenParameters {
    /// What the server's token is made from.
    pub security_token: Option<SecretString>,
    /// The `UDID` of the phone.
    pub phone_udid: Option<String>,
    /// The `UDID` of the watch.
    pub watch_udid: Option<String>,
}

impl CheckIn {
    /// Reads a check-in message.
    ///
    /// # Errors
    /// [`CheckInError`] tells a malformed body, a missing or unknown message type and a bad field apart.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, CheckInError> {
        Self::from_dictionary(codec::decode(bytes, limits)?)
    }

    /// Reads a check-in message that was decoded already.
    pub fn from_dictionary(dictionary: Dictionary) -> Result<Self, CheckInError> {
        let Some(Value::String(name)) = dictionary.get("MessageType") else {
            return Err(CheckInError::MissingMessageType);
        };
        let (message, read): (&'static str, Reader) = match name.as_str() {
            "Authenticate" => ("Authenticate", authenticate),
            "TokenUpdate" => ("TokenUpdate", token_update),
            "CheckOut" => ("CheckOut", check_out),
            "SetBootstrapToken" => ("SetBootstrapToken", set_bootstrap_token),
            "GetBootstrapToken" => ("GetBootstrapToken", get_bootstrap_token),
            "UserAuthenticate" => ("UserAuthenticate", user_authenticate),
            "DeclarativeManagement" => ("DeclarativeManagement", declarative_management),
            "GetToken" => ("GetToken", get_token),
            other => return Err(CheckInError::UnknownMessageType { name: printable(other) }),
        };
        let key =
            EnrollmentKey::from_message(&dictionary).map_err(|source| CheckInError::Enrollment { message, source })?;
        read(key, Fields(dictionary)).map_err(|source| CheckInError::Field { message, source })
    }

    /// The enrollment that the message is from.
    pub fn key(&self) -> &EnrollmentKey {
        match self {
            Self::Authenticate(message) => &message.key,
            Self::TokenUpdate(message) => &message.key,
            Self::CheckOut(message) => &message.key,
            Self::SetBootstrapToken(message) => &message.key,
            Self::GetBootstrapToken(message) => &message.key,
            Self::UserAuthenticate(message) => &message.key,
            Self::DeclarativeManagement(message) => &message.key,
            Self::GetToken(message) => &message.key,
        }
    }

    /// The `MessageType` as on the wire.
    pub fn message_type(&self) -> &'static str {
        match self {
            Self::Authenticate(_) => "Authenticate",
            Self::TokenUpdate(_) => "TokenUpdate",
            Self::CheckOut(_) => "CheckOut",
            Self::SetBootstrapToken(_) => "SetBootstrapToken",
            Self::GetBootstrapToken(_) => "GetBootstrapToken",
            Self::UserAuthenticate(_) => "UserAuthenticate",
            Self::DeclarativeManagement(_) => "DeclarativeManagement",
            Self::GetToken(_) => "GetToken",
        }
    }
}

fn authenticate(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::Authenticate(Authenticate {
        key,
        topic: required("Topic", fields.string("Topic")?)?,
        // Apple requires some of these, but not on every platform, and nothing here depends on them.
        device_name: fields.string("DeviceName")?,
        model: fields.string("Model")?,
        model_name: fields.string("ModelName")?,
        product_name: fields.string("ProductName")?,
        os_version: fields.string("OSVersion")?,
        build_version: fields.string("BuildVersion")?,
        serial_number: fields.string("SerialNumber")?,
        imei: fields.string("IMEI")?,
        meid: fields.string("MEID")?,
    }))
}

fn token_update(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::TokenUpdate(TokenUpdate {
        key,
        topic: required("Topic", fields.string("Topic")?)?,
        token: required("Token", fields.secret_data("Token")?)?,
        push_magic: required("PushMagic", fields.secret_string("PushMagic")?)?,
        unlock_token: fields.secret_data("UnlockToken")?.filter(|token| !token.is_empty()),
        awaiting_configuration: fields.boolean("AwaitingConfiguration")?.unwrap_or(false),
        not_on_console: fields.boolean("NotOnConsole")?.unwrap_or(false),
        user_short_name: fields.string("UserShortName")?,
        user_long_name: fields.string("UserLongName")?,
    }))
}

fn check_out(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    // There is no second attempt, so a topic that is missing does not matter.
    Ok(CheckIn::CheckOut(CheckOut {
        key,
        topic: fields.string("Topic")?,
    }))
}

fn set_bootstrap_token(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::SetBootstrapToken(SetBootstrapToken {
        key,
        bootstrap_token: fields.secret_data("BootstrapToken")?.filter(|token| !token.is_empty()),
        awaiting_configuration: fields.boolean("AwaitingConfiguration")?.unwrap_or(false),
    }))
}

fn get_bootstrap_token(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::GetBootstrapToken(GetBootstrapToken {
        key,
        awaiting_configuration: fields.boolean("AwaitingConfiguration")?.unwrap_or(false),
    }))
}

fn user_authenticate(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::UserAuthenticate(UserAuthenticate {
        key,
        digest_response: fields
            .secret_string("DigestResponse")?
            .filter(|digest| !digest.is_empty()),
        user_short_name: fields.string("UserShortName")?,
        user_long_name: fields.string("UserLongName")?,
    }))
}

fn declarative_management(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    Ok(CheckIn::DeclarativeManagement(DeclarativeManagement {
        key,
        endpoint: required("Endpoint", fields.string("Endpoint")?)?,
        data: fields.data("Data")?,
    }))
}

fn get_token(key: EnrollmentKey, mut fields: Fields) -> Result<CheckIn, FieldError> {
    let token_service_type = required("TokenServiceType", fields.string("TokenServiceType")?)?;
    let mut parameters = Fields(fields.dictionary("TokenParameters")?.unwrap_or_default());
    let token_parameters = TokenParameters {
        security_token: parameters.secret_string("SecurityToken")?,
        phone_udid: parameters.string("PhoneUDID")?,
        watch_udid: parameters.string("WatchUDID")?,
    };
    Ok(CheckIn::GetToken(GetToken {
        key,
        token_service_type,
        token_parameters,
    }))
}

/// The answer to [`GetBootstrapToken`]; without a token the key is left out, which says that there is none.
pub fn bootstrap_token_response(token: Option<&[u8]>) -> Vec<u8> {
    let mut response = Dictionary::new();
    if let Some(token) = token {
        response.insert("BootstrapToken".to_owned(), Value::Data(token.to_vec()));
    }
    codec::encode(&response)
}

/// The answer to the first [`UserAuthenticate`]. An empty challenge lets the user in without a password.
pub fn digest_challenge_response(challenge: &str) -> Vec<u8> {
    codec::encode(&Dictionary::from_iter([("DigestChallenge", Value::from(challenge))]))
}

/// The answer to the second [`UserAuthenticate`]. An empty token says that the password was wrong.
pub fn auth_token_response(token: &str) -> Vec<u8> {
    codec::encode(&Dictionary::from_iter([("AuthToken", Value::from(token))]))
}

/// The answer to [`GetToken`]; a token that is text goes in as UTF-8.
pub fn get_token_response(token: &[u8]) -> Vec<u8> {
    codec::encode(&Dictionary::from_iter([("TokenData", Value::Data(token.to_vec()))]))
}
