//! What the host asks of the server on behalf of a plugin: one trait for each capability that needs something outside this
//! crate, and implementations in memory for tests.
//!
//! Knows neither SQL nor HTTP. Grants, sizes, host-call budgets, deadlines and the journal are the caller's: a port is asked
//! only what a plugin may ask.

pub mod memory;
mod system;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use russet_hooks::{Device, Person};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use self::system::{SystemClock, SystemRandom};
use crate::journal::base64_bytes;

/// Whose data it is: what one plugin of one tenant keeps, no other plugin and no other tenant reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space {
    /// The name of the tenant.
    pub tenant: Arc<str>,
    /// The name of the plugin, which all of its revisions share.
    pub plugin: Arc<str>,
}

impl Space {
    /// The space of a plugin of a tenant.
    pub fn new(tenant: impl Into<Arc<str>>, plugin: impl Into<Arc<str>>) -> Self {
        Self {
            tenant: tenant.into(),
            plugin: plugin.into(),
        }
    }
}

/// Why a call of a plugin to the host failed, as the plugin is told. The texts are for the plugin's author and never hold a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "text", rename_all = "kebab-case")]
pub enum CallError {
    /// The connection is not among the plugin's grants.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The request is not well formed.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A quota is used up.
    #[error("quota: {0}")]
    Quota(String),
    /// The address is one that the operator did not allow.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The other side can not be reached, or did not answer in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The answer is larger than it may be.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The other side refused the request.
    #[error("refused: {0}")]
    Refused(String),
}

impl CallError {
    /// The text without the kind.
    pub fn text(&self) -> &str {
        match self {
            Self::NotGranted(text)
            | Self::Invalid(text)
            | Self::Quota(text)
            | Self::Forbidden(text)
            | Self::Unavailable(text)
            | Self::TooLarge(text)
            | Self::Refused(text) => text,
        }
    }
}

/// A value of a plugin's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// The value.
    #[serde(with = "base64_bytes")]
    pub value: Vec<u8>,
    /// Another one after each write to the key, also after it was removed and written again.
    pub version: u64,
    /// When it goes away, in milliseconds since 1970-01-01T00:00:00Z.
    pub expires_at_ms: Option<u64>,
}

/// What a key has to be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Anything,
    /// There is none.
    Absent,
    /// It has this version.
    Version(u64),
}

/// How much a space may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvQuota {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A write to a plugin's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWrite {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// After how many milliseconds it goes away.
    pub expires_in_ms: Option<u64>,
    /// What the key has to be.
    pub expected: Expected,
    /// What the space may hold with it.
    pub quota: KvQuota,
}

/// The stores of plugins.
#[async_trait]
pub trait KvPort: fmt::Debug + Send + Sync {
    /// The value of a key that has not expired.
    ///
    /// # Errors
    /// `unavailable`.
    async fn get(&self, space: &Space, key: &str) -> Result<Option<KvEntry>, CallError>;

    /// Writes durably, in one step with the check of what is expected. Whether it wrote.
    ///
    /// # Errors
    /// `quota` or `unavailable`; nothing was written then.
    async fn write(&self, space: &Space, write: KvWrite) -> Result<bool, CallError>;

    /// Removes a key. Whether it was there.
    ///
    /// # Errors
    /// `unavailable`.
    async fn delete(&self, space: &Space, key: &str) -> Result<bool, CallError>;

    /// Keys that start so, in the order of their bytes, after this one.
    ///
    /// # Errors
    /// `unavailable`.
    async fn keys(
        &self,
        space: &Space,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, CallError>;
}

/// A device that was found, with its person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDevice {
    /// The device.
    pub device: Device,
    /// The person behind its enrollment, if known.
    pub person: Option<Person>,
}

/// What the server knows of a tenant's enrolled devices.
#[async_trait]
pub trait InventoryPort: fmt::Debug + Send + Sync {
    /// The enrolled device with this enrollment identifier, serial number or UDID.
    ///
    /// # Errors
    /// `invalid` if several devices claim the name, or `unavailable`.
    async fn find_device(&self, tenant: &str, name: &str) -> Result<Option<FoundDevice>, CallError>;

    /// Enrolled devices whose attribute has this value, by enrollment identifier, after this one.
    ///
    /// # Errors
    /// `invalid` or `unavailable`.
    async fn devices_with_attribute(
        &self,
        tenant: &str,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<FoundDevice>, CallError>;

    /// Enrolled devices of the person with this user name, by enrollment identifier; at most `limit`.
    ///
    /// # Errors
    /// `unavailable`.
    async fn devices_of_person(&self, tenant: &str, user_name: &str, limit: u32)
    -> Result<Vec<FoundDevice>, CallError>;
}

/// Secrets and keys of plugins, sealed by the server.
#[async_trait]
pub trait SecretsPort: fmt::Debug + Send + Sync {
    /// A secret.
    ///
    /// # Errors
    /// `unavailable`.
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CallError>;

