//! Directories that plugins may ask.

use std::path::PathBuf;

use super::problems::{Problems, certificates, read};
use super::secret::Secret;
use super::settings::settings;

settings! {
    /// A directory (LDAP) under a name of your choice. A plugin that was granted the connection of that name can search
    /// below the base and check passwords; it never sees the address or the credentials.
    pub struct LdapConnection {
        /// `ldaps://<host>` or, with `start_tls`, `ldap://<host>`; a port may follow. Needed.
        url: String = String::new() => "\"ldaps://ldap.example.com\"",
        /// Whether to begin TLS on an `ldap://` connection before anything else is sent.
        start_tls: bool = false,
        /// Whether to send credentials over a connection without TLS. For tests on one machine only.
        allow_plaintext: bool = false,
        /// A file with the certificates to trust for the directory, in PEM. Left out, those of the operating system.
        ca_file: Option<PathBuf> = None => "\"/etc/russet/ldap-ca.pem\"",
        /// The name to sign in with for searches. Left out, searches are anonymous.
        bind_dn: Option<String> = None => "\"cn=russet,ou=services,dc=example,dc=com\"",
        /// The password for `bind_dn`.
        bind_password: Option<Secret> = None => "\"…\"",
        /// A file with the password for `bind_dn`, instead of `bind_password`. A line break at its end is ignored.
        bind_password_file: Option<PathBuf> = None => "\"/etc/russet/ldap-password\"",
        /// The entry at or below which every search has to stay. Needed.
        base_dn: String = String::new() => "\"dc=example,dc=com\"",
        /// How long connecting or one question may take, in seconds.
        timeout_seconds: u64 = 5,
        /// The most entries that one search returns.
        max_entries: u32 = 500,
        /// The tenants whose plugins may use the connection; `["*"]` is all of them. A tenant's administrators grant
        /// their plugins what they like, so name a tenant here only if all of the directory is its to see.
        tenants: Vec<String> = vec!["default".to_owned()],
    }
}

impl LdapConnection {
    /// The password for `bind_dn`, wherever it is kept. `None` for anonymous searches.
    ///
    /// # Errors
    /// When the file can not be read.
    pub fn password(&self) -> std::io::Result<Option<Secret>> {
        match (&self.bind_password, &self.bind_password_file) {
            (Some(password), _) => Ok(Some(password.clone())),
            (None, Some(path)) => {
                let text = zeroize::Zeroizing::new(std::fs::read_to_string(path)?);
                Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
            }
            (None, None) => Ok(None),
        }
    }

    pub(super) fn check(&self, name: &str, problems: &mut Problems) {
        let key = |key: &str| format!("ldap.{name}.{key}");
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            problems.add(
                format!("ldap.{name}"),
                "is no good name; use up to 64 lower-case letters, digits, hyphens and underscores",
            );
        }
        self.check_url(&key("url"), &key("start_tls"), problems);
        if self.base_dn.trim().is_empty() {
            problems.add(
                key("base_dn"),
                "is missing; name the entry that searches stay below, such as dc=example,dc=com",
            );
        }
        if let Some(path) = &self.ca_file {
            certificates(&key("ca_file"), path, problems);
        }
        self.check_credentials(&key, problems);
        problems.range(&key("timeout_seconds"), self.timeout_seconds, 1..=60);
        problems.range(&key("max_entries"), self.max_entries, 1..=10_000);
    }

    fn check_url(&self, key: &str, start_tls_key: &str, problems: &mut Problems) {
        let encrypted = self.url.starts_with("ldaps://");
        let host = self
            .url
            .strip_prefix("ldaps://")
            .or_else(|| self.url.strip_prefix("ldap://"));
        match host {
            None if self.url.is_empty() => problems.add(key, "is missing; write it like ldaps://ldap.example.com"),
            None => problems.add(key, "must begin with ldaps:// or ldap://"),
            Some(host) if host.trim_matches('/').is_empty() => problems.add(key, "names no host"),
            Some(host) if host.contains('@') => {
                problems.add(key, "must not hold credentials; use bind_dn and bind_password_file");
            }
            Some(_) if encrypted && self.start_tls => {
                problems.add(
                    start_tls_key,
                    "is only for ldap:// addresses; ldaps:// is encrypted from the start",
                );
            }
            Some(_) if !encrypted && !self.start_tls && !self.allow_plaintext => problems.add(
                key,
                "would send passwords in clear text; use ldaps://, or set start_tls = true",
            ),
            Some(_) => {}
        }
    }

    fn check_credentials(&self, key: &impl Fn(&str) -> String, problems: &mut Problems) {
        if self.bind_password.is_some() && self.bind_password_file.is_some() {
            problems.add(
                key("bind_password"),
                "is given beside bind_password_file; keep one of the two",
            );
        }
        let password = self.bind_password.is_some() || self.bind_password_file.is_some();
        match &self.bind_dn {
            None if password => problems.add(key("bind_dn"), "is missing; a password needs a name to sign in with"),
            Some(_) if !password => problems.add(
                key("bind_password_file"),
                "is missing; bind_dn needs a password (or leave both out for anonymous searches)",
            ),
            _ => {}
        }
        if let Some(path) = &self.bind_password_file {
            read(&key("bind_password_file"), path, problems);
        }
        // A bind with a name and no password is an anonymous bind to LDAP (RFC 4513, section 5.1.2), not a failed one.
        if let Ok(Some(password)) = self.password()
            && password.expose().is_empty()
        {
            problems.add(
                key("bind_password"),
                "is empty, which a directory takes for an anonymous sign-in",
            );
        }
    }
}
