//! What a device gets when it polls. A poll that finds nothing writes nothing.

use jiff::Timestamp;

use super::caller::QueueView;
use super::settle::{Settle, Taking};
use super::{CommandOrigin, Delivery, QueueRules, open_entry};
use crate::db::{Db, Row, ms, values, words};
use crate::decisions::{NewDecision, record as record_decisions};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, EntryId, TenantId};
use crate::push;
use crate::store::Store;

/// Why the device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// `Idle`: a new round. What the device put off (NotNow), and what it was sent in an earlier round and never answered,
    /// is offered again, unless it rests: see [`QueueRules`].
    Idle,
    /// It has just reported on a command: the same, but not what it put off, as it would do so again.
    AfterReport,
    /// It repeats a report, so the answer to it was lost, and with it the command that it may have held: what it was sent
    /// last and never answered is offered again, but not what it put off.
    AfterRepeatedReport,
}

/// The chosen entry, with its command.
macro_rules! chosen {
    ($($chosen:tt)+) => {
        concat!(
            "SELECT q.id, q.attempts, q.unanswered, q.expires_at, c.uuid, c.request_type, c.payload, c.profile_name, \
             c.tenant_id, c.origin, c.created_by, CASE WHEN c.approval = 'approved' THEN c.decided_by END \
             FROM queue_entries q JOIN commands c ON c.id = q.command_id WHERE q.id = (SELECT o.id FROM queue_entries o \
             WHERE o.enrollment_id = $1 AND o.finished_at IS NULL AND (o.not_before IS NULL OR o.not_before <= $2) AND ",
            $($chosen)+,
            " LIMIT 1)"
        )
    };
}

/// What is fresh, or in one of these states and does not rest. What is fresh or was put off goes before what was delivered and
/// not answered, so that a command which a device never answers stands in nobody's way. An entry is offered again only at a
/// later time than it was delivered at, so that of many polls at once one gets it.
macro_rules! fresh_or {
    ($states:literal) => {
        concat!(
            "(o.state = 'pending' OR (o.state IN (",
            $states,
            ") AND (o.retry_at IS NULL OR o.retry_at < $2))) \
             ORDER BY CASE o.state WHEN 'sent' THEN 1 WHEN 'stuck' THEN 2 ELSE 0 END, o.priority, o.id"
        )
    };
}

const AT_IDLE: &str = chosen!(fresh_or!("'not_now', 'sent', 'stuck'"));

/// A device works on one command at a time, so when it reports on one, others that were delivered are lost or ignored: they
/// come after what is fresh, or a device that always finds something fresh would never see them. What it put off in this
/// session it would put off again.
const AFTER_REPORT: &str = chosen!(fresh_or!("'sent', 'stuck'"));

const LOST: &str = chosen!("o.state = 'sent' AND o.sent_at < $2 ORDER BY o.sent_at DESC, o.id DESC");

/// Takes an entry, unless somebody took, answered, held or cancelled it since it was read: the attempts count as its
/// version.
pub(super) const CLAIM: &str = concat!(
    "UPDATE queue_entries SET state = $4, attempts = attempts + 1, unanswered = unanswered + 1, sent_at = $2, retry_at = $5, \
     stuck_at = CASE WHEN $4 = 'stuck' THEN COALESCE(stuck_at, $2) END WHERE id = $1 AND attempts = $3 AND state <> 'held' AND ",
    open_entry!()
);

pub(super) const DEFER: &str = concat!(
    "UPDATE queue_entries SET state = 'pending', not_before = $2, defer_reason = $3, unanswered = 0, retry_at = NULL, \
     stuck_at = NULL WHERE id = $1 AND ",
    open_entry!(),
    " RETURNING enrollment_id"
);

pub(super) const DENY: &str = concat!(
    "UPDATE queue_entries SET state = 'cancelled', finished_at = $2, defer_reason = $3 WHERE id = $1 AND ",
    open_entry!()
);

const EXPIRE: &str = "UPDATE queue_entries SET state = 'expired', finished_at = $2 \
     WHERE enrollment_id = $1 AND finished_at IS NULL AND expires_at <= $2";

#[derive(Debug)]
pub(super) struct Candidate {
    /// Still sealed.
    pub(super) delivery: Delivery,
    pub(super) tenant: TenantId,
    pub(super) claim: Claim,
    pub(super) expired: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) entry: EntryId,
    /// Before this delivery.
    pub(super) attempts: i64,
    unanswered: i64,
}

impl Claim {
    /// What the delivery makes of the entry.
    pub(super) fn taking(self, rules: &QueueRules, now: Timestamp) -> Taking {
        let (state, retry_at) = rules.delivered(self.unanswered, now);
        Taking {
            claim: self,
            state,
            retry_at: ms(retry_at),
        }
    }
}

/// The candidate of a row, whose columns begin at `from` as those of [`AT_IDLE`] do at 0.
pub(super) fn candidate_of(row: &Row, from: usize, now: Timestamp) -> Result<Candidate, StoreError> {
    let entry = EntryId(row.get(from)?);
    let attempts: i64 = row.get(from + 1)?;
    Ok(Candidate {
        claim: Claim {
            entry,
            attempts,
            unanswered: row.get(from + 2)?,
        },
        expired: row.time_opt(from + 3)?.is_some_and(|expires_at| expires_at <= now),
        tenant: TenantId(row.get(from + 8)?),
        delivery: Delivery {
            entry,
            uuid: row.get(from + 4)?,
            request_type: row.get(from + 5)?,
            payload: row.get(from + 6)?,
            profile_name: row.get(from + 7)?,
            attempts: attempts + 1,
            origin: row.word(from + 9, CommandOrigin::from_word, "command origin")?,
            created_by: row.get(from + 10)?,
            approved_by: row.get(from + 11)?,
        },
    })
}

