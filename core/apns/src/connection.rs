//! One HTTP/2 connection over mutually authenticated TLS.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::alert::{AlertStream, LastAlert, tls_error};
use crate::certificate::PushCertificate;
use crate::client::ClientOptions;
use crate::endpoint::Endpoint;
use crate::error::{PushError, Reason};

/// What HTTP/2 is called in the TLS handshake (RFC 9113 section 3.2).
const ALPN_HTTP2: &[u8] = b"h2";

/// APNs answers with at most one short JSON object.
const ANSWER_LIMIT: usize = 16 * 1024;

/// How many requests go out before the peer has said how many it allows. A peer may refuse what exceeds its limit even
/// before the limit has reached us.
const FIRST_STREAMS: usize = 1;

/// After these many milliseconds the limit is looked at again on a new connection; by then the peer's settings have
/// arrived, or the connection is too slow for it to matter.
const LIMIT_LOOKS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

type Io = TokioIo<AlertStream<TlsStream<TcpStream>>>;
type Driver = http2::Connection<Io, Full<Bytes>, TokioExecutor>;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// It was not written: the connection ended, or announced its end, before that.
    NotSent(PushError),
    /// It was written, or partly, and then the connection was lost. APNs may have acted on it.
    Lost(PushError),
    /// The connection stands, but the time is up.
    NoAnswer,
}

/// A connection that many pushes share.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    /// One permit for each request that may be in flight. Closed when the connection ends.
    slots: Arc<Semaphore>,
    alert: LastAlert,
    retired: AtomicBool,
    /// How many requests have been answered; tells a slow answer from a peer that answers nobody.
    answered: AtomicU64,
}

/// The TLS side of every connection of one client: whom to trust, and the push certificate to show.
pub(crate) fn tls_config(roots: RootCertStore, certificate: &PushCertificate) -> Result<ClientConfig, rustls::Error> {
    let resolver = SingleCertAndKey::from(certificate.certified_key());
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(config)
}

impl Connection {
    /// Connects, shakes hands and starts the task that drives the connection.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        tls: Arc<ClientConfig>,
        options: &ClientOptions,
    ) -> Result<Self, PushError> {
        match timeout(options.connect_timeout, Self::establish(endpoint, tls, options)).await {
            Ok(result) => result,
            Err(_) => Err(PushError::connection(format_args!(
                "connecting to {endpoint} took too long"
            ))),
        }
    }

    async fn establish(
        endpoint: &Endpoint,
        tls: Arc<ClientConfig>,
        options: &ClientOptions,
    ) -> Result<Self, PushError> {
        let failed = |error: io::Error| match tls_error(&error) {
            Some(tls) => PushError::from_tls(tls),
            None => PushError::connection(format_args!("{endpoint}: {error}")),
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| PushError::Configuration {
            reason: Reason::of("the endpoint's host name is not valid"),
        })?;
        let tcp = match endpoint.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
        }
        .map_err(failed)?;
        tcp.set_nodelay(options.nodelay).map_err(failed)?;
        let tls = TlsConnector::from(tls).connect(name, tcp).await.map_err(failed)?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            let reason = Reason::of("the endpoint does not speak HTTP/2; a proxy may be intercepting the connection");
            return Err(PushError::Configuration { reason });
        }

        let (stream, alert) = AlertStream::new(tls);
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(options.ping_interval)
            .keep_alive_timeout(options.ping_timeout)
            .keep_alive_while_idle(true)
            .initial_max_send_streams(FIRST_STREAMS)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| alert.get().map_or_else(|| lost(&error), PushError::from_tls))?;
        let slots = Arc::new(Semaphore::new(0));
        let connection = Self {
            sender,
            slots: Arc::clone(&slots),
            alert,
            retired: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        };
        tracing::debug!(apns.endpoint = %endpoint, "connected to the push service");
        tokio::spawn(drive(driver, slots, options.max_in_flight.max(1), endpoint.to_string()));
        Ok(connection)
    }

    /// Whether a new push may be sent here.
    pub(crate) fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed) && !self.sender.is_closed() && !self.slots.is_closed()
    }

    /// Keeps new pushes away. Those in flight run to their end; then the connection closes.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Waits for a free slot, sends, and reads the whole answer. The time limit starts when the request is sent.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        options: &ClientOptions,
    ) -> Result<Answer, SendError> {
        let Ok(_slot) = self.slots.acquire().await else {
            return Err(SendError::NotSent(self.cause("the connection was closed")));
        };
        let answered_before = self.answered.load(Ordering::Relaxed);
        match timeout(options.response_timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => {
                // Nobody has had an answer since: a peer that still answers pings but nothing else is no use either.
                if self.answered.load(Ordering::Relaxed) == answered_before {
                    self.retire();
                }
                Err(SendError::NoAnswer)
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, SendError> {
        let mut sender = self.sender.clone();
        let response = sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let cause = self
                .alert
                .get()
                .map_or_else(|| lost(error.error()), PushError::from_tls);
            if unsent {
                SendError::NotSent(cause)
            } else {
                SendError::Lost(cause)
            }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|_| SendError::Lost(self.cause("the answer was cut short")))?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// The alert that ended the connection, or else `otherwise`.
    fn cause(&self, otherwise: &str) -> PushError {
        self.alert
            .get()
            .map_or_else(|| PushError::connection(otherwise), PushError::from_tls)
    }
}

/// An HTTP/2 error with its sources, whose texts hold the useful part.
fn lost(error: &hyper::Error) -> PushError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    PushError::connection(text)
}

/// Runs the connection to its end and keeps the number of slots at what the peer allows
/// (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 section 5.1.2), at most `ceiling`.
///
/// The HTTP/2 layer itself never opens more streams than that. The slots keep the pushes beyond it here, where they are
/// not yet sent, so that they move to the next connection when this one ends. One slot stays even if the peer allows
/// none, so that a push finds out when that changes.
async fn drive(mut driver: Driver, slots: Arc<Semaphore>, ceiling: usize, endpoint: String) {
    let mut granted = 0;
    // The driver wakes for each request, but not for settings. Waiting pushes would not be let in until the first one is
    // answered, so a new connection is also looked at by the clock.
    let mut looks = LIMIT_LOOKS.into_iter().map(Duration::from_millis);
    let mut next_look = looks.next().map(|wait| Box::pin(sleep(wait)));
    let end = poll_fn(|cx| {
        let poll = Pin::new(&mut driver).poll(cx);
        let limit = driver.current_max_send_streams();
        let allowed = limit.clamp(1, ceiling);
        if allowed > granted {
            slots.add_permits(allowed - granted);
            granted = allowed;
        } else if allowed < granted {
            // Only free permits can be taken back; the rest follows at a later poll.
            granted -= slots.forget_permits(granted - allowed);
        }
        if limit != FIRST_STREAMS {
            next_look = None;
        }
        while next_look.as_mut().is_some_and(|look| look.as_mut().poll(cx).is_ready()) {
            next_look = looks.next().map(|wait| Box::pin(sleep(wait)));
        }
        poll
    })
    .await;
    slots.close();
    match end {
        Ok(()) => tracing::debug!(apns.endpoint = %endpoint, "connection to the push service closed"),
        Err(error) => {
            tracing::debug!(apns.endpoint = %endpoint, error = %error, "connection to the push service lost");
        }
    }
}
