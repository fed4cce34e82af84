//! The folder that holds what the server keeps on its machine, and the names of the files in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
}

/// The data directory while this process alone uses it: from [`DataDir::lock`] until this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDirLock {
    // The operating system lets go of the lock when the file is closed.
    _file: File,
}

/// Why the data directory can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It can not be created.
    #[error("the data directory {} can not be created; check data_dir and the permissions of the folder above", path.display())]
    Create {
        /// The data directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file in it can not be written.
    #[error("{} can not be written; the data directory must belong to the user that the server runs as", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the data directory {} is in use by another russet process; stop that one, or set another data_dir", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
}

impl DataDir {
    /// The data directory at `path`, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SQLite database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("russet.sqlite")
    }

    /// The master key.
    #[must_use]
    pub fn master_key(&self) -> PathBuf {
        self.path.join("master.key")
    }

    /// The certificate of the server's own authority, in PEM: what its clients have to trust.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    /// The token of the first administrator.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    /// The compiled plugins.
    #[must_use]
    pub fn plugin_cache(&self) -> PathBuf {
        self.path.join("cache").join("plugins")
    }

    /// Creates the folder, for its owner only, if it does not exist.
    ///
    /// # Errors
    /// [`DataDirError::Create`].
    pub fn create(&self) -> Result<(), DataDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| DataDirError::Create {
                path: self.path.clone(),
                source,
            })
    }

    /// Creates the folder if need be and keeps every other process from using it.
    ///
    /// # Errors
    /// [`DataDirError::InUse`] when another process holds it; the others when it can not be created or written.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        self.create()?;
        let path = self.path.join("lock");
        let failed = |source| DataDirError::Write {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(DataDirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Writes a file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    /// [`DataDirError::Write`].
    pub fn write_private(&self, path: &Path, content: &[u8]) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Write {
            path: path.to_owned(),
            source,
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        // Left over from a process that was killed; a file that exists would keep its permissions.
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed)?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)?;
        // The new name is durable only once its folder is.
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_folder_and_its_files_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("a/b"));
        data.create().unwrap();
        assert_eq!(mode(data.path()), 0o700);

        // Also over a file that others could read, and over what a killed process left behind.
        std::fs::write(data.admin_token(), "old").unwrap();
        std::fs::write(data.path().join("admin-token.part"), "half").unwrap();
        data.write_private(&data.admin_token(), b"token").unwrap();
        assert_eq!(std::fs::read(data.admin_token()).unwrap(), b"token");
        assert_eq!(mode(&data.admin_token()), 0o600);
    }

    #[test]
    fn one_process_at_a_time_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        let lock = data.lock().unwrap();
        let message = data.lock().unwrap_err().to_string();
        assert!(message.contains("in use by another russet process"), "{message}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = DataDir::new(file.join("data")).lock().unwrap_err().to_string();
        assert!(message.contains("file/data can not be created"), "{message}");
    }
}
