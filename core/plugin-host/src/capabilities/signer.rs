//! `signer`: keys that the server holds for the plugin.

use wasmtime::component::Linker;

use super::link::Interface;
use super::secrets::check_name;
use crate::Grants;
use crate::bindings::russet::plugin::signer as wit;
use crate::journal::{HostAnswer, HostCall, HostValue, shapeless};
use crate::ports::CallError;
use crate::state::CallState;

/// Links the granted functions.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut signer) = Interface::of(linker, grants, "signer")? else {
        return Ok(());
    };
    signer.function(
        "hmac-sha256",
        |(secret, message): (String, Vec<u8>)| {
            check_name(&secret)?;
            Ok(HostCall::SignerHmac { secret, message })
        },
        bytes,
    )?;
    signer.function(
        "sign",
        |(key, message): (String, Vec<u8>)| {
            check_name(&key)?;
            Ok(HostCall::SignerSign { key, message })
        },
        bytes,
    )?;
    signer.function(
        "public-key",
        |(key,): (String,)| {
            check_name(&key)?;
            Ok(HostCall::SignerPublicKey { key })
        },
        bytes,
    )
}

fn bytes(_: &mut CallState, answer: HostAnswer) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
    match answer {
        Ok(HostValue::Bytes(bytes)) => Ok(Ok(bytes)),
        Ok(_) => Err(shapeless()),
        Err(CallError::Invalid(text)) => Ok(Err(wit::Error::Invalid(text))),
        Err(other) => Ok(Err(wit::Error::Unavailable(other.text().to_owned()))),
    }
}
