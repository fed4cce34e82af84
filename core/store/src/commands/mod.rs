//! Commands and the queue: commands are stored once, and each enrollment's queue refers to them.

mod admin;
mod approval;
mod caller;
mod cancel;
mod counts;
mod delivery;
mod enqueue;
mod report;
mod rules;
mod sealed;
mod settle;
mod targets;

use jiff::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::{ApiTokenId, EnrollmentId, EntryId, GroupId, TenantId, words};

pub(crate) use caller::Callers;
pub use caller::{Caller, CallerCertificate, QueueAsk, QueueView};
pub use cancel::FlushFilter;
pub(crate) use counts::RecentCounts;
pub use counts::{CommandCounts, OpenCounts, QueueCounts};
pub use delivery::Poll;
pub(crate) use enqueue::enqueue;
pub use rules::QueueRules;
pub(crate) use rules::later;
pub(crate) use sealed::{OF_THE_ENROLLMENT, result_row};
pub(crate) use settle::Settling;

words! {
    /// Where an entry of a queue stands.
    EntryState {
        /// Waits to be delivered.
        Pending = "pending",
        /// Waits until an administrator approves it.
        Held = "held",
        /// Delivered, not answered.
        Sent = "sent",
        /// Delivered again and again, and never answered: offered rarely, and behind everything else.
        Stuck = "stuck",
        /// The device said NotNow: offered again on a later poll.
        NotNow = "not_now",
        /// Done.
        Acknowledged = "acknowledged",
        /// The device said Error or CommandFormatError.
        Failed = "failed",
        /// Not delivered in time.
        Expired = "expired",
        /// Taken back, or dropped by a new enrollment of the device.
        Cancelled = "cancelled",
    }
}

impl EntryState {
    /// Whether nothing more will happen to the entry, but for a late answer.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Acknowledged | Self::Failed | Self::Expired | Self::Cancelled
        )
    }
}

/// That an entry is open, in statements that look for entries by their ids. Said by the state: said by `finished_at`, the
/// index of all open entries would do too, and where nothing was open when PostgreSQL last looked, its planner takes that one
/// for the smallest and reads all of it for each entry.
macro_rules! open_entry {
    () => {
        "state NOT IN ('acknowledged', 'failed', 'expired', 'cancelled')"
    };
}
use open_entry;

/// What each message of a device begins with, on PostgreSQL.
#[cfg(feature = "testing")]
pub(crate) const OF_CALLERS: &str = caller::ON_POSTGRES;

/// What a command with a dedupe key for a whole tenant begins with.
#[cfg(feature = "testing")]
pub(crate) const OF_KEYS: crate::db::Sql = enqueue::ASKED;

/// What is written about one entry, or about several by their ids.
#[cfg(feature = "testing")]
pub(crate) const BY_ENTRY: [&str; 6] = [
    approval::HOLD,
    delivery::CLAIM,
    delivery::DEFER,
    delivery::DENY,
    report::PUT_OFF,
    settle::STATEMENT,
];

words! {
    /// `Status` of a report.
    ReportStatus {
        /// Done.
        Acknowledged = "Acknowledged",
        /// The device could not do it.
        Error = "Error",
        /// The device did not understand it.
        CommandFormatError = "CommandFormatError",
        /// Not at the moment.
        NotNow = "NotNow",
    }
}

words! {
    /// Who a command comes from.
    CommandOrigin {
        /// A token of the admin API.
        Administrator = "administrator",
        /// A plugin, by an effect.
        Plugin = "plugin",
        /// The server itself.
        Server = "server",
    }
}

words! {
    /// How the approval of a command stands that was held.
    Approval {
        /// Waits for an administrator.
        Held = "held",
        /// An administrator let it go.
        Approved = "approved",
        /// An administrator took it back, or a policy denied it after the approval.
        Rejected = "rejected",
    }
}

/// Why a command is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// A short, stable name.
    pub reason: String,
    /// For the administrator.
    pub message: String,
}

/// Whom a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// These.
    Enrollments(Vec<EnrollmentId>),
    /// The members of a group.
    Group(GroupId),
    /// Every device of the tenant that is not removed; not the users on them.
    All,
}

impl From<Vec<EnrollmentId>> for Targets {
    fn from(enrollments: Vec<EnrollmentId>) -> Self {
        Self::Enrollments(enrollments)
    }
}

/// What a name of a device means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetName {
    /// This enrollment.
    Enrollment(EnrollmentId),
    /// Nothing here.
    Unknown,
    /// One that is not enrolled any more.
    Removed,
    /// Several enrolled devices go by it.
    Ambiguous,
}

