//! The host's capabilities, scripted, for a plugin's own tests. Not present in WebAssembly.
//!
//! Without a script the log goes to standard error, the clock is the system's, and settings and LDAP answer with an error
//! that says so.
//!
//! ```
//! use russet_plugin::log::Level;
//! use russet_plugin::testing::Host;
//! use russet_plugin::{clock, log, settings};
//!
//! let host = Host::new().settings(r#"{"days": 2}"#).now_ms(1_000).install();
//! let days = settings::get::<std::collections::BTreeMap<String, u32>>().unwrap()["days"];
//! log::info(format_args!("{days} days at {}", clock::now_ms()));
//! assert_eq!(host.log(), [(Level::Info, "2 days at 1000".to_owned())]);
//! ```

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Error;
use crate::ldap::{self, Entry, Search};
use crate::log::Level;

type OnSearch = Rc<dyn Fn(&Search) -> Result<Vec<Entry>, ldap::Error>>;
type OnBind = Rc<dyn Fn(&str, &str, &str) -> Result<bool, ldap::Error>>;

/// What the capabilities answer.
#[derive(Clone, Default)]
pub struct Host {
    settings: Option<String>,
    now_ms: Option<u64>,
    search: Option<OnSearch>,
    bind: Option<OnBind>,
    log: Vec<(Level, String)>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("settings", &self.settings)
            .field("now_ms", &self.now_ms)
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
        INSTALLED.with_borrow(|host| host.as_ref().map(|host| host.log.clone()).unwrap_or_default())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.set(self.before.take());
    }
}

fn scripted<T>(part: impl FnOnce(&Host) -> Option<T>) -> Option<T> {
    INSTALLED.with_borrow(|host| host.as_ref().and_then(part))
}

pub(crate) fn settings() -> Result<String, Error> {
    scripted(|host| host.settings.clone())
        .ok_or_else(|| "no settings outside the host; script them with russet_plugin::testing::Host".into())
}

pub(crate) fn now_ms() -> u64 {
    scripted(|host| host.now_ms).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[expect(clippy::print_stderr, reason = "outside the host this is where the log goes")]
pub(crate) fn write(level: Level, message: String) {
    INSTALLED.with_borrow_mut(|host| match host {
        Some(host) => host.log.push((level, message)),
        None => eprintln!("{level:?}: {message}"),
    });
}

// The script is called without a borrow held: it may log.
pub(crate) fn search(search: &Search) -> Result<Vec<Entry>, ldap::Error> {
    match scripted(|host| host.search.clone()) {
        Some(answer) => answer(search),
        None => Err(unscripted()),
    }
}

pub(crate) fn bind(connection: &str, dn: &str, password: &str) -> Result<bool, ldap::Error> {
    match scripted(|host| host.bind.clone()) {
        Some(_) if password.is_empty() => Ok(false),
        Some(answer) => answer(connection, dn, password),
        None => Err(unscripted()),
    }
}

fn unscripted() -> ldap::Error {
    ldap::Error::Unavailable("no directory outside the host; script one with russet_plugin::testing::Host".to_owned())
}
