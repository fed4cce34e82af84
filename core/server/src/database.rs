//! The database of a server, for work on it without the server: what the configuration says of it, and nothing that a
//! start would make.

use std::path::{Path, PathBuf};
use std::time::Duration;

use russet_store::{MasterKey, MasterKeyError, OpenError, Retention, Schema, Store, StoreConfig, schema_of};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::parts;

/// How long a statement of such work may take: it looks through whole tables, and no device waits for it.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The database can not be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// There is nothing in it.
    #[error("there is no database yet; it is made when the server is started for the first time")]
    Absent,
    /// It has the tables of an older version.
    #[error("the database has the tables of an older version ({0}); start a server of this version on it once")]
    Older(String),
    /// It has the tables of a newer version.
    #[error("the database has the tables of a newer version ({0}); use that version's program")]
    Newer(String),
    /// The master key can not be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The database can not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Where a server's data is, and what guards it.
#[derive(Debug)]
pub struct Database {
    config: StoreConfig,
    retention: Retention,
    master_key: Key,
}

#[derive(Debug)]
enum Key {
    Given(Result<MasterKey, MasterKeyError>),
    File(PathBuf),
}

impl Database {
    /// The database of the server that the configuration describes.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let data_dir = DataDir::new(&config.data_dir);
        let secrets = &config.secrets;
        let master_key = match (&secrets.master_key, &secrets.master_key_file) {
            (Some(key), _) => Key::Given(MasterKey::from_base64(key.expose())),
            (None, Some(path)) => Key::File(path.clone()),
            (None, None) => Key::File(data_dir.master_key()),
        };
        Self {
            config: parts::store(config, &data_dir),
            retention: parts::retention(config),
            master_key,
        }
    }

    /// Its URL. May hold a password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.config.url
    }

    /// How long things are kept in it.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// The file of the master key, if it is in one.
    #[must_use]
    pub fn master_key_file(&self) -> Option<&Path> {
        match &self.master_key {
            Key::Given(_) => None,
            Key::File(path) => Some(path),
        }
    }

    /// The master key, which has to exist.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn master_key(&self) -> Result<MasterKey, MasterKeyError> {
        match &self.master_key {
            Key::Given(Ok(key)) => Ok(key.clone()),
            Key::Given(Err(_)) => Err(MasterKeyError::Format),
            Key::File(path) => MasterKey::load(path),
        }
    }

    /// Opens it as it is: it is neither made nor brought to another version. Servers may use it meanwhile.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open(&self) -> Result<Store, DatabaseError> {
        match schema_of(&self.config.url).await? {
            Schema::Same(_) => {}
            Schema::Absent => return Err(DatabaseError::Absent),
            Schema::Older(step) => return Err(DatabaseError::Older(step)),
            Schema::Newer(step) => return Err(DatabaseError::Newer(step)),
        }
        let config = StoreConfig {
            statement_timeout: PATIENCE,
            ..self.config.clone()
        };
        Ok(Store::open(config, &self.master_key()?).await?)
    }
}
