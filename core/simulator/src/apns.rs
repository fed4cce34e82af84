//! A stand-in of Apple's push service on a local port: real HTTP/2 over mutually authenticated TLS.
//!
//! It checks what APNs checks (path, headers, topic against the client certificate, body, token) and answers with APNs's
//! reasons. Simulated devices learn of their pushes from it ([`ApnsStandIn::wait_for_push`]), and tests make it
//! misbehave: scripted answers, held requests, GOAWAY, lost and half-open connections.
//!
//! It deliberately does not imitate APNs's own delivery rules beyond keeping the newest push for each token, nor
//! anything about other kinds of notification.

mod devices;
mod hold;
mod pki;
mod server;
mod service;
mod stall;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use devices::Devices;
pub use hold::Hold;
pub use pki::{ApnsPki, PkiError, PushCertificatePem};
use stall::Stall;

/// How many pushes a slow subscriber may fall behind before it misses some.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

/// Settings of an [`ApnsStandIn`].
#[derive(Debug)]
pub struct ApnsOptions {
    /// The address to listen on. Default `127.0.0.1:0`, a free port.
    pub listen: SocketAddr,
    /// The host name in the server's certificate, beside the listening address. Default `localhost`.
    pub host: String,
    /// How many requests a client may have in flight on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`). Default
    /// 1,000, as Apple's.
    pub max_concurrent_streams: u32,
    /// The certificate authorities; new ones if `None`. Keep them (see [`ApnsPki::to_pem`]) where push certificates are
    /// to outlive the stand-in.
    pub pki: Option<ApnsPki>,
}

impl Default for ApnsOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            host: "localhost".to_owned(),
            max_concurrent_streams: 1_000,
            pki: None,
        }
    }
}

/// Why the stand-in could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listening address cannot be used.
    #[error("cannot listen on {address}; choose a free address")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The test certificates could not be made.
    #[error("cannot make the push service's certificates")]
    Pki(#[from] PkiError),
    /// The TLS library refused the certificates.
    #[error("cannot set up TLS for the push service")]
    Tls(#[from] rustls::Error),
}

/// A push that the stand-in has accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceivedPush {
    /// The device token from the path.
    pub token: Vec<u8>,
    /// The push magic from the body.
    pub magic: String,
    /// The topic of the client's certificate.
    pub topic: String,
    /// `apns-expiration`: seconds since the epoch; 0 means "do not store".
    pub expiration: i64,
    /// `apns-priority`: 10 or 5.
    pub priority: u8,
    /// The identifier that was answered in `apns-id`.
    pub apns_id: String,
}

/// Without token and magic: these texts end up in logs of tests and demonstrations.
impl fmt::Debug for ReceivedPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedPush")
            .field("topic", &self.topic)
            .field("expiration", &self.expiration)
            .field("priority", &self.priority)
            .field("apns_id", &self.apns_id)
            .finish_non_exhaustive()
    }
}

/// An answer that a test prescribes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripted {
    /// The HTTP status code, for example 429.
    pub status: u16,
    /// The `reason` in the body, for example `TooManyRequests`; no body if `None`.
    pub reason: Option<String>,
    /// The value of `Retry-After`, if one is to be sent.
    pub retry_after: Option<String>,
}

impl Scripted {
    /// An answer with a status and a reason.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
            retry_after: None,
        }
    }

    /// The same answer with `Retry-After` in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.to_string());
        self
    }
}

/// What the stand-in has seen since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApnsCounters {
    /// TLS connections with an accepted client certificate.
    pub connections: u64,
    /// Connections that ended in the TLS handshake.
    pub refused_connections: u64,
    /// Requests received.
    pub requests: u64,
    /// Pushes accepted.
    pub delivered: u64,
    /// Requests answered with anything but 200, scripted answers included.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    refused_connections: AtomicU64,
    requests: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
}

/// How often every connection was told to go away, or was cut. A connection compares with what it saw at its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Orders {
    go_away: u64,
    drop: u64,
}

/// What the handle, the listener and the requests share.
#[derive(Debug)]
struct Shared {
    devices: Devices,
    pushes: broadcast::Sender<ReceivedPush>,
    tally: Tally,
    stall: Stall,
}

/// A running stand-in of APNs. Clones share it; it stops when the last clone goes.
#[derive(Debug, Clone)]
pub struct ApnsStandIn {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    host: String,
    pki: ApnsPki,
    shared: Arc<Shared>,
    /// Dropping it, with the last handle, ends the listener and every connection.
    orders: watch::Sender<Orders>,
}

