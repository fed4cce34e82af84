//! Stores of plugins.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use russet_plugin_host::ports::{CallError, Expected, KvEntry, KvPort, KvWrite, Space};
use russet_store::{ExpectedValue, PluginValue, PluginValueWrite, PluginValueWritten};

use super::{Tenants, failed};

#[derive(Debug)]
pub(super) struct StoreKv(pub(super) Tenants);

/// The longest lifetime, in milliseconds: a thousand years. What is to live longer lives for ever.
const LONGEST: u64 = 1_000 * 365 * 24 * 60 * 60 * 1_000;

/// The time in so many milliseconds, if that is a time at all.
fn later(now: Timestamp, ms: u64) -> Option<Timestamp> {
    let wait = i64::try_from(ms).ok().filter(|_| ms <= LONGEST)?;
    now.checked_add(SignedDuration::from_millis(wait)).ok()
}

fn entry(value: PluginValue) -> KvEntry {
    KvEntry {
        value: value.value,
        version: value.version,
        expires_at_ms: value
            .expires_at
            .map(|at| u64::try_from(at.as_millisecond()).unwrap_or_default()),
    }
}

#[async_trait]
impl KvPort for StoreKv {
    async fn get(&self, space: &Space, key: &str) -> Result<Option<KvEntry>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        let found = self
            .0
            .store
            .plugin_value(tenant, &space.plugin, key, Timestamp::now())
            .await
            .map_err(|error| failed(&error))?;
        Ok(found.map(entry))
    }

    async fn write(&self, space: &Space, write: KvWrite) -> Result<bool, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        let now = Timestamp::now();
        let quota = write.quota;
        let write = PluginValueWrite {
            tenant,
            plugin: space.plugin.as_ref().to_owned(),
            key: write.key,
            value: write.value,
            expires_at: write.expires_in_ms.and_then(|ms| later(now, ms)),
            expected: match write.expected {
                Expected::Anything => ExpectedValue::Anything,
                Expected::Absent => ExpectedValue::Absent,
                Expected::Version(version) => ExpectedValue::Version(version),
            },
            max_keys: quota.keys,
            max_bytes: quota.bytes,
        };
        let written = self.0.store.put_plugin_value(write, now).await;
        match written.map_err(|error| failed(&error))? {
            PluginValueWritten::Stored => Ok(true),
            PluginValueWritten::Unexpected => Ok(false),
            PluginValueWritten::Full { keys, bytes } => Err(CallError::Quota(format!(
                "the space would hold {keys} keys with {bytes} bytes; it may hold {} with {}",
                quota.keys, quota.bytes
            ))),
        }
    }

    async fn delete(&self, space: &Space, key: &str) -> Result<bool, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        self.0
            .store
            .delete_plugin_value(tenant, &space.plugin, key, Timestamp::now())
            .await
            .map_err(|error| failed(&error))
    }

    async fn keys(
        &self,
        space: &Space,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, CallError> {
        let tenant = self.0.id(&space.tenant).await?;
        self.0
            .store
            .plugin_keys(tenant, &space.plugin, prefix, after, limit, Timestamp::now())
            .await
            .map_err(|error| failed(&error))
    }
}
