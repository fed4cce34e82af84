//! The server's own addresses, its TLS identity, the proxy before it, and what it bears.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::network::IpRange;
use super::problems::{Problems, certificates, private_key};
use super::settings::settings;

settings! {
    /// Where the server listens, and the address that devices know it by.
    pub struct Server {
        /// The IP address and TCP port to listen on; `0.0.0.0:8443` or `[::]:8443` for all addresses. Port 0 takes any
        /// free port.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8443)),
        /// The address that devices reach the server at: `https`, a host name, and a port if it is not 443. It is
        /// written into every enrollment profile and can not change for a device once it has enrolled. Left out, it is
        /// `https://localhost:<port>`, which only simulated devices on this machine can use.
        public_url: Option<String> = None => "\"https://mdm.example.com\"",
    }
    sections {
        tls: Tls,
        proxy: Proxy,
        limits: ServerLimits,
    }
}

settings! {
    /// The server's TLS identity. Left out, the server issues one with its own certificate authority, whose certificate
    /// is `ca.pem` in the data directory and which enrollment profiles carry.
    pub struct Tls {
        /// A file with the server's certificate, followed by its issuers, in PEM. Needs `private_key_file`.
        certificate_file: Option<PathBuf> = None => "\"/etc/russet/tls.pem\"",
        /// A file with the certificate's private key in PEM, not encrypted. Needs `certificate_file`.
        private_key_file: Option<PathBuf> = None => "\"/etc/russet/tls.key\"",
        /// Further host names and IP addresses for the certificate that the server issues itself; the public URL's
        /// host, the listening address, `localhost`, `127.0.0.1` and `::1` are always in it.
        names: Vec<String> = Vec::new(),
    }
}

settings! {
    /// A proxy that ends TLS before the server and passes on the certificates of devices (RFC 9440).
    pub struct Proxy {
        /// The addresses that such a proxy connects from, as ranges like `10.0.0.0/8`. From any other address the header
        /// is ignored. None by default.
        trusted: Vec<IpRange> = Vec::new(),
        /// The header that holds the device's certificate: RFC 9440's form, or URL-encoded PEM.
        certificate_header: String = "client-cert".to_owned(),
        /// The header that the proxy appends the address of the client to. Left out, clients behind a proxy are not
        /// counted by address.
        address_header: Option<String> = None => "\"x-forwarded-for\"",
    }
}

settings! {
    /// What the server bears from its clients.
    pub struct ServerLimits {
        /// How many connections may be open at once.
        connections: usize = 10_000,
        /// How many connections one client address may have open at once.
        connections_per_address: usize = 2_000,
        /// How many requests to `/enroll` and `/scep` one client address may make in a minute; an enrollment takes four.
        /// 0 is no limit.
        enrollment_requests_per_minute: u32 = 3_000,
        /// How many attempts to sign in there may be with one user name in a minute. 0 is no limit.
        sign_ins_per_minute: u32 = 20,
        /// How many unknown administrators' tokens one client address may show in a minute. 0 is no limit.
        wrong_tokens_per_minute: u32 = 30,
        /// How many messages of devices are worked on at the same time for one tenant; more wait for their turn.
        device_messages_per_tenant: usize = 512,
        /// The largest message of a device, in bytes.
        device_body_bytes: usize = 8 * 1024 * 1024,
        /// How many bytes of large messages of devices may be in memory at the same time. Further ones are told to come again.
        device_bodies_bytes: usize = 256 * 1024 * 1024,
        /// The largest request to the admin API, in bytes; it has to hold a plugin.
        admin_body_bytes: usize = 64 * 1024 * 1024,
        /// How long a TLS handshake may take, in seconds.
        handshake_timeout_seconds: u64 = 10,
        /// How long the head of a request may take to arrive, in seconds.
        header_timeout_seconds: u64 = 30,
        /// How long a connection may be open without a request, in seconds. A response has to be taken within twice this
        /// time.
        idle_timeout_seconds: u64 = 75,
        /// How long the body of a request may take to arrive, in seconds.
        body_timeout_seconds: u64 = 60,
        /// How long requests that are being answered may take to finish when the server stops, in seconds.
        shutdown_timeout_seconds: u64 = 30,
    }
}

impl Server {
    /// The address that devices reach the server at, without a slash at its end, when it listens on `bound`.
    #[must_use]
    pub fn public_url_at(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://localhost:{}", bound.port()),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        match &self.public_url {
            Some(url) => check_public_url(url, problems),
            None if self.listen.ip().is_unspecified() => problems.add(
                "server.public_url",
                "is missing; a server that listens on all addresses has to know the one that devices use, such as \
                 https://mdm.example.com",
            ),
            None => {}
        }
        self.tls.check(problems);
        self.proxy.check(problems);
        self.limits.check(problems);
    }
}

