//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection, as an extension of each request. [`Server`](crate::Server) sets it; a vendor's own
/// listener can, too. Without it a request comes from nowhere and has no TLS certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// The certificate that the client showed in the TLS handshake, in DER. The client has its key; nothing else is
    /// known of it.
    pub certificate: Option<Arc<[u8]>>,
}

impl Peer {
    /// A peer.
    pub fn new(address: SocketAddr, certificate: Option<Arc<[u8]>>) -> Self {
        Self { address, certificate }
    }
}
