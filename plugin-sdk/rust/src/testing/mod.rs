//! The host's capabilities, scripted, for a plugin's own tests. Not present in WebAssembly.
//!
//! Without a script the log goes to standard error, the clock is the system's, the stores are empty, and what needs
//! somebody else (settings, LDAP, HTTP, signing keys) answers with an error that says so. Effects are collected.
//!
//! ```
//! use russet_plugin::log::Level;
//! use russet_plugin::testing::{Effect, Host};
//! use russet_plugin::{clock, effects, kv, log, settings};
//!
//! let host = Host::new().settings(r#"{"days": 2}"#).now_ms(1_000).kv("seen", "yes").install();
//! let days = settings::get::<std::collections::BTreeMap<String, u32>>().unwrap()["days"];
//! log::info(format_args!("{days} days at {}", clock::now_ms()));
//! effects::push().unwrap();
//! assert_eq!(kv::get("seen").unwrap().unwrap().value, b"yes");
//! assert_eq!(host.log(), [(Level::Info, "2 days at 1000".to_owned())]);
//! assert_eq!(host.effects(), [Effect::Push { enrollment: None }]);
//! ```
//!
//! What a plugin does in the real host is tested with the crate `russet-plugin-test`.

pub(crate) mod backend;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::inventory::Found;
use crate::ldap::{self, Entry, Search};
use crate::log::Level;
use crate::{Device, Person, http, kv};

type OnSearch = Rc<dyn Fn(&Search) -> Result<Vec<Entry>, ldap::Error>>;
type OnBind = Rc<dyn Fn(&str, &str, &str) -> Result<bool, ldap::Error>>;
type OnRequest = Rc<dyn Fn(&http::Request) -> Result<http::Response, http::Error>>;
type OnSign = Rc<dyn Fn(&str, &[u8]) -> Vec<u8>>;

/// What is to be done because of a call, as [`crate::effects`] recorded it. The enrollment is `None` for the one that the
/// call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the arguments of the functions of `effects`")]
pub enum Effect {
    /// An attribute is set.
    SetAttribute {
        enrollment: Option<String>,
        name: String,
        value: String,
    },
    /// An attribute is removed.
    ClearAttribute { enrollment: Option<String>, name: String },
    /// A command is queued.
    EnqueueCommand {
        enrollment: Option<String>,
        uuid: String,
        command: serde_json::Value,
        priority: i16,
        not_before_ms: Option<u64>,
        expires_at_ms: Option<u64>,
        dedupe_key: Option<String>,
    },
    /// A command is taken back.
    CancelCommand { enrollment: Option<String>, uuid: String },
    /// A device is woken.
    Push { enrollment: Option<String> },
    /// A device gets a stored profile.
    AssignProfile {
        enrollment: Option<String>,
        profile: String,
    },
    /// A stored profile is taken away.
    UnassignProfile {
        enrollment: Option<String>,
        profile: String,
    },
    /// A device gets a stored set of declarations.
    AssignDeclarations { enrollment: Option<String>, name: String },
    /// A stored set of declarations is taken away.
    UnassignDeclarations { enrollment: Option<String>, name: String },
    /// A secret of the plugin's own is kept.
    PutSecret { name: String, value: Vec<u8> },
    /// The plugin's `scheduled` hook is called.
    ScheduleCall { name: String, at_ms: u64, payload: String },
    /// Observers are told.
    EmitEvent {
        enrollment: Option<String>,
        kind: String,
        detail: serde_json::Value,
    },
}

/// What the capabilities answer.
#[derive(Clone, Default)]
pub struct Host {
    settings: Option<String>,
    now_ms: Option<u64>,
    search: Option<OnSearch>,
    bind: Option<OnBind>,
    http: BTreeMap<String, OnRequest>,
    sign: Option<OnSign>,
    kv: BTreeMap<String, kv::Entry>,
    writes: u64,
    random: u64,
    inventory: Vec<Found>,
    secrets: BTreeMap<String, Vec<u8>>,
    effects: Vec<Effect>,
    log: Vec<(Level, String)>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("settings", &self.settings)
            .field("now_ms", &self.now_ms)
            .field("kv", &self.kv)
            .field("effects", &self.effects)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

thread_local! {
    static INSTALLED: RefCell<Option<Host>> = const { RefCell::new(None) };
}

impl Host {
    /// A host that answers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings: a JSON object.
    #[must_use]
    pub fn settings(mut self, json: impl Into<String>) -> Self {
        self.settings = Some(json.into());
        self
    }

