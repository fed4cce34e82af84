//! Ports that keep everything in memory: for tests of plugins, of this crate, and for benches. They behave as the store
//! does, and forget when they are dropped.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    CallError, ClockPort, Expected, FoundDevice, InventoryPort, KvEntry, KvPort, KvWrite, SecretsPort, Space,
    SystemClock,
};

/// The most secrets of a space.
const MAX_SECRETS: usize = 100;
/// The most signing keys of a space.
const MAX_KEYS: usize = 16;

/// Nothing panics while a lock is held; if it did, the data would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stores of plugins.
#[derive(Debug)]
pub struct MemoryKv {
    clock: Arc<dyn ClockPort>,
    spaces: Mutex<HashMap<Space, MemorySpace>>,
}

#[derive(Debug, Default)]
struct MemorySpace {
    version: u64,
    entries: BTreeMap<String, KvEntry>,
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl MemoryKv {
    /// Stores whose values expire by this clock.
    pub fn with_clock(clock: Arc<dyn ClockPort>) -> Self {
        Self {
            clock,
            spaces: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default()
    }

    fn with<T>(&self, space: &Space, work: impl FnOnce(&mut MemorySpace, u64) -> T) -> T {
        let now = self.now_ms();
        let mut spaces = lock(&self.spaces);
        let space = spaces.entry(space.clone()).or_default();
        space
            .entries
            .retain(|_, entry| entry.expires_at_ms.is_none_or(|at| at > now));
        work(space, now)
    }
}

#[async_trait]
impl KvPort for MemoryKv {
    async fn get(&self, space: &Space, key: &str) -> Result<Option<KvEntry>, CallError> {
        Ok(self.with(space, |space, _| space.entries.get(key).cloned()))
    }

    async fn write(&self, space: &Space, write: KvWrite) -> Result<bool, CallError> {
        self.with(space, |space, now| {
            let current = space.entries.get(&write.key).map(|entry| entry.version);
            let expected = match write.expected {
                Expected::Anything => true,
                Expected::Absent => current.is_none(),
                Expected::Version(version) => current == Some(version),
            };
            if !expected {
                return Ok(false);
            }
            let others = space.entries.iter().filter(|(key, _)| **key != write.key);
            let (keys, bytes) = others.fold(
                (1, write.key.len() + write.value.len()),
                |(keys, bytes), (key, entry)| (keys + 1, bytes + key.len() + entry.value.len()),
            );
            if keys > write.quota.keys || bytes as u64 > write.quota.bytes {
                return Err(CallError::Quota(format!(
                    "the space would hold {keys} keys with {bytes} bytes; it may hold {} with {}",
                    write.quota.keys, write.quota.bytes
                )));
            }
            space.version += 1;
            let entry = KvEntry {
                value: write.value,
                version: space.version,
                expires_at_ms: write.expires_in_ms.map(|ms| now.saturating_add(ms)),
            };
            space.entries.insert(write.key, entry);
            Ok(true)
        })
    }

    async fn delete(&self, space: &Space, key: &str) -> Result<bool, CallError> {
        Ok(self.with(space, |space, _| space.entries.remove(key).is_some()))
    }

    async fn keys(
        &self,
        space: &Space,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, CallError> {
        Ok(self.with(space, |space, _| {
            let keys = space.entries.keys().filter(|key| key.starts_with(prefix));
            keys.filter(|key| after.is_none_or(|after| key.as_str() > after))
                .take(limit as usize)
                .cloned()
                .collect()
        }))
    }
}

/// Devices of tenants.
#[derive(Debug, Default)]
pub struct MemoryInventory {
    devices: Mutex<BTreeMap<(String, String), FoundDevice>>,
}

impl MemoryInventory {
    /// Adds a device, or replaces the one with the same enrollment identifier, which it has to have to be found again.
    pub fn add(&self, tenant: &str, found: FoundDevice) {
        let id = found.device.enrollment_id.clone().unwrap_or_default();
        lock(&self.devices).insert((tenant.to_owned(), id), found);
    }

    fn of(&self, tenant: &str, wanted: impl Fn(&FoundDevice) -> bool) -> Vec<FoundDevice> {
        let devices = lock(&self.devices);
        let of_tenant = devices.iter().filter(|((owner, _), _)| owner == tenant);
        of_tenant
            .map(|(_, found)| found)
            .filter(|found| wanted(found))
            .cloned()
            .collect()
    }
}

#[async_trait]
impl InventoryPort for MemoryInventory {
    async fn find_device(&self, tenant: &str, name: &str) -> Result<Option<FoundDevice>, CallError> {
        let mut found = self.of(tenant, |found| {
            let device = &found.device;
            [&device.enrollment_id, &device.serial_number, &device.udid]
                .into_iter()
                .flatten()
                .any(|known| known == name)
        });
        if found.len() > 1 {
            return Err(CallError::Invalid("several devices have this name".to_owned()));
        }
        Ok(found.pop())
    }

    async fn devices_with_attribute(
        &self,
        tenant: &str,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<FoundDevice>, CallError> {
        let mut found = self.of(tenant, |found| {
            let id = found.device.enrollment_id.as_deref().unwrap_or_default();
            found.device.attributes.get(name).is_some_and(|known| known == value)
                && after.is_none_or(|after| id > after)
        });
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn devices_of_person(
        &self,
        tenant: &str,
        user_name: &str,
        limit: u32,
    ) -> Result<Vec<FoundDevice>, CallError> {
        let mut found = self.of(tenant, |found| {
            found
                .person
                .as_ref()
                .is_some_and(|person| person.user_name == user_name)
        });
        found.truncate(limit as usize);
        Ok(found)
    }
}

type Named<T> = Mutex<HashMap<Space, BTreeMap<String, T>>>;

/// Secrets and keys of plugins, under a key that is made for this value and gone with it.
#[derive(Default)]
pub struct MemorySecrets {
    secrets: Named<Zeroizing<Vec<u8>>>,
    keys: Named<Zeroizing<[u8; 32]>>,
    cipher: Mutex<Option<Arc<RandomizedNonceKey>>>,
}

impl fmt::Debug for MemorySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemorySecrets(..)")
    }
}

fn no_cipher<E>(_: E) -> CallError {
    CallError::Unavailable("no key to seal with".to_owned())
}

/// Length-prefixed, so that no two spaces have the same bytes.
fn binding(space: &Space) -> Vec<u8> {
    let mut bytes = (space.tenant.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(space.tenant.as_bytes());
    bytes.extend_from_slice(space.plugin.as_bytes());
    bytes
}

impl MemorySecrets {
    fn cipher(&self) -> Result<Arc<RandomizedNonceKey>, CallError> {
        let mut cipher = lock(&self.cipher);
        if let Some(cipher) = cipher.as_ref() {
            return Ok(Arc::clone(cipher));
        }
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut()).map_err(no_cipher)?;
        let fresh = Arc::new(RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(no_cipher)?);
        *cipher = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

#[async_trait]
impl SecretsPort for MemorySecrets {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        Ok(lock(&self.secrets)
            .get(space)
            .and_then(|space| space.get(name))
            .cloned())
    }

    async fn put(&self, space: &Space, name: &str, value: &[u8]) -> Result<(), CallError> {
        let mut secrets = lock(&self.secrets);
        let secrets = secrets.entry(space.clone()).or_default();
        if secrets.len() >= MAX_SECRETS && !secrets.contains_key(name) {
            return Err(CallError::Quota(format!("the space may hold {MAX_SECRETS} secrets")));
        }
        secrets.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
        Ok(())
    }

    async fn delete(&self, space: &Space, name: &str) -> Result<bool, CallError> {
        let mut secrets = lock(&self.secrets);
        Ok(secrets.get_mut(space).is_some_and(|space| space.remove(name).is_some()))
    }

    async fn seal(&self, space: &Space, value: &[u8]) -> Result<Vec<u8>, CallError> {
        let mut body = value.to_vec();
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(Aad::from(binding(space)), &mut body)
            .map_err(no_cipher)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend(body);
        Ok(sealed)
    }

    async fn open(&self, space: &Space, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let not_ours = || CallError::Invalid("not sealed for this plugin".to_owned());
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(not_ours)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| not_ours())?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()?
            .open_in_place(nonce, Aad::from(binding(space)), &mut body)
            .map_err(|_| not_ours())?
            .len();
        body.truncate(length);
        Ok(body)
    }

    async fn signing_key(
        &self,
        space: &Space,
        name: &str,
        fresh: Zeroizing<[u8; 32]>,
    ) -> Result<Zeroizing<[u8; 32]>, CallError> {
        let mut keys = lock(&self.keys);
        let keys = keys.entry(space.clone()).or_default();
        if let Some(key) = keys.get(name) {
            return Ok(key.clone());
        }
        if keys.len() >= MAX_KEYS {
            return Err(CallError::Invalid(format!("the space may hold {MAX_KEYS} keys")));
        }
        keys.insert(name.to_owned(), fresh.clone());
        Ok(fresh)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct FixedClock(Mutex<Timestamp>);

impl FixedClock {
    /// A clock that shows this time.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets it.
    pub fn set(&self, now: Timestamp) {
        *lock(&self.0) = now;
    }
}

impl ClockPort for FixedClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }
}
