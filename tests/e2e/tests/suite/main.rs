//! The end-to-end tests: `russet serve` as a process, simulated devices over TLS, an administrator at the API.
//!
//! One executable, because each one would link all that the tests use; one file a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_identity;
mod bad_input;
mod cli;
mod commands;
mod contained;
mod examples;
mod first_light;
mod gate;
mod hot_swap;
mod nodes;
mod people;
mod push;
mod restart;
mod structure;
