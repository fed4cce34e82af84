//! What a plugin reaches through the host, from within a real component: each capability with its limits, its quotas and its
//! failures, and the journal that answers recorded calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod granted;
mod http;
mod kept;
mod ldap;
mod probe;
mod replay;
