//! `escrow-secret`: the secret that an escrow policy is asked about.

use crate::bindings::russet::plugin::escrow_secret as wit;
use crate::state::{CallState, Subject};

impl wit::Host for CallState {
    fn read(&mut self) -> wasmtime::Result<Option<Vec<u8>>> {
        self.count_host_call()?;
        Ok(match &self.subject {
            Subject::Escrow(request) => request.secret.as_ref().map(|secret| secret.expose().to_vec()),
            _ => None,
        })
    }
}
