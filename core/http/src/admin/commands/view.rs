//! What is shown of commands and of the entries of queues.

use jiff::Timestamp;
use russet_engine::store::{Approval, CommandOrigin, CommandRecord, EntryRecord, EntryState, ReportStatus};
use russet_protocol::{Limits, codec};
use serde::Serialize;
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

#[derive(Debug, Serialize)]
pub(super) struct CommandView {
    command_uuid: Uuid,
    request_type: String,
    profile: Option<String>,
    priority: i64,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    origin: CommandOrigin,
    created_by: String,
    created_at: Timestamp,
    /// How many devices a minute get it.
    pace: Option<u32>,
    /// How its approval stands; null if it never needed one.
    approval: Option<ApprovalView>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ApprovalView {
    state: Approval,
    reason: Option<String>,
    message: Option<String>,
    decided_by: Option<String>,
    decided_at: Option<Timestamp>,
}

impl From<CommandRecord> for CommandView {
    fn from(record: CommandRecord) -> Self {
        Self {
            command_uuid: record.uuid,
            request_type: record.request_type,
            profile: record.profile_name,
            priority: record.priority,
            not_before: record.not_before,
            expires_at: record.expires_at,
            origin: record.origin,
            created_by: record.created_by,
            created_at: record.created_at,
            pace: record.pace,
            approval: record.approval.map(|state| {
                let (reason, message) = record.hold.map(|hold| (hold.reason, hold.message)).unzip();
                let (decided_by, decided_at) = record.decided.unzip();
                ApprovalView {
                    state,
                    reason,
                    message,
                    decided_by,
                    decided_at,
                }
            }),
            warnings: record.warnings,
        }
    }
}

/// A report as JSON. It was read when it came, within the limits of its time; should it not read any more, that is said
/// instead of hiding the rest of the answer.
pub(super) fn as_json(report: &[u8]) -> JsonValue {
    let limits = Limits {
        max_bytes: report.len(),
        ..Limits::default()
    };
    match codec::decode_value(report, &limits) {
        Ok(value) => codec::to_json(&value),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

/// An entry of a queue.
#[derive(Debug, Serialize)]
pub(in crate::admin) struct EntryView {
    command_uuid: Uuid,
    request_type: String,
    state: EntryState,
    priority: i64,
    attempts: i64,
    /// How often it was delivered since the device last answered.
    unanswered: i64,
    /// When it may be offered again, if it rests.
    retry_at: Option<Timestamp>,
    /// Why it is not delivered at the moment.
    waiting_for: Option<String>,
    status: Option<ReportStatus>,
    error_chain: Option<JsonValue>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    sent_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl EntryView {
    pub(in crate::admin) fn new(entry: EntryRecord, now: Timestamp) -> Self {
        // Of an entry that was taken back, this says why.
        let waiting_for = if entry.finished_at.is_some() {
            entry
                .defer_reason
                .clone()
                .filter(|_| entry.state == EntryState::Cancelled)
        } else if let Some(reason) = &entry.defer_reason {
            Some(reason.clone())
        } else {
            match (entry.state, entry.not_before) {
                (EntryState::NotNow, _) => Some("the device said NotNow".to_owned()),
                (EntryState::Held, _) => Some("an approval".to_owned()),
                (EntryState::Pending, Some(time)) if time > now => Some(format!("its time, {time}")),
                (EntryState::Stuck, _) => Some(format!(
                    "the device got it {} times and never answered",
                    entry.unanswered
                )),
                _ => None,
            }
        };
        Self {
            command_uuid: entry.uuid,
            request_type: entry.request_type,
            state: entry.state,
            priority: entry.priority,
            attempts: entry.attempts,
            unanswered: entry.unanswered,
            retry_at: entry.retry_at.filter(|time| entry.finished_at.is_none() && *time > now),
            waiting_for,
            status: entry.status,
            error_chain: entry.error_chain,
            not_before: entry.not_before,
            expires_at: entry.expires_at,
            created_at: entry.created_at,
            sent_at: entry.sent_at,
            answered_at: entry.answered_at,
            finished_at: entry.finished_at,
        }
    }
}
