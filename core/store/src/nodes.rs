//! The servers that share this database, and which generation of plugins each of them runs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::db::{ms, values};
use crate::error::StoreError;
use crate::store::Store;

/// How long a node that no longer reports is remembered.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A server process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identifier: another one after each start.
    pub id: String,
    /// What its operator calls it.
    pub name: String,
    /// The generation of plugins that it runs, by tenant.
    pub generations: BTreeMap<String, u64>,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it reported last.
    pub seen_at: Timestamp,
}

impl Store {
    /// Notes that a node runs, and what, and how late it is there. Nodes that have not reported for a day are forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn report_node(&self, node: NodeRecord) -> Result<(), StoreError> {
        let keys = self.keys_of_node(&node.id);
        let seen_at = node.seen_at;
        self.clock().heard(seen_at);
        self.write((node, keys), |db, (node, keys)| {
            Box::pin(async move {
                let generations =
                    serde_json::to_string(&node.generations).map_err(|_| StoreError::Corrupt("generation"))?;
                db.exec(
                    "INSERT INTO nodes (id, name, generations, started_at, seen_at, vault_generation) \
                     VALUES ($1, $2, $3, $4, $5, $6) \
                     ON CONFLICT (id) DO UPDATE SET name = excluded.name, generations = excluded.generations, \
                     seen_at = excluded.seen_at, vault_generation = excluded.vault_generation",
                    values![
                        node.id.clone(),
                        node.name.clone(),
                        generations,
                        ms(node.started_at),
                        ms(node.seen_at),
                        *keys
                    ],
                )
                .await?;
                clock::note(db, ms(node.seen_at)).await?;
                let forgotten = node.seen_at.checked_sub(FORGOTTEN_AFTER).map_or(i64::MIN, ms);
                let sql = "DELETE FROM nodes WHERE seen_at < $1";
                db.exec(sql, values![forgotten]).await.map(|_| ())
            })
        })
        .await?;
        self.noted(ms(seen_at));
        Ok(())
    }

    /// Takes a node off the list, as it does itself when it stops.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_node(&self, id: &str) -> Result<(), StoreError> {
        self.write(id.to_owned(), |db, id| {
            Box::pin(async move {
                let sql = "DELETE FROM nodes WHERE id = $1";
                db.exec(sql, values![id.clone()]).await.map(|_| ())
            })
        })
        .await
    }

    /// The nodes that reported within the time, by name.
    ///
    /// # Errors
    /// When the database fails or a row does not read back.
    pub async fn nodes(&self, within: Duration, now: Timestamp) -> Result<Vec<NodeRecord>, StoreError> {
        let since = SignedDuration::try_from(within)
            .ok()
            .and_then(|within| now.checked_sub(within).ok())
            .map_or(i64::MIN, ms);
        let rows = self
            .read()
            .all(
                "SELECT id, name, generations, started_at, seen_at FROM nodes WHERE seen_at >= $1 ORDER BY name, id",
                values![since],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(NodeRecord {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    generations: serde_json::from_value(row.json(2)?)
                        .map_err(|_| StoreError::Corrupt("generation of a node"))?,
                    started_at: row.time(3)?,
                    seen_at: row.time(4)?,
                })
            })
            .collect()
    }
}
