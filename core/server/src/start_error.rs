//! Why a server does not start.

use std::io;
use std::path::PathBuf;

use russet_engine::EngineError;
use russet_http::{BindError, TlsError};
use russet_plugin_host::{HttpConfigError, LdapConfigError, RevisionStoreError};
use russet_store::{MasterKeyError, OpenError};

use crate::config::ConfigError;
use crate::data_dir::DataDirError;

/// Why the server did not start. Each text says what to mend; nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration can not be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory can not be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A file that the configuration names can not be read.
    #[error("{key}: {} can not be read; check its path and permissions", path.display())]
    File {
        /// The key of the configuration.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The address can not be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The master key can not be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The database can not be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The certificates to trust for the push service can not be used.
    #[error("apns.roots_file can not be used")]
    ApnsRoots(#[source] russet_apns::RootsError),
    /// A directory's connection can not be used.
    #[error("the section [ldap.{name}] can not be used")]
    Ldap {
        /// The name of the connection.
        name: String,
        /// What is wrong with it.
        source: LdapConfigError,
    },
    /// A connection to an HTTP server can not be used.
    #[error("the section [http.{name}] can not be used")]
    Http {
        /// The name of the connection.
        name: String,
        /// What is wrong with it.
        source: HttpConfigError,
    },
    /// Figures can not be kept or shown.
    #[error("the section [metrics] can not be used")]
    Metrics(#[from] crate::metrics::MetricsError),
    /// Plugins can not be run here.
    #[error("plugins can not be run")]
    PluginEngine(#[from] russet_plugin_host::EngineError),
    /// The stored plugins can not be read.
    #[error("the stored plugins can not be loaded")]
    Plugins(#[from] RevisionStoreError),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] russet_engine::StartError),
    /// The TLS identity can not be used.
    #[error("the server's TLS identity can not be used")]
    Tls(#[source] TlsError),
    /// The first token can not be made.
    #[error("the first administrator's token can not be made")]
    AdminToken(#[source] EngineError),
}
