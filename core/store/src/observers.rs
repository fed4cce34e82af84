//! What observers have taken and what they have still to take.
//!
//! An observer's cursor says up to where events were taken over into its deliveries. A delivery goes away in the
//! transaction of what the observer wanted done because of it, so that a node which dies in between hands the event over
//! again, and one that does not never does it twice. Deliveries about one enrollment are handed over in the order of their
//! events; one that is given up is parked, and the ones behind it go on.

use jiff::{SignedDuration, Timestamp};

use crate::db::{Db, Sql, id_list, ms, values, words};
use crate::decisions::{NewDecision, record};
use crate::error::StoreError;
use crate::events::{EVENT, EventRecord, event_of};
use crate::ids::{EventId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::signals::Signal;
use crate::store::Store;

/// How many deliveries of one observer may wait before no more events are taken over.
const MAX_WAITING: i64 = 20_000;

/// An event to hand over.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The event.
    pub event: EventRecord,
    /// How often it was handed over before.
    pub attempts: u32,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct ParkedEvent {
    /// The event, and how often it was handed over.
    pub delivery: Delivery,
    /// Why it failed the last time.
    pub error: String,
    /// When it was given up.
    pub parked_at: Timestamp,
}

/// How far an observer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverRecord {
    /// The plugin.
    pub plugin: String,
    /// The last event that was taken over.
    pub position: EventId,
    /// How many events are behind that one; not all of them may be for it.
    pub behind: u64,
    /// How many wait to be handed over, or again.
    pub waiting: u64,
    /// When the oldest of those happened.
    pub oldest_waiting: Option<Timestamp>,
    /// How many were given up.
    pub parked: u64,
    /// Why the last one that waits to be tried again failed.
    pub error: Option<String>,
    /// When a node last had this observer.
    pub seen_at: Timestamp,
}

/// From where events are handed over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// From this event on.
    Event(EventId),
    /// From the first event at or after this time.
    Time(Timestamp),
}

/// Which parked events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// All.
    All,
    /// This one.
    One(EventId),
}

impl Parked {
    /// The condition's value: absent for all.
    fn event(self) -> Option<i64> {
        match self {
            Self::All => None,
            Self::One(event) => Some(event.0),
        }
    }
}

/// `$2` are names, `$3` is the time, `$4` the horizon. An observer that is new begins after the newest event that is
/// certainly there: what happens from now on is for it.
const SEEN: Sql = Sql::per(
    "INSERT INTO event_cursors (tenant_id, plugin, tx, event_id, seen_at, created_at) \
     SELECT $1, name.value, COALESCE(newest.tx, 0), COALESCE(newest.id, 0), $3, $3 FROM json_each($2) AS name \
     LEFT JOIN (SELECT tx, id FROM events WHERE tenant_id = $1 AND tx < $4 ORDER BY tx DESC, id DESC LIMIT 1) AS newest \
     ON TRUE WHERE TRUE ON CONFLICT (tenant_id, plugin) DO UPDATE SET seen_at = excluded.seen_at",
    "INSERT INTO event_cursors (tenant_id, plugin, tx, event_id, seen_at, created_at) \
     SELECT $1, name.value, COALESCE(newest.tx, 0), COALESCE(newest.id, 0), $3, $3 \
     FROM json_array_elements_text($2::json) AS name(value) \
     LEFT JOIN (SELECT tx, id FROM events WHERE tenant_id = $1 AND tx < $4 ORDER BY tx DESC, id DESC LIMIT 1) AS newest \
     ON TRUE ON CONFLICT (tenant_id, plugin) DO UPDATE SET seen_at = excluded.seen_at",
);

/// How long until an event is looked for again that a transaction beside it, which still ran, made uncertain.
const SETTLES: SignedDuration = SignedDuration::from_millis(100);

/// When the next delivery is due, and whether a cursor has an event before it that is not certain yet.
const NEXT_DUE: Sql = Sql::per(
    "SELECT MIN(due_at), FALSE FROM event_deliveries WHERE parked_at IS NULL AND due_at > $1",
    "SELECT (SELECT MIN(due_at) FROM event_deliveries WHERE parked_at IS NULL AND due_at > $1), \
     EXISTS (SELECT 1 FROM event_cursors c WHERE EXISTS (SELECT 1 FROM events e WHERE e.tenant_id = c.tenant_id \
     AND e.tx >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint AND (e.tx, e.id) > (c.tx, c.event_id)))",
);

