//! What assignments to devices have in common, whatever is assigned: how the path names them, and what the statuses are.

use http::StatusCode;
use serde::Deserialize;

use crate::failure::Failure;

/// What the path names: a device, and what it is given.
#[derive(Deserialize)]
pub(super) struct Assignment {
    /// The device: its enrollment id, serial number or UDID.
    pub(super) id: String,
    /// The name of what is assigned.
    pub(super) name: String,
}

/// Assigned: the device gets it later. Nothing is to be done for one that has it already.
pub(super) fn given(anew: bool) -> StatusCode {
    if anew {
        StatusCode::ACCEPTED
    } else {
        StatusCode::NO_CONTENT
    }
}

/// Taken away: the device loses it later. `what` is what it did not have.
pub(super) fn taken(had: bool, what: &'static str) -> Result<StatusCode, Failure> {
    if had {
        Ok(StatusCode::ACCEPTED)
    } else {
        Err(Failure::not_found(what))
    }
}
