//! What an operator watches, over all tenants: one statement, of what is open and nothing of what is over.

use jiff::Timestamp;

use crate::db::{ms, values};
use crate::error::StoreError;
use crate::store::Store;

/// How much waits, and what needs somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pushes that are due and that nobody has taken; counted up to [`Figures::MOST`].
    pub pushes_due: u64,
    /// Since when the longest waiting of them is due.
    pub push_due_since: Option<Timestamp>,
    /// Pushes that APNs refused, or that could not be sent to it, and that are tried again; counted up to [`Figures::MOST`].
    pub pushes_refused: u64,
    /// Commands that a device was sent again and again and never answered, once for each device.
    pub stuck_entries: u64,
    /// Commands that wait for an approval.
    pub held_commands: u64,
    /// Events that observers have still to take; counted up to [`Figures::MOST`].
    pub events_waiting: u64,
    /// Events that were given up; counted up to [`Figures::MOST`].
    pub events_parked: u64,
    /// Scheduled work that was given up.
    pub schedules_parked: u64,
    /// Plugins whose hooks fail by their rule because the revision is in quarantine and there is none to go back to.
    pub plugins_halted: u64,
    /// Decisions that have not joined their tenant's chain; counted up to [`Figures::MOST`].
    pub decisions_unchained: u64,
}

impl Figures {
    /// Nothing is counted further than this: monitoring asks every few seconds, and a backlog that is longer needs no exact
    /// number.
    pub const MOST: u64 = 100_000;
}

/// The tables and partial indexes hold what is open only, so that none of it grows with what is enrolled or over.
const FIGURES: &str = "SELECT \
     (SELECT COUNT(*) FROM (SELECT 1 FROM push_outbox WHERE lease_until IS NULL AND due_at <= $1 LIMIT $2) AS due), \
     (SELECT MIN(due_at) FROM push_outbox WHERE lease_until IS NULL AND due_at <= $1), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM push_outbox WHERE attempts > 0 LIMIT $2) AS refused), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM queue_entries WHERE stuck_at IS NOT NULL AND finished_at IS NULL LIMIT $2) AS stuck), \
     (SELECT COUNT(*) FROM commands WHERE approval = 'held' AND EXISTS (SELECT 1 FROM queue_entries q \
     WHERE q.command_id = commands.id AND q.finished_at IS NULL)), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM event_deliveries WHERE parked_at IS NULL LIMIT $2) AS waiting), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM event_deliveries WHERE parked_at IS NOT NULL LIMIT $2) AS parked), \
     (SELECT COUNT(*) FROM plugin_schedules WHERE parked_at IS NOT NULL), \
     (SELECT COUNT(*) FROM plugins WHERE halted_id IS NOT NULL), \
     (SELECT COUNT(*) FROM (SELECT 1 FROM decisions WHERE chain_seq IS NULL LIMIT $2) AS unchained)";

impl Store {
    /// What waits and what needs somebody, over all tenants.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        let most = i64::try_from(Figures::MOST).unwrap_or(i64::MAX);
        let row = self.read().row(FIGURES, values![ms(now), most]).await?;
        let count = |column: usize| Ok::<_, StoreError>(u64::try_from(row.get::<i64>(column)?).unwrap_or(0));
        Ok(Figures {
            pushes_due: count(0)?,
            push_due_since: row.time_opt(1)?,
            pushes_refused: count(2)?,
            stuck_entries: count(3)?,
            held_commands: count(4)?,
            events_waiting: count(5)?,
            events_parked: count(6)?,
            schedules_parked: count(7)?,
            plugins_halted: count(8)?,
            decisions_unchained: count(9)?,
        })
    }
}
