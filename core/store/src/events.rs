//! Events: what happened, written in the transaction that made it happen, for observers to take afterwards.
//!
//! What nobody wants is not written: see [`Observed`](crate::signals::Observed).
//! Rows may become visible in another order than their ids (PostgreSQL), so that readers go by transaction first and stop
//! before the oldest one that still runs: see [`HORIZON`](crate::db::HORIZON).

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::db::{Db, HORIZON, Row, Sql, ms, values};
use crate::error::StoreError;
use crate::ids::{EnrollmentId, EventId, TenantId};
use crate::page::{Cursor, Page, probe};
use crate::signals::{Signal, Wanted};
use crate::store::Store;

/// Something that happened, for a write that is told what to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What, such as `escrow.released`.
    pub kind: String,
    /// The enrollment that it is about; filled in by a write that makes or names one.
    pub enrollment: Option<EnrollmentId>,
    /// More: an object.
    pub detail: Json,
    /// How many plugins caused one another until it happened.
    pub depth: u8,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// Its number.
    pub id: EventId,
    /// What happened.
    pub kind: String,
    /// The enrollment that it is about.
    pub enrollment: Option<EnrollmentId>,
    /// The enrollment's key.
    pub enrollment_key: Option<String>,
    /// More: an object.
    pub detail: Json,
    /// How many plugins caused one another until it happened.
    pub depth: u8,
    /// When.
    pub created_at: Timestamp,
}

/// Which events to list; the default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those about this enrollment.
    pub enrollment: Option<EnrollmentId>,
    /// Only this kind.
    pub kind: Option<String>,
}

/// The columns of [`event_of`], of `events e` and `enrollments n`.
pub(crate) const EVENT: &str = "e.id, e.kind, e.enrollment_id, n.enrollment_key, e.detail, e.depth, e.created_at";

pub(crate) fn event_of(row: &Row) -> Result<EventRecord, StoreError> {
    Ok(EventRecord {
        id: EventId(row.get(0)?),
        kind: row.get(1)?,
        enrollment: row.get::<Option<i64>>(2)?.map(EnrollmentId),
        enrollment_key: row.get(3)?,
        detail: row.json(4)?,
        depth: u8::try_from(row.get::<i64>(5)?).unwrap_or(u8::MAX),
        created_at: row.time(6)?,
    })
}

impl Store {
    /// Events of a tenant that are still kept, newest first.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn events(
        &self,
        tenant: TenantId,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<EventRecord>, StoreError> {
        let mut sql = format!(
            "SELECT {EVENT} FROM events e LEFT JOIN enrollments n ON n.id = e.enrollment_id \
             WHERE e.tenant_id = $1 AND e.id < $2"
        );
        let mut values = values![tenant, after.map_or(i64::MAX, |cursor| cursor.0), probe(limit)];
        for (column, value) in [
            ("e.enrollment_id", filter.enrollment.map(|id| id.0.into())),
            ("e.kind", filter.kind.clone().map(sea_orm::Value::from)),
        ] {
            if let Some(value) = value {
                values.push(value);
                sql.push_str(&format!(" AND {column} = ${}", values.len()));
            }
        }
        sql.push_str(" ORDER BY e.id DESC LIMIT $3");
        let rows = self.read().all(sql, values).await?;
        let events = rows.iter().map(event_of).collect::<Result<_, _>>()?;
        Ok(Page::cut(events, limit, |event: &EventRecord| event.id.0))
    }

    /// Throws away events from before a time that every observer has taken and nothing waits for; a thousand at a time.
    pub(crate) async fn purge_events(&self, before: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let deleted = self
                .write(before, |db, before| {
                    Box::pin(async move {
                        let horizon = db.horizon().await?;
                        db.exec(PURGE, values![*before, horizon]).await
                    })
                })
                .await?;
            total += deleted;
            if deleted == 0 {
                return Ok(total);
            }
        }
    }
}