/// A command to queue.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// `CommandUUID`; version 7.
    pub uuid: Uuid,
    /// The tenant whose enrollments it is for.
    pub tenant: TenantId,
    /// `RequestType`.
    pub request_type: String,
    /// The command as a property list, or what it is made from at delivery.
    pub payload: Vec<u8>,
    /// The profile that is put into it at delivery.
    pub profile_name: Option<String>,
    /// Lower goes first.
    pub priority: i16,
    /// Not delivered before this.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub expires_at: Option<Timestamp>,
    /// An enrollment that has an unanswered command with this key does not get another.
    pub dedupe_key: Option<String>,
    /// What kind of asker it comes from.
    pub origin: CommandOrigin,
    /// Who asked for it: an API token's name, a plugin, the server.
    pub created_by: String,
    /// The token that asked for it. Another one has to approve it if it is held.
    pub creator_token: Option<ApiTokenId>,
    /// How many devices a minute get it; `None` for all at once.
    pub pace: Option<u32>,
    /// Why it waits for an approval, if it does.
    pub hold: Option<Hold>,
    /// What validation had to say about it.
    pub warnings: Vec<String>,
}

/// What became of a command for many enrollments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// How many queues have it now.
    pub queued: u64,
    /// The enrollments that have an unanswered command with the same dedupe key; only of targets that were named one by
    /// one.
    pub deduplicated: Vec<EnrollmentId>,
    /// How many those are, also of a group or of all.
    pub duplicates: u64,
    /// The targets that are removed, unknown, or another tenant's.
    pub unknown: Vec<EnrollmentId>,
}

/// A command to hand to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The queue entry.
    pub entry: EntryId,
    /// `CommandUUID`.
    pub uuid: Uuid,
    /// `RequestType`.
    pub request_type: String,
    /// The command as a property list, or what it is made from; empty if the stored one was changed outside the server.
    pub payload: Vec<u8>,
    /// The profile that is to be put into it.
    pub profile_name: Option<String>,
    /// How often it was delivered, with this time.
    pub attempts: i64,
    /// What kind of asker it comes from.
    pub origin: CommandOrigin,
    /// Who asked for it.
    pub created_by: String,
    /// Who approved it, if it was held.
    pub approved_by: Option<String>,
}

/// A device's report on a command.
#[derive(Clone, Debug)]
pub struct ReportWrite {
    /// `CommandUUID`.
    pub uuid: Uuid,
    /// `Status`.
    pub status: ReportStatus,
    /// `ErrorChain`; an array.
    pub error_chain: Option<Json>,
    /// The whole report, as the device sent it.
    pub result: Vec<u8>,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Stored.
    Recorded,
    /// The device repeats a report that is stored: answer as before.
    Duplicate,
    /// The enrollment never had such a command.
    UnknownCommand,
}

/// A stored command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRecord {
    /// `CommandUUID`.
    pub uuid: Uuid,
    /// `RequestType`.
    pub request_type: String,
    /// The profile that is put into it.
    pub profile_name: Option<String>,
    /// Lower goes first.
    pub priority: i64,
    /// Not delivered before this.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub expires_at: Option<Timestamp>,
    /// Its dedupe key.
    pub dedupe_key: Option<String>,
    /// What kind of asker it comes from.
    pub origin: CommandOrigin,
    /// Who asked for it.
    pub created_by: String,
    /// The token that asked for it.
    pub creator_token: Option<ApiTokenId>,
    /// How many devices a minute get it.
    pub pace: Option<u32>,
    /// How its approval stands; `None` if it was never held.
    pub approval: Option<Approval>,
    /// Why it is, or was, held.
    pub hold: Option<Hold>,
    /// Who approved or rejected it last, and when.
    pub decided: Option<(String, Timestamp)>,
    /// What validation had to say about it.
    pub warnings: Vec<String>,
    /// When it was queued.
    pub created_at: Timestamp,
}

/// An entry of a queue, with its result.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryRecord {
    /// Its row.
    pub id: EntryId,
    /// Whose queue it is in.
    pub enrollment: EnrollmentId,
    /// `CommandUUID`.
    pub uuid: Uuid,
    /// `RequestType`.
    pub request_type: String,
    /// Where it stands.
    pub state: EntryState,
    /// Lower goes first.
    pub priority: i64,
    /// Not delivered before this.
    pub not_before: Option<Timestamp>,
    /// Not delivered after this.
    pub expires_at: Option<Timestamp>,
    /// How often it was delivered.
    pub attempts: i64,
    /// How often it was delivered since the device last answered.
    pub unanswered: i64,
    /// Not offered again before this.
    pub retry_at: Option<Timestamp>,
    /// Why it could not be delivered, is held, or was cancelled, if there is something to say.
    pub defer_reason: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it was delivered last.
    pub sent_at: Option<Timestamp>,
    /// When the device answered last.
    pub answered_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// The device's last `Status`.
    pub status: Option<ReportStatus>,
    /// The device's `ErrorChain`.
    pub error_chain: Option<Json>,
    /// The device's report, as it sent it. Only in [`Store::command_entries`](crate::Store::command_entries); retention
    /// may have removed it.
    pub result: Option<Vec<u8>>,
}

/// Cancels what is open in the queues of a device and of the users on it.
pub(crate) async fn cancel_open(db: &Db, id: EnrollmentId, now: Timestamp) -> Result<u64, StoreError> {
    db.exec(
        "UPDATE queue_entries SET state = 'cancelled', finished_at = $1 WHERE finished_at IS NULL \
         AND enrollment_id IN (SELECT id FROM enrollments WHERE id = $2 OR parent_id = $2)",
        values![ms(now), id],
    )
    .await
}
