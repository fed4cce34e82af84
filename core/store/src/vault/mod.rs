//! Sealing of secrets: AES-256-GCM under data keys, which the database keeps wrapped by a master key.
//!
//! The additional data of each sealed value names its tenant, kind and row, so that a value that is copied to another
//! row does not open. There is one data key that seals; others, from before a rotation, still open (see `rotation`). A
//! sealed value says which key it is under.
//!
//! What is in `columns` apart, the vault knows nothing of tables; the aggregates say what a value is bound to.

pub(crate) mod columns;
mod keys;
mod kind;
mod master;
mod reseal;
mod rotation;

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

pub use keys::{DataKey, DataKeyState};
use keys::{FIRST, Keys};
pub(crate) use keys::{KeyRow, first_key_row, key_rows};
pub(crate) use kind::{Binding, Kind};
pub use master::MasterKey;
pub use rotation::{MasterKeyChange, Resealed, RotateError, RotationStep};

use crate::error::StoreError;

/// The first byte of a value under the first data key.
const FORMAT_FIRST: u8 = 1;

/// The first byte of a value under a later data key; the key's number follows.
const FORMAT_NUMBERED: u8 = 2;

/// How long what a value begins with is, when it is under a later data key.
const NUMBERED_LEN: usize = 5;

/// Seals and opens values under the data keys.
pub(crate) struct Vault {
    master: MasterKey,
    keys: RwLock<Arc<Keys>>,
    /// The row of this process in the list of nodes, where it says which keys it has.
    node: OnceLock<String>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// A fresh data key, the first of its database, wrapped by the master key.
    pub(crate) fn new_wrapped_key(master: &MasterKey) -> Result<Vec<u8>, StoreError> {
        keys::wrap_fresh(master, FIRST)
    }

    /// The vault of a database's keys; `None` when the master key does not fit.
    pub(crate) fn unwrap(master: &MasterKey, rows: &[KeyRow]) -> Result<Option<Self>, StoreError> {
        let Some(keys) = Keys::unwrap(master, rows)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            master: master.clone(),
            keys: RwLock::new(Arc::new(keys)),
            node: OnceLock::new(),
        }))
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// What this process has of the keys, as a number that grows with each step of a rotation.
    pub(crate) fn generation(&self) -> i64 {
        self.keys().generation
    }

    pub(crate) fn seal(&self, binding: Binding<'_>, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let keys = self.keys();
        let failed = StoreError::Sealed(binding.kind.as_str());
        let (number, key) = keys.sealing().ok_or_else(|| failed.clone())?;
        seal(key, &header(number), &binding.bytes(), secret).ok_or(failed)
    }

    pub(crate) fn open(&self, binding: Binding<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let failed = StoreError::Sealed(binding.kind.as_str());
        let (number, body) = split(sealed).ok_or_else(|| failed.clone())?;
        let keys = self.keys();
        let Some(key) = keys.get(number) else {
            return Err(StoreError::DataKeyUnknown);
        };
        open(key, &binding.bytes(), body).ok_or(failed)
    }
}

/// What a value under a key begins with.
fn header(number: u32) -> Vec<u8> {
    if number == FIRST {
        return vec![FORMAT_FIRST];
    }
    let mut header = Vec::with_capacity(NUMBERED_LEN);
    header.push(FORMAT_NUMBERED);
    header.extend_from_slice(&number.to_be_bytes());
    header
}

/// The number of the key that a value is under, and what follows it.
fn split(sealed: &[u8]) -> Option<(u32, &[u8])> {
    match sealed.split_first()? {
        (&FORMAT_FIRST, body) => Some((FIRST, body)),
        (&FORMAT_NUMBERED, rest) => {
            let (number, body) = rest.split_first_chunk::<4>()?;
            Some((u32::from_be_bytes(*number), body)).filter(|(number, _)| *number > FIRST)
        }
        _ => None,
    }
}

fn random<const N: usize>() -> Result<[u8; N], aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(bytes)
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey, StoreError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| StoreError::Sealed("key"))
}

/// Header, nonce, ciphertext, tag.
fn seal(key: &RandomizedNonceKey, header: &[u8], aad: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(secret.len() + AES_256_GCM.tag_len());
    body.extend_from_slice(secret);
    let nonce = key.seal_in_place_append_tag(Aad::from(aad), &mut body).ok()?;
    let mut sealed = Vec::with_capacity(header.len() + NONCE_LEN + body.len());
    sealed.extend_from_slice(header);
    sealed.extend_from_slice(nonce.as_ref());
    sealed.extend_from_slice(&body);
    Some(sealed)
}

