//! The data keys of a database: as rows, wrapped, and in memory.

use aws_lc_rs::aead::RandomizedNonceKey;
use zeroize::Zeroizing;

use super::{FORMAT_FIRST, MasterKey, cipher, open, random, seal, split};
use crate::db::{Db, values};
use crate::error::StoreError;
use crate::ids::words;

/// The number of the key that a database begins with.
pub(super) const FIRST: u32 = 1;

words! {
    /// What a data key is used for.
    DataKeyState {
        /// It seals what is sealed from now on.
        Sealing = "sealing",
        /// It opens values: it will seal soon, or values under it are being sealed anew.
        Readable = "readable",
        /// It opens what was kept outside the tables; nothing in them is under it any more.
        Retired = "retired",
    }
}

/// A data key, without the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Its number: 1 for the first of a database.
    pub number: u32,
    /// What it is used for.
    pub state: DataKeyState,
    /// Whether it is wrapped by a second master key: a change of the master key is under way.
    pub master_changing: bool,
}

/// A data key as the database has it.
#[derive(Clone)]
pub(crate) struct KeyRow {
    pub(crate) number: u32,
    pub(crate) state: DataKeyState,
    pub(crate) wrapped: Vec<u8>,
    /// By the master key that is to come.
    pub(crate) next_wrapped: Option<Vec<u8>>,
}

/// All data keys, by number.
pub(crate) async fn key_rows(db: &Db) -> Result<Vec<KeyRow>, StoreError> {
    let sql = "SELECT number, state, wrapped, next_wrapped FROM vault_keys ORDER BY number";
    db.all(sql, values![])
        .await?
        .iter()
        .map(|row| {
            Ok(KeyRow {
                number: u32::try_from(row.get::<i64>(0)?).map_err(|_| StoreError::Corrupt("data key"))?,
                state: row.word(1, DataKeyState::from_word, "state of a data key")?,
                wrapped: row.get(2)?,
                next_wrapped: row.get(3)?,
            })
        })
        .collect()
}

/// The only data key of a database from before there were several.
pub(crate) async fn first_key_row(db: &Db) -> Result<Vec<KeyRow>, StoreError> {
    let rows = db
        .all("SELECT wrapped FROM vault_keys WHERE name = 'data'", values![])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(KeyRow {
                number: FIRST,
                state: DataKeyState::Sealing,
                wrapped: row.get(0)?,
                next_wrapped: None,
            })
        })
        .collect()
}

/// The name of a key's row.
pub(super) fn name(number: u32) -> String {
    match number {
        FIRST => "data".to_owned(),
        number => format!("data-{number}"),
    }
}

/// The additional data of a wrapped data key.
fn binding(number: u32) -> String {
    format!("russet data key {number}")
}

pub(super) fn wrap(master: &MasterKey, number: u32, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    seal(&cipher(&master.0)?, &[FORMAT_FIRST], binding(number).as_bytes(), key).ok_or(StoreError::Sealed("data key"))
}

pub(super) fn wrap_fresh(master: &MasterKey, number: u32) -> Result<Vec<u8>, StoreError> {
    let key = Zeroizing::new(random::<32>().map_err(|_| StoreError::Sealed("data key"))?);
    wrap(master, number, key.as_slice())
}

/// The key itself; `None` when the master key does not fit.
pub(super) fn unwrap(
    master: &MasterKey,
    number: u32,
    wrapped: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let Some((_, body)) = split(wrapped) else {
        return Ok(None);
    };
    Ok(open(&cipher(&master.0)?, binding(number).as_bytes(), body))
}

impl KeyRow {
    /// The key itself, by whichever of its wrappings this master key opens.
    pub(super) fn unwrap(&self, master: &MasterKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        for wrapped in std::iter::once(&self.wrapped).chain(&self.next_wrapped) {
            if let Some(key) = unwrap(master, self.number, wrapped)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

/// The keys in memory.
pub(super) struct Keys {
    pub(super) generation: i64,
    sealing: u32,
    ciphers: Vec<(u32, RandomizedNonceKey)>,
}

impl Keys {
    /// `None` when the master key does not open them all.
    pub(super) fn unwrap(master: &MasterKey, rows: &[KeyRow]) -> Result<Option<Self>, StoreError> {
        let mut ciphers = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(key) = row.unwrap(master)? else {
                return Ok(None);
            };
            ciphers.push((row.number, cipher(&key)?));
        }
        Ok(Some(Self {
            generation: generation(rows),
            sealing: sealing(rows).ok_or(StoreError::Corrupt("data key"))?,
            ciphers,
        }))
    }

    pub(super) fn get(&self, number: u32) -> Option<&RandomizedNonceKey> {
        self.ciphers
            .iter()
            .find(|(own, _)| *own == number)
            .map(|(_, cipher)| cipher)
    }

    pub(super) fn sealing(&self) -> Option<(u32, &RandomizedNonceKey)> {
        self.get(self.sealing).map(|cipher| (self.sealing, cipher))
    }

    /// Whether they are the keys of these rows.
    pub(super) fn are(&self, rows: &[KeyRow]) -> bool {
        self.generation == generation(rows) && self.ciphers.len() == rows.len()
    }
}

pub(super) fn sealing(rows: &[KeyRow]) -> Option<u32> {
    rows.iter()
        .find(|row| row.state == DataKeyState::Sealing)
        .map(|row| row.number)
}

/// Grows with each step of a rotation: when a key is there, and when it seals.
pub(super) fn generation(rows: &[KeyRow]) -> i64 {
    rows.iter()
        .map(|row| known(row.number) + i64::from(row.state == DataKeyState::Sealing))
        .max()
        .unwrap_or(0)
}

/// The generation of who knows a key that does not seal yet.
pub(super) fn known(number: u32) -> i64 {
    i64::from(number) * 2
}
