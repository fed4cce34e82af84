//! Sealing of secrets: AES-256-GCM under a data key, which the database keeps wrapped by a master key.
//!
//! The additional data of each sealed value names its tenant, kind and row, so that a value that is copied to another
//! row does not open. The vault knows nothing of tables; the aggregates say what a value is bound to.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{MasterKeyError, StoreError};
use crate::ids::TenantId;

/// The first byte of every sealed value: how the rest is to be read.
const FORMAT: u8 = 1;

/// The additional data of the wrapped data key.
const WRAP: &[u8] = b"russet data key 1";

/// The key that wraps the data key. It comes from a file, the environment or a key service, and never from the
/// database.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 32 bytes in standard base64, as an environment variable holds them. Surrounding white space is ignored.
    ///
    /// # Errors
    /// [`MasterKeyError::Format`] when the text is something else.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| MasterKeyError::Format)?);
        bytes
            .as_slice()
            .try_into()
            .map(Self)
            .map_err(|_| MasterKeyError::Format)
    }

    /// A fresh random key.
    ///
    /// # Errors
    /// [`MasterKeyError::Random`] when the system gives no random bytes.
    pub fn generate() -> Result<Self, MasterKeyError> {
        random().map(Self).map_err(|_| MasterKeyError::Random)
    }

    /// Reads the key from `path`, or creates the file, readable by its owner only, with a fresh key.
    ///
    /// # Errors
    /// When the file cannot be read or created, holds something else, or can be read by others.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::File {
            path: path.to_owned(),
            source,
        };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let key = Self::generate()?;
                let mut text = Zeroizing::new(STANDARD.encode(key.0));
                text.push('\n');
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(failed)?;
                // The name of a new file is durable only once its folder is.
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    File::open(folder)
                        .and_then(|folder| folder.sync_all())
                        .map_err(failed)?;
                }
                Ok(key)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let mut file = File::open(path).map_err(failed)?;
                if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
                    return Err(MasterKeyError::Permissions { path: path.to_owned() });
                }
                let mut text = Zeroizing::new(String::new());
                file.read_to_string(&mut text).map_err(failed)?;
                Self::from_base64(&text)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// What a sealed value is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) tenant: TenantId,
    /// Names the sort of secret, and the secret in errors.
    pub(crate) kind: &'static str,
    /// Names the row within its kind.
    pub(crate) row: &'a str,
}

impl Binding<'_> {
    /// Length-prefixed, so that no two bindings have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.kind.len() + self.row.len());
        bytes.extend_from_slice(&self.tenant.0.to_be_bytes());
        for part in [self.kind, self.row] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// Seals and opens values under the data key.
pub(crate) struct Vault {
    key: RandomizedNonceKey,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// A fresh data key, wrapped by the master key.
    pub(crate) fn new_wrapped_key(master: &MasterKey) -> Result<Vec<u8>, StoreError> {
        let data_key = Zeroizing::new(random::<32>().map_err(|_| StoreError::Sealed("data key"))?);
        seal(&cipher(&master.0)?, WRAP, data_key.as_slice()).ok_or(StoreError::Sealed("data key"))
    }

    /// The vault of a wrapped data key; `None` when the master key does not fit.
    pub(crate) fn unwrap(master: &MasterKey, wrapped: &[u8]) -> Result<Option<Self>, StoreError> {
        let Some(data_key) = open(&cipher(&master.0)?, WRAP, wrapped) else {
            return Ok(None);
        };
        Ok(Some(Self {
            key: cipher(&data_key)?,
        }))
    }

    pub(crate) fn seal(&self, binding: Binding<'_>, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        seal(&self.key, &binding.bytes(), secret).ok_or(StoreError::Sealed(binding.kind))
    }

    pub(crate) fn open(&self, binding: Binding<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        open(&self.key, &binding.bytes(), sealed).ok_or(StoreError::Sealed(binding.kind))
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

/// Format byte, nonce, ciphertext, tag.
fn seal(key: &RandomizedNonceKey, aad: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(secret.len() + AES_256_GCM.tag_len());
    body.extend_from_slice(secret);
    let nonce = key.seal_in_place_append_tag(Aad::from(aad), &mut body).ok()?;
    let mut sealed = Vec::with_capacity(1 + NONCE_LEN + body.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(nonce.as_ref());
    sealed.extend_from_slice(&body);
    Some(sealed)
}

fn open(key: &RandomizedNonceKey, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (&format, rest) = sealed.split_first()?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    if format != FORMAT {
        return None;
    }
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

    fn vault() -> Vault {
        let master = MasterKey::from_bytes([7; 32]);
        Vault::unwrap(&master, &Vault::new_wrapped_key(&master).unwrap())
            .unwrap()
            .unwrap()
    }

    fn binding(row: &str) -> Binding<'_> {
        Binding {
            tenant: TenantId(1),
            kind: "ca-key",
            row,
        }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let vault = vault();
        let sealed = vault.seal(binding("a"), b"secret").unwrap();
        assert_eq!(vault.open(binding("a"), &sealed).unwrap().as_slice(), b"secret");
        assert!(vault.open(binding("b"), &sealed).is_err());
        assert!(
            vault
                .open(
                    Binding {
                        tenant: TenantId(2),
                        ..binding("a")
                    },
                    &sealed
                )
                .is_err()
        );
        assert!(
            vault
                .open(
                    Binding {
                        kind: "ca-ke",
                        row: "ya",
                        ..binding("a")
                    },
                    &sealed
                )
                .is_err()
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let vault = vault();
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

    #[test]
    fn another_master_key_does_not_unwrap() {
        let wrapped = Vault::new_wrapped_key(&MasterKey::from_bytes([7; 32])).unwrap();
        assert!(
            Vault::unwrap(&MasterKey::from_bytes([8; 32]), &wrapped)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_master_key_file_is_private_and_stable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let created = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().0, created.0);

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            MasterKey::load_or_create(&path),
            Err(MasterKeyError::Permissions { .. })
        ));
    }

    #[test]
    fn a_master_key_is_32_bytes_of_base64() {
        assert!(MasterKey::from_base64(&STANDARD.encode([1; 32])).is_ok());
        for bad in ["", "abc", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            assert!(
                matches!(MasterKey::from_base64(bad), Err(MasterKeyError::Format)),
                "{bad:?}"
            );
        }
    }
}