async fn first(db: &Db, enrollment: EnrollmentId, now: Timestamp, poll: Poll) -> Result<Option<Candidate>, StoreError> {
    let sql = match poll {
        Poll::Idle => AT_IDLE,
        Poll::AfterReport => AFTER_REPORT,
        Poll::AfterRepeatedReport => LOST,
    };
    let row = db.one(sql, values![enrollment, ms(now)]).await?;
    row.map(|row| candidate_of(&row, 0, now)).transpose()
}

async fn claim(db: &Db, claim: Claim, rules: &QueueRules, now: Timestamp) -> Result<bool, StoreError> {
    let taking = claim.taking(rules, now);
    let values = values![claim.entry, ms(now), claim.attempts, taking.state, taking.retry_at];
    Ok(db.exec(CLAIM, values).await? > 0)
}

async fn expire(db: &Db, enrollment: EnrollmentId, now: Timestamp) -> Result<u64, StoreError> {
    db.exec(EXPIRE, values![enrollment, ms(now)]).await
}

/// The next command, within a transaction, still sealed for its tenant.
pub(super) async fn take(
    db: &Db,
    rules: &QueueRules,
    enrollment: EnrollmentId,
    now: Timestamp,
    mut poll: Poll,
) -> Result<Option<(TenantId, Delivery)>, StoreError> {
    loop {
        let Some(candidate) = first(db, enrollment, now, poll).await? else {
            // Nothing was lost with the answer, so it goes on where it was.
            if poll == Poll::AfterRepeatedReport {
                poll = Poll::AfterReport;
                continue;
            }
            return Ok(None);
        };
        if candidate.expired {
            expire(db, enrollment, now).await?;
        } else if claim(db, candidate.claim, rules, now).await? {
            return Ok(Some((candidate.tenant, candidate.delivery)));
        }
    }
}

impl Store {
    /// The next command of an enrollment that polls, as its [`Caller`](super::Caller) shows it: marked as sent, unless
    /// somebody was there first; then the next one after that. Where there was none, nothing is asked and nothing written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_of(
        &self,
        enrollment: EnrollmentId,
        queue: QueueView,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let Some(candidate) = queue.first else { return Ok(None) };
        if !candidate.expired && self.take_candidate(candidate.claim, now).await? {
            return self.open_delivery(candidate.tenant, candidate.delivery).map(Some);
        }
        self.next(enrollment, now, Poll::Idle).await
    }

    async fn take_candidate(&self, candidate: Claim, now: Timestamp) -> Result<bool, StoreError> {
        let rules = self.queue_rules();
        if let Some(lanes) = self.settling() {
            let settle = Settle {
                now: ms(now),
                answered: None,
                taking: Some(candidate.taking(&rules, now)),
            };
            return Ok(lanes.ask(settle).await?.taken);
        }
        self.write((candidate, rules, now), |db, (candidate, rules, now)| {
            Box::pin(claim(db, *candidate, rules, *now))
        })
        .await
    }

    /// The next command of an enrollment, if there is one, marked as sent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(
        &self,
        enrollment: EnrollmentId,
        now: Timestamp,
        mut poll: Poll,
    ) -> Result<Option<Delivery>, StoreError> {
        loop {
            // Most polls find nothing: they look on a reader and never meet the writer.
            let Some(candidate) = first(self.read(), enrollment, now, poll).await? else {
                if poll == Poll::AfterRepeatedReport {
                    poll = Poll::AfterReport;
                    continue;
                }
                return Ok(None);
            };
            if candidate.expired {
                self.write((enrollment, now), |db, (enrollment, now)| {
                    Box::pin(expire(db, *enrollment, *now))
                })
                .await?;
                continue;
            }
            let input = (candidate.claim, self.queue_rules(), now);
            let claimed = self
                .write(input, |db, (candidate, rules, now)| {
                    Box::pin(claim(db, *candidate, rules, *now))
                })
                .await?;
            if claimed {
                return self.open_delivery(candidate.tenant, candidate.delivery).map(Some);
            }
        }
    }

    /// Puts a taken entry back: what it is made from could not be rendered. It waits until `not_before` and shows why;
    /// the device is woken then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the entry is over already.
    pub async fn defer(&self, entry: EntryId, reason: &str, not_before: Timestamp) -> Result<(), StoreError> {
        self.write((entry, words(reason), not_before), |db, (entry, reason, not_before)| {
            Box::pin(async move {
                let values = values![*entry, ms(*not_before), reason.clone()];
                let row = db.one(DEFER, values).await?;
                let enrollment = row
                    .ok_or(StoreError::NotFound("open queue entry"))?
                    .get(0)
                    .map(EnrollmentId)?;
                push::request(db, &[enrollment], *not_before).await
            })
        })
        .await
    }

    /// Ends a taken entry that a policy does not let go to its device, and records the policy's decisions. Whether the entry
    /// was still open.
    ///
    /// # Errors
    /// When the database fails; then neither happened.
    pub async fn deny_delivery(
        &self,
        tenant: TenantId,
        entry: EntryId,
        reason: &str,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(
            (tenant, entry, words(reason), decisions, now),
            |db, (tenant, entry, reason, decisions, now)| {
                Box::pin(async move {
                    let denied = db.exec(DENY, values![*entry, ms(*now), reason.clone()]).await?;
                    record_decisions(db, *tenant, None, decisions, *now).await?;
                    Ok(denied > 0)
                })
            },
        )
        .await
    }
}