    /// Keeps a secret, whatever was there.
    ///
    /// # Errors
    /// `quota` or `unavailable`.
    async fn put(&self, space: &Space, name: &str, value: &[u8]) -> Result<(), CallError>;

    /// Removes a secret. Whether it was there.
    ///
    /// # Errors
    /// `unavailable`.
    async fn delete(&self, space: &Space, name: &str) -> Result<bool, CallError>;

    /// Seals bytes for the space.
    ///
    /// # Errors
    /// `unavailable`.
    async fn seal(&self, space: &Space, value: &[u8]) -> Result<Vec<u8>, CallError>;

    /// Opens what was sealed for the space.
    ///
    /// # Errors
    /// `invalid` if it was not, or `unavailable`.
    async fn open(&self, space: &Space, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CallError>;

    /// The private half (RFC 8032 seed) of a signing key: the one that is kept, or `fresh`, which is kept from now on.
    ///
    /// # Errors
    /// `invalid` if the space has too many keys, or `unavailable`.
    async fn signing_key(
        &self,
        space: &Space,
        name: &str,
        fresh: Zeroizing<[u8; 32]>,
    ) -> Result<Zeroizing<[u8; 32]>, CallError>;
}

/// The time.
pub trait ClockPort: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Random numbers.
pub trait RandomPort: fmt::Debug + Send + Sync {
    /// Fills the bytes with numbers fit for keys.
    ///
    /// # Errors
    /// `unavailable` when the system has none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError>;
}

/// A request over a named HTTP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The name of the connection.
    pub connection: String,
    /// The method.
    pub method: String,
    /// Path and query below the connection's base address.
    pub path: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
}

/// An answer over a named HTTP connection, of whatever status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
}

/// One named HTTP connection.
#[async_trait]
pub trait HttpPort: fmt::Debug + Send + Sync {
    /// Sends a request and waits for the whole answer, until the deadline at the latest.
    ///
    /// # Errors
    /// Any of [`CallError`].
    async fn send(&self, space: &Space, request: HttpRequest, deadline: Instant) -> Result<HttpResponse, CallError>;
}

/// How deep a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdapScope {
    /// The base itself.
    Base,
    /// What is directly below it.
    OneLevel,
    /// It and all below it.
    Subtree,
}

/// A search over a named LDAP connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LdapSearch {
    /// The name of the connection.
    pub connection: String,
    /// Where to search; the connection's base if absent.
    pub base: Option<String>,
    /// How deep.
    pub scope: LdapScope,
    /// The filter with places for values.
    pub filter: String,
    /// The values.
    pub values: Vec<String>,
    /// The attributes to return.
    pub attributes: Vec<String>,
    /// The most entries; 0 for the connection's own cap.
    pub limit: u32,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LdapEntry {
    /// The distinguished name.
    pub dn: String,
    /// The attributes with their values.
    pub attributes: Vec<(String, Vec<String>)>,
}

/// One named LDAP connection.
#[async_trait]
pub trait LdapPort: fmt::Debug + Send + Sync {
    /// Searches with the connection's own credentials, until the deadline at the latest.
    ///
    /// # Errors
    /// `invalid`, `unavailable` or `refused`.
    async fn search(&self, search: LdapSearch, deadline: Instant) -> Result<Vec<LdapEntry>, CallError>;

    /// Whether the directory accepts these credentials.
    ///
    /// # Errors
    /// `invalid`, `unavailable` or `refused`.
    async fn bind(&self, dn: &str, password: &str, deadline: Instant) -> Result<bool, CallError>;
}

/// Everything that the host asks of the server. Clones share it.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The stores of plugins.
    pub kv: Arc<dyn KvPort>,
    /// The tenant's devices.
    pub inventory: Arc<dyn InventoryPort>,
    /// Secrets and keys.
    pub secrets: Arc<dyn SecretsPort>,
    /// The time.
    pub clock: Arc<dyn ClockPort>,
    /// Random numbers.
    pub random: Arc<dyn RandomPort>,
}

impl Ports {
    /// Stores in memory, no devices, the system's clock and random numbers: for tests and benches.
    pub fn memory() -> Self {
        Self {
            kv: Arc::new(memory::MemoryKv::default()),
            inventory: Arc::new(memory::MemoryInventory::default()),
            secrets: Arc::new(memory::MemorySecrets::default()),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }
}
