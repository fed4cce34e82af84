//! Leases: work that one node of a cluster does at a time. A holder that dies loses its lease when its time is over.

use jiff::Timestamp;
use uuid::Uuid;

use crate::clock;
use crate::db::{ms, values};
use crate::error::StoreError;
use crate::store::Store;

/// What a process that ended had in its hands.
const LEFT_OVER: [&str; 3] = [
    "UPDATE push_outbox SET lease_until = NULL, claim = NULL WHERE lease_until IS NOT NULL",
    "UPDATE declaration_plan_requests SET lease_until = NULL, claim = NULL WHERE lease_until IS NOT NULL",
    "UPDATE plugin_schedules SET lease_until = NULL, claim = NULL WHERE lease_until IS NOT NULL",
];

impl Store {
    /// Takes a lease, or prolongs the holder's own; whether the holder has it now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lease(&self, name: &str, holder: Uuid, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        self.write(
            (name.to_owned(), holder, until, now),
            |db, (name, holder, until, now)| {
                Box::pin(async move {
                    let taken = db
                        .exec(
                            "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
                         SET holder = excluded.holder, until = excluded.until \
                         WHERE leases.holder = excluded.holder OR leases.until <= $4",
                            values![name.clone(), *holder, ms(*until), ms(*now)],
                        )
                        .await?;
                    Ok(taken > 0)
                })
            },
        )
        .await
    }

    /// Ends what leases there are when a server begins to work on a database that only one server works on, as on SQLite:
    /// whoever had them is gone, and nobody waits for their time. How many they were. On PostgreSQL other servers may be
    /// at work, so leases stay there until their time is over.
    ///
    /// Not for a process that only looks, such as the command line.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_leases(&self) -> Result<u64, StoreError> {
        if !self.read().is_sqlite() {
            return Ok(0);
        }
        self.write((), |db, ()| {
            Box::pin(async move {
                let mut ended = 0;
                for sql in LEFT_OVER {
                    ended += db.exec(sql, values![]).await?;
                }
                let sql = "DELETE FROM leases WHERE name <> $1";
                Ok(ended + db.exec(sql, values![clock::LATEST]).await?)
            })
        })
        .await
    }

    /// Gives a lease back before its time, if the holder has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_lease(&self, name: &str, holder: Uuid) -> Result<(), StoreError> {
        self.write((name.to_owned(), holder), |db, (name, holder)| {
            Box::pin(async move {
                let sql = "DELETE FROM leases WHERE name = $1 AND holder = $2";
                db.exec(sql, values![name.clone(), *holder]).await.map(|_| ())
            })
        })
        .await
    }
}
