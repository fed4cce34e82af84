//! `inventory`: what the server knows of the tenant's devices. Devices are handed out as resources, like the one that a call
//! is about.

use wasmtime::component::Linker;

use super::link::Interface;
use crate::Grants;
use crate::bindings::russet::plugin::inventory as wit;
use crate::journal::{HostCall, HostValue, shapeless};
use crate::ports::{CallError, FoundDevice};
use crate::state::CallState;

/// The longest name or value that is looked for, in characters.
const MAX_TEXT: usize = 256;
/// The most devices of one answer.
const MAX_DEVICES: u32 = 1_000;

type ByAttribute = (String, String, Option<String>, u32);

/// Links the granted functions.
pub(super) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let Some(mut inventory) = Interface::of(linker, grants, "inventory")? else {
        return Ok(());
    };
    inventory.function(
        "find-device",
        |(name,): (String,)| {
            check(&name, "the name")?;
            Ok(HostCall::FindDevice { name })
        },
        |state, answer| match answer {
            Ok(HostValue::Device(None)) => Ok(Ok(None)),
            Ok(HostValue::Device(Some(found))) => Ok(Ok(Some(handed_out(state, *found)?))),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    inventory.function(
        "devices-with-attribute",
        |(name, value, after, limit): ByAttribute| {
            check(&name, "the attribute's name")?;
            if !value.is_empty() {
                check(&value, "the attribute's value")?;
            }
            if let Some(after) = &after {
                check(after, "the enrollment identifier")?;
            }
            Ok(HostCall::DevicesWithAttribute {
                name,
                value,
                after,
                limit: limit.min(MAX_DEVICES),
            })
        },
        |state, answer| match answer {
            Ok(HostValue::Devices(found)) => Ok(Ok(all(state, found)?)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )?;
    inventory.function(
        "devices-of-person",
        |(user_name,): (String,)| {
            check(&user_name, "the user name")?;
            Ok(HostCall::DevicesOfPerson { user_name })
        },
        |state, answer| match answer {
            Ok(HostValue::Devices(found)) => Ok(Ok(all(state, found)?)),
            Ok(_) => Err(shapeless()),
            Err(error) => Ok(Err(refused(error))),
        },
    )
}

fn check(text: &str, what: &str) -> Result<(), CallError> {
    // PostgreSQL has no text with a zero byte.
    if text.is_empty() || text.chars().count() > MAX_TEXT || text.contains('\0') {
        return Err(CallError::Invalid(format!(
            "{what} has 1 to {MAX_TEXT} characters, none of them zero"
        )));
    }
    Ok(())
}

fn all(state: &mut CallState, found: Vec<FoundDevice>) -> wasmtime::Result<Vec<wit::Found>> {
    found.into_iter().map(|found| handed_out(state, found)).collect()
}

fn handed_out(state: &mut CallState, found: FoundDevice) -> wasmtime::Result<wit::Found> {
    let (device, person) = state.found.hand_out(found)?;
    Ok(wit::Found { device, person })
}

fn refused(error: CallError) -> wit::Error {
    match error {
        CallError::Invalid(text) => wit::Error::Invalid(text),
        other => wit::Error::Unavailable(other.text().to_owned()),
    }
}
