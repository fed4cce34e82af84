//! Rolling a revision out: compared, given a share, promoted, watched, taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod compared;
mod granted;
mod promoted;
mod support;
mod undecided;
