//! The data of a Russet server: enrollments, queues, identities, escrow, plugins and decisions, on SQLite or PostgreSQL.
//!
//! This is the only crate that knows SQL. Its surface is [`Store`]: one method per operation, each of them one
//! transaction, with plain types in and out. No statement, connection, transaction or closure shows.
//!
//! It deliberately does not know what the data means on the wire (payloads are bytes, persons and attributes are JSON),
//! when a device may enroll (decisions come in as records), how a push is sent, or what time it is (every operation is
//! told).
//!
//! # Invariants
//!
//! - An operation is answered after its transaction was committed, durably (`synchronous=FULL` on SQLite); a failed
//!   one changed nothing.
//! - A poll that finds nothing to deliver writes nothing.
//! - Every row that belongs to a customer carries its tenant, and every lookup by a name from outside is within one.
//! - Secrets are sealed to their tenant, kind and row; a sealed value that is changed or moved does not open.

mod api_tokens;
mod assignments;
mod backend;
mod backup;
mod certificates;
mod challenges;
mod clock;
mod commands;
mod comparisons;
mod db;
mod decisions;
mod declarations;
mod effects;
mod enrollments;
mod entity;
mod error;
mod escrow;
mod events;
mod figures;
mod groups;
mod ids;
mod import;
mod leases;
mod maintenance;
mod migration;
mod nodes;
mod observers;
mod page;
mod plugin_data;
mod plugin_kv;
mod plugin_secrets;
mod plugins;
mod profiles;
mod publishers;
mod purge;
mod push;
mod push_certificates;
mod schedules;
mod secrets;
mod signals;
mod stats;
mod store;
mod tenants;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod vault;

pub use api_tokens::ApiToken;
pub use assignments::{ProfileAssignment, ProfileCommands};
pub use backup::{BackupError, BackupInfo, backup_database, inspect_backup, put_in_place, sqlite_file};
pub use certificates::{CertificateRecord, NewCertificate};
pub use challenges::{ChallengeRecord, Consumed, Issued, NewChallenge};
pub use commands::{
    Approval, Caller, CallerCertificate, CommandCounts, CommandOrigin, CommandRecord, Delivery, Enqueued, EntryRecord,
    EntryState, FlushFilter, Hold, NewCommand, OpenCounts, Poll, QueueAsk, QueueCounts, QueueRules, QueueView,
    ReportStatus, ReportWrite, Reported, TargetName, Targets,
};
pub use comparisons::{Comparison, ComparisonReport, ComparisonSample};
pub use decisions::{
    ChainBreak, ChainHead, ChainReport, DecisionFilter, DecisionRecord, DecisionRetention, NewDecision, RecordedCall,
    SealedCall,
};
pub use declarations::{
    DeclarationSet, NewPlan, PlanChange, PlanItem, PlanJob, PlanToken, PlanView, PlannedContent, PlannedItem,
    SetAssignment, SetDeclaration, SetWritten, StatusItem, StatusProblem, StatusWrite, StoredDeclaration,
};
pub use effects::{EffectAction, NewEffect, SealedCommand};
pub use enrollments::{
    AuthenticateWrite, DeviceFacts, EnrollmentFilter, EnrollmentLookup, EnrollmentRecord, EnrollmentState, PushState,
    Resolved, ResolvedCertificate, ResolvedEnrollment, TokenTarget, TokenUpdateWrite, TokenUpdated, UserFacts,
};
pub use error::{DatabaseError, MasterKeyError, OpenError, StoreError};
pub use escrow::{Decided, EscrowInfo, EscrowKind, HeldDeposit};
pub use events::{EventFilter, EventRecord, NewEvent};
pub use figures::Figures;
pub use groups::GroupRecord;
pub use ids::{
    ApiTokenId, CertificateId, ChallengeId, DecisionId, EnrollmentId, EntryId, EventId, GroupId, RevisionId, RolloutId,
    ScheduleId, Sha256, TenantId,
};
pub use import::{
    Adopted, IdentityAuthority, ImportStatus, Imported, ImportedDevice, ImportedToken, NewIdentityAuthority,
};
pub use maintenance::{Purged, Retention};
pub use nodes::NodeRecord;
pub use observers::{Delivery as EventDelivery, ObserverFailure, ObserverRecord, Parked, ParkedEvent, ReplayFrom};
pub use page::{Cursor, MAX_PAGE, Page};
pub use plugin_data::PurgedPluginData;
pub use plugin_kv::{ExpectedValue, PluginValue, PluginValueWrite, PluginValueWritten};
pub use plugin_secrets::{MAX_PLUGIN_KEYS, MAX_PLUGIN_SECRETS, SealedPluginSecret};
pub use plugins::{
    Activation, ActivePlugins, Actor, NewRevision, NewRollout, PluginRecord, Quarantined, RevisionEvent,
    RevisionRecord, RevisionState, RolloutPhase, RolloutRecord, StagedRollout,
};
pub use profiles::{Profile, ProfileWritten};
pub use publishers::{NewPublisher, Publisher, UsedVersion};
pub use push::{PushJob, PushOutcome};
pub use push_certificates::{PushCertificate, PushIdentity};
pub use schedules::{AfterFailure, AfterRun, ManifestSchedule, NewCall, ScheduleJob, ScheduleOrigin, ScheduleRecord};
pub use secrets::SecretKind;
pub use signals::{Observed, Wanted};
pub use stats::{DatabaseStats, Schema, TableStats, schema_of};
pub use store::{DEFAULT_TENANT, Store, StoreConfig};
pub use tenants::Tenant;
pub use transfer::{Copied, CopyError, CopyProgress, copy_database};
pub use vault::{DataKey, DataKeyState, MasterKey, MasterKeyChange, Resealed, RotateError, RotationStep};