const DUE: &str = "SELECT c.tenant_id, c.plugin FROM event_cursors c WHERE EXISTS \
     (SELECT 1 FROM events e WHERE e.tenant_id = c.tenant_id AND e.tx < $2 AND (e.tx, e.id) > (c.tx, c.event_id)) \
     OR EXISTS (SELECT 1 FROM event_deliveries d WHERE d.tenant_id = c.tenant_id AND d.plugin = c.plugin \
     AND d.parked_at IS NULL AND d.due_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM event_deliveries b WHERE b.tenant_id = d.tenant_id AND b.plugin = d.plugin \
     AND b.enrollment_id = d.enrollment_id AND b.event_id < d.event_id AND b.parked_at IS NULL)) ORDER BY c.tenant_id, c.plugin";

const TAKE: Sql = Sql::per(
    "INSERT INTO event_deliveries (tenant_id, plugin, event_id, enrollment_id, attempts, due_at) \
     SELECT $2, $3, e.id, e.enrollment_id, 0, $4 FROM json_each($1) AS taken JOIN events e ON e.id = taken.value \
     WHERE TRUE ON CONFLICT DO NOTHING",
    "INSERT INTO event_deliveries (tenant_id, plugin, event_id, enrollment_id, attempts, due_at) \
     SELECT $2, $3, e.id, e.enrollment_id, 0, $4 FROM json_array_elements_text($1::json) AS taken(value) \
     JOIN events e ON e.id = taken.value::bigint ON CONFLICT DO NOTHING",
);

/// The first in line of each enrollment; events about none are in no line.
const NEXT: &str = "FROM event_deliveries d JOIN events e ON e.id = d.event_id \
     LEFT JOIN enrollments n ON n.id = e.enrollment_id \
     WHERE d.tenant_id = $1 AND d.plugin = $2 AND d.parked_at IS NULL AND d.due_at <= $3 \
     AND NOT EXISTS (SELECT 1 FROM event_deliveries b WHERE b.tenant_id = d.tenant_id AND b.plugin = d.plugin \
     AND b.enrollment_id = d.enrollment_id AND b.event_id < d.event_id AND b.parked_at IS NULL) \
     ORDER BY d.event_id LIMIT $4";

