//! Turns plugin crates into components: one file each, with the manifest inside.
//!
//! [`Toolchain::find`] looks for a compiler that can build for WebAssembly, [`build`] builds, and [`artifact`] tells tests
//! where the workspace's own plugins lie. The binary of the same name is a thin layer over [`build`].
//!
//! A plugin crate is a `cdylib` with a `plugin.toml` beside its `Cargo.toml`:
//!
//! ```toml
//! # name, version and description come from Cargo.toml unless they are given here.
//! hooks = ["enrollment-gate"]
//! capabilities = ["log.write", "settings.get"]
//! settings = "settings.schema.json"      # a JSON Schema of the settings; leave out if there are none
//!
//! [defaults]                             # the settings until others are given; optional
//! ```
//!
//! An observer says which events it takes, and scheduled work when it is due:
//!
//! ```toml
//! hooks = ["observer", "scheduled"]
//! events = ["enrollment.", "command.answered"]   # how the names of the kinds begin
//!
//! [[schedules]]
//! name = "sync"
//! every_minutes = 60
//!
//! [[schedules]]
//! name = "report"
//! daily_at = "03:00"                             # UTC
//! ```
//!
//! A plugin in another language has no `Cargo.toml`; its `plugin.toml` says everything, and what makes the component:
//!
//! ```toml
//! name = "some-gate"
//! version = "1.0.0"
//! hooks = ["enrollment-gate"]
//!
//! [component]
//! command = ["componentize-qjs", "--wit", "wit", "--js", "gate.js", "--sync", "--stub-wasi", "--output", "{out}"]
//! ```
//!
//! This crate knows the contract only by the names of its interfaces, and nothing of the server: whether a plugin is
//! trusted, granted what it asks for, and fit to run is the host's to decide.

mod artifact;
mod build;
mod component;
mod contract;
mod foreign;
mod manifest;
mod native;
mod project;
mod toolchain;

pub use artifact::artifact;
pub use build::{BuildError, BuildOptions, Built, build};
pub use component::{ComponentError, Interfaces};
pub use contract::{CAPABILITIES, HOOKS};
pub use manifest::{ComponentCommand, ManifestError, PluginFile, Schedule};
pub use native::{NativeTests, native_tests};
pub use project::ProjectError;
pub use toolchain::{TARGET, Toolchain, ToolchainError, Way};
