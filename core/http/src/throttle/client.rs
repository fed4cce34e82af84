//! Which address a request is counted for: that of the peer, or what a trusted proxy says.

use std::net::IpAddr;

use http::HeaderMap;

use crate::{Peer, ProxySettings};

/// The address of the client; absent if it is not known, as behind a proxy that does not say.
pub(crate) fn client_address(proxy: &ProxySettings, peer: Option<&Peer>, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer?.address.ip().to_canonical();
    if !proxy.trusts(peer) {
        return Some(peer);
    }
    // The proxy appends the address that it saw; what stands before it came from the client and proves nothing.
    let header = headers.get_all(proxy.address_header.as_ref()?).iter().next_back()?;
    let last = header.to_str().ok()?.rsplit(',').next()?.trim();
    last.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn seen(peer: &str, forwarded: &[&'static str], header: Option<&'static str>) -> Option<String> {
        let proxy = ProxySettings {
            trusted: vec![IpAddr::from([10, 0, 0, 1]).into()],
            address_header: header.map(HeaderName::from_static),
            ..ProxySettings::default()
        };
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        let peer = Peer::new(format!("{peer}:443").parse().unwrap(), None);
        client_address(&proxy, Some(&peer), &headers).map(|address| address.to_string())
    }

    #[test]
    fn only_the_last_address_from_a_trusted_proxy_counts() {
        let header = Some("x-forwarded-for");
        assert_eq!(
            seen("10.0.0.1", &["6.6.6.6, 192.0.2.7"], header).as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(
            seen("10.0.0.1", &["6.6.6.6", "192.0.2.7"], header).as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(seen("10.0.0.1", &["nonsense"], header), None);
        assert_eq!(seen("10.0.0.1", &["192.0.2.7"], None), None);
        assert_eq!(
            seen("198.51.100.9", &["192.0.2.7"], header).as_deref(),
            Some("198.51.100.9")
        );
    }
}
