//! The stores of plugins: one space for each plugin of each tenant, with versions, expiry and a quota.
//!
//! Knows nothing of who may use them or how large a value may be: that is the caller's.

use jiff::Timestamp;

use crate::db::{Db, Row, from_ms, ms, ms_opt, values};
use crate::error::StoreError;
use crate::ids::TenantId;
use crate::store::Store;

/// A value of a plugin's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginValue {
    /// The value.
    pub value: Vec<u8>,
    /// Another one after each write to the key, also after it was removed and written again.
    pub version: u64,
    /// When it goes away.
    pub expires_at: Option<Timestamp>,
}

/// What a key has to be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedValue {
    /// Whatever it is.
    Anything,
    /// There is none, or it expired.
    Absent,
    /// It has this version, and has not expired.
    Version(u64),
}

/// A write to a plugin's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginValueWrite {
    /// The tenant.
    pub tenant: TenantId,
    /// The plugin.
    pub plugin: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// When it goes away.
    pub expires_at: Option<Timestamp>,
    /// What the key has to be.
    pub expected: ExpectedValue,
    /// The most keys of the space.
    pub max_keys: u64,
    /// The most bytes of the space, keys and values.
    pub max_bytes: u64,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginValueWritten {
    /// It is stored.
    Stored,
    /// The key was not as expected; nothing changed.
    Unexpected,
    /// The space would hold more than it may; nothing changed.
    Full {
        /// How many keys it would hold.
        keys: u64,
        /// How many bytes it would hold.
        bytes: u64,
    },
}

/// What a space holds, expired values included that nobody cleared away yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    version: i64,
    keys: i64,
    bytes: i64,
}

impl Store {
    /// The value of a key that has not expired.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plugin_value(
        &self,
        tenant: TenantId,
        plugin: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<PluginValue>, StoreError> {
        let row = self
            .read()
            .one(
                "SELECT value, version, expires_at FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2 AND key = $3 \
                 AND (expires_at IS NULL OR expires_at > $4)",
                values![tenant, plugin, key.as_bytes().to_vec(), ms(now)],
            )
            .await?;
        row.map(|row| {
            Ok(PluginValue {
                value: row.get(0)?,
                version: row.get::<i64>(1)?.cast_unsigned(),
                expires_at: row.time_opt(2)?,
            })
        })
        .transpose()
    }

    /// Sets a value if the key is as expected and the quota allows it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_plugin_value(
        &self,
        write: PluginValueWrite,
        now: Timestamp,
    ) -> Result<PluginValueWritten, StoreError> {
        self.write((write, now), |db, (write, now)| {
            Box::pin(async move { put(db, write, *now).await })
        })
        .await
    }

    /// Removes a key. Whether it was there and had not expired.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_plugin_value(
        &self,
        tenant: TenantId,
        plugin: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (tenant, plugin.to_owned(), key.as_bytes().to_vec(), now);
        self.write(input, |db, (tenant, plugin, key, now)| {
            Box::pin(async move {
                let held = lock(db, *tenant, plugin).await?;
                let deleted = db
                    .one(
                        "DELETE FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2 AND key = $3 \
                         RETURNING CAST(length(value) AS BIGINT), expires_at",
                        values![*tenant, plugin.clone(), key.clone()],
                    )
                    .await?;
                let Some(row) = deleted else { return Ok(false) };
                let size = key.len() as i64 + row.get::<i64>(0)?;
                set_held(db, *tenant, plugin, held.keys - 1, held.bytes - size).await?;
                Ok(row.time_opt(1)?.is_none_or(|at| at > *now))
            })
        })
        .await
    }

    /// Keys that start so and have not expired, in the order of their bytes, after this one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plugin_keys(
        &self,
        tenant: TenantId,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        // Text is never encoded with the byte 0xff: all that begins with the prefix lies before the prefix and that byte.
        let mut end = prefix.as_bytes().to_vec();
        end.push(0xff);
        let rows = self
            .read()
            .all(
                "SELECT key FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2 AND key >= $3 AND key < $4 AND key > $5 \
                 AND (expires_at IS NULL OR expires_at > $6) ORDER BY key LIMIT $7",
                values![
                    tenant,
                    plugin,
                    prefix.as_bytes().to_vec(),
                    end,
                    after.unwrap_or_default().as_bytes().to_vec(),
                    ms(now),
                    i64::from(limit),
                ],
            )
            .await?;
        rows.iter()
            .map(|row: &Row| String::from_utf8(row.get(0)?).map_err(|_| StoreError::Corrupt("key")))
            .collect()
    }

    /// Deletes values that expired; how many.
    ///
    /// # Errors
    /// When the database fails; what was deleted until then stays deleted.
    pub async fn purge_plugin_values(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let cleared = self
                .write(now, |db, now| {
                    Box::pin(async move {
                        let space = db
                            .one(
                                "SELECT tenant_id, plugin FROM plugin_kv \
                                 WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT 1",
                                values![ms(*now)],
                            )
                            .await?;
                        let Some(space) = space else { return Ok(0) };
                        let (tenant, plugin) = (TenantId(space.get(0)?), space.get::<String>(1)?);
                        let held = lock(db, tenant, &plugin).await?;
                        let (cleared, _) = clear(db, tenant, &plugin, held, *now).await?;
                        Ok(cleared)
                    })
                })
                .await?;
            if cleared == 0 {
                return Ok(total);
            }
            total += cleared;
        }
    }
}

