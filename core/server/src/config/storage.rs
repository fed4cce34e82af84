//! The database and the key that guards the secrets in it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::problems::Problems;
use super::secret::Secret;
use super::settings::settings;

settings! {
    /// Where the server keeps its data.
    pub struct Database {
        /// `sqlite://<path of a file>` or `postgres://<user>:<password>@<host>/<database>`. Left out, it is the SQLite
        /// file `russet.sqlite` in the data directory, which one server at a time can use.
        url: Option<Secret> = None => "\"postgres://russet@localhost/russet\"",
        /// The most connections: readers on SQLite (which has one writer beside them), all of them on PostgreSQL.
        max_connections: u32 = 8,
        /// How long an operation waits for a free connection, in seconds.
        acquire_timeout_seconds: u64 = 10,
        /// How long one statement may run, in seconds (PostgreSQL only).
        statement_timeout_seconds: u64 = 30,
        /// How often the times at which devices were last seen are written, in seconds.
        last_seen_interval_seconds: u64 = 5,
    }
}

settings! {
    /// The master key: it guards every secret in the database (push keys, escrowed tokens, the authority's key). Without
    /// it they can not be read again, so keep a copy apart from the database's backups.
    pub struct Secrets {
        /// A file with the key: 32 bytes in base64, readable by its owner only. It is created with a fresh key if it does
        /// not exist. Left out, it is `master.key` in the data directory.
        master_key_file: Option<PathBuf> = None => "\"/etc/russet/master.key\"",
        /// The key itself, in base64, instead of a file. Meant for the environment
        /// (`RUSSET_SECRETS__MASTER_KEY`) rather than for this file.
        master_key: Option<Secret> = None => "\"<32 bytes in base64>\"",
    }
}

impl Database {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(url) = &self.url {
            let path = url.expose().strip_prefix("sqlite://");
            let server = ["postgres://", "postgresql://"]
                .iter()
                .any(|scheme| url.expose().starts_with(scheme));
            if !server && path.is_none_or(str::is_empty) {
                problems.add(
                    "database.url",
                    "must begin with sqlite:// and the path of a file, or with postgres:// and the name of a server",
                );
            }
        }
        problems.range("database.max_connections", self.max_connections, 1..=1_000);
        problems.range(
            "database.acquire_timeout_seconds",
            self.acquire_timeout_seconds,
            1..=600,
        );
        problems.range(
            "database.statement_timeout_seconds",
            self.statement_timeout_seconds,
            1..=3600,
        );
        problems.range(
            "database.last_seen_interval_seconds",
            self.last_seen_interval_seconds,
            1..=3600,
        );
    }
}

impl Secrets {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.master_key.is_some() && self.master_key_file.is_some() {
            problems.add(
                "secrets.master_key",
                "is given beside secrets.master_key_file; keep one of the two",
            );
        }
        if let Some(key) = &self.master_key
            && !STANDARD
                .decode(key.expose().trim())
                .map(zeroize::Zeroizing::new)
                .is_ok_and(|key| key.len() == 32)
        {
            problems.add(
                "secrets.master_key",
                "must be 32 bytes in base64; `openssl rand -base64 32` makes such a key",
            );
        }
    }
}
