//! Apple's push service and how pushes are sent to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::problems::{Problems, certificates};
use super::settings::settings;

settings! {
    /// The push service. The defaults are Apple's; anything else is for stand-ins and for networks with a gateway.
    pub struct Apns {
        /// The host name, which is also checked in the service's certificate.
        host: String = "api.push.apple.com".to_owned(),
        /// The TCP port: 443, or 2197 where 443 is intercepted.
        port: u16 = 443,
        /// An address and port to connect to instead of looking the host up.
        address: Option<SocketAddr> = None => "\"127.0.0.1:2197\"",
        /// A file with the certificates to trust for the service, in PEM. Left out, those of the operating system.
        roots_file: Option<PathBuf> = None => "\"/etc/russet/apns-roots.pem\"",
    }
}

settings! {
    /// How pushes are sent.
    pub struct Push {
        /// How many pushes may be on their way at once over one connection.
        concurrency: usize = 1_000,
        /// The most pushes that this server sends in a second, so that the devices of a large wave do not all come at once; 0
        /// for as many as it can.
        per_second: u32 = 0,
        /// How many pushes are taken from the queue at once.
        batch: u32 = 1_000,
        /// How long a push that was taken belongs to this server before another one may take it, in seconds.
        lease_seconds: u64 = 120,
        /// How long to wait after the first failure, in seconds; each further failure doubles it.
        retry_first_seconds: u64 = 10,
        /// The longest wait after a failure, in seconds.
        retry_longest_seconds: u64 = 3600,
        /// How long the service keeps a push for a device that is offline, in seconds.
        lifetime_seconds: u64 = 7 * 24 * 60 * 60,
    }
}

impl Apns {
    pub(super) fn check(&self, problems: &mut Problems) {
        if rustls::pki_types::ServerName::try_from(self.host.as_str()).is_err() {
            problems.add(
                "apns.host",
                "is neither a host name nor an IP address; Apple's is api.push.apple.com",
            );
        }
        problems.range("apns.port", self.port, 1..=u16::MAX);
        if let Some(path) = &self.roots_file {
            certificates("apns.roots_file", path, problems);
        }
    }
}

impl Push {
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.range("push.concurrency", self.concurrency, 1..=10_000);
        problems.range("push.per_second", self.per_second, 0..=1_000_000);
        problems.range("push.batch", self.batch, 1..=10_000);
        problems.range("push.lease_seconds", self.lease_seconds, 10..=3600);
        problems.range("push.retry_first_seconds", self.retry_first_seconds, 1..=3600);
        problems.range("push.retry_longest_seconds", self.retry_longest_seconds, 1..=24 * 3600);
        problems.range("push.lifetime_seconds", self.lifetime_seconds, 0..=30 * 24 * 3600);
        if self.retry_longest_seconds < self.retry_first_seconds {
            problems.add(
                "push.retry_longest_seconds",
                "must not be less than push.retry_first_seconds",
            );
        }
    }
}
