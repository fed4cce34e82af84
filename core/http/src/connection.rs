//! One connection: HTTP on it until it ends, is idle for too long, or the server stops.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{ConnectionLimits, Peer};

/// The longest head of a request in bytes: SCEP puts up to 16 KB into the address, signatures and certificates go into
/// headers.
const MAX_HEAD: usize = 64 << 10;

/// How many requests a client may have open at once on one HTTP/2 connection: each may hold a small body. A device has one or
/// two.
const MAX_STREAMS: u32 = 32;

/// How a connection is told to end.
pub(crate) struct Stop {
    /// After the requests that run.
    pub(crate) gently: CancellationToken,
    /// At once.
    pub(crate) now: CancellationToken,
}

pub(crate) async fn serve<I>(io: I, peer: Peer, router: Router, limits: ConnectionLimits, stop: &Stop)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS);
    let activity = Arc::new(Activity::default());
    let address = peer.address;
    let service = service_fn(|request: Request<Incoming>| {
        let running = Activity::enter(&activity);
        let router = router.clone();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(peer.clone());
        async move {
            let response: Result<Response, Infallible> =
                router.oneshot(Request::from_parts(parts, Body::new(body))).await;
            drop(running);
            response
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut ending = false;
    let mut check = Instant::now() + limits.idle;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    // Clients go away as they like: nothing that an operator has to see.
                    tracing::debug!(client = %address.ip(), error = %error, "a connection broke");
                }
                return;
            }
            () = stop.now.cancelled() => return,
            () = stop.gently.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(check) => {
                check = match activity.idle_since() {
                    None => Instant::now() + limits.idle,
                    Some(since) if since + limits.idle > Instant::now() => since + limits.idle,
                    // It was asked to end already and did not.
                    Some(_) if ending => return,
                    Some(_) => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        Instant::now() + limits.idle
                    }
                };
            }
        }
    }
}

/// Whether requests run on a connection, and since when none does.
struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn lock(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(this: &Arc<Self>) -> Running {
        this.lock().0 += 1;
        Running(Arc::clone(this))
    }

    fn idle_since(&self) -> Option<Instant> {
        let (running, since) = *self.lock();
        (running == 0).then_some(since)
    }
}

/// A running request. Also ends when the client goes away and the request is dropped.
struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut activity = self.0.lock();
        activity.0 -= 1;
        activity.1 = Instant::now();
    }
}
