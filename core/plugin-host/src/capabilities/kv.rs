//! `kv`: the plugin's own store.

use wasmtime::component::Linker;

use super::link::Interface;
use crate::Grants;
use crate::bindings::russet::plugin::kv as wit;
use crate::journal::{HostCall, HostValue, shapeless};
use crate::ports::{CallError, KvEntry};
use crate::state::CallState;

/// The longest key, in bytes.
const MAX_KEY: usize = 256;
/// The largest value, in bytes.
const MAX_VALUE: usize = 64 << 10;
/// The most keys of one answer.
const MAX_KEYS: u32 = 1_000;

type Expiring = (String, Vec<u8>, Option<u64>);
type Guarded = (String, Option<u64>, Vec<u8>, Option<u64>);

/// Links the granted functions.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut kv) = Interface::of(linker, grants, "kv")? else {
        return Ok(());
    };
    kv.function(
        "get",
        |(key,): (String,)| {
            check_key(&key)?;
            Ok(HostCall::KvGet { key })
        },
        |_, answer| match answer {
            Ok(HostValue::Entry(entry)) => Ok(Ok(entry.map(told))),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    kv.function(
        "set",
        |(key, value, expires_in_ms): Expiring| {
            check(&key, &value)?;
            Ok(HostCall::KvSet {
                key,
                value,
                expires_in_ms,
            })
        },
        |_, answer| match answer {
            Ok(HostValue::Done) => Ok(Ok(())),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    kv.function(
        "compare-and-set",
        |(key, version, value, expires_in_ms): Guarded| {
            check(&key, &value)?;
            Ok(HostCall::KvCompareAndSet {
                key,
                version,
                value,
                expires_in_ms,
            })
        },
        |_, answer| match answer {
            Ok(HostValue::Flag(done)) => Ok(Ok(done)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    kv.function(
        "delete",
        |(key,): (String,)| {
            check_key(&key)?;
            Ok(HostCall::KvDelete { key })
        },
        |_, answer| match answer {
            Ok(HostValue::Flag(done)) => Ok(Ok(done)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    kv.function(
        "keys",
        |(prefix, after, limit): (String, Option<String>, u32)| {
            if prefix.len() > MAX_KEY || after.as_ref().is_some_and(|after| after.len() > MAX_KEY) {
                return Err(CallError::Invalid(format!("a key has at most {MAX_KEY} bytes")));
            }
            check_text(&prefix)?;
            check_text(after.as_deref().unwrap_or_default())?;
            Ok(HostCall::KvKeys {
                prefix,
                after,
                limit: limit.min(MAX_KEYS),
            })
        },
        |_, answer| match answer {
            Ok(HostValue::Keys(keys)) => Ok(Ok(keys)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )
}

fn check_key(key: &str) -> Result<(), CallError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(CallError::Invalid(format!("a key has 1 to {MAX_KEY} bytes")));
    }
    check_text(key)
}

/// PostgreSQL has no text with a zero byte, so nobody has.
fn check_text(key: &str) -> Result<(), CallError> {
    if key.contains('\0') {
        return Err(CallError::Invalid("a key holds no zero byte".to_owned()));
    }
    Ok(())
}

fn check(key: &str, value: &[u8]) -> Result<(), CallError> {
    check_key(key)?;
    if value.len() > MAX_VALUE {
        return Err(CallError::Invalid(format!("a value has at most {MAX_VALUE} bytes")));
    }
    Ok(())
}

fn told(entry: KvEntry) -> wit::Entry {
    wit::Entry {
        value: entry.value,
        version: entry.version,
        expires_at_ms: entry.expires_at_ms,
    }
}

fn refused(error: CallError) -> wit::Error {
    match error {
        CallError::Invalid(text) => wit::Error::Invalid(text),
        CallError::Quota(text) => wit::Error::Quota(text),
        other => wit::Error::Unavailable(other.text().to_owned()),
    }
}
