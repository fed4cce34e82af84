//! Changing keys while servers run.
//!
//! The master key: every data key is wrapped by the new one beside the old one, in one transaction; servers are started
//! with the new one, one after the other; then the old wrapping goes. Both open the database in between, so that it does not
//! matter where a crash happens.
//!
//! The data key: a fresh one is put in for reading; when all nodes have it, it seals; when all nodes seal with it,
//! everything is sealed anew. Each step is a transaction that can be found in the rows, so that a rotation that was
//! interrupted goes on where it stood.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::MasterKey;
use super::columns::ALL;
use super::keys::{self, DataKey, DataKeyState, Keys, generation, key_rows, known, sealing, wrap_fresh};
use crate::db::{Db, ms, values};
use crate::error::StoreError;
use crate::store::Store;

/// How long after its last report a node is taken for gone. More than three of its reports.
const ALIVE: SignedDuration = SignedDuration::from_secs(35);

/// How often it is looked whether all nodes have followed.
const LOOK: Duration = Duration::from_millis(250);

/// The most passes over the tables: one finds what was written during the one before.
const PASSES: u32 = 5;

/// A key could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data keys have a second wrapping by a key that is not the given one.
    #[error(
        "another change of the master key is under way; finish it first (start the servers with that key, then rotate-key \
         --finish)"
    )]
    OtherMasterKey,
    /// The new master key is the one that is in use.
    #[error("this is the master key that is in use already; name a file that does not exist, and it gets a fresh key")]
    SameMasterKey,
    /// The old master key was given where the new one is needed.
    #[error(
        "the configured master key is still the old one; set secrets.master_key_file to the new one, start the servers \
         with it, and finish then"
    )]
    StillOldMasterKey,
    /// A data key is not made while the master key is being changed.
    #[error("a change of the master key is under way; finish it first, with rotate-key --finish")]
    MasterKeyChanging,
    /// Some nodes do not have the new data key.
    #[error(
        "these servers have not taken over the data key: {}; stop or restart them (with this version and the present \
         master key) and run it again, it goes on from here", nodes.join(", ")
    )]
    NodesBehind {
        /// Their names.
        nodes: Vec<String>,
    },
    /// A rotation was begun and did not end.
    #[error("a rotation of the data key is not finished; run rotate-key --data-key, it goes on where it was")]
    Unfinished,
    /// Values in the tables are under a key that was to be forgotten.
    #[error(
        "{count} sealed values in the table {table} are not under the present data key; rotate-key --data-key seals what \
         opens anew, and what does not open has to be deleted or deposited again"
    )]
    StillUsed {
        /// Where.
        table: &'static str,
        /// How many.
        count: u64,
    },
}

/// What became of a change of the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterKeyChange {
    /// From now on, both master keys open the database.
    Begun,
    /// Both did already.
    UnderWay,
    /// From now on, only the present master key opens the database.
    Finished,
    /// Only the present one did already.
    Nothing,
}

/// How far a rotation of the data key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// The nodes are waited for that have not followed yet.
    Waiting {
        /// Their names.
        nodes: Vec<String>,
    },
    /// Values are being sealed anew.
    Sealing {
        /// The table.
        table: &'static str,
        /// How many of its rows were looked at.
        rows: u64,
    },
}

/// What a rotation of the data key did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// The number of the data key that seals now.
    pub number: u32,
    /// Whether it went on with a rotation that had been interrupted.
    pub resumed: bool,
    /// How many values were sealed anew.
    pub values: u64,
    /// How many do not open and stay as they are.
    pub unreadable: u64,
}

