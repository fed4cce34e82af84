//! A copy of an SQLite database while servers use it, and the look at such a copy before it takes the place of a database.
//!
//! The copy is a snapshot that SQLite makes itself; it is checked before it gets its name. The master key is never in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use crate::db::{Db, values};
use crate::error::{OpenError, StoreError};
use crate::migration::names;
use crate::store::{Scheme, scheme};
use crate::transfer::{file_of, schema};
use crate::vault::{MasterKey, Vault, key_rows};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A backup could not be made, or can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database is on PostgreSQL, which has tools of its own.
    #[error("a PostgreSQL database is backed up and restored with PostgreSQL's own tools")]
    Postgres,
    /// The URL can not be used.
    #[error(transparent)]
    Url(#[from] OpenError),
    /// The database can not be opened.
    #[error("{} cannot be opened as an SQLite database", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: StoreError,
    },
    /// There is a file of this name.
    #[error("{} exists already; name a file that does not", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file can not be read or written.
    #[error("{} cannot be read or written; check the path, the permissions and the room on the disk", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database failed.
    #[error("the snapshot could not be made")]
    Snapshot(#[source] StoreError),
    /// The file is damaged.
    #[error("{} is damaged ({problem}); use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found first.
        problem: String,
    },
    /// The file is a database of something else.
    #[error("{} is no database of this program", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The backup is of a newer version.
    #[error("{} has the tables of a newer version ({step}); restore it with that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// A step that this program does not know.
        step: String,
    },
    /// Its secrets were sealed under another master key.
    #[error("the configured master key does not open {}; give the one that was in use when it was made", path.display())]
    WrongMasterKey {
        /// The file.
        path: PathBuf,
    },
}

/// A file that holds a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// How large it is.
    pub bytes: u64,
    /// The last step of its schema.
    pub schema: String,
}

/// The file of an SQLite database.
///
/// # Errors
/// [`BackupError::Postgres`], and [`BackupError::Url`] for what is neither.
pub fn sqlite_file(url: &str) -> Result<PathBuf, BackupError> {
    match scheme(url)? {
        Scheme::Sqlite => Ok(file_of(url)),
        Scheme::Postgres => Err(BackupError::Postgres),
    }
}

/// Writes a snapshot of an SQLite database to a file that does not exist, for its owner only. Servers may use the database
/// meanwhile. The file has its name only when it is whole, checked and on the disk.
///
/// # Errors
/// See [`BackupError`]; the file does not exist then.
pub async fn backup_database(url: &str, out: &Path) -> Result<BackupInfo, BackupError> {
    let database = sqlite_file(url)?;
    if !database.is_file() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(BackupError::File { path: database, source });
    }
    if out.exists() {
        return Err(BackupError::Exists { path: out.to_owned() });
    }
    let part = beside(out, "part");
    let failed = |source| BackupError::File {
        path: part.clone(),
        source,
    };
    // Left over from one that was killed.
    remove(&part).map_err(failed)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    file.map_err(failed)?;
    let made = snapshot(&database, &part).await;
    let info = match made {
        Ok(()) => look(&part).await,
        Err(error) => Err(error),
    };
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            // The error is what counts.
            let _ = remove(&part);
            return Err(error);
        }
    };
    File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
    // Unlike a renaming, this takes no other file's place.
    std::fs::hard_link(&part, out)
        .and_then(|()| remove(&part))
        .and_then(|()| sync_folder(out))
        .map_err(failed)?;
    Ok(info)
}

async fn snapshot(database: &Path, part: &Path) -> Result<(), BackupError> {
    let connection = open(database, Use::Live).await?;
    let target = part.to_string_lossy().into_owned();
    let made = Db::pool(connection.clone())
        .exec("VACUUM INTO $1", values![target])
        .await;
    close(connection).await;
    made.map(|_| ()).map_err(BackupError::Snapshot)
}

