//! Why a server does not start, with what to mend.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] crate::data_dir::DataDirError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is it an address of this machine, and is the port free and allowed?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The same, said by the HTTP layer.
    #[error(transparent)]
    Bind(#[from] russet_http::BindError),
    /// The master key cannot be had.
    #[error(transparent)]
    MasterKey(#[from] russet_store::MasterKeyError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] russet_store::OpenError),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] russet_engine::StartError),
    /// An operation of the engine failed at start.
    #[error(transparent)]
    Operation(#[from] russet_engine::EngineError),
    /// WebAssembly cannot be run.
    #[error(transparent)]
    Plugins(#[from] russet_plugin_host::EngineError),
    /// The plugins cannot be read.
    #[error(transparent)]
    Revisions(#[from] russet_plugin_host::RevisionStoreError),
    /// A file of an LDAP connection cannot be read.
    #[error("a file that ldap.{name} names cannot be read")]
    LdapFile {
        /// The name of the connection.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// An LDAP connection is wrong.
    #[error("ldap.{name} cannot be used")]
    Ldap {
        /// The name of the connection.
        name: String,
        /// Why.
        source: russet_plugin_host::LdapConfigError,
    },
    /// The header of the trusted proxy is no header name.
    #[error("server.proxy.certificate_header: `{0}` is no header name")]
    ProxyHeader(String),
    /// The trust roots for APNs do not read.
    #[error("apns.roots_file cannot be used")]
    PushRoots(#[from] russet_apns::RootsError),
    /// A file that the configuration names cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The TLS identity is wrong.
    #[error(transparent)]
    Tls(#[from] russet_http::TlsError),
}
