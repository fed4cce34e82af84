//! `escrow-secret`: the secret that an escrow policy is asked about.

use crate::bindings::russet::plugin::escrow_secret as wit;
use crate::state::{CallState, Subject};

impl wit::Host for CallState {
    fn read(&mut self) -> wasmtime::Result<Option<Vec<u8>>> {
        self.count_host_call()?;
        // The secret gets into no journal, so the call is not kept to be made again.
        self.recorder.with(|recorded| recorded.read_unrecorded = true);
        Ok(match &self.subject {
            Subject::Escrow(request) => request.secret.as_ref().map(|secret| secret.expose().to_vec()),
            _ => None,
        })
    }
}
