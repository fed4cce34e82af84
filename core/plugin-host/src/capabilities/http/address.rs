//! Which addresses a plugin's request may go to: those of the public internet, and what the operator named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Finds the addresses of a host name.
#[async_trait]
pub trait NameResolver: std::fmt::Debug + Send + Sync {
    /// All addresses of a name.
    ///
    /// # Errors
    /// When there is none, or nobody who knows can be asked.
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl NameResolver for SystemResolver {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect())
    }
}

/// An address that the operator did not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {class}; the operator can name its network in the connection's `allowed_networks`")]
pub(super) struct Forbidden {
    address: IpAddr,
    class: &'static str,
}

/// Special-purpose ranges of the IANA registry (RFC 6890 and its updates), with two addresses of cloud providers that lie in
/// public space.
const SPECIAL_V4: [(Ipv4Net, &str); 18] = [
    (v4(0, 0, 0, 0, 8), "of this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared (carrier-grade NAT)"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local (instance metadata)"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 31, 196, 0, 24), "for protocols"),
    (v4(192, 52, 193, 0, 24), "for protocols"),
    (v4(192, 88, 99, 0, 24), "a relay's"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata"),
];

/// What is no unicast address of the public internet although it lies in 2000::/3.
const SPECIAL_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "for protocols"),
    (v6(0x2001, 0xdb8, 32), "for documentation"),
    (v6(0x2002, 0, 16), "a tunnel's"),
    (v6(0x3fff, 0, 20), "for documentation"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Whether a request may go there.
pub(super) fn check(address: IpAddr, allowed: &[IpNet]) -> Result<(), Forbidden> {
    let embedded = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded(v6),
    };
    let named = |address: IpAddr| allowed.iter().any(|network| network.contains(&address));
    if named(address) || embedded.is_some_and(|v4| named(IpAddr::V4(v4))) {
        return Ok(());
    }
    let class = match (address, embedded) {
        (IpAddr::V4(v4), _) | (IpAddr::V6(_), Some(v4)) => special_v4(v4),
        (IpAddr::V6(v6), None) => special_v6(v6),
    };
    match class {
        Some(class) => Err(Forbidden { address, class }),
        None => Ok(()),
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291), or translated by NAT64 (RFC 6052).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., a, b, c, d] = address.octets();
    if translated {
        Some(Ipv4Addr::new(a, b, c, d))
    } else {
        address.to_ipv4_mapped()
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map(|(_, class)| *class)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("loopback");
    }
    if address.is_unspecified() {
        return Some("unspecified");
    }
    if address.is_multicast() {
        return Some("multicast");
    }
    match address.segments()[0] {
        first if first & 0xfe00 == 0xfc00 => return Some("private (unique local)"),
        first if first & 0xffc0 == 0xfe80 => return Some("link-local"),
        // What is not in 2000::/3 is nobody's public address, whatever it will be one day.
        first if first & 0xe000 != 0x2000 => return Some("not public"),
        _ => {}
    }
    SPECIAL_V6
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map(|(_, class)| *class)
}

/// Resolves a name to addresses that may be connected to, for the HTTP client: the address that was checked is the one that
/// is connected to.
#[derive(Clone, Debug)]
pub(super) struct CheckedResolver {
    pub(super) resolver: Arc<dyn NameResolver>,
    pub(super) allowed: Arc<[IpNet]>,
}

impl reqwest::dns::Resolve for CheckedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.resolver.resolve(name.as_str()).await?;
            // One that is forbidden forbids all: which of them is connected to would be chance.
            for address in &addresses {
                check(*address, &this.allowed)?;
            }
            // Port 0 stands for the one of the request's address.
            let sockets = addresses.into_iter().map(|address| (address, 0_u16).into());
            Ok(Box::new(sockets) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_public_addresses_are_free() {
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert_eq!(check(public.parse().unwrap(), &[]), Ok(()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(check(special.parse().unwrap(), &[]).is_err(), "{special}");
        }
    }

    #[test]
    fn what_the_operator_named_is_free() {
        let allowed = ["10.0.0.0/8".parse().unwrap(), "fd00:1::/32".parse().unwrap()];
        for named in ["10.9.9.9", "::ffff:10.9.9.9", "64:ff9b::10.9.9.9", "fd00:1::7"] {
            assert_eq!(check(named.parse().unwrap(), &allowed), Ok(()), "{named}");
        }
        for other in ["11.0.0.0", "192.168.0.1", "fd00:2::7", "127.0.0.1"] {
            assert_eq!(
                check(other.parse().unwrap(), &allowed).is_ok(),
                other == "11.0.0.0",
                "{other}"
            );
        }
    }
}
