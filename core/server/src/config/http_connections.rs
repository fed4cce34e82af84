//! HTTP servers that plugins may use.

use std::path::PathBuf;

use super::network::IpRange;
use super::problems::{Problems, certificates, read};
use super::secret::Secret;
use super::settings::{choice, settings};

settings! {
    /// A server (HTTP) under a name of your choice. A plugin that was granted the connection of that name can send requests
    /// to addresses at or below the base; it never sees the credentials. Addresses that are not public are refused, also
    /// when a name or a redirect leads there, unless you name their network.
    pub struct HttpConnection {
        /// The address that every request goes to or below, such as `https://scim.example.com/v2`. Needed.
        base_url: String = String::new() => "\"https://scim.example.com/v2\"",
        /// Whether the address may be `http://`, without TLS. For tests on one machine only.
        allow_plaintext: bool = false,
        /// How the server is told who asks: `none`, `bearer` (a token), `basic` (`user_name` and a password) or `header`
        /// (`header_name` with a key). With `none` a plugin may send an `Authorization` header of its own.
        authentication: HttpAuthentication = HttpAuthentication::None,
        /// The token, password or key.
        secret: Option<Secret> = None => "\"…\"",
        /// A file with the token, password or key, instead of `secret`. A line break at its end is ignored.
        secret_file: Option<PathBuf> = None => "\"/etc/russet/scim-token\"",
        /// The user name, for `basic`.
        user_name: Option<String> = None => "\"russet\"",
        /// The name of the header, for `header`.
        header_name: Option<String> = None => "\"X-Api-Key\"",
        /// Networks that are not public (private, loopback, link-local) and may be connected to all the same, such as
        /// `10.20.0.0/16`.
        allowed_networks: Vec<IpRange> = Vec::new() => "[\"10.20.0.0/16\"]",
        /// A file with the certificates to trust for the server, in PEM. Left out, those of the operating system.
        ca_file: Option<PathBuf> = None => "\"/etc/russet/scim-ca.pem\"",
        /// How long one request may take, redirects included, in seconds.
        timeout_seconds: u64 = 10,
        /// The largest body of a request, in bytes.
        max_request_bytes: usize = 512 * 1024,
        /// The largest body of an answer, in bytes. It has to fit into the plugin's memory.
        max_response_bytes: usize = 512 * 1024,
        /// How many requests each plugin of each tenant may send in a minute.
        requests_per_minute: u32 = 600,
        /// The tenants whose plugins may use the connection; `["*"]` is all of them. A tenant's administrators grant
        /// their plugins what they like, so name a tenant here only if all that the credentials allow is its to use.
        tenants: Vec<String> = vec!["default".to_owned()],
    }
}

choice! {
    /// How an HTTP connection proves who it is.
    pub enum HttpAuthentication {
        /// Not at all.
        None = "none",
        /// A bearer token (RFC 6750).
        Bearer = "bearer",
        /// A user name and a password (RFC 7617).
        Basic = "basic",
        /// A header with a key.
        Header = "header",
    }
}

impl HttpConnection {
    /// The token, password or key, wherever it is kept.
    ///
    /// # Errors
    /// When the file can not be read.
    pub fn credential(&self) -> std::io::Result<Option<Secret>> {
        match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, Some(path)) => {
                let text = zeroize::Zeroizing::new(std::fs::read_to_string(path)?);
                Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
            }
            (None, None) => Ok(None),
        }
    }

    pub(super) fn check(&self, name: &str, problems: &mut Problems) {
        let key = |key: &str| format!("http.{name}.{key}");
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            problems.add(
                format!("http.{name}"),
                "is no good name; use up to 64 lower-case letters, digits, hyphens and underscores",
            );
        }
        self.check_url(&key("base_url"), problems);
        self.check_credentials(&key, problems);
        if let Some(path) = &self.ca_file {
            certificates(&key("ca_file"), path, problems);
        }
        problems.range(&key("timeout_seconds"), self.timeout_seconds, 1..=60);
        problems.range(&key("max_request_bytes"), self.max_request_bytes, 1..=16 << 20);
        problems.range(&key("max_response_bytes"), self.max_response_bytes, 1..=16 << 20);
        problems.range(&key("requests_per_minute"), self.requests_per_minute, 1..=1_000_000);
    }

    fn check_url(&self, key: &str, problems: &mut Problems) {
        if self.base_url.is_empty() {
            problems.add(key, "is missing; write it like https://scim.example.com/v2");
            return;
        }
        let Ok(url) = reqwest::Url::parse(&self.base_url) else {
            problems.add(key, "is no URL; write it like https://scim.example.com/v2");
            return;
        };
        match url.scheme() {
            "https" => {}
            "http" if self.allow_plaintext => {}
            "http" => problems.add(key, "would send credentials in clear text; use https://"),
            _ => problems.add(key, "must begin with https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            problems.add(key, "must not hold credentials; use authentication and secret_file");
        }
        if url.query().is_some() || url.fragment().is_some() {
            problems.add(key, "must end with its path; a plugin adds the query");
        }
    }

    fn check_credentials(&self, key: &impl Fn(&str) -> String, problems: &mut Problems) {
        if self.secret.is_some() && self.secret_file.is_some() {
            problems.add(key("secret"), "is given beside secret_file; keep one of the two");
        }
        let secret = self.secret.is_some() || self.secret_file.is_some();
        match self.authentication {
            HttpAuthentication::None if secret => problems.add(
                key("authentication"),
                "is missing; say how the secret is sent: bearer, basic or header",
            ),
            HttpAuthentication::None => {}
            _ if !secret => problems.add(key("secret_file"), "is missing; the authentication needs a secret"),
            _ => {}
        }
        for (wanted, name, value) in [
            (HttpAuthentication::Basic, "user_name", &self.user_name),
            (HttpAuthentication::Header, "header_name", &self.header_name),
        ] {
            match (self.authentication == wanted, value) {
                (true, None) => problems.add(key(name), "is missing; the authentication needs it"),
                (false, Some(_)) => problems.add(key(name), "is given, but the authentication does not use it"),
                _ => {}
            }
        }
        if let Some(path) = &self.secret_file {
            read(&key("secret_file"), path, problems);
        }
        if let Ok(Some(secret)) = self.credential()
            && (secret.expose().is_empty() || !secret.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)))
        {
            problems.add(key("secret"), "is empty, or holds characters that no header may hold");
        }
    }
}
