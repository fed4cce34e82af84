//! A user of a simulated device: a channel of its own, with its own push token and its own commands.

use std::sync::{Arc, Mutex};

use russet_protocol::SecretString;
use russet_protocol::plist::{Dictionary, Value};

use super::SimulatedDevice;
use super::answer::{Answer, ReceivedCommand};
use super::channel::{Channel, UserNames};
use super::error::{DeviceError, Step};
use super::listen::{ListenEnd, PushSource};
use super::session::Session;
use super::state::{Answered, ChannelState, PushCredentials, Script, Scripted, UserAuthenticated, lock};
use super::transport::RawResponse;

/// A user of a [`SimulatedDevice`]. Cloning gives another handle to the same user.
#[derive(Debug, Clone)]
pub struct SimulatedUser {
    device: SimulatedDevice,
    names: Arc<UserNames>,
    state: Arc<Mutex<ChannelState>>,
    session: Arc<tokio::sync::Mutex<()>>,
}

impl SimulatedUser {
    pub(crate) fn new(device: SimulatedDevice, names: UserNames) -> Self {
        Self {
            device,
            names: Arc::new(names),
            state: Arc::new(Mutex::new(ChannelState::new())),
            session: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    fn channel(&self) -> Channel<'_> {
        Channel {
            device: &self.device.0,
            user: Some(&self.names),
            state: &self.state,
            session: &self.session,
        }
    }

    /// The device.
    pub fn device(&self) -> &SimulatedDevice {
        &self.device
    }

    /// The names of the user.
    pub fn names(&self) -> &UserNames {
        &self.names
    }

    /// What a push must have to reach the user.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] when the device has no profile, which names the topic.
    pub fn push_credentials(&self) -> Result<PushCredentials, DeviceError> {
        self.channel().push_credentials()
    }

    /// Lets the stand-in of Apple's push service know the user's token, as Apple's does.
    ///
    /// # Errors
    /// [`DeviceError::NotReady`] when the device has no profile, which names the topic.
    pub fn register_for_push(&self, apns: &crate::apns::ApnsStandIn) -> Result<(), DeviceError> {
        let push = self.push_credentials()?;
        apns.register(push.token.expose(), &push.topic);
        Ok(())
    }

    /// The commands that were answered, and the answers that the server took.
    pub fn answered(&self) -> Vec<Answered> {
        lock(&self.state).answered.clone()
    }

    /// Gives this answer, once, to the next command of a type, or to the next of any.
    pub fn script(&self, request_type: Option<&str>, answer: Scripted) {
        lock(&self.state).scripts.push_back(Script {
            request_type: request_type.map(str::to_owned),
            answer,
        });
    }

    /// Sends `UserAuthenticate`: without a digest to ask for a challenge, with one to answer it.
    ///
    /// # Errors
    /// [`DeviceError`]; that the server does not manage the user (410) is an answer, not an error.
    pub async fn authenticate(&self, digest_response: Option<&str>) -> Result<UserAuthenticated, DeviceError> {
        let step = Step::CheckIn("UserAuthenticate");
        let mut fields = Dictionary::new();
        if let Some(digest) = digest_response {
            fields.insert("DigestResponse".to_owned(), Value::from(digest));
        }
        let response = match self.channel().check_in("UserAuthenticate", fields).await {
            Err(DeviceError::Refused(refusal)) if refusal.status() == 410 => {
                return Ok(UserAuthenticated::NotManaged(refusal.response));
            }
            other => other?,
        };
        let answer = match response.body.is_empty() {
            true => Dictionary::new(),
            false => response.plist().map_err(DeviceError::plist(step))?,
        };
        let text = |key: &str| answer.get(key).and_then(Value::as_string).unwrap_or_default();
        Ok(match (digest_response, text("DigestChallenge"), text("AuthToken")) {
            (None, "", _) => UserAuthenticated::NoPasswordNeeded,
            (None, challenge, _) => UserAuthenticated::Challenge(challenge.to_owned()),
            (Some(_), _, "") => UserAuthenticated::WrongPassword,
            (Some(_), _, token) => UserAuthenticated::Token(SecretString::new(token)),
        })
    }

    /// Sends `TokenUpdate`: how the user can be reached by push.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn token_update(&self) -> Result<(), DeviceError> {
        self.channel().token_update().await
    }

    /// Sends one report, and returns the command that came back.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn poll(&self, answer: &Answer) -> Result<Option<ReceivedCommand>, DeviceError> {
        self.channel().poll(answer).await
    }

    /// Polls and answers until the server has no command left.
    ///
    /// # Errors
    /// [`DeviceError`]; an answer that was not taken is kept for the next session.
    pub async fn run_until_idle(&self) -> Result<Session, DeviceError> {
        Box::pin(self.channel().run_until_idle()).await
    }

    /// Listens for pushes and runs a session for each that is meant for the user.
    pub async fn listen(&self, pushes: impl PushSource) -> ListenEnd {
        self.channel().listen(pushes).await
    }

    /// Sends a request of the declarative protocol. `data` is the JSON of a status report.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn declarative(&self, endpoint: &str, data: Option<Vec<u8>>) -> Result<RawResponse, DeviceError> {
        self.channel().declarative(endpoint, data).await
    }

    /// Sends `GetToken`; `None` when the answer has no token.
    ///
    /// # Errors
    /// [`DeviceError`]; a refusal has the server's answer.
    pub async fn get_token(&self, service: &str, parameters: Dictionary) -> Result<Option<Vec<u8>>, DeviceError> {
        self.channel().get_token(service, parameters).await
    }
}
