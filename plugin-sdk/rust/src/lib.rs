//! What a plugin for the Russet device management server is written against.
//!
//! A plugin is a library crate that implements the trait of a hook and exports it with the macro of the same name:
//!
//! ```
//! use russet_plugin::Error;
//! use russet_plugin::gate::{EnrollmentGate, EnrollmentRequest, Ownership, Verdict};
//!
//! /// Only devices of the organisation may enroll.
//! pub struct CompanyOnly;
//!
//! impl EnrollmentGate for CompanyOnly {
//!     type Settings = ();
//!
//!     fn check(_settings: (), request: &EnrollmentRequest) -> Result<Verdict, Error> {
//!         Ok(match request.ownership() {
//!             Ownership::Organization => Verdict::allow(),
//!             _ => Verdict::deny("ownership", "Only devices of the company may enroll."),
//!         })
//!     }
//! }
//!
//! russet_plugin::enrollment_gate!(CompanyOnly);
//! ```
//!
//! | hook | trait | macro |
//! | --- | --- | --- |
//! | `enrollment-gate` | [`gate::EnrollmentGate`] | [`enrollment_gate!`] |
//! | `directory` | [`directory::Directory`] | [`directory!`] |
//! | `escrow-policy` | [`escrow::EscrowPolicy`] | [`escrow_policy!`] |
//! | `profile-template` | [`template::ProfileTemplate`] | [`profile_template!`] |
//! | `command-policy` | [`command::CommandPolicy`] | [`command_policy!`] |
//! | `declaration-planner` | [`planner::DeclarationPlanner`] | [`declaration_planner!`] |
//! | `observer` | [`observer::Observer`] | [`observer!`] |
//! | `scheduled` | [`scheduled::Scheduled`] | [`scheduled!`] |
//!
//! A plugin may implement several hooks. Beside its `Cargo.toml` (`crate-type = ["cdylib", "rlib"]`) lies a `plugin.toml`
//! that names its hooks and the capabilities it asks for; `russet plugin build` makes one file of all that.
//!
//! What a plugin may use, each with a grant: [`clock`], [`effects`], [`http`], [`inventory`], [`kv`], [`ldap`], [`log`],
//! [`random`], [`secrets`], [`settings`], [`signer`], and the secret of an escrow policy
//! ([`escrow::EscrowRequest::secret`]).
//!
//! Each call runs in a fresh instance: a `static` does not outlive the call. What the host knows of a device, a person or
//! a request is read through getters, and only what is read crosses the boundary.
//!
//! Outside WebAssembly the same types work in memory, so that a plugin's decisions are tested as plain Rust: build the
//! input with [`Device::builder`], [`Person::builder`], [`gate::EnrollmentRequest::builder`] and so on, and script the
//! capabilities with [`testing::Host`].
//!
//! This crate knows nothing of the server, of how answers of several plugins are combined, and of what a failure means:
//! that is the host's.

// The generated glue names the crate as a plugin sees it.
extern crate self as russet_plugin;

#[doc(hidden)]
pub mod bindings;
pub mod clock;
pub mod command;
pub mod condition;
mod device;
pub mod directory;
pub mod effects;
mod error;
pub mod escrow;
pub mod gate;
#[doc(hidden)]
pub mod glue;
pub mod http;
mod input;
pub mod inventory;
pub mod kv;
pub mod ldap;
pub mod log;
pub mod observer;
pub mod os;
mod person;
pub mod planner;
pub mod random;
mod requester;
pub mod scheduled;
pub mod secrets;
pub mod settings;
pub mod signer;
pub mod template;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use device::{Device, DeviceBuilder};
pub use error::Error;
pub use person::{Person, PersonBuilder};
pub use requester::Requester;