const PURGE: &str = "DELETE FROM events WHERE id IN (SELECT e.id FROM events e \
     WHERE e.created_at <= $1 AND e.tx < $2 \
     AND NOT EXISTS (SELECT 1 FROM event_deliveries d WHERE d.event_id = e.id) \
     AND NOT EXISTS (SELECT 1 FROM event_cursors c WHERE c.tenant_id = e.tenant_id \
     AND (c.tx, c.event_id) < (e.tx, e.id)) LIMIT 1000)";

const INSERT: &str = "INSERT INTO events (tenant_id, enrollment_id, kind, detail, depth, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";

const FAN_OUT: &str = "INSERT INTO events (tenant_id, enrollment_id, kind, detail, depth, created_at) \
     SELECT tenant_id, enrollment_id, $2, $3, $4, $5 FROM queue_entries WHERE command_id = $1 RETURNING id";

/// A command was queued.
const QUEUED: &str = "command.queued";

/// A cursor right before an event, for observers that have none.
const FIRST_OF: Sql = Sql::per(
    "INSERT INTO event_cursors (tenant_id, plugin, tx, event_id, seen_at, created_at) \
     SELECT e.tenant_id, name.value, e.tx, e.id - 1, $3, $3 FROM events e, json_each($2) AS name \
     WHERE e.id = $1 ON CONFLICT DO NOTHING",
    "INSERT INTO event_cursors (tenant_id, plugin, tx, event_id, seen_at, created_at) \
     SELECT e.tenant_id, name.value, e.tx, e.id - 1, $3, $3 \
     FROM events e, json_array_elements_text($2::json) AS name(value) WHERE e.id = $1 ON CONFLICT DO NOTHING",
);

/// Tells of something in its own transaction, if anybody wants to know; the detail is made only then. Whether it was told.
pub(crate) async fn tell(
    db: &Db,
    tenant: TenantId,
    enrollment: Option<EnrollmentId>,
    kind: &str,
    detail: impl FnOnce() -> Json,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(wanted) = db.wanted(tenant, kind) else {
        return Ok(false);
    };
    let values = values![
        tenant,
        enrollment.map(|id| id.0),
        kind,
        detail().to_string(),
        i64::from(db.depth()),
        ms(now),
    ];
    let id = db.row(INSERT, values).await?.get(0)?;
    begin(db, &wanted, id, now).await?;
    Ok(true)
}

/// Tells of several things that a write was told of.
pub(crate) async fn record(
    db: &Db,
    tenant: TenantId,
    enrollment: Option<EnrollmentId>,
    events: &[NewEvent],
    now: Timestamp,
) -> Result<(), StoreError> {
    for event in events {
        let _depth = db.at_depth(event.depth);
        let about = event.enrollment.or(enrollment);
        tell(db, tenant, about, &event.kind, || event.detail.clone(), now).await?;
    }
    Ok(())
}

/// Tells of a command, of each enrollment whose queue has it now.
pub(crate) async fn tell_queued(
    db: &Db,
    tenant: TenantId,
    command: i64,
    detail: impl FnOnce() -> Json,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(wanted) = db.wanted(tenant, QUEUED) else {
        return Ok(());
    };
    let values = values![command, QUEUED, detail().to_string(), i64::from(db.depth()), ms(now),];
    let rows = db.all(FAN_OUT, values).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    match ids.into_iter().min() {
        Some(first) => begin(db, &wanted, first, now).await,
        None => Ok(()),
    }
}

async fn begin(db: &Db, wanted: &Wanted, id: i64, now: Timestamp) -> Result<(), StoreError> {
    if !wanted.first_of.is_empty() {
        let names = serde_json::to_string(&wanted.first_of).map_err(|_| StoreError::Corrupt("JSON value"))?;
        db.exec(FIRST_OF, values![id, names, ms(now)]).await?;
    }
    db.ask(Signal::Event);
    Ok(())
}

impl Db {
    /// Rows of transactions before this one are all there, and no more of them can come.
    pub(crate) async fn horizon(&self) -> Result<i64, StoreError> {
        self.row(HORIZON, values![]).await?.get(0)
    }
}
