//! `clock`: the server's time.

use crate::bindings::russet::plugin::clock as wit;
use crate::state::CallState;

impl wit::Host for CallState {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.count_host_call()?;
        Ok(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default())
    }
}
