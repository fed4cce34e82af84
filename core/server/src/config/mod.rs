//! The configuration: one struct per concern, read from defaults, one file and the environment, and checked as a whole
//! before the server touches a port or a database.
//!
//! Knows what keys mean and when they are wrong. Does not know how the parts of the server are built from them.

mod enrollment;
mod environment;
mod example;
mod http_connections;
mod ldap;
mod load;
mod log;
mod metrics;
mod network;
mod plugins;
mod problems;
mod push;
mod queue;
mod secret;
mod server;
mod settings;
mod storage;

use std::path::PathBuf;

pub use enrollment::{Enrollment, Signing, WithoutGate};
pub use example::example;
pub use http_connections::{HttpAuthentication, HttpConnection};
pub use ldap::LdapConnection;
pub use load::ConfigError;
pub use log::{Log, LogFormat};
pub use metrics::Metrics;
pub use network::{IpRange, IpRangeError};
pub use plugins::{PluginLimits, Plugins, PolicyFailure, UnsignedPlugins};
pub use problems::Problem;
pub use push::{Apns, Push};
pub use queue::{Queue, Retention};
pub use secret::Secret;
pub use server::{Proxy, Server, ServerLimits, Tls};
pub use storage::{Database, Secrets};

use problems::Problems;
use settings::settings;

settings! {
    /// The configuration of `russet serve`.
    ///
    /// Every key may be left out. A key can also be set by an environment variable: `RUSSET_` and its path in capitals
    /// with two underscores between the parts, such as `RUSSET_SERVER__PUBLIC_URL`; lists are written with commas there.
    /// The environment wins over the file. Paths are relative to the directory that the server is started in.
    pub struct Config {
        /// The folder that holds what the server keeps on this machine: its database, its keys, its caches. It is
        /// created, for its owner only, at the first start.
        data_dir: PathBuf = PathBuf::from("russet-data"),
    }
    sections {
        server: Server,
        database: Database,
        secrets: Secrets,
        enrollment: Enrollment,
        apns: Apns,
        push: Push,
        queue: Queue,
        retention: Retention,
        plugins: Plugins,
        log: Log,
        metrics: Metrics,
    }
    maps {
        /// Directories (LDAP) that plugins may ask, each under a name of the operator's choice.
        ldap: LdapConnection => "corp",
        /// Servers (HTTP) that plugins may use, each under a name of the operator's choice.
        http: HttpConnection => "scim",
    }
}

impl Config {
    /// Checks everything that can be known to be wrong without opening a port or a database: values, combinations, and
    /// the files that are named.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all problems.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::default();
        if self.data_dir.as_os_str().is_empty() {
            problems.add("data_dir", "must not be empty");
        }
        self.server.check(&mut problems);
        self.database.check(&mut problems);
        self.secrets.check(&mut problems);
        self.enrollment.check(&mut problems);
        self.apns.check(&mut problems);
        self.push.check(&mut problems);
        self.queue.check(&mut problems);
        self.retention.check(&mut problems);
        self.plugins.check(&mut problems);
        self.log.check(&mut problems);
        self.metrics.check(&mut problems);
        for (name, connection) in &self.ldap {
            connection.check(name, &mut problems);
        }
        for (name, connection) in &self.http {
            connection.check(name, &mut problems);
        }
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid { problems: problems.0 })
        }
    }
}
