//! What the host answers a plugin, in place of a server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use russet_hooks::{Device, Person, Secret};
use russet_plugin_host::Connections;
use russet_plugin_host::ports::memory::{FixedClock, MemoryInventory, MemoryKv, MemorySecrets};
use russet_plugin_host::ports::{
    CallError, ClockPort, Expected, FoundDevice, HttpPort, HttpRequest, HttpResponse, KvPort, KvQuota, KvWrite,
    LdapEntry, LdapPort, LdapSearch, Ports, RandomPort, SecretsPort, Space, SystemClock, SystemRandom,
};
use tokio::time::Instant;

type OnRequest = Arc<dyn Fn(&HttpRequest) -> Result<HttpResponse, CallError> + Send + Sync>;
type OnSearch = Arc<dyn Fn(&LdapSearch) -> Result<Vec<LdapEntry>, CallError> + Send + Sync>;
type OnBind = Arc<dyn Fn(&str, &str) -> Result<bool, CallError> + Send + Sync>;

/// What a scripted store may hold: more than any test needs.
const QUOTA: KvQuota = KvQuota {
    keys: 100_000,
    bytes: 64 << 20,
};

/// What the host answers: nothing but the system's clock and random numbers, empty stores, and no connections, until more
/// is said.
#[derive(Clone, Default)]
pub struct Script {
    clock: Option<Timestamp>,
    random: Option<u64>,
    kv: BTreeMap<String, Vec<u8>>,
    secrets: BTreeMap<String, Vec<u8>>,
    devices: Vec<FoundDevice>,
    http: BTreeMap<String, OnRequest>,
    ldap: BTreeMap<String, Directory>,
    pub(crate) escrow_secret: Option<Secret>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("clock", &self.clock)
            .field("devices", &self.devices.len())
            .field("http", &self.http.keys())
            .field("ldap", &self.ldap.keys())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct Directory {
    search: Option<OnSearch>,
    bind: Option<OnBind>,
}

impl Script {
    /// A host that answers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the clock shows; it stands still.
    #[must_use]
    pub fn clock(mut self, now: Timestamp) -> Self {
        self.clock = Some(now);
        self
    }

    /// Random numbers that are the same for the same seed.
    #[must_use]
    pub fn random(mut self, seed: u64) -> Self {
        self.random = Some(seed);
        self
    }

    /// A value in the plugin's store.
    #[must_use]
    pub fn kv(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.kv.insert(key.into(), value.into());
        self
    }

    /// A secret of the plugin.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.secrets.insert(name.into(), value.into());
        self
    }

    /// The secret that escrow policies are asked about.
    #[must_use]
    pub fn escrow_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.escrow_secret = Some(Secret::new(secret.into()));
        self
    }

    /// An enrolled device, with the person behind it. It needs an enrollment identifier.
    #[must_use]
    pub fn device(mut self, device: Device, person: Option<Person>) -> Self {
        self.devices.push(FoundDevice { device, person });
        self
    }

    /// What the server behind an HTTP connection answers.
    #[must_use]
    pub fn http(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.http.insert(connection.into(), Arc::new(answer));
        self
    }

    /// What searches over an LDAP connection find.
    #[must_use]
    pub fn ldap_search(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&LdapSearch) -> Result<Vec<LdapEntry>, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.ldap.entry(connection.into()).or_default().search = Some(Arc::new(answer));
        self
    }

    /// Whether a distinguished name and a password are right, over an LDAP connection.
    #[must_use]
    pub fn ldap_bind(
        mut self,
        connection: impl Into<String>,
        answer: impl Fn(&str, &str) -> Result<bool, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.ldap.entry(connection.into()).or_default().bind = Some(Arc::new(answer));
        self
    }

    /// The names of the HTTP connections.
    pub(crate) fn http_names(&self) -> impl Iterator<Item = &String> {
        self.http.keys()
    }

    /// The names of the LDAP connections.
    pub(crate) fn ldap_names(&self) -> impl Iterator<Item = &String> {
        self.ldap.keys()
    }

    /// Connections of these names.
    pub(crate) fn connections(&self) -> Connections {
        let mut connections = Connections::default();
        for (name, answer) in &self.http {
            connections
                .http
                .insert_port(name, Arc::new(ScriptedHttp(Arc::clone(answer))));
        }
        for (name, directory) in &self.ldap {
            connections
                .ldap
                .insert_port(name, Arc::new(ScriptedLdap(directory.clone())));
        }
        connections
    }

    /// Stores with what was scripted, for one plugin of one tenant.
    pub(crate) async fn ports(&self, space: &Space) -> Result<Ports, CallError> {
        let clock: Arc<dyn ClockPort> = match self.clock {
            Some(now) => Arc::new(FixedClock::at(now)),
            None => Arc::new(SystemClock),
        };
        let kv = MemoryKv::with_clock(Arc::clone(&clock));
        for (key, value) in &self.kv {
            let write = KvWrite {
                key: key.clone(),
                value: value.clone(),
                expires_in_ms: None,
                expected: Expected::Anything,
                quota: QUOTA,
            };
            kv.write(space, write).await?;
        }
        let secrets = MemorySecrets::default();
        for (name, value) in &self.secrets {
            secrets.put(space, name, value).await?;
        }
        let inventory = MemoryInventory::default();
        for found in &self.devices {
            inventory.add(&space.tenant, found.clone());
        }
        let random: Arc<dyn RandomPort> = match self.random {
            Some(seed) => Arc::new(SeededRandom(Mutex::new(seed))),
            None => Arc::new(SystemRandom),
        };
        Ok(Ports {
            kv: Arc::new(kv),
            inventory: Arc::new(inventory),
            secrets: Arc::new(secrets),
            clock,
            random,
        })
    }
}

struct ScriptedHttp(OnRequest);

impl fmt::Debug for ScriptedHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedHttp")
    }
}

#[async_trait]
impl HttpPort for ScriptedHttp {
    async fn send(&self, _: &Space, request: HttpRequest, _: Instant) -> Result<HttpResponse, CallError> {
        (self.0)(&request)
    }
}

struct ScriptedLdap(Directory);

impl fmt::Debug for ScriptedLdap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedLdap")
    }
}

fn unscripted(what: &str) -> CallError {
    CallError::Unavailable(format!("the test does not say {what}"))
}

#[async_trait]
impl LdapPort for ScriptedLdap {
    async fn search(&self, search: LdapSearch, _: Instant) -> Result<Vec<LdapEntry>, CallError> {
        let answer = self.0.search.as_ref().ok_or_else(|| unscripted("what searches find"))?;
        let mut found = answer(&search)?;
        if search.limit > 0 {
            found.truncate(search.limit as usize);
        }
        Ok(found)
    }

    async fn bind(&self, dn: &str, password: &str, _: Instant) -> Result<bool, CallError> {
        // As a real connection does: an empty password would be an anonymous bind.
        if password.is_empty() {
            return Ok(false);
        }
        let answer = self
            .0
            .bind
            .as_ref()
            .ok_or_else(|| unscripted("which passwords are right"))?;
        answer(dn, password)
    }
}

/// SplitMix64: no secret, and the same for the same seed.
#[derive(Debug)]
struct SeededRandom(Mutex<u64>);

impl RandomPort for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let number = (mixed ^ (mixed >> 31)).to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}
