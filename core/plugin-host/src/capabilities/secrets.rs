//! `secrets`: the plugin's own secrets, sealed by the server.

use russet_hooks::Secret;
use wasmtime::component::Linker;

use super::link::Interface;
use crate::Grants;
use crate::bindings::russet::plugin::secrets as wit;
use crate::journal::{HostAnswer, HostCall, HostValue, shapeless};
use crate::ports::CallError;
use crate::state::CallState;

/// The longest name, in bytes.
pub(super) const MAX_NAME: usize = 128;
/// The largest secret, in bytes.
const MAX_VALUE: usize = 16 << 10;
/// What sealing adds at most.
const OVERHEAD: usize = 256;

/// Links the granted functions.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut secrets) = Interface::of(linker, grants, "secrets")? else {
        return Ok(());
    };
    secrets.function(
        "get",
        |(name,): (String,)| {
            check_name(&name)?;
            Ok(HostCall::SecretsGet { name })
        },
        |_, answer| match answer {
            Ok(HostValue::Secret(secret)) => Ok(Ok(secret.value.map(|value| value.expose().to_vec()))),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    secrets.function(
        "put",
        |(name, value): (String, Vec<u8>)| {
            let value = Secret::new(value);
            check_name(&name)?;
            check_value(value.expose())?;
            Ok(HostCall::SecretsPut { name, value })
        },
        |_, answer| match answer {
            Ok(HostValue::Done) => Ok(Ok(())),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    secrets.function(
        "delete",
        |(name,): (String,)| {
            check_name(&name)?;
            Ok(HostCall::SecretsDelete { name })
        },
        |_, answer| match answer {
            Ok(HostValue::Flag(done)) => Ok(Ok(done)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    secrets.function(
        "seal",
        |(value,): (Vec<u8>,)| {
            let value = Secret::new(value);
            check_value(value.expose())?;
            Ok(HostCall::SecretsSeal { value })
        },
        bytes,
    )?;
    secrets.function(
        "open",
        |(sealed,): (Vec<u8>,)| {
            if sealed.len() > MAX_VALUE + OVERHEAD {
                return Err(CallError::Invalid("not sealed for this plugin".to_owned()));
            }
            Ok(HostCall::SecretsOpen { sealed })
        },
        bytes,
    )
}

fn bytes(_: &mut CallState, answer: HostAnswer) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
    match answer {
        Ok(HostValue::Bytes(bytes)) => Ok(Ok(bytes)),
        Ok(HostValue::Secret(secret)) => match secret.value {
            Some(value) => Ok(Ok(value.expose().to_vec())),
            None => Err(shapeless()),
        },
        Ok(_) => Err(shapeless()),
        Err(error) => Ok(Err(refused(error))),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), CallError> {
    // PostgreSQL has no text with a zero byte.
    if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
        return Err(CallError::Invalid(format!(
            "a name has 1 to {MAX_NAME} bytes, none of them zero"
        )));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), CallError> {
    if value.len() > MAX_VALUE {
        return Err(CallError::Invalid(format!("a secret has at most {MAX_VALUE} bytes")));
    }
    Ok(())
}

fn refused(error: CallError) -> wit::Error {
    match error {
        CallError::Invalid(text) => wit::Error::Invalid(text),
        CallError::Quota(text) => wit::Error::Quota(text),
        other => wit::Error::Unavailable(other.text().to_owned()),
    }
}