impl Store {
    /// Notes that a node has these observers of a tenant; one that is new begins with what happens from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observers_seen(
        &self,
        tenant: TenantId,
        plugins: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let names = serde_json::to_string(&plugins).map_err(|_| StoreError::Corrupt("JSON value"))?;
        self.write((tenant, names, now), |db, (tenant, names, now)| {
            Box::pin(async move {
                let horizon = db.horizon().await?;
                db.exec(SEEN, values![*tenant, names.clone(), ms(*now), horizon])
                    .await
                    .map(|_| ())
            })
        })
        .await
    }

    /// Forgets observers that no node has had since a time, with all that they had still to take.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_observers(&self, before: Timestamp) -> Result<(), StoreError> {
        self.write(before, |db, before| {
            Box::pin(async move {
                db.exec(
                    "DELETE FROM event_deliveries WHERE EXISTS (SELECT 1 FROM event_cursors c \
                     WHERE c.tenant_id = event_deliveries.tenant_id AND c.plugin = event_deliveries.plugin \
                     AND c.seen_at < $1)",
                    values![ms(*before)],
                )
                .await?;
                db.exec("DELETE FROM event_cursors WHERE seen_at < $1", values![ms(*before)])
                    .await
                    .map(|_| ())
            })
        })
        .await
    }

    /// The observers that have something to take now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observers_due(&self, now: Timestamp) -> Result<Vec<(TenantId, String)>, StoreError> {
        self.clock().heard(now);
        let horizon = self.read().horizon().await?;
        let rows = self.read().all(DUE, values![ms(now), horizon]).await?;
        rows.iter()
            .map(|row| Ok((TenantId(row.get(0)?), row.get(1)?)))
            .collect()
    }

    /// The next time after this one at which there may be something to do that nobody announces: a delivery is tried
    /// again, or an event can be taken that could not be yet. `None` when nothing waits for a time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observers_next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let row = self.read().row(NEXT_DUE, values![ms(now)]).await?;
        let settles = now.checked_add(SETTLES).ok().filter(|_| row.get(1).unwrap_or(false));
        Ok(row.time_opt(0)?.into_iter().chain(settles).min())
    }

    /// Takes the next events over into an observer's deliveries, those whose kind is wanted; how many events were looked
    /// at. At most `limit`; none while very many wait.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observer_take(
        &self,
        tenant: TenantId,
        plugin: &str,
        wanted: impl Fn(&str) -> bool + Send,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(cursor) = cursor(self.read(), tenant, plugin).await? else {
            return Ok(0);
        };
        let waiting: i64 = self
            .read()
            .row(
                "SELECT COUNT(*) FROM event_deliveries WHERE tenant_id = $1 AND plugin = $2 AND parked_at IS NULL",
                values![tenant, plugin],
            )
            .await?
            .get(0)?;
        if waiting >= MAX_WAITING {
            return Ok(0);
        }
        let horizon = self.read().horizon().await?;
        let rows = self
            .read()
            .all(
                "SELECT tx, id, kind FROM events WHERE tenant_id = $1 AND tx < $2 AND (tx, id) > ($3, $4) \
                 ORDER BY tx, id LIMIT $5",
                values![tenant, horizon, cursor.0, cursor.1, i64::from(limit.max(1))],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(0) };
        let last: (i64, i64) = (last.get(0)?, last.get(1)?);
        let mut taken = Vec::new();
        for row in &rows {
            if wanted(&row.get::<String>(2)?) {
                taken.push(row.get(1)?);
            }
        }
        let looked_at = rows.len() as u64;
        let input = (tenant, plugin.to_owned(), cursor, last, id_list(taken), now);
        let moved = self
            .write(input, |db, (tenant, plugin, from, to, taken, now)| {
                Box::pin(async move {
                    let moved = db
                        .exec(
                            "UPDATE event_cursors SET tx = $5, event_id = $6 \
                             WHERE tenant_id = $1 AND plugin = $2 AND tx = $3 AND event_id = $4",
                            values![*tenant, plugin.as_str(), from.0, from.1, to.0, to.1],
                        )
                        .await?;
                    if moved > 0 {
                        let values = values![taken.clone(), *tenant, plugin.as_str(), ms(*now)];
                        db.exec(TAKE, values).await?;
                    }
                    Ok(moved > 0)
                })
            })
            .await?;
        // Somebody set the cursor meanwhile: there may be more, from there.
        Ok(if moved { looked_at } else { 1 })
    }

    /// Events to hand over now: of each enrollment the first that waits, if its time has come.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn observer_next(
        &self,
        tenant: TenantId,
        plugin: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = self
            .read()
            .all(
                format!("SELECT {EVENT}, d.attempts {NEXT}"),
                values![tenant, plugin, ms(now), i64::from(limit)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Delivery {
                    event: event_of(row)?,
                    attempts: attempts(row.get(7)?),
                })
            })
            .collect()
    }

    /// The observer took the event: what it wants done is done, and the event is not handed over again. `false`, and
    /// nothing is done, if another node was faster or the event was dropped.
    ///
    /// # Errors
    /// When the database fails; then nothing of it happened.
    pub async fn observer_done(
        &self,
        tenant: TenantId,
        plugin: &str,
        event: EventId,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (tenant, plugin.to_owned(), event, decisions, now);
        self.write(input, |db, (tenant, plugin, event, decisions, now)| {
            Box::pin(async move {
                let taken = db
                    .exec(
                        "DELETE FROM event_deliveries WHERE tenant_id = $1 AND plugin = $2 AND event_id = $3 \
                         AND parked_at IS NULL",
                        values![*tenant, plugin.as_str(), *event],
                    )
                    .await?;
                if taken == 0 {
                    return Ok(false);
                }
                record(db, *tenant, None, decisions, *now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// The observer failed: the event is handed over again at `retry_at`, or parked if there is no such time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observer_failed(
        &self,
        tenant: TenantId,
        plugin: &str,
        failure: ObserverFailure,
        decisions: Vec<NewDecision>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let input = (tenant, plugin.to_owned(), failure, decisions, now);
        self.write(input, |db, (tenant, plugin, failure, decisions, now)| {
            Box::pin(async move {
                let due = failure.retry_at.unwrap_or(*now);
                let parked = failure.retry_at.is_none().then_some(ms(*now));
                db.exec(
                    "UPDATE event_deliveries SET attempts = $4, due_at = $5, error = $6, parked_at = $7 \
                     WHERE tenant_id = $1 AND plugin = $2 AND event_id = $3 AND parked_at IS NULL",
                    values![
                        *tenant,
                        plugin.as_str(),
                        failure.event,
                        i64::from(failure.attempts),
                        ms(due),
                        words(&failure.error),
                        parked,
                    ],
                )
                .await?;
                record(db, *tenant, None, decisions, *now).await
            })
        })
        .await
    }

    /// How far a tenant's observers are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn observers(&self, tenant: TenantId) -> Result<Vec<ObserverRecord>, StoreError> {
        let rows = self
            .read()
            .all(
                "SELECT c.plugin, c.event_id, c.seen_at, \
                 (SELECT COUNT(*) FROM events e WHERE e.tenant_id = c.tenant_id AND (e.tx, e.id) > (c.tx, c.event_id)), \
                 (SELECT COUNT(*) FROM event_deliveries d WHERE d.tenant_id = c.tenant_id AND d.plugin = c.plugin \
                  AND d.parked_at IS NULL), \
                 (SELECT MIN(e.created_at) FROM event_deliveries d JOIN events e ON e.id = d.event_id \
                  WHERE d.tenant_id = c.tenant_id AND d.plugin = c.plugin AND d.parked_at IS NULL), \
                 (SELECT COUNT(*) FROM event_deliveries d WHERE d.tenant_id = c.tenant_id AND d.plugin = c.plugin \
                  AND d.parked_at IS NOT NULL), \
                 (SELECT d.error FROM event_deliveries d WHERE d.tenant_id = c.tenant_id AND d.plugin = c.plugin \
                  AND d.parked_at IS NULL AND d.error IS NOT NULL ORDER BY d.event_id LIMIT 1) \
                 FROM event_cursors c WHERE c.tenant_id = $1 ORDER BY c.plugin",
                values![tenant],
            )
            .await?;
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        rows.iter()
            .map(|row| {
                Ok(ObserverRecord {
                    plugin: row.get(0)?,
                    position: EventId(row.get(1)?),
                    seen_at: row.time(2)?,
                    behind: count(row.get(3)?),
                    waiting: count(row.get(4)?),
                    oldest_waiting: row.time_opt(5)?,
                    parked: count(row.get(6)?),
                    error: row.get(7)?,
                })
            })
            .collect()
    }

    /// The events that an observer's node gave up, oldest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn parked_events(
        &self,
        tenant: TenantId,
        plugin: &str,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<ParkedEvent>, StoreError> {
        let rows = self
            .read()
            .all(
                format!(
                    "SELECT {EVENT}, d.attempts, d.error, d.parked_at FROM event_deliveries d \
                     JOIN events e ON e.id = d.event_id LEFT JOIN enrollments n ON n.id = e.enrollment_id \
                     WHERE d.tenant_id = $1 AND d.plugin = $2 AND d.parked_at IS NOT NULL AND d.event_id > $3 \
                     ORDER BY d.event_id LIMIT $4"
                ),
                values![tenant, plugin, after.map_or(0, |cursor| cursor.0), probe(limit)],
            )
            .await?;
        let parked = rows
            .iter()
            .map(|row| {
                Ok(ParkedEvent {
                    delivery: Delivery {
                        event: event_of(row)?,
                        attempts: attempts(row.get(7)?),
                    },
                    error: row.get::<Option<String>>(8)?.unwrap_or_default(),
                    parked_at: row.time(9)?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Page::cut(parked, limit, |parked: &ParkedEvent| {
            parked.delivery.event.id.0
        }))
    }

    /// Hands parked events over again, from the first try; how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_parked(
        &self,
        tenant: TenantId,
        plugin: &str,
        which: Parked,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let input = (tenant, plugin.to_owned(), which, now);
        self.write(input, |db, (tenant, plugin, which, now)| {
            Box::pin(async move {
                db.ask(Signal::Event);
                db.exec(
                    "UPDATE event_deliveries SET parked_at = NULL, attempts = 0, due_at = $3 \
                     WHERE tenant_id = $1 AND plugin = $2 AND parked_at IS NOT NULL \
                     AND (CAST($4 AS BIGINT) IS NULL OR event_id = $4)",
                    values![*tenant, plugin.as_str(), ms(*now), which.event()],
                )
                .await
            })
        })
        .await
    }

    /// Forgets parked events; how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_parked(&self, tenant: TenantId, plugin: &str, which: Parked) -> Result<u64, StoreError> {
        self.write((tenant, plugin.to_owned(), which), |db, (tenant, plugin, which)| {
            Box::pin(async move {
                db.exec(
                    "DELETE FROM event_deliveries WHERE tenant_id = $1 AND plugin = $2 AND parked_at IS NOT NULL \
                     AND (CAST($3 AS BIGINT) IS NULL OR event_id = $3)",
                    values![*tenant, plugin.as_str(), which.event()],
                )
                .await
            })
        })
        .await
    }

    /// Sets an observer's cursor back, so that it is handed everything again from a point on that is still kept; how many
    /// events lie there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the tenant has no such observer.
    pub async fn replay_events(
        &self,
        tenant: TenantId,
        plugin: &str,
        from: ReplayFrom,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let input = (tenant, plugin.to_owned(), from, now);
        self.write(input, |db, (tenant, plugin, from, now)| {
            Box::pin(replay(db, *tenant, plugin, *from, *now))
        })
        .await
    }
}

/// An observer's failure on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverFailure {
    /// The event.
    pub event: EventId,
    /// How often it was handed over, with this time.
    pub attempts: u32,
    /// Why it failed.
    pub error: String,
    /// When it is tried again; `None` to give it up.
    pub retry_at: Option<Timestamp>,
}

fn attempts(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

async fn cursor(db: &Db, tenant: TenantId, plugin: &str) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT tx, event_id FROM event_cursors WHERE tenant_id = $1 AND plugin = $2";
    let row = db.one(sql, values![tenant, plugin]).await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

async fn replay(db: &Db, tenant: TenantId, plugin: &str, from: ReplayFrom, now: Timestamp) -> Result<u64, StoreError> {
    let before = cursor(db, tenant, plugin)
        .await?
        .ok_or(StoreError::NotFound("observer"))?;
    let first = match from {
        ReplayFrom::Event(event) => {
            let sql = "SELECT tx, id FROM events WHERE tenant_id = $1 AND id >= $2 ORDER BY tx, id LIMIT 1";
            db.one(sql, values![tenant, event]).await?
        }
        ReplayFrom::Time(time) => {
            let sql = "SELECT tx, id FROM events WHERE tenant_id = $1 AND created_at >= $2 ORDER BY tx, id LIMIT 1";
            db.one(sql, values![tenant, ms(time)]).await?
        }
    };
    let Some(first) = first else { return Ok(0) };
    let (tx, id): (i64, i64) = (first.get(0)?, first.get(1)?);
    if (tx, id - 1) > before {
        return Ok(0);
    }
    let again: i64 = db
        .row(
            "SELECT COUNT(*) FROM events WHERE tenant_id = $1 AND (tx, id) >= ($2, $3) AND (tx, id) <= ($4, $5)",
            values![tenant, tx, id, before.0, before.1],
        )
        .await?
        .get(0)?;
    // What waits or is parked from there on is handed over with the rest, from the first try.
    db.exec(
        "UPDATE event_deliveries SET parked_at = NULL, attempts = 0, due_at = $4 \
         WHERE tenant_id = $1 AND plugin = $2 AND event_id IN \
         (SELECT id FROM events WHERE tenant_id = $1 AND (tx, id) >= ($3, $5))",
        values![tenant, plugin, tx, ms(now), id],
    )
    .await?;
    db.exec(
        "UPDATE event_cursors SET tx = $3, event_id = $4 WHERE tenant_id = $1 AND plugin = $2",
        values![tenant, plugin, tx, id - 1],
    )
    .await?;
    db.ask(Signal::Event);
    Ok(u64::try_from(again).unwrap_or_default())
}
