//! What a device gets when it polls. A poll that finds nothing writes nothing.

use jiff::Timestamp;

use super::Delivery;
use crate::db::{Db, ms, values, words};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, EntryId, TenantId};
use crate::push;
use crate::store::Store;

/// Why the device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// `Idle`: a new round. What the device put off (NotNow), and what it was sent in an earlier round and never
    /// answered, is offered again.
    Idle,
    /// It has just reported on a command: only what was not offered yet.
    AfterReport,
    /// It repeats a report, so the answer to it was lost, and with it the command that it may have held: what it was
    /// sent and never answered is offered again, but not what it put off.
    AfterRepeatedReport,
}

/// The first entry in line, with its command. `$3` is whether what was put off is offered, `$4` whether what was sent is;
/// an entry that was sent is offered again only at a later time than it was sent at, so that of many polls at once one
/// gets it.
const FIRST: &str = "SELECT q.id, q.attempts, q.expires_at, c.uuid, c.request_type, c.payload, c.profile_name, c.tenant_id \
     FROM queue_entries q JOIN commands c ON c.id = q.command_id \
     WHERE q.enrollment_id = $1 AND q.finished_at IS NULL AND (q.not_before IS NULL OR q.not_before <= $2) \
     AND (q.state = 'pending' OR ($3 AND q.state = 'not_now') OR ($4 AND q.state = 'sent' AND q.sent_at < $2)) \
     ORDER BY q.priority, q.id LIMIT 1";

/// Takes an entry, unless somebody took, answered or cancelled it since it was read: the attempts count as its version.
const CLAIM: &str = "UPDATE queue_entries SET state = 'sent', attempts = attempts + 1, sent_at = $2 \
     WHERE id = $1 AND attempts = $3 AND finished_at IS NULL";

const EXPIRE: &str = "UPDATE queue_entries SET state = 'expired', finished_at = $2 \
     WHERE enrollment_id = $1 AND finished_at IS NULL AND expires_at <= $2";

struct Candidate {
    /// Still sealed.
    delivery: Delivery,
    tenant: TenantId,
    /// Before this delivery.
    attempts: i64,
    expired: bool,
}

async fn first(db: &Db, enrollment: EnrollmentId, now: Timestamp, poll: Poll) -> Result<Option<Candidate>, StoreError> {
    let (put_off, sent) = (poll == Poll::Idle, poll != Poll::AfterReport);
    let Some(row) = db.one(FIRST, values![enrollment, ms(now), put_off, sent]).await? else {
        return Ok(None);
    };
    let attempts: i64 = row.get(1)?;
    Ok(Some(Candidate {
        attempts,
        tenant: TenantId(row.get(7)?),
        expired: row.time_opt(2)?.is_some_and(|expires_at| expires_at <= now),
        delivery: Delivery {
            entry: EntryId(row.get(0)?),
            uuid: row.get(3)?,
            request_type: row.get(4)?,
            payload: row.get(5)?,
            profile_name: row.get(6)?,
            attempts: attempts + 1,
        },
    }))
}

async fn claim(db: &Db, entry: EntryId, attempts: i64, now: Timestamp) -> Result<bool, StoreError> {
    Ok(db.exec(CLAIM, values![entry, ms(now), attempts]).await? > 0)
}

async fn expire(db: &Db, enrollment: EnrollmentId, now: Timestamp) -> Result<u64, StoreError> {
    db.exec(EXPIRE, values![enrollment, ms(now)]).await
}

/// The next command, within a transaction, still sealed for its tenant.
pub(super) async fn take(
    db: &Db,
    enrollment: EnrollmentId,
    now: Timestamp,
    poll: Poll,
) -> Result<Option<(TenantId, Delivery)>, StoreError> {
    while let Some(candidate) = first(db, enrollment, now, poll).await? {
        if candidate.expired {
            expire(db, enrollment, now).await?;
        } else if claim(db, candidate.delivery.entry, candidate.attempts, now).await? {
            return Ok(Some((candidate.tenant, candidate.delivery)));
        }
    }
    Ok(None)
}

impl Store {
    /// The next command of an enrollment, if there is one, marked as sent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(
        &self,
        enrollment: EnrollmentId,
        now: Timestamp,
        poll: Poll,
    ) -> Result<Option<Delivery>, StoreError> {
        // Most polls find nothing: they look on a reader and never meet the writer.
        while let Some(candidate) = first(self.read(), enrollment, now, poll).await? {
            if candidate.expired {
                self.write((enrollment, now), |db, (enrollment, now)| {
                    Box::pin(expire(db, *enrollment, *now))
                })
                .await?;
                continue;
            }
            let input = (candidate.delivery.entry, candidate.attempts, now);
            let claimed = self
                .write(input, |db, (entry, attempts, now)| {
                    Box::pin(claim(db, *entry, *attempts, *now))
                })
                .await?;
            if claimed {
                return Ok(Some(self.open_delivery(candidate.tenant, candidate.delivery)));
            }
        }
        Ok(None)
    }

    /// Puts a taken entry back: what it is made from could not be rendered. It waits until `not_before` and shows why;
    /// the device is woken then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the entry is over already.
    pub async fn defer(&self, entry: EntryId, reason: &str, not_before: Timestamp) -> Result<(), StoreError> {
        self.write((entry, words(reason), not_before), |db, (entry, reason, not_before)| {
            Box::pin(async move {
                let row = db
                    .one(
                        "UPDATE queue_entries SET state = 'pending', not_before = $2, defer_reason = $3 \
                         WHERE id = $1 AND finished_at IS NULL RETURNING enrollment_id",
                        values![*entry, ms(*not_before), reason.clone()],
                    )
                    .await?;
                let enrollment = row
                    .ok_or(StoreError::NotFound("open queue entry"))?
                    .get(0)
                    .map(EnrollmentId)?;
                push::request(db, &[enrollment], *not_before).await
            })
        })
        .await
    }
}
