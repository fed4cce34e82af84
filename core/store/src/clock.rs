//! A clock that was ahead and was set right. What was written meanwhile waits for times far in the future, and would wait
//! for as long as the clock was wrong: when a clock went back, one sweep brings all such times to the present.
//!
//! No statement that is asked often knows of this. A clock was ahead if a later time was read before: by this process, or
//! by one whose time is in the database. Every process writes down there how late it is, as a lease that nobody holds.
//!
//! What somebody asked for at a time stays: the `not_before` of an administrator, and the calls of plugins.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::ids::EnrollmentId;
use crate::push::{self, offered_at};
use crate::signals::Signal;
use crate::store::Store;

/// By how much clocks may differ, in milliseconds: a time that lies further ahead is from a wrong one.
pub(crate) const SLACK: i64 = 60_000;

/// The lease whose end is the latest time that a server has read.
pub(crate) const LATEST: &str = "clock";

/// What was under way when the clock went back may have read the time before: so much later, everything is looked through
/// once more.
const ONCE_MORE: Duration = Duration::from_secs(10);

/// A server whose clock stays ahead is a reason again and again. It is not one more often than this.
const OTHERS: Duration = Duration::from_secs(10 * 60);

/// How many enrollments a transaction of the sweep is about.
const LOT: i64 = 1_000;

/// For how long whoever holds a lease of the time before keeps it, in milliseconds: it may be at work.
macro_rules! at_work {
    () => {
        "lease_until = CASE WHEN lease_until > $2 THEN $1 + 30000 ELSE lease_until END"
    };
}

/// What this process knows of the time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The latest time that was read, in milliseconds.
    latest: AtomicI64,
    /// What the database was told.
    noted: AtomicI64,
    swept: Mutex<Swept>,
}

/// When the tables were looked through.
#[derive(Debug, Default)]
struct Swept {
    /// Not yet once more since then.
    last: Option<Instant>,
    /// Because of another process.
    for_another: Option<Instant>,
}

/// Why the tables are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// This process has read a later time.
    Own,
    /// Another one did, or this one before it was started anew.
    Another,
    /// For what was under way the last time.
    OnceMore,
}

/// How many rows were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    entries: u64,
    pushes: u64,
    plans: u64,
    devices: u64,
    deliveries: u64,
    schedules: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            latest: AtomicI64::new(i64::MIN),
            noted: AtomicI64::new(i64::MIN),
            swept: Mutex::default(),
        }
    }

    /// Called with the times that are written: a clock may be ahead for less than the time between two looks at it.
    pub(crate) fn heard(&self, now: Timestamp) {
        let now = ms(now);
        if now > self.latest.load(Ordering::Relaxed) {
            self.latest.fetch_max(now, Ordering::Relaxed);
        }
    }
}

/// Writes down how late it is, within a transaction.
pub(crate) async fn note(db: &Db, now: i64) -> Result<(), StoreError> {
    db.exec(
        "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
         SET until = excluded.until WHERE leases.until < excluded.until",
        values![LATEST, Uuid::nil(), now],
    )
    .await
    .map(|_| ())
}

/// Whether some enrollment of a lot has a time ahead of `$1`.
const AHEAD: &str = "SELECT 1 FROM (SELECT 1 AS one) AS base WHERE EXISTS (SELECT 1 FROM queue_entries \
     WHERE finished_at IS NULL AND enrollment_id > $2 AND enrollment_id <= $3 \
     AND (sent_at > $1 OR answered_at > $1 OR created_at > $1)) \
     OR EXISTS (SELECT 1 FROM push_outbox WHERE enrollment_id > $2 AND enrollment_id <= $3 \
     AND (pushed_at > $1 OR lease_until > $1 OR (due_at > $1 AND (attempts > 0 OR NOT again)))) \
     OR EXISTS (SELECT 1 FROM declaration_plan_requests WHERE enrollment_id > $2 AND enrollment_id <= $3 \
     AND (due_at > $1 OR lease_until > $1)) \
     OR EXISTS (SELECT 1 FROM enrollments WHERE id > $2 AND id <= $3 AND last_seen_at > $1)";

/// `$1` is now, and what lies ahead of `$2` is wrong; `$3` and `$4` are the lot. What rests, or was put back, since a time
/// that has not come yet neither rests nor waits.
const RESTS: &str = "UPDATE queue_entries SET \
     retry_at = CASE WHEN CASE state WHEN 'not_now' THEN answered_at ELSE sent_at END > $2 THEN NULL ELSE retry_at END, \
     not_before = CASE WHEN defer_reason IS NOT NULL AND state <> 'held' AND sent_at > $2 AND not_before > $1 THEN $1 \
     ELSE not_before END, \
     sent_at = CASE WHEN sent_at > $2 THEN $1 ELSE sent_at END, \
     answered_at = CASE WHEN answered_at > $2 THEN $1 ELSE answered_at END, \
     stuck_at = CASE WHEN stuck_at > $2 THEN $1 ELSE stuck_at END \
     WHERE finished_at IS NULL AND enrollment_id > $3 AND enrollment_id <= $4 AND (sent_at > $2 OR answered_at > $2) \
     RETURNING enrollment_id";