/// The space of a plugin, with a fresh version: nobody else writes to it until the transaction ends.
async fn lock(db: &Db, tenant: TenantId, plugin: &str) -> Result<Held, StoreError> {
    let row = db
        .row(
            "INSERT INTO plugin_spaces (tenant_id, plugin, kv_version, kv_keys, kv_bytes) VALUES ($1, $2, 1, 0, 0) \
             ON CONFLICT (tenant_id, plugin) DO UPDATE SET kv_version = plugin_spaces.kv_version + 1 \
             RETURNING kv_version, kv_keys, kv_bytes",
            values![tenant, plugin],
        )
        .await?;
    Ok(Held {
        version: row.get(0)?,
        keys: row.get(1)?,
        bytes: row.get(2)?,
    })
}

async fn set_held(db: &Db, tenant: TenantId, plugin: &str, keys: i64, bytes: i64) -> Result<(), StoreError> {
    db.exec(
        "UPDATE plugin_spaces SET kv_keys = $3, kv_bytes = $4 WHERE tenant_id = $1 AND plugin = $2",
        values![tenant, plugin, keys, bytes],
    )
    .await
    .map(|_| ())
}

/// Clears away up to 1,000 expired values of a locked space; how many, and what it holds then.
async fn clear(db: &Db, tenant: TenantId, plugin: &str, held: Held, now: Timestamp) -> Result<(u64, Held), StoreError> {
    let gone = db
        .all(
            "DELETE FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2 AND key IN \
             (SELECT key FROM plugin_kv WHERE tenant_id = $1 AND plugin = $2 \
              AND expires_at IS NOT NULL AND expires_at <= $3 ORDER BY expires_at LIMIT 1000) \
             RETURNING CAST(length(key) + length(value) AS BIGINT)",
            values![tenant, plugin, ms(now)],
        )
        .await?;
    let mut after = held;
    for row in &gone {
        after.keys -= 1;
        after.bytes -= row.get::<i64>(0)?;
    }
    if !gone.is_empty() {
        set_held(db, tenant, plugin, after.keys, after.bytes).await?;
    }
    Ok((gone.len() as u64, after))
}

async fn put(db: &Db, write: &PluginValueWrite, now: Timestamp) -> Result<PluginValueWritten, StoreError> {
    let (tenant, plugin) = (write.tenant, write.plugin.as_str());
    let key = write.key.as_bytes().to_vec();
    let mut held = lock(db, tenant, plugin).await?;
    let mut stored = stored(db, tenant, plugin, &key).await?;
    let version = stored
        .filter(|stored| stored.expires_at.is_none_or(|at| at > now))
        .map(|stored| stored.version);
    let as_expected = match write.expected {
        ExpectedValue::Anything => true,
        ExpectedValue::Absent => version.is_none(),
        ExpectedValue::Version(expected) => version == Some(expected.cast_signed()),
    };
    if !as_expected {
        return Ok(PluginValueWritten::Unexpected);
    }
    let size = (key.len() + write.value.len()) as i64;
    loop {
        let (keys, bytes) = match stored {
            Some(stored) => (held.keys, held.bytes - stored.size - key.len() as i64 + size),
            None => (held.keys + 1, held.bytes + size),
        };
        let fits = |value: i64, most: u64| u64::try_from(value).is_ok_and(|value| value <= most);
        if fits(keys, write.max_keys) && fits(bytes, write.max_bytes) {
            db.exec(
                "INSERT INTO plugin_kv (tenant_id, plugin, key, value, version, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, plugin, key) DO UPDATE SET \
                 value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
                values![
                    tenant,
                    plugin,
                    key,
                    write.value.clone(),
                    held.version,
                    ms_opt(write.expires_at)
                ],
            )
            .await?;
            set_held(db, tenant, plugin, keys, bytes).await?;
            return Ok(PluginValueWritten::Stored);
        }
        // Full: what expired makes room first.
        let (cleared, after) = clear(db, tenant, plugin, held, now).await?;
        if cleared == 0 {
            return Ok(PluginValueWritten::Full {
                keys: keys.cast_unsigned(),
                bytes: bytes.cast_unsigned(),
            });
        }
        held = after;
        stored = self::stored(db, tenant, plugin, &key).await?;
    }
}

#[derive(Clone, Copy)]
struct Stored {
    version: i64,
    /// The value's.
    size: i64,
    expires_at: Option<Timestamp>,
}

async fn stored(db: &Db, tenant: TenantId, plugin: &str, key: &[u8]) -> Result<Option<Stored>, StoreError> {
    let row = db
        .one(
            "SELECT version, CAST(length(value) AS BIGINT), expires_at FROM plugin_kv \
             WHERE tenant_id = $1 AND plugin = $2 AND key = $3",
            values![tenant, plugin, key.to_vec()],
        )
        .await?;
    row.map(|row| {
        Ok(Stored {
            version: row.get(0)?,
            size: row.get(1)?,
            expires_at: row.get::<Option<i64>>(2)?.map(from_ms).transpose()?,
        })
    })
    .transpose()
}
