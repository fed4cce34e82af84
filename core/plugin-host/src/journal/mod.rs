//! What a plugin asks of the host beside the question itself, as data: every call that reads something that may change, or
//! that changes something, goes through [`call`].
//!
//! A live call is answered by the ports, and written down when the request is recorded. A recorded call is answered from
//! what was written down, so that the same plugin decides the same again; what it writes goes to an overlay that ends with
//! the call, and nothing goes out over a network.
//!
//! Passwords and the secrets of plugins are never written down. Entries hold what the plugin read and sent otherwise, so
//! whoever keeps them seals them.

pub(crate) mod base64_bytes;
mod live;
mod replay;

use russet_hooks::{Answers, JournalEntry, Recorder, Secret};
use serde::{Deserialize, Serialize};

use self::replay::{Replay, Step};
use crate::limits::Violation;
use crate::ports::{CallError, FoundDevice, HttpRequest, HttpResponse, KvEntry, LdapEntry, LdapSearch};
use crate::state::CallState;

/// The most that one call writes down, in bytes. A call that read more can not be replayed from there on.
const MAX_JOURNAL: usize = 1 << 20;

/// Headers whose values are credentials, in lower case.
const CREDENTIAL_HEADERS: [&str; 6] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
    "x-auth-token",
    "x-vault-token",
];

/// A call of a plugin to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call")]
#[expect(missing_docs, reason = "the fields are those of wit/capabilities.wit")]
pub enum HostCall {
    /// The time.
    #[serde(rename = "clock.now-ms")]
    ClockNow,
    /// Random bytes.
    #[serde(rename = "random.bytes")]
    RandomBytes { count: u32 },
    /// Reads a value of the plugin's store.
    #[serde(rename = "kv.get")]
    KvGet { key: String },
    /// Sets one.
    #[serde(rename = "kv.set")]
    KvSet {
        key: String,
        #[serde(with = "base64_bytes")]
        value: Vec<u8>,
        expires_in_ms: Option<u64>,
    },
    /// Sets one if it is as expected.
    #[serde(rename = "kv.compare-and-set")]
    KvCompareAndSet {
        key: String,
        version: Option<u64>,
        #[serde(with = "base64_bytes")]
        value: Vec<u8>,
        expires_in_ms: Option<u64>,
    },
    /// Removes one.
    #[serde(rename = "kv.delete")]
    KvDelete { key: String },
    /// Lists keys.
    #[serde(rename = "kv.keys")]
    KvKeys {
        prefix: String,
        after: Option<String>,
        limit: u32,
    },
    /// Finds a device.
    #[serde(rename = "inventory.find-device")]
    FindDevice { name: String },
    /// Finds devices by an attribute.
    #[serde(rename = "inventory.devices-with-attribute")]
    DevicesWithAttribute {
        name: String,
        value: String,
        after: Option<String>,
        limit: u32,
    },
    /// Finds devices by their person.
    #[serde(rename = "inventory.devices-of-person")]
    DevicesOfPerson { user_name: String },
    /// Sends an HTTP request.
    #[serde(rename = "http.send")]
    HttpSend(HttpRequest),
    /// Searches a directory.
    #[serde(rename = "ldap.search")]
    LdapSearch(LdapSearch),
    /// Checks credentials.
    #[serde(rename = "ldap.bind")]
    LdapBind {
        connection: String,
        dn: String,
        #[serde(skip)]
        password: Secret,
    },
    /// Reads a secret.
    #[serde(rename = "secrets.get")]
    SecretsGet { name: String },
    /// Keeps a secret.
    #[serde(rename = "secrets.put")]
    SecretsPut {
        name: String,
        #[serde(skip)]
        value: Secret,
    },
    /// Removes a secret.
    #[serde(rename = "secrets.delete")]
    SecretsDelete { name: String },
    /// Seals bytes.
    #[serde(rename = "secrets.seal")]
    SecretsSeal {
        #[serde(skip)]
        value: Secret,
    },
    /// Opens sealed bytes.
    #[serde(rename = "secrets.open")]
    SecretsOpen {
        #[serde(with = "base64_bytes")]
        sealed: Vec<u8>,
    },
    /// Authenticates a message under a secret.
    #[serde(rename = "signer.hmac-sha256")]
    SignerHmac {
        secret: String,
        #[serde(with = "base64_bytes")]
        message: Vec<u8>,
    },
    /// Signs a message.
    #[serde(rename = "signer.sign")]
    SignerSign {
        key: String,
        #[serde(with = "base64_bytes")]
        message: Vec<u8>,
    },
    /// Reads a public key.
    #[serde(rename = "signer.public-key")]
    SignerPublicKey { key: String },
}

