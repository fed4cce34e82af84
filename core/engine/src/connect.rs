//! The command channel: a report is stored, and the next command goes out.

use jiff::{SignedDuration, Timestamp};
use russet_hooks::CommandStage;
use russet_protocol::connect::command_envelope;
use russet_protocol::{Limits, Report, ReportStatus, codec, plist};
use russet_store::{Delivery, EnrollmentId, Poll, QueueAsk, ReportWrite, Reported, StoreError};
use uuid::Uuid;

use crate::commands::{PolicyAsk, PolicyVerdict, requester};
use crate::installation::CannotDeliver;
use crate::{DeviceAnswer, DeviceError, DeviceIdentity, Engine, Request};

/// How long a delivery waits that could not be made: at first, and at the longest. It doubles each time, so that a whole fleet is
/// not woken again and again for what cannot be made.
const DEFERRED: SignedDuration = SignedDuration::from_mins(5);
const DEFERRED_LONGEST: SignedDuration = SignedDuration::from_hours(4);

/// How many deliveries that cannot be made are passed over in one poll.
const MAX_PASSED_OVER: usize = 16;

impl Engine {
    pub(crate) async fn connect(
        &self,
        request: &Request,
        identity: &DeviceIdentity,
        report: Report,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DeviceError> {
        let status = stored_status(&report.status);
        let about = report
            .command_uuid
            .as_deref()
            .and_then(|uuid| Uuid::parse_str(uuid).ok());
        let ask = match (status, about) {
            (None, _) => QueueAsk::Idle,
            (Some(_), Some(uuid)) => QueueAsk::Report(uuid),
            (Some(_), None) => QueueAsk::Nothing,
        };
        let (sender, queue) = self.sender(request, identity, &report.key, ask, now).await?;
        let enrollment = sender.id;
        let store = &self.inner.store;
        store.touch(enrollment, now);
        let acknowledged =
            about.filter(|_| report.status == ReportStatus::Acknowledged && sender.awaiting_configuration);
        let (mut next, poll) = match status {
            None => (store.next_of(enrollment, queue, now).await?, Poll::Idle),
            Some(status) => {
                let key = report.key.clone();
                let (reported, next) = match about {
                    Some(uuid) => {
                        let write = report_write(report, uuid, status);
                        store.report_of(enrollment, write, queue, now).await?
                    }
                    // Not a UUID, so no command of ours: taken, so that the device does not repeat it for ever.
                    None => (
                        Reported::UnknownCommand,
                        store.next(enrollment, now, Poll::AfterReport).await?,
                    ),
                };
                if reported == Reported::UnknownCommand {
                    tracing::warn!(enrollment.key = %key, "a report on a command that was never sent was taken and left");
                }
                (next, Poll::AfterReport)
            }
        };
        if let Some(uuid) = acknowledged {
            self.note_release(enrollment, uuid).await?;
        }
        for _ in 0..MAX_PASSED_OVER {
            let Some(delivery) = next else {
                return Ok(DeviceAnswer::Empty);
            };
            match self.deliver(request, enrollment, &delivery, now).await? {
                Made::Command(body) => return Ok(DeviceAnswer::Plist(body)),
                Made::Settled => {}
                Made::Waits(reason) => {
                    tracing::warn!(command.uuid = %delivery.uuid, reason, "a delivery waits");
                    let again = now.checked_add(deferral(delivery.attempts)).unwrap_or(Timestamp::MAX);
                    match self.inner.store.defer(delivery.entry, &reason, again).await {
                        // Taken back while it was made: nothing is left to wait.
                        Ok(()) | Err(StoreError::NotFound(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            next = self.inner.store.next(enrollment, now, poll).await?;
        }
        Ok(DeviceAnswer::Empty)
    }

    /// A device that waits in Setup Assistant goes on when it has acknowledged the command that says so; it does not tell
    /// the server in any other way.
    async fn note_release(&self, enrollment: EnrollmentId, command: Uuid) -> Result<(), StoreError> {
        let entry = self.inner.store.command_entry(enrollment, command).await?;
        let released = |request_type: &str| matches!(request_type, "DeviceConfigured" | "UserConfigured");
        if entry.is_some_and(|entry| released(&entry.request_type)) {
            self.inner.store.set_awaiting_configuration(enrollment, false).await?;
        }
        Ok(())
    }

    async fn deliver(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Made, DeviceError> {
        // Written by this server, so only damage makes it unreadable; the other commands still go out.
        let Ok(mut command) = codec::decode(&delivery.payload, &Limits::default()) else {
            return Ok(Made::Waits("the stored command does not read".to_owned()));
        };
        if let Err(CannotDeliver(reason)) = self.complete(request, enrollment, delivery, &mut command, now).await? {
            return Ok(Made::Waits(reason));
        }
        if request.hooks.has_command_policy() {
            match self.sending(request, enrollment, delivery, &command, now).await? {
                Sending::AsItIs => {}
                Sending::Instead(other) => command = other,
                Sending::Not(made) => return Ok(made),
            }
        }
        Ok(Made::Command(command_envelope(&wire_uuid(delivery.uuid), &command)))
    }

    /// Asks the command policies whether a command may go to this device, and does what they say if it may not.
    async fn sending(
        &self,
        request: &Request,
        enrollment: EnrollmentId,
        delivery: &Delivery,
        command: &plist::Dictionary,
        now: Timestamp,
    ) -> Result<Sending, DeviceError> {
        let ask = PolicyAsk {
            stage: CommandStage::Send,
            uuid: delivery.uuid,
            request_type: &delivery.request_type,
            command,
            requester: requester(delivery.origin, delivery.created_by.clone()),
            approved_by: delivery.approved_by.clone(),
            targets: 1,
            device: self.device_and_person(request, enrollment).await?,
        };
        let (verdict, decisions) = self.ask_policies(request, ask).await;
        let decisions = self.decided(request, decisions, Some(enrollment)).await?;
        let (store, tenant) = (&self.inner.store, request.tenant.id);
        Ok(match verdict {
            PolicyVerdict::Held(hold) => {
                tracing::info!(command.uuid = %delivery.uuid, reason = %hold.reason, "a policy holds a delivery");
                store
                    .hold_delivery(tenant, delivery.entry, hold, decisions, now)
                    .await?;
                Sending::Not(Made::Settled)
            }
            PolicyVerdict::Denied { reason, message } => {
                tracing::info!(command.uuid = %delivery.uuid, reason, "a policy denies a delivery");
                store
                    .deny_delivery(tenant, delivery.entry, &message, decisions, now)
                    .await?;
                Sending::Not(Made::Settled)
            }
            PolicyVerdict::Undecided(why) => {
                store.record_decisions(tenant, decisions, now).await?;
                Sending::Not(Made::Waits(why))
            }
            PolicyVerdict::Unchanged => {
                store.record_decisions(tenant, decisions, now).await?;
                Sending::AsItIs
            }
            PolicyVerdict::Replaced(other) => {
                store.record_decisions(tenant, decisions, now).await?;
                Sending::Instead(other)
            }
        })
    }
}

/// How long a delivery waits that could not be made, at this attempt.
fn deferral(attempts: i64) -> SignedDuration {
    let doubled = u32::try_from(attempts.saturating_sub(1).max(0)).unwrap_or(u32::MAX);
    let factor = 2_i32.checked_pow(doubled);
    let wait = factor.and_then(|factor| DEFERRED.checked_mul(factor));
    wait.map_or(DEFERRED_LONGEST, |wait| wait.min(DEFERRED_LONGEST))
}

/// What came of a delivery.
enum Made {
    /// What the device is sent.
    Command(Vec<u8>),
    /// It can not be made now, for this reason.
    Waits(String),
    /// A policy did not let it go, and that is written down.
    Settled,
}

/// What policies say about a delivery.
enum Sending {
    AsItIs,
    Instead(plist::Dictionary),
    Not(Made),
}

/// How command UUIDs are spelled on the wire.
pub(crate) fn wire_uuid(uuid: Uuid) -> String {
    uuid.hyphenated().encode_upper(&mut Uuid::encode_buffer()).to_owned()
}

fn stored_status(status: &ReportStatus) -> Option<russet_store::ReportStatus> {
    match status {
        ReportStatus::Idle => None,
        ReportStatus::Acknowledged => Some(russet_store::ReportStatus::Acknowledged),
        // A status of a newer system: kept with its report, and not waited for any longer.
        ReportStatus::Error | ReportStatus::Unknown(_) => Some(russet_store::ReportStatus::Error),
        ReportStatus::CommandFormatError => Some(russet_store::ReportStatus::CommandFormatError),
        ReportStatus::NotNow => Some(russet_store::ReportStatus::NotNow),
    }
}

fn report_write(report: Report, uuid: Uuid, status: russet_store::ReportStatus) -> ReportWrite {
    let error_chain = (!report.error_chain.is_empty())
        .then(|| serde_json::to_value(&report.error_chain).ok())
        .flatten();
    ReportWrite {
        uuid,
        status,
        error_chain,
        result: codec::encode(&report.body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_tried_ever_more_rarely() {
        let minutes = |attempts| deferral(attempts).as_mins();
        assert_eq!([0, 1, 2, 3, 6].map(minutes), [5, 5, 10, 20, 160]);
        assert_eq!([7, 100, i64::MAX].map(minutes), [240, 240, 240]);
    }
}