/// What a file holds that is to be restored, after a look at all of it.
///
/// # Errors
/// See [`BackupError`].
pub async fn inspect_backup(path: &Path, master: &MasterKey) -> Result<BackupInfo, BackupError> {
    let info = look(path).await?;
    let connection = open(path, Use::Still).await?;
    let db = Db::pool(connection.clone());
    let fits = fits(&db, master).await;
    close(connection).await;
    match fits {
        Ok(true) => Ok(info),
        Ok(false) => Err(BackupError::WrongMasterKey { path: path.to_owned() }),
        Err(source) => Err(BackupError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

async fn fits(db: &Db, master: &MasterKey) -> Result<bool, StoreError> {
    let version: Vec<String> = schema::steps(db).await?;
    // Before there were several data keys, there was one.
    let rows = if version.iter().any(|step| step == "m0011_keys") {
        key_rows(db).await?
    } else {
        crate::vault::first_key_row(db).await?
    };
    Ok(!rows.is_empty() && Vault::unwrap(master, &rows)?.is_some())
}

/// Integrity and version.
async fn look(path: &Path) -> Result<BackupInfo, BackupError> {
    let bytes = std::fs::metadata(path).map_err(|source| BackupError::File {
        path: path.to_owned(),
        source,
    })?;
    let connection = open(path, Use::Still).await?;
    let looked = look_at(path, &Db::pool(connection.clone())).await;
    close(connection).await;
    Ok(BackupInfo {
        bytes: bytes.len(),
        schema: looked?,
    })
}

async fn look_at(path: &Path, db: &Db) -> Result<String, BackupError> {
    let failed = |source| BackupError::Open {
        path: path.to_owned(),
        source,
    };
    let check = db.row("PRAGMA integrity_check(1)", values![]).await.map_err(failed)?;
    let said: String = check.get(0).map_err(failed)?;
    if said != "ok" {
        return Err(BackupError::Damaged {
            path: path.to_owned(),
            problem: said.replace('\n', " "),
        });
    }
    let steps = schema::steps(db).await.map_err(failed)?;
    let known = names();
    let Some(last) = steps.last() else {
        return Err(BackupError::NotOurs { path: path.to_owned() });
    };
    if let Some(step) = steps.iter().find(|step| !known.contains(&step.as_str())) {
        return Err(BackupError::Newer {
            path: path.to_owned(),
            step: step.clone(),
        });
    }
    Ok(last.clone())
}

/// Puts a checked backup in the place of a database that no server uses. The database that is there is kept beside it, as
/// the file that is returned.
///
/// # Errors
/// [`BackupError::File`]; the database is either the one before or the backup.
pub async fn put_in_place(backup: &Path, database: &Path, kept_as: &Path) -> Result<Option<PathBuf>, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let part = beside(database, "part");
    remove(&part).map_err(failed(&part))?;
    let mut from = File::open(backup).map_err(failed(backup))?;
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(failed(&part))?;
    io::copy(&mut from, &mut to)
        .and_then(|_| to.sync_all())
        .map_err(failed(&part))?;
    let kept = if database.exists() {
        // What is only in the log of changes goes into the file, if it can still be read.
        if let Ok(connection) = open(database, Use::Live).await {
            let _ = connection.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await;
            close(connection).await;
        }
        std::fs::hard_link(database, kept_as).map_err(failed(kept_as))?;
        Some(kept_as.to_owned())
    } else {
        None
    };
    // A log of changes that stays would be applied to the wrong database.
    for companion in ["-wal", "-shm"] {
        let (of, to) = (with_suffix(database, companion), with_suffix(kept_as, companion));
        if of.exists() {
            std::fs::rename(&of, &to).map_err(failed(&of))?;
        }
    }
    sync_folder(database).map_err(failed(database))?;
    std::fs::rename(&part, database)
        .and_then(|()| sync_folder(database))
        .map_err(failed(database))?;
    Ok(kept)
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Servers may be writing to it.
    Live,
    /// Nobody writes to it, and nothing is written beside it.
    Still,
}

async fn open(path: &Path, how: Use) -> Result<DatabaseConnection, BackupError> {
    // The name of the file is set below: as a part of a URL, some of its characters would have a meaning.
    let mut options = ConnectOptions::new("sqlite://file");
    let file = path.to_owned();
    options
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options: SqliteConnectOptions| {
            options
                .filename(&file)
                .create_if_missing(false)
                .read_only(how == Use::Still)
                .immutable(how == Use::Still)
                .busy_timeout(CONNECT)
        });
    Database::connect(options).await.map_err(|error| BackupError::Open {
        path: path.to_owned(),
        source: error.into(),
    })
}

async fn close(connection: DatabaseConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(error = %error, "store.close failed");
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    with_suffix(path, &format!(".{extension}"))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names in a folder are durable only once it is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