impl HostCall {
    /// The function's name, such as `kv.get`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClockNow => "clock.now-ms",
            Self::RandomBytes { .. } => "random.bytes",
            Self::KvGet { .. } => "kv.get",
            Self::KvSet { .. } => "kv.set",
            Self::KvCompareAndSet { .. } => "kv.compare-and-set",
            Self::KvDelete { .. } => "kv.delete",
            Self::KvKeys { .. } => "kv.keys",
            Self::FindDevice { .. } => "inventory.find-device",
            Self::DevicesWithAttribute { .. } => "inventory.devices-with-attribute",
            Self::DevicesOfPerson { .. } => "inventory.devices-of-person",
            Self::HttpSend(_) => "http.send",
            Self::LdapSearch(_) => "ldap.search",
            Self::LdapBind { .. } => "ldap.bind",
            Self::SecretsGet { .. } => "secrets.get",
            Self::SecretsPut { .. } => "secrets.put",
            Self::SecretsDelete { .. } => "secrets.delete",
            Self::SecretsSeal { .. } => "secrets.seal",
            Self::SecretsOpen { .. } => "secrets.open",
            Self::SignerHmac { .. } => "signer.hmac-sha256",
            Self::SignerSign { .. } => "signer.sign",
            Self::SignerPublicKey { .. } => "signer.public-key",
        }
    }

    /// The call as it is written down and compared: canonical, without passwords and credentials.
    pub fn to_entry(&self) -> String {
        let text = match self {
            Self::HttpSend(request) => {
                let mut request = request.clone();
                for (name, value) in &mut request.headers {
                    if CREDENTIAL_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                        "(not recorded)".clone_into(value);
                    }
                }
                serde_json::to_string(&Self::HttpSend(request))
            }
            other => serde_json::to_string(other),
        };
        // Serialising fails for maps with keys that are no text, and there is none in here.
        text.unwrap_or_default()
    }
}

/// What the host answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostValue {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Time(u64),
    /// Bytes.
    #[serde(with = "base64_bytes")]
    Bytes(Vec<u8>),
    /// A value of the plugin's store.
    Entry(Option<KvEntry>),
    /// It was done.
    Done,
    /// Whether it was so.
    Flag(bool),
    /// Keys.
    Keys(Vec<String>),
    /// A device.
    Device(Option<Box<FoundDevice>>),
    /// Devices.
    Devices(Vec<FoundDevice>),
    /// The answer of a server.
    Response(HttpResponse),
    /// Entries of a directory.
    Entries(Vec<LdapEntry>),
    /// A secret, or none. Only whether there was one is written down.
    Secret(Withheld),
}

/// A secret that an answer holds while the call runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Whether there is one.
    pub present: bool,
    /// The secret itself: never written down.
    #[serde(skip)]
    pub value: Option<Secret>,
}

impl Withheld {
    /// A secret, or none.
    pub fn new(value: Option<Secret>) -> Self {
        Self {
            present: value.is_some(),
            value,
        }
    }
}

/// The answer to a call.
pub type HostAnswer = Result<HostValue, CallError>;

/// The journal of one running call.
#[derive(Debug)]
pub(crate) enum Journal {
    /// Answers come from the ports; they are written down if there is a recorder.
    Live { recorder: Option<Recorder>, bytes: usize },
    /// Answers come from what was written down.
    Recorded(Box<Replay>),
}

impl Journal {
    /// The journal of a call that gets its answers from there, and writes them down if `recorder` is given.
    pub(crate) fn new(answers: &Answers, recorder: Option<Recorder>) -> Self {
        match answers {
            Answers::Live => Self::Live { recorder, bytes: 0 },
            Answers::Recorded { entries, strict } => Self::Recorded(Box::new(Replay::new(entries, *strict))),
        }
    }

    fn note(&mut self, call: &HostCall, answer: &HostAnswer) {
        let Self::Live {
            recorder: Some(recorder),
            bytes,
        } = self
        else {
            return;
        };
        if *bytes > MAX_JOURNAL {
            return;
        }
        let entry = JournalEntry {
            call: call.to_entry(),
            answer: serde_json::to_string(answer).unwrap_or_default(),
        };
        *bytes += entry.call.len() + entry.answer.len();
        if *bytes <= MAX_JOURNAL {
            recorder.journal(entry);
        }
    }
}

/// Answers a call of a plugin: live, or from what was recorded.
///
/// # Errors
/// [`Violation::NotRecorded`] when a recorded call asks for what was not written down.
pub(crate) async fn call(state: &mut CallState, call: HostCall) -> wasmtime::Result<HostAnswer> {
    let step = match &mut state.journal {
        Journal::Live { .. } => Step::Ask(None),
        Journal::Recorded(replay) => replay.step(&call).map_err(wasmtime::Error::from)?,
    };
    let asked = match &step {
        Step::Answer(_) => None,
        Step::Ask(other) => Some(other.as_ref().unwrap_or(&call)),
    };
    let answer = match asked {
        Some(asked) => Some(live::answer(live::Asking::of(state, asked), asked).await),
        None => None,
    };
    finish(state, &call, step, answer)
}

/// The same for calls that never wait: the clock and random numbers.
pub(crate) fn call_now(state: &mut CallState, call: &HostCall) -> wasmtime::Result<HostAnswer> {
    let step = match &mut state.journal {
        Journal::Live { .. } => Step::Ask(None),
        Journal::Recorded(replay) => replay.step(call).map_err(wasmtime::Error::from)?,
    };
    let answer = match &step {
        Step::Answer(_) => None,
        Step::Ask(_) => Some(live::answer_now(&state.plugin.ports, call)),
    };
    finish(state, call, step, answer)
}

fn finish(
    state: &mut CallState,
    call: &HostCall,
    step: Step,
    asked: Option<HostAnswer>,
) -> wasmtime::Result<HostAnswer> {
    let answer = match (step, asked) {
        (Step::Answer(answer), _) => return Ok(answer),
        (Step::Ask(_), Some(answer)) => answer,
        (Step::Ask(_), None) => return Err(shapeless()),
    };
    match &mut state.journal {
        Journal::Recorded(replay) => Ok(replay.complete(call, answer)),
        journal @ Journal::Live { .. } => {
            journal.note(call, &answer);
            Ok(answer)
        }
    }
}

/// An answer of another shape than the call has: only a journal that was changed holds one.
pub(crate) fn shapeless() -> wasmtime::Error {
    Violation::NotRecorded("an answer of this shape".to_owned()).into()
}
