//! What an operator sets about the HTTP surface. Parsed and validated elsewhere; here only meaning and defaults.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderName;

use crate::RateLimits;

/// What the routers are told at start. For what a listener is told, see [`ServerSettings`](crate::ServerSettings).
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// What a person sees as the name of the place to sign in to (the realm of `WWW-Authenticate: Basic`).
    pub realm: String,
    /// The proxies that end TLS before this server.
    pub proxy: ProxySettings,
    /// The largest message of a device in bytes. Status reports and application lists are large.
    pub device_body: usize,
    /// The largest request to the admin API in bytes. It has to hold a plugin in base64.
    pub admin_body: usize,
    /// How long the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// How often clients may ask, and how much at a time.
    pub rates: RateLimits,
}

impl Default for HttpSettings {
    /// 8 MiB for a device, 64 MiB for an administrator, 60 s for a body, and no trusted proxy.
    fn default() -> Self {
        Self {
            realm: "Device enrollment".to_owned(),
            proxy: ProxySettings::default(),
            device_body: 8 << 20,
            admin_body: 64 << 20,
            body_timeout: Duration::from_secs(60),
            rates: RateLimits::default(),
        }
    }
}

/// Proxies that end TLS and pass the certificates of devices on in a header (RFC 9440).
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Where they connect from. From anywhere else the header is ignored.
    pub trusted: Vec<AddressRange>,
    /// The header.
    pub certificate_header: HeaderName,
    /// The header that they append the address of the client to, such as `X-Forwarded-For`. Without it, clients behind them
    /// are not counted by address.
    pub address_header: Option<HeaderName>,
}

impl Default for ProxySettings {
    /// Nobody is trusted; the header is `Client-Cert`, and none tells the address of the client.
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            certificate_header: HeaderName::from_static("client-cert"),
            address_header: None,
        }
    }
}

impl ProxySettings {
    /// Whether a peer is one of the proxies.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(peer))
    }
}

/// A range of IP addresses in the sense of RFC 4632, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// The addresses whose first `prefix` bits are those of `address`; `None` if an address has not that many bits.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let widest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= widest).then_some(Self { address, prefix })
    }

    /// Whether an address lies in the range. An IPv4 address that came in over IPv6 counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                // A shift by the whole width is `None` on both sides: equal, as a prefix of 0 has it.
                let shift = 32 - u32::from(self.prefix);
                range.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                range.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for AddressRange {
    /// That address alone.
    fn from(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn range(address: &str, prefix: u8) -> AddressRange {
        AddressRange::new(address.parse().unwrap(), prefix).unwrap()
    }

    #[test]
    fn a_range_holds_the_addresses_with_its_prefix() {
        let cases = [
            (range("10.0.0.0", 8), "10.255.1.2", true),
            (range("10.0.0.0", 8), "11.0.0.0", false),
            (range("10.0.0.0", 8), "::ffff:10.1.1.1", true),
            (range("0.0.0.0", 0), "203.0.113.9", true),
            (range("0.0.0.0", 0), "2001:db8::1", false),
            (range("192.0.2.7", 32), "192.0.2.7", true),
            (range("192.0.2.7", 32), "192.0.2.6", false),
            (range("fd00::", 8), "fd12::1", true),
            (range("fd00::", 8), "fe80::1", false),
        ];
        for (range, address, inside) in cases {
            assert_eq!(range.contains(address.parse().unwrap()), inside, "{range:?} {address}");
        }
        assert_eq!(AddressRange::new("10.0.0.1".parse().unwrap(), 33), None);
        assert!(AddressRange::from("::1".parse::<IpAddr>().unwrap()).contains("::1".parse().unwrap()));
    }
}
