//! The push client: one shared connection, made when it is needed and replaced when it ends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::{Mutex, OnceCell};

use crate::certificate::PushCertificate;
use crate::connection::{Answer, Connection, SendError, tls_config};
use crate::endpoint::Endpoint;
use crate::error::{PushError, Reason, RetryReason};
use crate::notification::{Delivered, MdmNotification, Push};

/// How many connections one push tries before it gives up, counting those that ended before the push was sent. APNs
/// ends connections as it likes; a service that ends each at once must not keep a push busy for ever.
const CONNECTIONS_PER_PUSH: u32 = 4;

/// Limits and timings of a [`PushClient`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long connecting may take, from name lookup to the end of the handshakes. Default 10 s.
    pub connect_timeout: Duration,
    /// How long an answer may take after the push was sent. Longer than `ping_interval` and `ping_timeout` together, so
    /// that a dead connection is found to be one. Default 45 s.
    pub response_timeout: Duration,
    /// After how long without traffic a connection, idle or not, is tested with a ping. Default 30 s.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take before the connection counts as lost. Default 10 s.
    pub ping_timeout: Duration,
    /// How many pushes may be in flight at once; the service's own limit applies if it is lower. Default 1,000, which is
    /// what Apple allows on a connection.
    pub max_in_flight: usize,
    /// Whether small writes are sent at once (`TCP_NODELAY`). Without it, a lone push waits for the previous one's
    /// acknowledgement. Default true.
    pub nodelay: bool,
    /// How long APNs keeps a push for a device that is offline, if the push itself does not say. Default 7 days.
    pub lifetime: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(45),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            max_in_flight: 1_000,
            nodelay: true,
            lifetime: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// Sends MDM pushes with one push certificate to one endpoint.
///
/// Clones share the connection. Nothing is connected before the first push, and the connection closes when the last
/// clone goes. A renewed certificate needs a new client.
#[derive(Clone)]
pub struct PushClient {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    authority: String,
    certificate: Arc<PushCertificate>,
    options: ClientOptions,
    tls: OnceCell<Arc<ClientConfig>>,
    current: RwLock<Option<Arc<Connection>>>,
    /// Held while connecting, so that a thousand pushes that find no connection make one; holds how the last attempt
    /// failed.
    connecting: Mutex<Option<PushError>>,
    failures: AtomicU64,
}

impl fmt::Debug for PushClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushClient")
            .field("endpoint", &self.shared.endpoint.to_string())
            .field("certificate", &self.shared.certificate)
            .finish_non_exhaustive()
    }
}

impl PushClient {
    /// A client that will connect when the first push is sent.
    pub fn new(endpoint: Endpoint, certificate: Arc<PushCertificate>, options: ClientOptions) -> Self {
        // `:authority` leaves the scheme's own port out (RFC 9113 section 8.3.1).
        let authority = match endpoint.port {
            443 => endpoint.host.clone(),
            port => format!("{}:{port}", endpoint.host),
        };
        let shared = Shared {
            endpoint,
            authority,
            certificate,
            options,
            tls: OnceCell::new(),
            current: RwLock::new(None),
            connecting: Mutex::new(None),
            failures: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The certificate that this client pushes with.
    pub fn certificate(&self) -> &Arc<PushCertificate> {
        &self.shared.certificate
    }

    /// Sends one push and waits for APNs's answer.
    ///
    /// Cancel safe: dropping the future abandons the push and disturbs no other.
    ///
    /// # Errors
    ///
    /// [`PushError`] says whether the token is dead, something must be set right first, or a later try may succeed.
    /// There is no waiting and trying again in here, with one exception: a push whose connection was lost is sent once
    /// more on a new one.
    pub async fn push(&self, push: &Push) -> Result<Delivered, PushError> {
        let shared = &self.shared;
        let now = Timestamp::now();
        let expiration = match push.expiration {
            Some(expiration) => expiration,
            None => now.checked_add(shared.options.lifetime).unwrap_or(Timestamp::MAX),
        };
        let request =
            MdmNotification::new(push, shared.certificate.topic(), expiration).to_request(&shared.authority)?;
        let (answer, connection) = shared.exchange(request).await?;
        if answer.status == StatusCode::OK {
            let apns_id = answer
                .headers
                .get("apns-id")
                .and_then(|id| id.to_str().ok())
                .map(str::to_owned);
            return Ok(Delivered { apns_id });
        }
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            // `Shutdown` or overload of one of Apple's many hosts: the next push had better find another.
            connection.retire();
        }
        Err(PushError::from_answer(
            answer.status,
            &answer.headers,
            &answer.body,
            now,
        ))
    }
}

impl Shared {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(Answer, Arc<Connection>), PushError> {
        let mut lost_in_flight = false;
        let mut connections = 0;
        loop {
            connections += 1;
            let connection = self.connection().await?;
            let (cause, in_flight) = match connection.send(request.clone(), &self.options).await {
                Ok(answer) => return Ok((answer, connection)),
                Err(SendError::NoAnswer) => {
                    return Err(PushError::Retry {
                        reason: RetryReason::NoAnswer,
                        after: None,
                    });
                }
                Err(SendError::NotSent(cause)) => (cause, false),
                Err(SendError::Lost(cause)) => (cause, true),
            };
            connection.retire();
            // A push that APNs may have seen already is sent again too: it says no more than "poll", APNs keeps only
            // the newest, and a device that polls once too often loses nothing.
            let hopeless = matches!(cause, PushError::Configuration { .. });
            if hopeless || (in_flight && lost_in_flight) || connections >= CONNECTIONS_PER_PUSH {
                return Err(cause);
            }
            lost_in_flight |= in_flight;
        }
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .filter(|connection| connection.is_usable())
            .map(Arc::clone)
    }

    /// The present connection, or a new one.
    async fn connection(&self) -> Result<Arc<Connection>, PushError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let failures_before = self.failures.load(Ordering::Acquire);
        let mut last_failure = self.connecting.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        // An attempt that failed while this push waited for its turn counts for this push too; otherwise a thousand
        // waiting pushes would time out one after the other.
        if self.failures.load(Ordering::Acquire) != failures_before
            && let Some(error) = last_failure.as_ref()
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                *last_failure = Some(error.clone());
                self.failures.fetch_add(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Connection, PushError> {
        let tls = self.tls.get_or_try_init(|| self.load_tls()).await?;
        Connection::open(&self.endpoint, Arc::clone(tls), &self.options).await
    }

    async fn load_tls(&self) -> Result<Arc<ClientConfig>, PushError> {
        let roots = self.endpoint.roots.clone();
        let roots = tokio::task::spawn_blocking(move || roots.load())
            .await
            .map_err(|_| PushError::connection("the runtime is shutting down"))?
            .map_err(|error| PushError::Configuration {
                reason: Reason::of(&error.to_string()),
            })?;
        let config = tls_config(roots, &self.certificate).map_err(|error| PushError::from_tls(&error))?;
        Ok(Arc::new(config))
    }
}
