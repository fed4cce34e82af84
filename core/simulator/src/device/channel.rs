//! One channel of a device to its server: the device's own or a user's. What both do the same way is here.

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use russet_protocol::codec;
use russet_protocol::content_type;
use russet_protocol::enrollment::SHARED_IPAD_USER_ID;
use russet_protocol::plist::{Dictionary, Value};

use super::Inner;
use super::error::{DeviceError, Step};
use super::event::DeviceEvent;
use super::identity::Identity;
use super::profile::MdmSettings;
use super::state::{ChannelState, PushCredentials, lock};
use super::transport::{self, Outgoing, RawResponse};

/// What the device calls a refusal that ends its enrollment.
const UNRECOGNIZED: &str = "com.apple.unrecognized.device";

/// The names of a user on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNames {
    /// The identifier of the user; of no meaning on a Shared iPad.
    pub user_id: String,
    /// The short name, which is the Managed Apple Account on a Shared iPad.
    pub short_name: String,
    /// The full name.
    pub long_name: String,
    /// Whether this is a user of a Shared iPad.
    pub shared_ipad: bool,
}

/// A channel, borrowed from the handle that the caller holds.
#[derive(Clone, Copy)]
pub(crate) struct Channel<'a> {
    pub(crate) device: &'a Inner,
    pub(crate) user: Option<&'a UserNames>,
    pub(crate) state: &'a Mutex<ChannelState>,
    /// Held while a session runs: a device has one at a time.
    pub(crate) session: &'a tokio::sync::Mutex<()>,
}

/// What a request needs of the enrollment, cloned so that no lock is held while it is sent.
pub(crate) struct Enrolled {
    pub(crate) client: reqwest::Client,
    pub(crate) identity: Identity,
    pub(crate) mdm: MdmSettings,
}

