//! Leases: work that one node of a cluster does at a time. A holder that dies loses its lease when its time is over.

use jiff::Timestamp;
use uuid::Uuid;

use crate::db::{ms, values};
use crate::error::StoreError;
use crate::store::Store;

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
