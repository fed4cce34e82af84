//! What a device reports. Idempotent: a device repeats a report until it is told that it arrived.

use jiff::Timestamp;

use super::delivery::{self, Poll};
use super::{Delivery, EntryState, ReportStatus, ReportWrite, Reported};
use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
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
        self.write((enrollment, report, now), |db, (enrollment, report, now)| {
            Box::pin(record(db, *enrollment, report, *now))
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
        let (reported, next) = self
            .write((enrollment, report, now), |db, (enrollment, report, now)| {
                Box::pin(async move {
                    let reported = record(db, *enrollment, report, *now).await?;
                    let poll = match reported {
                        Reported::Duplicate => Poll::AfterRepeatedReport,
                        Reported::Recorded | Reported::UnknownCommand => Poll::AfterReport,
                    };
                    let next = delivery::take(db, *enrollment, *now, poll).await?;
                    Ok((reported, next))
                })
            })
            .await?;
        let next = next.map(|(tenant, delivery)| self.open_delivery(tenant, delivery));
        Ok((reported, next))
    }
}

/// An answer is final. One to a command that was cancelled or expired on the way still tells what the device did, so it
/// is kept; a NotNow to such a command changes nothing.
async fn record(
    db: &Db,
    enrollment: EnrollmentId,
    report: &ReportWrite,
    now: Timestamp,
) -> Result<Reported, StoreError> {
    let state = match report.status {
        ReportStatus::Acknowledged => EntryState::Acknowledged,
        ReportStatus::Error | ReportStatus::CommandFormatError => EntryState::Failed,
        ReportStatus::NotNow => EntryState::NotNow,
    };
    let changed = if state == EntryState::NotNow {
        db.exec(
            "UPDATE queue_entries SET state = 'not_now', status = 'NotNow', answered_at = $3 \
             WHERE enrollment_id = $1 AND command_id = (SELECT id FROM commands WHERE uuid = $2) \
             AND finished_at IS NULL AND state <> 'not_now'",
            values![enrollment, report.uuid, ms(now)],
        )
        .await?
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
