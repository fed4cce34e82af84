//! Support of the end-to-end tests: the real `russet serve` as a process of its own, with its configuration, its data
//! directory and its command line; an administrator who uses the API; and a world of simulated devices around both.
//!
//! What this crate deliberately does not know: anything of the server's inside. It talks to it as devices,
//! administrators and operators do. The tests themselves are in `tests/suite`, one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "support of tests: what cannot go on ends the test and says why"
)]

mod api;
mod config;
mod front;
mod nodes;
pub mod page;
mod program;
mod server;
mod wait;
mod world;

pub use api::{Answer, ApiUser, component};
pub use config::Config;
pub use front::Front;
pub use nodes::{Database, Nodes};
pub use program::{Cli, program, russet, workspace};
pub use server::{NotStarted, TestServer, private_address};
pub use wait::{PATIENCE, eventually, soon};
pub use world::{TOPIC, World, WorldBuilder, plugin_cache, profile};