/// A command that goes out in waves from when it was queued does so from now on.
const WAVES: &str = "UPDATE queue_entries SET not_before = CASE WHEN not_before >= created_at AND EXISTS \
     (SELECT 1 FROM commands c WHERE c.id = queue_entries.command_id AND c.pace IS NOT NULL AND c.not_before IS NULL) \
     THEN $1 + not_before - created_at ELSE not_before END, created_at = $1 \
     WHERE finished_at IS NULL AND enrollment_id > $3 AND enrollment_id <= $4 AND created_at > $2";

/// A push is due when the first of what there is to fetch may be offered. One that is to wake a device again is left alone
/// if the one before it was at a right time.
const PUSHES: &str = concat!(
    "UPDATE push_outbox SET due_at = CASE WHEN due_at > $2 AND (pushed_at > $2 OR lease_until > $2 OR attempts > 0 \
     OR NOT again) THEN COALESCE((SELECT MIN(CASE WHEN ",
    offered_at!(),
    " > $1 THEN ",
    offered_at!(),
    " ELSE $1 END) FROM queue_entries q WHERE q.enrollment_id = push_outbox.enrollment_id AND q.finished_at IS NULL \
     AND q.state <> 'held'), $1) ELSE due_at END, \
     pushed_at = CASE WHEN pushed_at > $2 THEN $1 ELSE pushed_at END, \
     day_start = CASE WHEN day_start > $2 THEN $1 ELSE day_start END, ",
    at_work!(),
    " WHERE enrollment_id > $3 AND enrollment_id <= $4 \
     AND (pushed_at > $2 OR lease_until > $2 OR (due_at > $2 AND (attempts > 0 OR NOT again)))"
);

const PLANS: &str = concat!(
    "UPDATE declaration_plan_requests SET due_at = CASE WHEN due_at > $2 THEN $1 ELSE due_at END, ",
    at_work!(),
    " WHERE enrollment_id > $3 AND enrollment_id <= $4 AND (due_at > $2 OR lease_until > $2)"
);

const SEEN: &str = "UPDATE enrollments SET last_seen_at = $1 WHERE id > $3 AND id <= $4 AND last_seen_at > $2";

/// Whoever is behind a wave that is due early finds out by itself when the next is.
const STEPS: &str = "UPDATE push_waves SET due_at = $1 WHERE due_at > $2";

const DELIVERIES: &str = "UPDATE event_deliveries SET due_at = $1 WHERE parked_at IS NULL AND due_at > $2 AND event_id IN \
     (SELECT event_id FROM event_deliveries WHERE parked_at IS NULL AND due_at > $2 LIMIT 1000)";

/// A schedule of a manifest whose rule is another one begins anew when a node says next what its plugins have to do.
const SCHEDULES: &str = concat!(
    "UPDATE plugin_schedules SET next_try_at = CASE WHEN attempts > 0 AND next_try_at > $2 THEN $1 ELSE next_try_at END, \
     rule = CASE WHEN origin = 'manifest' AND attempts = 0 AND next_try_at > $2 THEN '' ELSE rule END, ",
    at_work!(),
    " WHERE parked_at IS NULL AND (lease_until > $2 OR (next_try_at > $2 AND (attempts > 0 OR origin = 'manifest')))"
);

