//! The end-to-end tests: `russet serve` as a process, simulated devices over TLS, an administrator at the API.
//!
//! One executable, because each one would link all that the tests use; one file a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authors;
mod bad_identity;
mod bad_input;
mod cli;
mod commands;
mod contained;
mod declarations;
mod events;
mod examples;
mod first_light;
mod gate;
mod hot_swap;
mod importing;
mod languages;
mod metrics;
mod moving;
mod nodes;
mod operations;
mod people;
mod plugin_verbs;
mod push;
mod push_certificates;
mod queue;
mod registry;
mod registry_tokens;
mod restart;
mod rollout;
mod signing;
mod structure;