/// Opens what follows the header.
fn open(key: &RandomizedNonceKey, aad: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = body.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ids::TenantId;
    use crate::secrets::SecretKind;

    fn row(number: u32, state: DataKeyState, wrapped: Vec<u8>) -> KeyRow {
        KeyRow {
            number,
            state,
            wrapped,
            next_wrapped: None,
        }
    }

    fn master() -> MasterKey {
        MasterKey::from_bytes([7; 32])
    }

    fn vault() -> Vault {
        let wrapped = Vault::new_wrapped_key(&master()).unwrap();
        Vault::unwrap(&master(), &[row(1, DataKeyState::Sealing, wrapped)])
            .unwrap()
            .unwrap()
    }

    fn binding(row: &str) -> Binding<'_> {
        Binding {
            tenant: TenantId(1),
            kind: Kind::Secret(SecretKind::CaKey),
            row,
        }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let vault = vault();
        let sealed = vault.seal(binding("a"), b"secret").unwrap();
        assert_eq!(vault.open(binding("a"), &sealed).unwrap().as_slice(), b"secret");
        assert!(vault.open(binding("b"), &sealed).is_err());
        let elsewhere = [
            Binding {
                tenant: TenantId(2),
                ..binding("a")
            },
            Binding {
                kind: Kind::Secret(SecretKind::TlsKey),
                ..binding("a")
            },
        ];
        for elsewhere in elsewhere {
            assert!(vault.open(elsewhere, &sealed).is_err(), "{elsewhere:?}");
        }
        // The parts are not run together.
        let one = Binding {
            kind: Kind::Command,
            ..binding("sa")
        };
        let other = Binding {
            kind: Kind::Command,
            ..binding("s")
        };
        assert_ne!(one.bytes(), other.bytes());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (first, numbered) = (vault(), two_keys());
        for vault in [first, numbered] {
            let sealed = vault.seal(binding("a"), b"secret").unwrap();
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(vault.open(binding("a"), &changed).is_err(), "byte {at}");
            }
            for length in 0..sealed.len() {
                assert!(vault.open(binding("a"), &sealed[..length]).is_err(), "cut to {length}");
            }
        }
    }

    fn two_keys() -> Vault {
        let rows = [
            row(1, DataKeyState::Readable, keys::wrap_fresh(&master(), 1).unwrap()),
            row(2, DataKeyState::Sealing, keys::wrap_fresh(&master(), 2).unwrap()),
        ];
        Vault::unwrap(&master(), &rows).unwrap().unwrap()
    }

    #[test]
    fn values_under_an_earlier_key_still_open() {
        let wrapped = Vault::new_wrapped_key(&master()).unwrap();
        let before = [row(1, DataKeyState::Sealing, wrapped.clone())];
        let before = Vault::unwrap(&master(), &before).unwrap().unwrap();
        let old = before.seal(binding("a"), b"secret").unwrap();
        let rows = [
            row(1, DataKeyState::Readable, wrapped),
            row(2, DataKeyState::Sealing, keys::wrap_fresh(&master(), 2).unwrap()),
        ];
        let after = Vault::unwrap(&master(), &rows).unwrap().unwrap();
        assert_eq!(after.open(binding("a"), &old).unwrap().as_slice(), b"secret");
        let new = after.seal(binding("a"), b"secret").unwrap();
        assert_eq!(split(&new).unwrap().0, 2);
        assert_eq!(after.open(binding("a"), &new).unwrap().as_slice(), b"secret");
        // Who has not heard of the key yet says so, and does not call the value broken.
        assert!(matches!(
            before.open(binding("a"), &new),
            Err(StoreError::DataKeyUnknown)
        ));
        assert!(before.generation() < after.generation());
    }

    #[test]
    fn a_key_that_was_put_in_the_place_of_another_does_not_unwrap() {
        let swapped = [row(2, DataKeyState::Sealing, keys::wrap_fresh(&master(), 3).unwrap())];
        assert!(Vault::unwrap(&master(), &swapped).unwrap().is_none());
    }

    #[test]
    fn another_master_key_does_not_unwrap() {
        let wrapped = Vault::new_wrapped_key(&master()).unwrap();
        let other = MasterKey::from_bytes([8; 32]);
        let rows = [row(1, DataKeyState::Sealing, wrapped)];
        assert!(Vault::unwrap(&other, &rows).unwrap().is_none());
    }

    #[test]
    fn every_sort_has_its_column_in_the_list() {
        let mut kinds = vec![
            Kind::Command,
            Kind::Result,
            Kind::RecordedCall,
            Kind::PushKey,
            Kind::PluginSecret,
            Kind::PluginKey,
            Kind::HandedOut,
            Kind::Secret(SecretKind::CaKey),
        ];
        kinds.push(Kind::Escrow(crate::escrow::EscrowKind::BootstrapToken));
        let mut named: Vec<_> = kinds
            .iter()
            .filter_map(|kind| kind.column())
            .map(|column| column.table)
            .collect();
        let mut listed: Vec<_> = columns::ALL.iter().map(|column| column.table).collect();
        named.sort_unstable();
        listed.sort_unstable();
        assert_eq!(named, listed);
    }
}
