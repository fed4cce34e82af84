//! Runs a plugin in the real host, with scripted capabilities: what a plugin does there, it does on a server.
//!
//! ```no_run
//! use russet_plugin_test::{Device, GateVerdict, Plugin, json, plain};
//!
//! # async fn example() -> Result<(), russet_plugin_test::Error> {
//! let plugin = Plugin::build_here()? // the crate that is tested
//!     .settings(json!({"prefix": "C02"}))
//!     .start()
//!     .await?;
//! let mut request = plain::enrollment();
//! request.device.serial_number = Some("C02XK1".to_owned());
//! let answer = plugin.gate(request).await?;
//! assert_eq!(answer.verdict, Ok(GateVerdict::Allow(Default::default())));
//! assert!(answer.log.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! - [`Plugin`] is a built plugin with its settings, its grants and what the host answers it (the clock, its store, secrets,
//!   devices, HTTP and LDAP connections); [`Plugin::start`] loads it as a server does, and [`Running`] calls its hooks.
//! - [`plain`] has an input for each hook to begin with, and [`Question`] is an input of any hook, read from JSON.
//! - [`cases`] runs the test cases of a file, without any Rust: that is what `russet plugin test` does.
//! - [`replay`] asks recorded decisions again.
//!
//! Nothing here reaches a network or a server. What the server does with a verdict or an effect is not in here either.

mod answer;
pub mod cases;
mod log;
pub mod plain;
mod plugin;
mod question;
pub mod replay;
mod running;
mod script;
mod script_file;

pub use answer::Shown;
pub use log::LogLine;
pub use plugin::{Error, Plugin};
pub use question::{InputError, Question};
pub use running::{Called, Running};
pub use russet_hooks::{
    Answers, BetaProgram, CommandRequest, CommandStage, CommandVerdict, DecisionRecord, Denial, Device,
    DirectoryRequest, DirectoryVerdict, Effect, EffectAction, EnrollmentMethod, EnrollmentRequest, EscrowKind,
    EscrowOperation, EscrowRequest, EscrowVerdict, Event, Explanation, FaultKind, GateStage, GateVerdict, HookInput,
    HookKind, Ownership, Person, PlanRequest, PlannedDeclaration, PluginFault, RenderedProfile, Requester,
    ScheduledRun, Secret, SignIn, SoftwareUpdate, TemplateRequest, Usage,
};
pub use russet_plugin_host::ports::{CallError, FoundDevice, HttpRequest, HttpResponse, LdapEntry, LdapSearch};
pub use russet_plugin_host::{Grants, Inspection, Limits};
pub use script::Script;
pub use script_file::{HttpRule, LdapFile, LdapRule, ScriptFile};
pub use serde_json::json;
