//! The key that wraps the data keys: where it comes from, and what its file must be like.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::MasterKeyError;

/// The key that wraps the data keys. It comes from a file, the environment or a key service, and never from the
/// database.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey(pub(super) [u8; 32]);

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
        super::random().map(Self).map_err(|_| MasterKeyError::Random)
    }

    /// Reads the key from a file that exists.
    ///
    /// # Errors
    /// When the file cannot be read, holds something else, or can be read by others.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(MasterKeyError::Permissions { path: path.to_owned() });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(failed)?;
        Self::from_base64(&text)
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
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_master_key_file_is_private_and_stable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(MasterKey::load(&path), Err(MasterKeyError::File { .. })));
        let created = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().0, created.0);
        assert_eq!(MasterKey::load(&path).unwrap().0, created.0);

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
