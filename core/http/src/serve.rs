//! The listener: accepts connections, up to a number, does TLS, and serves a router on them until it is told to stop.
//!
//! No client can hold a connection for nothing: the handshake, the head of a request and the pause between requests all
//! have their time. (The body has its own, where it is read.) This module knows nothing of what is served.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::{Addresses, Place};
use crate::connection::{self, Stop};
use crate::{AddressRange, Peer, Tls};

/// What a listener is told at start.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen. Port 0 takes any free port; see [`Server::address`].
    pub address: SocketAddr,
    /// What is spoken.
    pub transport: Transport,
    /// What is borne.
    pub limits: ConnectionLimits,
}

/// What is spoken on a listener.
#[derive(Clone, Debug)]
pub enum Transport {
    /// HTTP/1.1 and HTTP/2 over TLS.
    Tls(Tls),
    /// HTTP/1.1 and HTTP/2 in the clear, with peers on this machine and proxies at these addresses only; others are cut
    /// off.
    Plain {
        /// The proxies.
        trusted: Vec<AddressRange>,
    },
}

impl Transport {
    /// Whether an address is one of the proxies before the server.
    fn trusts(&self, address: IpAddr) -> bool {
        match self {
            Self::Tls(_) => false,
            Self::Plain { trusted } => is_near(address, trusted),
        }
    }
}

fn is_near(address: IpAddr, trusted: &[AddressRange]) -> bool {
    address.is_loopback() || trusted.iter().any(|range| range.contains(address))
}

/// What a listener bears from its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How many connections may be open at once. Further ones wait in the system's queue.
    pub connections: usize,
    /// How many connections one client address may have open at once; further ones are closed. Schools have thousands of
    /// devices behind one address, but not at the same moment. Trusted proxies are not counted.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take to arrive. With HTTP/1.1 the pause before it counts, too.
    pub header: Duration,
    /// How long a connection may be open without a request. A response has to be taken within twice this time.
    pub idle: Duration,
    /// How long running requests may take to end when the server stops.
    pub drain: Duration,
}

impl Default for ConnectionLimits {
    /// 10,000 connections, 2,000 from one address; 10 s for a handshake, 30 s for a head, 75 s idle, 30 s to drain.
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 2_000,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            drain: Duration::from_secs(30),
        }
    }
}

/// The listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The system refused the address.
    #[error("cannot listen on {address}; is it an address of this machine, and is the port free and allowed?")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Everybody could read along.
    #[error("{0} would take plain HTTP from the network; use TLS, listen on loopback, or name the trusted proxies")]
    PlainOnNetwork(SocketAddr),
}

/// Whether all requests ended in time when the server stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All of them.
    Clean,
    /// Some were cut off.
    Cut {
        /// How many connections were still open.
        connections: usize,
    },
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: ServerSettings,
}

/// How long to wait when the system has no file descriptor for a new connection.
const EXHAUSTED: Duration = Duration::from_millis(500);

impl Server {
    /// Opens the listener. Connections are accepted from [`serve`](Self::serve) on.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub async fn bind(settings: ServerSettings) -> Result<Self, BindError> {
        let address = settings.address;
        let refused = |source| BindError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        Self::on(listener, settings)
    }

    /// Takes over a listener that is open already: for a server whose settings depend on the port that it got.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn on(listener: TcpListener, settings: ServerSettings) -> Result<Self, BindError> {
        let address = listener.local_addr().map_err(|source| BindError::Address {
            address: settings.address,
            source,
        })?;
        if let Transport::Plain { trusted } = &settings.transport
            && trusted.is_empty()
            && !address.ip().to_canonical().is_loopback()
        {
            return Err(BindError::PlainOnNetwork(address));
        }
        Ok(Self {
            listener,
            address,
            settings,
        })
    }

    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; then accepts nothing more and lets running requests end, for a time. Each
    /// request carries its [`Peer`] as an extension.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> Drained {
        let Self { listener, settings, .. } = self;
        let limits = settings.limits;
        let slots = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let addresses = Addresses::new(limits.connections_per_address);
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            // A slot first: who does not fit waits in the system's queue, and costs nothing here.
            let slot = tokio::select! {
                () = stop.cancelled() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            // The semaphore is never closed.
            let Ok(slot) = slot else { break };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let ip = peer.ip().to_canonical();
                    let place = if settings.transport.trusts(ip) {
                        None
                    } else {
                        let Some(place) = addresses.enter(ip) else {
                            tracing::debug!(client = %ip, "too many connections from one address, the newest was closed");
                            continue;
                        };
                        Some(place)
                    };
                    let connection = Connection {
                        stream,
                        peer,
                        transport: settings.transport.clone(),
                        limits,
                        stop: Stop {
                            gently: stop.clone(),
                            now: cut.clone(),
                        },
                        slot,
                        place,
                    };
                    tasks.spawn(connection.run(router.clone()));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    if !is_of_the_client(&error) {
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(limits.drain, tasks.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let connections = tasks.len();
        cut.cancel();
        tasks.wait().await;
        tracing::warn!(connections, "requests were cut off because the server stops");
        Drained::Cut { connections }
    }
}

/// Whether a failure to accept concerns one client only.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock
    )
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    transport: Transport,
    limits: ConnectionLimits,
    stop: Stop,
    slot: OwnedSemaphorePermit,
    place: Option<Place>,
}

impl Connection {
    async fn run(self, router: Router) {
        let Self {
            stream,
            peer,
            transport,
            limits,
            stop,
            slot,
            place,
        } = self;
        // Answers are small and should go out at once. A socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        match transport {
            Transport::Plain { trusted } => {
                let ip = peer.ip().to_canonical();
                if !is_near(ip, &trusted) {
                    tracing::debug!(client = %ip, "plain HTTP from an address that is not trusted, cut off");
                    return;
                }
                let peer = Peer::new(peer, None);
                connection::serve(stream, peer, router, limits, &stop).await;
            }
            Transport::Tls(tls) => {
                let handshake = TlsAcceptor::from(tls.config()).accept(stream);
                let handshake = tokio::time::timeout(limits.handshake, handshake);
                let shaken = tokio::select! {
                    shaken = handshake => shaken,
                    // No request is under way yet.
                    () = stop.gently.cancelled() => return,
                };
                let stream = match shaken {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(client = %peer.ip(), error = %error, "TLS handshake failed");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!(client = %peer.ip(), "TLS handshake took too long");
                        return;
                    }
                };
                let certificate = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map(|leaf| leaf.as_ref().into());
                let peer = Peer::new(peer, certificate);
                connection::serve(stream, peer, router, limits, &stop).await;
            }
        }
        drop((slot, place));
    }
}