    /// What the clock shows: milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn now_ms(mut self, now: u64) -> Self {
        self.now_ms = Some(now);
        self
    }

    /// Where the random numbers begin. They are the same for the same number, and no secret.
    #[must_use]
    pub fn random(mut self, seed: u64) -> Self {
        self.random = seed;
        self
    }

    /// A value in the plugin's store.
    #[must_use]
    pub fn kv(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.writes += 1;
        let entry = kv::Entry {
            value: value.into(),
            version: self.writes,
            expires_at_ms: None,
        };
        self.kv.insert(key.into(), entry);
        self
    }

    /// An enrolled device, and the person behind it. Give it an [`enrollment_id`](crate::DeviceBuilder::enrollment_id).
    #[must_use]
    pub fn device(mut self, device: Device, person: Option<Person>) -> Self {
        self.inventory.push(Found { device, person });
        self
    }

    /// A secret of the plugin.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.secrets.insert(name.into(), value.into());
        self
    }

    /// What the server behind an HTTP connection answers. Connections without a script are not granted.
    #[must_use]
    pub fn http(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&http::Request) -> Result<http::Response, http::Error> + 'static,
    ) -> Self {
        self.http.insert(connection.into(), Rc::new(answer));
        self
    }

    /// What searches find.
    #[must_use]
    pub fn ldap_search(mut self, answer: impl Fn(&Search) -> Result<Vec<Entry>, ldap::Error> + 'static) -> Self {
        self.search = Some(Rc::new(answer));
        self
    }

    /// Which credentials (connection, distinguished name, password) are right. As with the real host, an empty password
    /// is refused without asking.
    #[must_use]
    pub fn ldap_bind(mut self, answer: impl Fn(&str, &str, &str) -> Result<bool, ldap::Error> + 'static) -> Self {
        self.bind = Some(Rc::new(answer));
        self
    }

    /// What signatures (of a key and a message) look like; a public key is that of the empty message.
    #[must_use]
    pub fn sign(mut self, answer: impl Fn(&str, &[u8]) -> Vec<u8> + 'static) -> Self {
        self.sign = Some(Rc::new(answer));
        self
    }

    /// Puts the host in place on this thread, until the guard is dropped.
    #[must_use]
    pub fn install(self) -> Installed {
        Installed {
            before: INSTALLED.replace(Some(self)),
        }
    }
}

/// A host in place on this thread.
#[derive(Debug)]
pub struct Installed {
    before: Option<Host>,
}

impl Installed {
    /// What was logged so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        now(|host| host.log.clone())
    }

    /// What is to be done, in order.
    pub fn effects(&self) -> Vec<Effect> {
        now(|host| host.effects.clone())
    }

    /// A value in the plugin's store.
    pub fn kv(&self, key: &str) -> Option<Vec<u8>> {
        now(|host| host.kv.get(key).map(|entry| entry.value.clone()))
    }

    /// A secret of the plugin.
    pub fn secret(&self, name: &str) -> Option<Vec<u8>> {
        now(|host| host.secrets.get(name).cloned())
    }

    /// Sets the clock: milliseconds since 1970-01-01T00:00:00Z.
    pub fn set_now_ms(&self, ms: u64) {
        now(|host| host.now_ms = Some(ms));
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.set(self.before.take());
    }
}

/// The host in place; one that answers nothing if there is none.
fn now<T>(part: impl FnOnce(&mut Host) -> T) -> T {
    INSTALLED.with_borrow_mut(|host| match host {
        Some(host) => part(host),
        None => part(&mut Host::default()),
    })
}
