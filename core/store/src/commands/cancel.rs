//! Taking commands back. A device that has one already may still do it, and its answer is then stored.

use jiff::Timestamp;
use uuid::Uuid;

use super::open_entry;
use crate::db::{ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, TenantId};
use crate::store::Store;

/// What of a queue is emptied; the default is all that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushFilter {
    /// Only commands of this `RequestType`.
    pub request_type: Option<String>,
}

impl Store {
    /// Takes a command back, from one enrollment or from all; how many entries were still open. One that waited for its
    /// approval does not wait any longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such command.
    pub async fn cancel(
        &self,
        tenant: TenantId,
        uuid: Uuid,
        enrollment: Option<EnrollmentId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(
            (tenant, uuid, enrollment, now),
            |db, (tenant, uuid, enrollment, now)| {
                Box::pin(async move {
                    let sql = "SELECT id FROM commands WHERE tenant_id = $1 AND uuid = $2";
                    let row = db
                        .one(sql, values![*tenant, *uuid])
                        .await?
                        .ok_or(StoreError::NotFound("command"))?;
                    let command: i64 = row.get(0)?;
                    if enrollment.is_none() {
                        db.exec(
                            "UPDATE commands SET approval = 'rejected' WHERE id = $1 AND approval = 'held'",
                            values![command],
                        )
                        .await?;
                    }
                    let Some(enrollment) = enrollment else {
                        let sql = concat!(
                            "UPDATE queue_entries SET state = 'cancelled', finished_at = $1 WHERE command_id = $2 AND ",
                            open_entry!()
                        );
                        return db.exec(sql, values![ms(*now), command]).await;
                    };
                    let sql = concat!(
                        "UPDATE queue_entries SET state = 'cancelled', finished_at = $1 \
                         WHERE command_id = $2 AND enrollment_id = $3 AND ",
                        open_entry!()
                    );
                    db.exec(sql, values![ms(*now), command, *enrollment]).await
                })
            },
        )
        .await
    }

    /// Empties an enrollment's queue; how many entries were open.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn flush(
        &self,
        enrollment: EnrollmentId,
        filter: FlushFilter,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write((enrollment, filter, now), |db, (enrollment, filter, now)| {
            Box::pin(async move {
                db.exec(
                    "UPDATE queue_entries SET state = 'cancelled', finished_at = $1 WHERE enrollment_id = $2 \
                     AND finished_at IS NULL AND ($3 IS NULL OR command_id IN \
                     (SELECT c.id FROM commands c JOIN queue_entries q ON q.command_id = c.id \
                      WHERE q.enrollment_id = $2 AND q.finished_at IS NULL AND c.request_type = $3))",
                    values![ms(*now), *enrollment, filter.request_type.clone()],
                )
                .await
            })
        })
        .await
    }
}
