//! What can go wrong with a database, and what to do about it.

use std::path::PathBuf;

use miette::Diagnostic;
use russet::data_dir::DataDirError;
use russet::database::DatabaseError;
use russet::store::{BackupError, CopyError, MasterKeyError, OpenError, RotateError, StoreError};

#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum DbError {
    #[error("the database can not be used")]
    #[diagnostic(
        code("database"),
        help("--config names the server's configuration: its database and its master key are used")
    )]
    Unusable(#[from] DatabaseError),
    #[error("the database failed")]
    #[diagnostic(code("database"), help("its log says more"))]
    Failed(#[from] StoreError),
    #[error("the database was not copied")]
    #[diagnostic(code("copy"), help("nothing is left in the target"))]
    Copy(#[from] CopyError),
    #[error("the backup was not made")]
    #[diagnostic(code("backup"))]
    Backup(#[source] BackupError),
    #[error("the backup was not restored")]
    #[diagnostic(code("restore"), help("the database is as it was"))]
    Restore(#[source] BackupError),
    #[error("{what} a PostgreSQL database with PostgreSQL's own tools")]
    #[diagnostic(code("postgres"), help("run: {line}"))]
    OwnTools { what: &'static str, line: String },
    #[error("there is a database already: {}", path.display())]
    #[diagnostic(code("exists"), help("--replace puts the backup in its place and keeps it beside"))]
    Occupied { path: PathBuf },
    #[error("the server's data directory can not be used")]
    #[diagnostic(code("in-use"), help("stop the server first"))]
    DataDir(#[from] DataDirError),
    #[error("the key was not changed")]
    #[diagnostic(code("key"))]
    Rotate(#[from] RotateError),
    #[error("the master key can not be used")]
    #[diagnostic(code("key"))]
    MasterKey(#[from] MasterKeyError),
}

impl From<OpenError> for DbError {
    fn from(error: OpenError) -> Self {
        Self::Unusable(error.into())
    }
}
