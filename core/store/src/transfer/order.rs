//! The order of events and decisions, when a database comes to another PostgreSQL cluster or to another back end.
//!
//! Rows that commit out of order are put in order by the number of their transaction (see [`crate::db::HORIZON`]), and
//! such a number means nothing elsewhere: in a fresh cluster, to which a dump was restored, the next transactions have
//! lower numbers than the rows that are there, and observers would miss what they write. So what is there gets the number
//! 0, which is before all transactions, and is in the order of its ids from then on.

use sea_orm::{ConnectionTrait, DbBackend};

use crate::db::{Db, values};
use crate::error::StoreError;

/// Whether rows are from transactions that this cluster has not had.
const FOREIGN: &str = "SELECT (EXISTS (SELECT 1 FROM event_cursors c, now_at WHERE c.tx >= now_at.next) \
     OR EXISTS (SELECT 1 FROM decisions d, now_at WHERE d.chain_seq IS NULL AND d.tx >= now_at.next) \
     OR EXISTS (SELECT 1 FROM tenants t, now_at WHERE (SELECT e.tx FROM events e WHERE e.tenant_id = t.id \
     ORDER BY e.tx DESC, e.id DESC LIMIT 1) >= now_at.next))";

/// The number that the cluster's next transaction has, or a later one.
const NOW_AT: &str =
    "WITH now_at AS MATERIALIZED (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next)";

/// Of what an observer has not taken, the first by id is the next: some of what follows it it may get again, which its
/// deliveries know of, and nothing is left out.
const CURSORS: &str = "UPDATE event_cursors SET tx = 0, event_id = COALESCE(\
     (SELECT MIN(e.id) - 1 FROM events e WHERE e.tenant_id = event_cursors.tenant_id \
      AND (e.tx, e.id) > (event_cursors.tx, event_cursors.event_id)), \
     (SELECT MAX(e.id) FROM events e WHERE e.tenant_id = event_cursors.tenant_id), event_id)";

/// Brings a database that came from another cluster in order, if it did.
pub(crate) async fn settle_if_foreign(db: &Db) -> Result<(), StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let foreign: bool = db.row(format!("{NOW_AT} {FOREIGN}"), values![]).await?.get(0)?;
    if foreign {
        tracing::info!("the database comes from another cluster; what it holds is put in order");
        settle(db).await?;
    }
    Ok(())
}

/// Puts everything that is there before all transactions to come. No server may run.
pub(crate) async fn settle(db: &Db) -> Result<(), StoreError> {
    db.exec(CURSORS, values![]).await?;
    db.exec("UPDATE events SET tx = 0 WHERE tx <> 0", values![]).await?;
    let sql = "UPDATE decisions SET tx = 0 WHERE chain_seq IS NULL AND tx <> 0";
    db.exec(sql, values![]).await.map(|_| ())
}