impl Store {
    /// The data keys, by number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn data_keys(&self) -> Result<Vec<DataKey>, StoreError> {
        let rows = key_rows(self.read()).await?;
        Ok(rows
            .iter()
            .map(|row| DataKey {
                number: row.number,
                state: row.state,
                master_changing: row.next_wrapped.is_some(),
            })
            .collect())
    }

    /// Lets another master key open the database too.
    ///
    /// # Errors
    /// See [`RotateError`]; then nothing has changed.
    pub async fn begin_master_key(&self, new: &MasterKey) -> Result<MasterKeyChange, RotateError> {
        self.write((self.vault().master.clone(), new.clone()), |db, (present, new)| {
            Box::pin(async move {
                let rows = key_rows(db).await?;
                if rows.iter().any(|row| row.next_wrapped.is_some()) {
                    for row in &rows {
                        let next = row.next_wrapped.as_deref().unwrap_or_default();
                        if keys::unwrap(new, row.number, next)?.is_none() {
                            return Ok(Err(RotateError::OtherMasterKey));
                        }
                    }
                    return Ok(Ok(MasterKeyChange::UnderWay));
                }
                for row in &rows {
                    if keys::unwrap(new, row.number, &row.wrapped)?.is_some() {
                        return Ok(Err(RotateError::SameMasterKey));
                    }
                    let key = row.unwrap(present)?.ok_or(StoreError::Sealed("data key"))?;
                    let wrapped = keys::wrap(new, row.number, &key)?;
                    let sql = "UPDATE vault_keys SET next_wrapped = $1 WHERE number = $2";
                    db.exec(sql, values![wrapped, i64::from(row.number)]).await?;
                }
                Ok(Ok(MasterKeyChange::Begun))
            })
        })
        .await?
    }

    /// Takes the old master key away. This store was opened with the new one.
    ///
    /// # Errors
    /// See [`RotateError`]; then nothing has changed.
    pub async fn finish_master_key(&self) -> Result<MasterKeyChange, RotateError> {
        self.write(self.vault().master.clone(), |db, present| {
            Box::pin(async move {
                let rows = key_rows(db).await?;
                if rows.iter().all(|row| row.next_wrapped.is_none()) {
                    return Ok(Ok(MasterKeyChange::Nothing));
                }
                for row in &rows {
                    let next = row.next_wrapped.as_deref().unwrap_or_default();
                    if keys::unwrap(present, row.number, next)?.is_none() {
                        return Ok(Err(RotateError::StillOldMasterKey));
                    }
                }
                let sql = "UPDATE vault_keys SET wrapped = next_wrapped, next_wrapped = NULL";
                db.exec(sql, values![]).await?;
                Ok(Ok(MasterKeyChange::Finished))
            })
        })
        .await?
    }

    /// Puts a fresh data key in use and seals everything anew under it. Goes on with a rotation that was interrupted.
    /// `now` is asked while nodes are waited for, each time at most `patience` long.
    ///
    /// # Errors
    /// See [`RotateError`]; what is done stays, and the next call goes on from there.
    pub async fn rotate_data_key(
        &self,
        now: impl Fn() -> Timestamp + Send,
        patience: Duration,
        mut tell: impl FnMut(RotationStep) + Send,
    ) -> Result<Resealed, RotateError> {
        let (number, resumed) = self
            .write(self.vault().master.clone(), |db, master| {
                Box::pin(async move { introduce(db, master).await })
            })
            .await??;
        self.followed(known(number), &now, patience, &mut tell).await?;
        self.write(number, |db, number| {
            Box::pin(async move {
                let sql = "UPDATE vault_keys SET state = CASE WHEN number = $1 THEN 'sealing' ELSE 'readable' END \
                           WHERE state <> 'retired'";
                db.exec(sql, values![i64::from(*number)]).await
            })
        })
        .await?;
        self.followed(known(number) + 1, &now, patience, &mut tell).await?;
        let mut resealed = Resealed {
            number,
            resumed,
            ..Resealed::default()
        };
        for _ in 0..PASSES {
            let before = resealed.values;
            resealed.unreadable = 0;
            for column in ALL {
                let table = column.table;
                let mut told = |rows| tell(RotationStep::Sealing { table, rows });
                let pass = self.reseal(column, number, &mut told).await?;
                resealed.values += pass.resealed;
                resealed.unreadable += pass.unreadable;
            }
            if resealed.values == before {
                break;
            }
        }
        self.write(number, |db, number| {
            Box::pin(async move {
                let sql = "UPDATE vault_keys SET state = 'retired' WHERE state = 'readable' AND number < $1";
                db.exec(sql, values![i64::from(*number)]).await
            })
        })
        .await?;
        Ok(resealed)
    }

    /// Deletes the data keys that nothing in the tables is under; their numbers.
    ///
    /// # Errors
    /// [`RotateError::Unfinished`] and [`RotateError::StillUsed`]; then nothing was deleted.
    pub async fn forget_retired_keys(&self) -> Result<Vec<u32>, RotateError> {
        let rows = key_rows(self.read()).await?;
        let state = |state| rows.iter().filter(move |row| row.state == state).map(|row| row.number);
        let retired: Vec<u32> = state(DataKeyState::Retired).collect();
        if state(DataKeyState::Readable).next().is_some() {
            return Err(RotateError::Unfinished);
        }
        let Some(present) = sealing(&rows).filter(|_| !retired.is_empty()) else {
            return Ok(retired);
        };
        for column in ALL {
            let count = self.not_under(column, present).await?;
            if count > 0 {
                let table = column.table;
                return Err(RotateError::StillUsed { table, count });
            }
        }
        self.write(present, |db, present| {
            Box::pin(async move {
                let sql = "DELETE FROM vault_keys WHERE state = 'retired' AND number < $1";
                db.exec(sql, values![i64::from(*present)]).await
            })
        })
        .await?;
        Ok(retired)
    }

    /// Takes over what became of the keys; whether this process has them all.
    pub(crate) async fn refresh_keys(&self) -> Result<bool, StoreError> {
        let rows = key_rows(self.read()).await?;
        let vault = self.vault();
        if vault.keys().are(&rows) {
            return Ok(true);
        }
        let Some(keys) = Keys::unwrap(&vault.master, &rows)? else {
            tracing::error!("a data key was wrapped by another master key; restart this server with the present one");
            return Ok(false);
        };
        vault.set_keys(keys);
        if let Some(node) = vault.node.get() {
            self.write((node.clone(), generation(&rows)), |db, (node, generation)| {
                Box::pin(async move {
                    let sql = "UPDATE nodes SET vault_generation = $2 WHERE id = $1";
                    db.exec(sql, values![node.clone(), *generation]).await
                })
            })
            .await?;
        }
        Ok(true)
    }

    /// Notes that this process is the node, which is told to others with the keys that it has.
    pub(crate) fn keys_of_node(&self, node: &str) -> i64 {
        // One process is one node, for as long as it runs.
        let _ = self.vault().node.set(node.to_owned());
        self.vault().generation()
    }

    /// Waits until this process and all nodes have followed the keys so far.
    async fn followed(
        &self,
        generation: i64,
        now: &(impl Fn() -> Timestamp + Send),
        patience: Duration,
        tell: &mut (impl FnMut(RotationStep) + Send),
    ) -> Result<(), RotateError> {
        self.refresh_keys().await?;
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let nodes = self.nodes_behind(generation, now()).await?;
            if nodes.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(RotateError::NodesBehind { nodes });
            }
            tell(RotationStep::Waiting { nodes });
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn nodes_behind(&self, generation: i64, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let since = now.checked_sub(ALIVE).map_or(i64::MIN, ms);
        let sql = "SELECT name FROM nodes WHERE seen_at >= $1 AND COALESCE(vault_generation, 0) < $2 ORDER BY name, id";
        let rows = self.read().all(sql, values![since, generation]).await?;
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// The key that is to seal, and whether an earlier call put it in already.
async fn introduce(db: &Db, master: &MasterKey) -> Result<Result<(u32, bool), RotateError>, StoreError> {
    let rows = key_rows(db).await?;
    if rows.iter().any(|row| row.next_wrapped.is_some()) {
        return Ok(Err(RotateError::MasterKeyChanging));
    }
    let newest = rows.iter().map(|row| row.number).max().unwrap_or(0);
    if rows.iter().any(|row| row.state == DataKeyState::Readable) {
        return Ok(Ok((newest, true)));
    }
    let number = newest.checked_add(1).ok_or(StoreError::Corrupt("data key"))?;
    let wrapped = wrap_fresh(master, number)?;
    let sql = "INSERT INTO vault_keys (name, wrapped, number, state) VALUES ($1, $2, $3, 'readable')";
    db.exec(sql, values![keys::name(number), wrapped, i64::from(number)])
        .await?;
    // A program that knows of one data key only would take its absence for a first start.
    let sql = "UPDATE schema_floor SET level = $1 WHERE level < $1";
    db.exec(sql, values![i64::from(FLOOR)]).await?;
    Ok(Ok((number, false)))
}

/// The step of the schema that brought several data keys.
const FLOOR: u32 = 11;