impl Channel<'_> {
    /// The keys that say who a message is from.
    pub(crate) fn names(&self) -> Dictionary {
        let settings = &self.device.settings;
        let mut names = Dictionary::new();
        let mut put = |key: &str, value: &str| names.insert(key.to_owned(), Value::from(value));
        match &settings.enrollment_id {
            Some(enrollment_id) => put("EnrollmentID", enrollment_id),
            None => put("UDID", &settings.facts.udid),
        };
        if let Some(user) = self.user {
            match (user.shared_ipad, &settings.enrollment_id) {
                (true, _) => put("UserID", SHARED_IPAD_USER_ID),
                (false, Some(_)) => put("EnrollmentUserID", &user.user_id),
                (false, None) => put("UserID", &user.user_id),
            };
            put("UserShortName", &user.short_name);
            put("UserLongName", &user.long_name);
        }
        names
    }

    /// What a push must have to reach this channel.
    pub(crate) fn push_credentials(&self) -> Result<PushCredentials, DeviceError> {
        let topic = self.device.mdm()?.topic;
        let state = lock(self.state);
        Ok(PushCredentials {
            topic,
            token: state.token.clone(),
            magic: state.magic.clone(),
        })
    }

    /// Sends a check-in message. `fields` are the keys beside type and names.
    pub(crate) async fn check_in(
        &self,
        message_type: &'static str,
        fields: Dictionary,
    ) -> Result<RawResponse, DeviceError> {
        let mut message = self.names();
        message.insert("MessageType".to_owned(), Value::from(message_type));
        for (key, value) in fields {
            message.insert(key, value);
        }
        let step = Step::CheckIn(message_type);
        let response = self.send_check_in(step, codec::encode(&message)).await?.accepted(step);
        let response = self.watch_refusal(response)?;
        self.device.emit(&DeviceEvent::CheckedIn { message_type });
        Ok(response)
    }

    /// Sends bytes to the check-in address, with the device's identity.
    pub(crate) async fn send_check_in(&self, step: Step, body: Vec<u8>) -> Result<RawResponse, DeviceError> {
        let enrolled = self.device.enrolled("a check-in message")?;
        let url = enrolled.mdm.check_in_url().to_owned();
        self.send(step, &enrolled, &url, content_type::CHECK_IN, body).await
    }

    /// Sends bytes to the server address, with the device's identity.
    pub(crate) async fn send_connect(&self, step: Step, body: Vec<u8>) -> Result<RawResponse, DeviceError> {
        let enrolled = self.device.enrolled("a report")?;
        let url = enrolled.mdm.server_url.clone();
        let media_type = format!("{}; charset=UTF-8", content_type::CONNECT);
        self.send(step, &enrolled, &url, &media_type, body).await
    }

    async fn send(
        &self,
        step: Step,
        enrolled: &Enrolled,
        url: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<RawResponse, DeviceError> {
        let settings = &self.device.settings;
        let mut headers = HeaderMap::new();
        if settings.content_type {
            let value = HeaderValue::from_str(media_type).map_err(DeviceError::crypto)?;
            headers.insert(http::header::CONTENT_TYPE, value);
        }
        let signed = enrolled.mdm.sign_message;
        settings
            .identity_mode
            .apply(&mut headers, &enrolled.identity, signed, settings.digest, &body)?;
        let request = Outgoing {
            step,
            method: Method::PUT,
            url,
            headers,
            body: Bytes::from(body),
        };
        transport::send(&enrolled.client, request).await
    }

    /// Does what a device does when it is refused: 401 and the body that says so end a device's enrollment.
    pub(crate) fn watch_refusal<T>(&self, result: Result<T, DeviceError>) -> Result<T, DeviceError> {
        if let Err(DeviceError::Refused(refusal)) = &result
            && self.user.is_none()
        {
            let reason = match refusal.status() {
                401 => Some("the server answered with 401".to_owned()),
                403 if refusal.code().as_deref() == Some(UNRECOGNIZED) => {
                    Some("the server does not recognise the device".to_owned())
                }
                _ => None,
            };
            if let Some(reason) = reason {
                self.device.unenroll(reason);
            }
        }
        result
    }

    /// `TokenUpdate`: tells how to be reached by push.
    pub(crate) async fn token_update(&self) -> Result<(), DeviceError> {
        let push = self.push_credentials()?;
        if let Some(apns) = &self.device.settings.push_service {
            apns.register(push.token.expose(), &push.topic);
        }
        let mut fields = Dictionary::from_iter([
            ("Topic", Value::from(push.topic)),
            ("Token", Value::Data(push.token.expose().to_vec())),
            ("PushMagic", Value::from(push.magic.expose())),
        ]);
        if self.user.is_none() {
            let state = lock(&self.device.state);
            if state.awaiting_configuration {
                fields.insert("AwaitingConfiguration".to_owned(), Value::Boolean(true));
            }
            if let Some(token) = &state.unlock_token {
                fields.insert("UnlockToken".to_owned(), Value::Data(token.expose().to_vec()));
            }
        } else if self.device.settings.facts.platform.is_mac() {
            fields.insert("NotOnConsole".to_owned(), Value::Boolean(false));
        }
        self.check_in("TokenUpdate", fields).await?;
        if self.user.is_none()
            && let Some(enrollment) = &mut lock(&self.device.state).enrollment
        {
            enrollment.complete = true;
        }
        Ok(())
    }

    /// `GetToken`: asks for a token of one of Apple's services; `None` when the answer has none.
    pub(crate) async fn get_token(
        &self,
        service: &str,
        parameters: Dictionary,
    ) -> Result<Option<Vec<u8>>, DeviceError> {
        let mut fields = Dictionary::from_iter([("TokenServiceType", Value::from(service))]);
        if !parameters.is_empty() {
            fields.insert("TokenParameters".to_owned(), Value::Dictionary(parameters));
        }
        let response = self.check_in("GetToken", fields).await?;
        let step = Step::CheckIn("GetToken");
        let answer = response.plist().map_err(DeviceError::plist(step))?;
        Ok(answer.get("TokenData").and_then(Value::as_data).map(<[u8]>::to_vec))
    }
}
