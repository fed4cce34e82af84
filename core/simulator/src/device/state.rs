//! What changes in a simulated device: its enrollment, its profiles, what it was told to do, and the test's script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use russet_protocol::ErrorChainItem;
use russet_protocol::plist::{Dictionary, Value};
use russet_protocol::{SecretBytes, SecretString};
use uuid::Uuid;

use super::answer::Answer;
use super::identity::Identity;
use super::profile::{EnrollmentProfile, InstalledProfile};
use super::transport::RawResponse;

/// What a device needs to be reached by push.
#[derive(Debug, Clone)]
pub struct PushCredentials {
    /// The push topic.
    pub topic: String,
    /// The push token, which a push is addressed to.
    pub token: SecretBytes,
    /// What a push must carry.
    pub magic: SecretString,
}

/// What a device was told by `DeviceLock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The message on the lock screen.
    pub message: Option<String>,
    /// The number to call.
    pub phone_number: Option<String>,
    /// The PIN that unlocks a Mac.
    pub pin: Option<SecretString>,
}

/// A command that was answered, and the answer that the server took.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The identifier of the command.
    pub command_uuid: String,
    /// Its type.
    pub request_type: String,
    /// The answer.
    pub answer: Answer,
}

/// What a test wants a device to answer instead of the plausible.
#[derive(Debug, Clone, PartialEq)]
pub enum Scripted {
    /// The device cannot do it now.
    NotNow,
    /// The device tried and failed.
    Error(Vec<ErrorChainItem>),
    /// The device does not understand.
    CommandFormatError,
    /// Success, with these keys in the report.
    Acknowledged(Dictionary),
}

/// A scripted answer and the command that it is for.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// The request type; `None` for the next command of any.
    pub(crate) request_type: Option<String>,
    pub(crate) answer: Scripted,
}

/// How far an enrollment is.
#[derive(Debug, Clone)]
pub(crate) struct Enrollment {
    pub(crate) profile: EnrollmentProfile,
    pub(crate) identity: Option<Identity>,
    /// `TokenUpdate` was accepted.
    pub(crate) complete: bool,
}

/// What changes in a device as such.
#[derive(Debug)]
pub(crate) struct DeviceState {
    pub(crate) client: reqwest::Client,
    pub(crate) enrollment: Option<Enrollment>,
    pub(crate) automated: bool,
    pub(crate) awaiting_configuration: bool,
    pub(crate) profiles: Vec<InstalledProfile>,
    pub(crate) bootstrap_token: Option<SecretBytes>,
    pub(crate) unlock_token: Option<SecretBytes>,
    pub(crate) lock: Option<Lock>,
    pub(crate) erased: bool,
    pub(crate) restarts: u32,
    /// The last settings command's items, by `Item`.
    pub(crate) settings: BTreeMap<String, Value>,
    /// Why it is not managed any more.
    pub(crate) unenrolled: Option<String>,
}

/// What changes in one channel of a device: its own, or that of a user.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) token: SecretBytes,
    pub(crate) magic: SecretString,
    pub(crate) scripts: VecDeque<Script>,
    /// An answer that the server has not taken yet. A device repeats it until a status of 2xx.
    pub(crate) undelivered: Option<Undelivered>,
    pub(crate) answered: Vec<Answered>,
    pub(crate) declarations: BTreeMap<String, Declaration>,
    pub(crate) declarations_token: Option<String>,
}

/// An answer and what follows once the server has taken it.
#[derive(Debug, Clone)]
pub(crate) struct Undelivered {
    pub(crate) command_uuid: String,
    pub(crate) request_type: String,
    pub(crate) answer: Answer,
    pub(crate) after: After,
}

/// What a command makes a device do once its answer is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Continue,
    /// Erase everything, the enrollment too.
    Erase,
    /// Remove the management profile, and say goodbye if the profile said so.
    Unenroll,
    /// Synchronise declarations.
    SyncDeclarations,
    /// Leave Setup Assistant and tell the server by a token update.
    Configured,
}

/// A declaration that a device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Its type, such as `com.apple.configuration.passcode.settings`.
    pub declaration_type: String,
    /// The server's token for this content.
    pub server_token: String,
    /// The payload.
    pub payload: serde_json::Value,
}

impl ChannelState {
    pub(crate) fn new() -> Self {
        Self {
            token: random_token(),
            magic: SecretString::new(Uuid::new_v4().hyphenated().to_string().to_uppercase()),
            scripts: VecDeque::new(),
            undelivered: None,
            answered: Vec::new(),
            declarations: BTreeMap::new(),
            declarations_token: None,
        }
    }

    /// A channel as after the end of an enrollment: what was answered is kept for whoever watches, the push token is new.
    pub(crate) fn forgetting(before: &Self) -> Self {
        Self {
            scripts: before.scripts.clone(),
            answered: before.answered.clone(),
            ..Self::new()
        }
    }

    /// Takes the first scripted answer that is meant for this type of command.
    pub(crate) fn take_script(&mut self, request_type: &str) -> Option<Scripted> {
        let position = self.scripts.iter().position(|script| {
            script
                .request_type
                .as_deref()
                .is_none_or(|wanted| wanted == request_type)
        })?;
        self.scripts.remove(position).map(|script| script.answer)
    }
}

/// 32 random bytes, as a push token has and a bootstrap token may have.
pub(crate) fn random_token() -> SecretBytes {
    SecretBytes::new([*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat())
}

/// Locks a state. A panic of another test thread must not hide this one's result.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an `UserAuthenticate` was answered with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum UserAuthenticated {
    /// The server wants no password.
    NoPasswordNeeded,
    /// The server sent a challenge: answer it by [`authenticate`](super::SimulatedUser::authenticate) with a digest.
    Challenge(String),
    /// The password was right.
    Token(SecretString),
    /// The password was wrong.
    WrongPassword,
    /// The server does not manage this user (410).
    NotManaged(RawResponse),
}
