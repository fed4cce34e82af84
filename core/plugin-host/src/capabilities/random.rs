//! `random`: the server's random numbers.

use crate::bindings::russet::plugin::random as wit;
use crate::journal::{HostCall, HostValue, call_now, shapeless};
use crate::state::CallState;

/// The most bytes of one call; the rest is left out.
const MAX_BYTES: u32 = 4_096;

impl wit::Host for CallState {
    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        self.count_host_call()?;
        let count = count.min(MAX_BYTES);
        match call_now(self, &HostCall::RandomBytes { count })? {
            Ok(HostValue::Bytes(bytes)) => Ok(bytes),
            Ok(_) => Err(shapeless()),
            Err(error) => Err(wasmtime::Error::from(error)),
        }
    }
}