impl Store {
    /// Looks whether a clock was ahead of `now` and went back, and has done at once what waits for the time before; to be
    /// called every few seconds. Whether it was this process's clock.
    ///
    /// The tables are changed a lot at a time, so that nobody is held up. What fails is done the next time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn follow_clock(&self, now: Timestamp) -> Result<bool, StoreError> {
        let clock = self.clock();
        let mut swept = clock.swept.lock().await;
        clock.heard(now);
        let (at, latest) = (ms(now), clock.latest.load(Ordering::Relaxed));
        let ahead = at.saturating_add(SLACK);
        let known = if swept.for_another.is_none_or(|swept| swept.elapsed() >= OTHERS) {
            self.latest().await?
        } else {
            i64::MIN
        };
        let reason = if latest > ahead {
            // A process that ends half-way leaves it to the next one.
            self.note_latest(latest).await?;
            Reason::Own
        } else if known > ahead {
            Reason::Another
        } else if swept.last.is_some_and(|last| last.elapsed() >= ONCE_MORE) {
            Reason::OnceMore
        } else {
            // The clock was set forward: whoever comes after this process has to know.
            if at.saturating_sub(clock.noted.load(Ordering::Relaxed)) > SLACK {
                self.note_latest(at).await?;
            }
            return Ok(false);
        };
        let moved = self.sweep(at, ahead).await?;
        if reason != Reason::OnceMore || moved != Moved::default() {
            tracing::warn!(
                ahead_seconds = latest.max(known).saturating_sub(at) / 1_000,
                commands = moved.entries,
                pushes = moved.pushes,
                plans = moved.plans,
                devices = moved.devices,
                events = moved.deliveries,
                schedules = moved.schedules,
                "a clock was ahead and went back; what waited for the time before is due now"
            );
        }
        clock.noted.store(at, Ordering::Relaxed);
        // What was heard meanwhile is a reason to look again.
        let _ = clock
            .latest
            .compare_exchange(latest, at, Ordering::Relaxed, Ordering::Relaxed);
        swept.last = (reason != Reason::OnceMore).then(Instant::now);
        if reason == Reason::Another {
            swept.for_another = Some(Instant::now());
        }
        Ok(reason == Reason::Own)
    }

    async fn latest(&self) -> Result<i64, StoreError> {
        let sql = "SELECT until FROM leases WHERE name = $1";
        let row = self.read().one(sql, values![LATEST]).await?;
        row.map_or(Ok(i64::MIN), |row| row.get(0))
    }

    async fn note_latest(&self, latest: i64) -> Result<(), StoreError> {
        self.write(latest, |db, latest| Box::pin(note(db, *latest))).await?;
        self.noted(latest);
        Ok(())
    }

    /// The database has this time.
    pub(crate) fn noted(&self, at: i64) {
        self.clock().noted.store(at, Ordering::Relaxed);
    }

    async fn sweep(&self, now: i64, ahead: i64) -> Result<Moved, StoreError> {
        self.forget_touches_ahead(now, ahead);
        let mut moved = Moved::default();
        let sql = "SELECT MIN(id) - 1, MAX(id) FROM enrollments";
        let row = self.read().row(sql, values![]).await?;
        let (mut after, last) = (row.get::<Option<i64>>(0)?, row.get::<Option<i64>>(1)?.unwrap_or(0));
        while let Some(first) = after.filter(|after| *after < last) {
            let until = first.saturating_add(LOT);
            if self.read().one(AHEAD, values![ahead, first, until]).await?.is_some() {
                let lot = self
                    .write((now, ahead, first, until), |db, (now, ahead, first, until)| {
                        Box::pin(sweep_lot(db, *now, *ahead, *first, *until))
                    })
                    .await?;
                moved.entries += lot.entries;
                moved.pushes += lot.pushes;
                moved.plans += lot.plans;
                moved.devices += lot.devices;
            }
            after = Some(until);
        }
        loop {
            let deliveries = self
                .write((now, ahead), |db, (now, ahead)| {
                    Box::pin(async move {
                        db.ask(Signal::Event);
                        db.exec(DELIVERIES, values![*now, *ahead]).await
                    })
                })
                .await?;
            moved.deliveries += deliveries;
            if deliveries == 0 {
                break;
            }
        }
        moved.schedules = self
            .write((now, ahead), |db, (now, ahead)| {
                Box::pin(sweep_the_rest(db, *now, *ahead))
            })
            .await?;
        Ok(moved)
    }

    /// Last-seen times that are not written yet are only replaced by later ones.
    fn forget_touches_ahead(&self, now: i64, ahead: i64) {
        let mut touched = self.touched().lock().unwrap_or_else(PoisonError::into_inner);
        for seen in touched.values_mut().filter(|seen| **seen > ahead) {
            *seen = now;
        }
    }
}

async fn sweep_lot(db: &Db, now: i64, ahead: i64, first: i64, until: i64) -> Result<Moved, StoreError> {
    let lot = || values![now, ahead, first, until];
    let mut woken = Vec::new();
    for row in db.all(RESTS, lot()).await? {
        woken.push(EnrollmentId(row.get(0)?));
    }
    let entries = woken.len() as u64 + db.exec(WAVES, lot()).await?;
    woken.sort_unstable();
    woken.dedup();
    push::request(db, &woken, crate::db::from_ms(now)?).await?;
    let moved = Moved {
        entries,
        pushes: db.exec(PUSHES, lot()).await?,
        plans: db.exec(PLANS, lot()).await?,
        devices: db.exec(SEEN, lot()).await?,
        ..Moved::default()
    };
    if moved.pushes > 0 {
        db.ask(Signal::Push);
    }
    if moved.plans > 0 {
        db.ask(Signal::Plan);
    }
    Ok(moved)
}

/// Small tables, and last of all what was the reason; how many schedules were changed.
async fn sweep_the_rest(db: &Db, now: i64, ahead: i64) -> Result<u64, StoreError> {
    if db.exec(STEPS, values![now, ahead]).await? > 0 {
        db.ask(Signal::Push);
    }
    let schedules = db.exec(SCHEDULES, values![now, ahead]).await?;
    if schedules > 0 {
        db.ask(Signal::Schedule);
    }
    let sql = "UPDATE nodes SET seen_at = $1 WHERE seen_at > $2";
    db.exec(sql, values![now, ahead]).await?;
    let sql = "DELETE FROM leases WHERE until > $1";
    db.exec(sql, values![ahead]).await?;
    note(db, now).await?;
    Ok(schedules)
}
