//! `clock`: the server's time.

use crate::bindings::russet::plugin::clock as wit;
use crate::journal::{HostCall, HostValue, call_now, shapeless};
use crate::state::CallState;

impl wit::Host for CallState {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.count_host_call()?;
        match call_now(self, &HostCall::ClockNow)? {
            Ok(HostValue::Time(ms)) => Ok(ms),
            _ => Err(shapeless()),
        }
    }
}
