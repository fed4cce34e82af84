//! `settings`: what the operator set for the plugin.

use crate::bindings::russet::plugin::settings as wit;
use crate::state::CallState;

impl wit::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<String> {
        self.count_host_call()?;
        Ok(self.plugin.settings.clone())
    }
}
