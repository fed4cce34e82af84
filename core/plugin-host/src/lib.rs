//! Runs plugins: WebAssembly components that implement the hooks of `russet-hooks`.
//!
//! This is the only crate that knows wasmtime. It reads a plugin's manifest, checks it against its imports and against
//! what the operator granted, compiles it, calls it within limits, and swaps it for another revision while requests are
//! running. It knows neither HTTP nor SQL: revisions are kept by whoever implements [`RevisionStore`], and what a verdict
//! means is for the engine.
//!
//! # Invariants
//!
//! - A plugin reaches nothing that its grants do not name ([`Grants`], and a linker without anything else).
//! - Every call has a fresh instance; nothing of one call is seen by the next.
//! - Every call ends: by its own processor time, by the deadline, or with an answer.
//! - A request sees one generation from its first hook to its last ([`PluginHost`]).
//! - A plugin that can not be loaded fails its hooks; it is never silently left out.

mod answers;
mod bindings;
mod capabilities;
mod checks;
mod component;
mod context;
mod contract;
mod engine;
mod exports;
mod fault;
mod found;
mod grants;
mod hooks;
mod host;
mod inspect;
pub mod journal;
mod limits;
mod load;
mod manager;
mod manifest;
mod memory_store;
pub mod package;
mod plugin;
pub mod ports;
mod prepared;
mod revisions;
mod rollout;
mod settings;
mod state;
#[cfg(feature = "testing")]
pub mod testing;

pub use capabilities::{
    Connections, HttpAuthentication, HttpConfigError, HttpConnection, HttpConnections, LdapConfigError, LdapConnection,
    LdapConnections, NameResolver, NamedConnections, SystemResolver, TrustError,
};
pub use component::{ComponentFile, component_digest};
pub use contract::{Contract, Contracts, Deprecation, ServedContract};
pub use engine::{EngineConfig, EngineError, PluginEngine};
pub use grants::{ConnectionGrants, GrantError, Grants, LimitGrants, MissingGrant};
pub use host::{ActivePlugin, PluginHost, UnusablePlugin};
pub use inspect::{InspectError, Inspection, MAX_COMPONENT, inspect, inspect_for};
/// A network of addresses that an HTTP connection may go to although it is not public.
pub use ipnet::IpNet;
pub use limits::Limits;
pub use load::{LoadError, PluginSource, revision_digest};
pub use manager::{
    GrantRequest, InstallError, InstallReport, InstallRequest, InstalledState, ListDiff, LoadFailure, LoadReport,
    NodeStatus, OpenRollout, PendingRevision, PluginManager, PluginState, PluginStatus, PromoteRequest, Promoted,
    RevisionDiff, RevisionSummary, RolloutError, RolloutRequest, RolloutStatus, Staging,
};
pub use manifest::{CAPABILITIES, MANIFEST_SECTION, Manifest, ManifestError, ManifestSchedule, is_plugin_name};
pub use memory_store::MemoryRevisions;
pub use plugin::LoadedPlugin;
pub use revisions::{
    Activation, ActiveRevisions, Actor, NewRevision, Quarantined, RevisionEvent, RevisionState, RevisionStore,
    RevisionStoreError, StoredPlugin, StoredRevision,
};
pub use rollout::{
    BreakerSettings, Calls, ComparisonReport, Counted, CountedByNode, Difference, GateFailure, Gates, NewRollout, Node,
    RolloutPhase, RolloutStore, Sample, StagedRollout, StoredRollout,
};
pub use settings::{SettingsError, SettingsProblem, check_settings};