impl ApnsStandIn {
    /// Listens and serves in the background of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address is taken or the certificates cannot be made.
    pub async fn start(options: ApnsOptions) -> Result<Self, StartError> {
        let pki = match options.pki {
            Some(pki) => pki,
            None => ApnsPki::generate()?,
        };
        let listen_error = |source| StartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let tls = server::tls_config(&pki, &options.host, address.ip())?;
        let (pushes, _) = broadcast::channel(SUBSCRIPTION_CAPACITY);
        let shared = Arc::new(Shared {
            devices: Devices::default(),
            pushes,
            tally: Tally::default(),
            stall: Stall::default(),
        });
        let (orders, received_orders) = watch::channel(Orders::default());
        let settings = server::Settings {
            max_concurrent_streams: options.max_concurrent_streams,
            tls: Arc::new(tls),
        };
        tokio::spawn(server::listen(listener, settings, Arc::clone(&shared), received_orders));
        let running = Running {
            address,
            host: options.host,
            pki,
            shared,
            orders,
        };
        Ok(Self {
            running: Arc::new(running),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The host name that its certificate is for.
    pub fn host(&self) -> &str {
        &self.running.host
    }

    /// The root of its server certificate, as PEM: what a push client must trust.
    pub fn roots_pem(&self) -> &str {
        self.running.pki.server_root_pem()
    }

    /// Makes an MDM push certificate for `topic` (for example `com.apple.mgmt.External.demo`), valid for a year.
    ///
    /// # Errors
    ///
    /// If the certificate library fails.
    pub fn issue_push_certificate(&self, topic: &str) -> Result<PushCertificatePem, PkiError> {
        self.running.pki.issue_push_certificate(topic)
    }

    /// The certificate authorities, to keep them or to issue odd certificates.
    pub fn pki(&self) -> &ApnsPki {
        &self.running.pki
    }

    /// Makes `token` a living device token for `topic`, as a device does when it enrolls. Pushes to tokens that were never
    /// registered are answered with 400 `BadDeviceToken`.
    pub fn register(&self, token: &[u8], topic: &str) {
        self.running.shared.devices.register(token, topic);
    }

    /// Kills `token`, as a device does when it is erased: pushes to it are answered with 410 `Unregistered`.
    pub fn unregister(&self, token: &[u8]) {
        self.running.shared.devices.unregister(token);
    }

    /// Waits for a push to `token` and takes it. Like APNs, the stand-in keeps only the newest push that was not yet
    /// taken, so a push that came before this call is not missed, and several count as one. Cancel safe.
    pub async fn wait_for_push(&self, token: &[u8]) -> ReceivedPush {
        self.running.shared.devices.wait_for_push(token).await
    }

    /// Every push from now on, to whatever token. For observers; a simulated device should wait for its own token.
    pub fn subscribe(&self) -> broadcast::Receiver<ReceivedPush> {
        self.running.shared.pushes.subscribe()
    }

    /// Answers the next request for `token` with `answer`, whatever it is. Calls queue up.
    pub fn answer_next(&self, token: &[u8], answer: Scripted) {
        self.running.shared.devices.answer_next(token, answer);
    }

    /// Keeps requests for `token` unanswered until the returned hold is released or dropped.
    pub fn hold(&self, token: &[u8]) -> Hold {
        self.running.shared.devices.hold(token)
    }

    /// Ends every present connection in good order: GOAWAY, then answers to what is in flight.
    pub fn go_away(&self) {
        self.running.orders.send_modify(|orders| orders.go_away += 1);
    }

    /// Cuts every present connection without a word.
    pub fn drop_connections(&self) {
        self.running.orders.send_modify(|orders| orders.drop += 1);
    }

    /// Whether to stop reading and writing on every connection while keeping it open, like a peer behind a network that
    /// swallows packets. New connections stall in their handshake.
    pub fn stall(&self, stalled: bool) {
        self.running.shared.stall.set(stalled);
    }

    /// What it has seen so far.
    pub fn counters(&self) -> ApnsCounters {
        let tally = &self.running.shared.tally;
        ApnsCounters {
            connections: tally.connections.load(Ordering::SeqCst),
            refused_connections: tally.refused_connections.load(Ordering::SeqCst),
            requests: tally.requests.load(Ordering::SeqCst),
            delivered: tally.delivered.load(Ordering::SeqCst),
            refused: tally.refused.load(Ordering::SeqCst),
        }
    }
}
