//! What a device reports. Idempotent: a device repeats a report until it is told that it arrived.

use jiff::Timestamp;
use serde_json::json;

use super::caller::QueueView;
use super::delivery::{self, Poll};
use super::settle::{Answered, Settle, Settling};
use super::{Delivery, EntryState, QueueRules, ReportStatus, ReportWrite, Reported, open_entry};
use crate::backend::lanes::Lanes;
use crate::db::{Db, ms, ms_opt, values};
use crate::error::StoreError;
use crate::events;
use crate::ids::{EnrollmentId, EntryId, TenantId};
use crate::store::Store;

impl Store {
    /// Stores a report.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn report(
        &self,
        enrollment: EnrollmentId,
        report: ReportWrite,
        now: Timestamp,
    ) -> Result<Reported, StoreError> {
        let report = self.seal_report(enrollment, report)?;
        let input = (enrollment, report, self.queue_rules(), now);
        self.write(input, |db, (enrollment, report, rules, now)| {
            Box::pin(record(db, *enrollment, report, rules, *now))
        })
        .await
    }

    /// Stores a report and takes the next command, in one transaction: the round trip of a device at work. A report that
    /// is stored already is repeated because its answer was lost, and a command with it, perhaps: that is offered again.
    ///
    /// # Errors
    /// When the database fails; then neither happened.
    pub async fn report_and_next(
        &self,
        enrollment: EnrollmentId,
        report: ReportWrite,
        now: Timestamp,
    ) -> Result<(Reported, Option<Delivery>), StoreError> {
        let report = self.seal_report(enrollment, report)?;
        self.report_sealed(enrollment, report, now).await
    }

    /// As [`report_and_next`](Self::report_and_next), going by what its [`Caller`](super::Caller) shows of the queue: if it
    /// is still so, it shares a statement with the reports of other devices.
    ///
    /// # Errors
    /// When the database fails; the device may repeat its report then.
    pub async fn report_of(
        &self,
        enrollment: EnrollmentId,
        report: ReportWrite,
        queue: QueueView,
        now: Timestamp,
    ) -> Result<(Reported, Option<Delivery>), StoreError> {
        let report = self.seal_report(enrollment, report)?;
        let Some((lanes, entry, state)) = self.shareable(&report, &queue) else {
            return self.report_sealed(enrollment, report, now).await;
        };
        let mut first = queue.first;
        let here = first.take_if(|first| !first.expired);
        let rules = self.queue_rules();
        let settle = Settle {
            now: ms(now),
            taking: here.as_ref().map(|here| here.claim.taking(&rules, now)),
            answered: Some(Answered {
                entry,
                state,
                status: report.status,
                error_chain: report.error_chain.as_ref().map(serde_json::Value::to_string),
                result: report.result.clone(),
            }),
        };
        let settled = lanes.ask(settle).await?;
        if !settled.recorded {
            // Somebody has the entry, or has changed it.
            return self.report_sealed(enrollment, report, now).await;
        }
        let next = match here {
            Some(here) if settled.taken => Some(self.open_delivery(here.tenant, here.delivery)?),
            None if first.is_none() => None,
            Some(_) | None => self.next(enrollment, now, Poll::AfterReport).await?,
        };
        Ok((Reported::Recorded, next))
    }

    /// The entry of a report that can share a statement, and its state afterwards: a final answer to a command that has none
    /// yet, of which nobody has to be told.
    fn shareable(&self, report: &ReportWrite, queue: &QueueView) -> Option<(&Lanes<Settling>, EntryId, EntryState)> {
        let lanes = self.settling()?;
        let (entry, before) = queue.reported?;
        let state = answered_as(report.status);
        let open = !matches!(before, EntryState::Acknowledged | EntryState::Failed);
        let told = self.signals().wanted_anywhere(KIND);
        (open && !told && state != EntryState::NotNow).then_some((lanes, entry, state))
    }

    async fn report_sealed(
        &self,
        enrollment: EnrollmentId,
        report: ReportWrite,
        now: Timestamp,
    ) -> Result<(Reported, Option<Delivery>), StoreError> {
        let input = (enrollment, report, self.queue_rules(), now);
        let (reported, next) = self
            .write(input, |db, (enrollment, report, rules, now)| {
                Box::pin(async move {
                    let reported = record(db, *enrollment, report, rules, *now).await?;
                    let poll = match reported {
                        Reported::Duplicate => Poll::AfterRepeatedReport,
                        Reported::Recorded | Reported::UnknownCommand => Poll::AfterReport,
                    };
                    let next = delivery::take(db, rules, *enrollment, *now, poll).await?;
                    Ok((reported, next))
                })
            })
            .await?;
        let next = next
            .map(|(tenant, delivery)| self.open_delivery(tenant, delivery))
            .transpose()?;
        Ok((reported, next))
    }
}