fn check_public_url(url: &str, problems: &mut Problems) {
    let key = "server.public_url";
    match reqwest::Url::parse(url) {
        Err(_) => problems.add(key, "is no URL; write it like https://mdm.example.com"),
        Ok(url) if url.scheme() != "https" => {
            problems.add(key, "must begin with https://; devices refuse anything else");
        }
        Ok(url) if url.host_str().is_none() => {
            problems.add(key, "names no host; write it like https://mdm.example.com");
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            problems.add(
                key,
                "must not hold a user name or password; every device would read them",
            );
        }
        Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
            problems.add(
                key,
                "must end after the host and port; the server adds the paths itself",
            );
        }
        Ok(_) => {}
    }
}

impl Tls {
    fn check(&self, problems: &mut Problems) {
        match (&self.certificate_file, &self.private_key_file) {
            (Some(certificate_file), Some(key_file)) => {
                let chain = certificates("server.tls.certificate_file", certificate_file, problems);
                let key = private_key("server.tls.private_key_file", key_file, problems);
                if let (Some(chain), Some(key)) = (chain, key) {
                    check_identity(chain, key, problems);
                }
            }
            (Some(_), None) => problems.add(
                "server.tls.private_key_file",
                "is missing; name the file with the private key of server.tls.certificate_file",
            ),
            (None, Some(_)) => problems.add(
                "server.tls.certificate_file",
                "is missing; name the file with the certificate of server.tls.private_key_file",
            ),
            (None, None) => {}
        }
        for name in &self.names {
            if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
                problems.add(
                    "server.tls.names",
                    format!("`{name}` is neither a host name nor an IP address"),
                );
            }
        }
    }
}

fn check_identity(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    problems: &mut Problems,
) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => problems.add(
            "server.tls.private_key_file",
            "does not belong to the certificate; name the key that server.tls.certificate_file was issued for",
        ),
        Err(rustls::Error::InvalidCertificate(_)) => {
            problems.add(
                "server.tls.certificate_file",
                "holds a certificate that can not be read; export it again as PEM",
            );
        }
        Err(_) => problems.add(
            "server.tls.private_key_file",
            "holds a kind of key that TLS can not use; use an EC (P-256, P-384) or RSA (2048 bits or more) key",
        ),
    }
}

impl Proxy {
    fn check(&self, problems: &mut Problems) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.certificate_header.is_empty() || !self.certificate_header.bytes().all(token) {
            problems.add(
                "server.proxy.certificate_header",
                "is no name of an HTTP header; write it like client-cert",
            );
        }
        if let Some(header) = &self.address_header
            && (header.is_empty() || !header.bytes().all(token))
        {
            problems.add(
                "server.proxy.address_header",
                "is no name of an HTTP header; write it like x-forwarded-for",
            );
        }
        if self.trusted.iter().any(|range| range.prefix() == 0) {
            problems.add(
                "server.proxy.trusted",
                "trusts every address, so that anybody could pass as any device; name the addresses of the proxy alone",
            );
        }
    }
}

impl ServerLimits {
    fn check(&self, problems: &mut Problems) {
        problems.range("server.limits.connections", self.connections, 1..=1_000_000);
        problems.range(
            "server.limits.connections_per_address",
            self.connections_per_address,
            1..=1_000_000,
        );
        problems.range(
            "server.limits.device_messages_per_tenant",
            self.device_messages_per_tenant,
            1..=1_000_000,
        );
        problems.range(
            "server.limits.device_body_bytes",
            self.device_body_bytes,
            64 * 1024..=256 * 1024 * 1024,
        );
        problems.range(
            "server.limits.device_bodies_bytes",
            self.device_bodies_bytes,
            self.device_body_bytes..=64 * 1024 * 1024 * 1024,
        );
        problems.range(
            "server.limits.admin_body_bytes",
            self.admin_body_bytes,
            64 * 1024..=1024 * 1024 * 1024,
        );
        problems.range(
            "server.limits.handshake_timeout_seconds",
            self.handshake_timeout_seconds,
            1..=600,
        );
        problems.range(
            "server.limits.header_timeout_seconds",
            self.header_timeout_seconds,
            1..=600,
        );
        problems.range(
            "server.limits.body_timeout_seconds",
            self.body_timeout_seconds,
            1..=3600,
        );
        problems.range(
            "server.limits.shutdown_timeout_seconds",
            self.shutdown_timeout_seconds,
            0..=3600,
        );
    }
}
