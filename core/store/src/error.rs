//! What can go wrong. Texts name what to do and never hold a secret, a payload or a bound value.

use std::path::PathBuf;
use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// A failed operation of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or could not be reached. The source says what it said.
    #[error("the database did not answer as expected; look at its log and at the error below")]
    Database(#[source] DatabaseError),
    /// A row that the operation needs does not exist in this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// A row with this name or identity exists already.
    #[error("this {0} exists already; choose another name or remove the old one")]
    Exists(&'static str),
    /// The revision of a plugin, or another one of its digest, is in quarantine.
    #[error("the revision is in quarantine; activate it by force if what put it there is known and wanted")]
    Quarantined,
    /// Devices still have it, or are to get it.
    #[error("devices have this {0} or are to get it; take it away from them, or cancel what delivers it, first")]
    InUse(&'static str),
    /// Several rows go by this name.
    #[error("more than one enrolled {0} goes by this name; use the enrollment id")]
    Ambiguous(&'static str),
    /// The certificate is bound to another enrollment.
    #[error("the certificate belongs to another enrollment")]
    CertificateBound,
    /// The enrollment was removed; the device has to enroll again.
    #[error("the enrollment was removed; the device has to enroll again")]
    Removed,
    /// A stored value does not read back: the row was changed by something else, or the vault key does not fit.
    #[error("a stored {0} does not read back; restore it from a backup or deposit it again")]
    Corrupt(&'static str),
    /// A sealed value could not be opened: it was changed, or moved from another row.
    #[error("a sealed {0} does not open; it was changed outside the server or belongs to another row")]
    Sealed(&'static str),
    /// A value is under a data key that this process has not heard of yet.
    #[error(
        "a sealed value is under a data key that this server has not taken over yet; it does within seconds, try again"
    )]
    DataKeyUnknown,
    /// The operation has a bug. Nothing of it was kept, and the store goes on.
    #[error("an operation of the store failed by a bug; its message is in the log")]
    Panicked,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What the database said, detached from the library that said it.
#[derive(Clone, Debug)]
pub struct DatabaseError(Arc<DbErr>);

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DatabaseError {}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        Self::Database(DatabaseError(Arc::new(error)))
    }
}

impl StoreError {
    /// Whether a unique index refused the statement.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Database(DatabaseError(error)) => {
                matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
            }
            _ => false,
        }
    }

    /// Whether the connection went away, so that nobody can say what the server still did.
    pub(crate) fn is_connection_loss(&self) -> bool {
        matches!(self.sqlx(), Some(sea_orm::sqlx::Error::Io(_)))
    }

    /// Whether the server answered, and the answer was no: the connection stands.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.sqlx(), Some(sea_orm::sqlx::Error::Database(_))) && !self.is_transient()
    }

    fn sqlx(&self) -> Option<&sea_orm::sqlx::Error> {
        let Self::Database(DatabaseError(error)) = self else {
            return None;
        };
        match &**error {
            DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error))
            | DbErr::Conn(RuntimeErr::SqlxError(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the same transaction may succeed when it is run again: serialization failure, deadlock, or a
    /// connection that the server closed before the transaction ended.
    pub(crate) fn is_transient(&self) -> bool {
        match self.sqlx() {
            // Serialization failure, deadlock, and the three "server is going away" codes.
            Some(sea_orm::sqlx::Error::Database(error)) => {
                matches!(
                    error.code().as_deref(),
                    Some("40001" | "40P01" | "57P01" | "57P02" | "57P03")
                )
            }
            // Where no answer came in time, whoever asked has waited long enough.
            Some(sea_orm::sqlx::Error::Io(error)) => error.kind() != std::io::ErrorKind::TimedOut,
            _ => false,
        }
    }
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL names no back end that this store has.
    #[error("the store URL must start with sqlite:// (a file) or postgres://; see [store] url in the configuration")]
    Url,
    /// An in-memory SQLite database cannot be shared by the writer and the readers.
    #[error("an in-memory SQLite database cannot be used; name a file")]
    InMemory,
    /// The database could not be reached or created.
    #[error("cannot connect to the database; check that it runs, that the URL is right and that the folder exists")]
    Connect(#[source] StoreError),
    /// A migration failed; nothing of it was kept.
    #[error("cannot bring the database to this version's tables; is it older than the data?")]
    Migrate(#[source] StoreError),
    /// A newer program changed the tables in a way that this one cannot work with.
    #[error(
        "the database was brought to tables that need a program of schema level {needed} or later, and this program \
         has level {known}; start the newer program, or restore the backup from before the upgrade"
    )]
    TooNew {
        /// The lowest level that the database can be used with.
        needed: u32,
        /// The level of this program.
        known: u32,
    },
    /// The database has steps that this program does not know, and lacks one that it needs.
    #[error(
        "the database is of another line of versions: it lacks the step {missing} and has others that this program \
         does not know; start the program that was used with it last"
    )]
    OtherLine {
        /// The step that it lacks.
        missing: &'static str,
    },
    /// The data key in the database was wrapped by another master key.
    #[error(
        "the master key does not fit this database; give the master key that it was created with \
         (its file, or the environment variable)"
    )]
    WrongMasterKey,
    /// The first rows could not be read or written.
    #[error("cannot prepare the database")]
    Prepare(#[source] StoreError),
}

/// The master key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// Not 32 bytes in base64.
    #[error("the master key must be 32 bytes in base64; make one with: openssl rand -base64 32")]
    Format,
    /// The file could not be read or created.
    #[error("cannot read or create the master key file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the master key file {} can be read by others; run: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("the system gave no random bytes for a new master key")]
    Random,
}