/// The event of an answer.
const KIND: &str = "command.answered";

fn answered_as(status: ReportStatus) -> EntryState {
    match status {
        ReportStatus::Acknowledged => EntryState::Acknowledged,
        ReportStatus::Error | ReportStatus::CommandFormatError => EntryState::Failed,
        ReportStatus::NotNow => EntryState::NotNow,
    }
}

/// An answer is final. One to a command that was cancelled or expired on the way still tells what the device did, so it
/// is kept; a NotNow to such a command changes nothing.
async fn record(
    db: &Db,
    enrollment: EnrollmentId,
    report: &ReportWrite,
    rules: &QueueRules,
    now: Timestamp,
) -> Result<Reported, StoreError> {
    let state = answered_as(report.status);
    let changed = if state == EntryState::NotNow {
        put_off(db, enrollment, report, rules, now).await?
    } else {
        db.exec(
            "UPDATE queue_entries SET state = $3, status = $4, error_chain = $5, result = $6, answered_at = $7, \
             finished_at = $7 \
             WHERE enrollment_id = $1 AND command_id = (SELECT id FROM commands WHERE uuid = $2) \
             AND state NOT IN ('acknowledged', 'failed')",
            values![
                enrollment,
                report.uuid,
                state,
                report.status,
                report.error_chain.as_ref().map(serde_json::Value::to_string),
                report.result.clone(),
                ms(now),
            ],
        )
        .await?
    };
    if changed > 0 {
        tell(db, enrollment, report, now).await?;
        return Ok(Reported::Recorded);
    }
    let known = db
        .one(
            "SELECT 1 FROM queue_entries WHERE enrollment_id = $1 \
             AND command_id = (SELECT id FROM commands WHERE uuid = $2)",
            values![enrollment, report.uuid],
        )
        .await?;
    Ok(if known.is_some() {
        Reported::Duplicate
    } else {
        Reported::UnknownCommand
    })
}

pub(super) const PUT_OFF: &str = concat!(
    "UPDATE queue_entries SET state = CASE WHEN state = 'held' THEN state ELSE 'not_now' END, status = 'NotNow', \
     answered_at = $2, unanswered = 0, stuck_at = NULL, put_off = put_off + 1, retry_at = $3 \
     WHERE id = $1 AND put_off = $4 AND ",
    open_entry!()
);

/// Marks what the device put off. It is an answer, so the command is not stuck; how long it rests depends on how often the
/// device said so before.
async fn put_off(
    db: &Db,
    enrollment: EnrollmentId,
    report: &ReportWrite,
    rules: &QueueRules,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let row = db
        .one(
            "SELECT id, put_off FROM queue_entries WHERE enrollment_id = $1 \
             AND command_id = (SELECT id FROM commands WHERE uuid = $2) AND finished_at IS NULL AND state <> 'not_now'",
            values![enrollment, report.uuid],
        )
        .await?;
    let Some(row) = row else { return Ok(0) };
    let (id, before): (i64, i64) = (row.get(0)?, row.get(1)?);
    let values = values![id, ms(now), ms_opt(rules.put_off(before, now)), before];
    db.exec(PUT_OFF, values).await
}

/// Tells observers of an answer. The report itself stays where it is, sealed: it is put in when an observer is handed the
/// event.
async fn tell(db: &Db, enrollment: EnrollmentId, report: &ReportWrite, now: Timestamp) -> Result<(), StoreError> {
    if !db.wanted_anywhere(KIND) {
        return Ok(());
    }
    let row = db
        .row(
            "SELECT tenant_id, request_type, created_by, depth FROM commands WHERE uuid = $1",
            values![report.uuid],
        )
        .await?;
    let (tenant, request_type, created_by): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    // What caused the command caused its answer.
    let _depth = db.at_depth(u8::try_from(row.get::<i64>(3)?).unwrap_or(u8::MAX));
    let detail = || {
        json!({
            "command_uuid": report.uuid,
            "request_type": request_type,
            "created_by": created_by,
            "status": report.status,
            "error_chain": report.error_chain,
        })
    };
    events::tell(db, TenantId(tenant), Some(enrollment), KIND, detail, now)
        .await
        .map(|_| ())
}
