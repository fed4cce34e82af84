//! A byte stream that remembers which TLS alert ended it.
//!
//! In TLS 1.3 a client has finished its handshake before the server has looked at the client's certificate. The refusal
//! of an expired push certificate therefore arrives as an alert on an open connection, and the HTTP/2 layer keeps only
//! its text. This wrapper keeps the error itself, so that it can be told from a network failure.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first TLS error that was read from a stream, shared with whoever holds a clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastAlert(Arc<OnceLock<rustls::Error>>);

impl LastAlert {
    pub(crate) fn get(&self) -> Option<&rustls::Error> {
        self.0.get()
    }

    fn note(&self, error: &io::Error) {
        if let Some(tls) = tls_error(error) {
            // Only the first alert is the cause; what follows is the stream being closed.
            let _ = self.0.set(tls.clone());
        }
    }
}

/// The rustls error inside an I/O error, where there is one.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Passes everything through to `inner` and notes TLS errors on the way.
#[derive(Debug)]
pub(crate) struct AlertStream<S> {
    inner: S,
    alert: LastAlert,
}

impl<S> AlertStream<S> {
    pub(crate) fn new(inner: S) -> (Self, LastAlert) {
        let alert = LastAlert::default();
        (
            Self {
                inner,
                alert: alert.clone(),
            },
            alert,
        )
    }

    fn noted<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        if let Err(error) = &result {
            self.alert.note(error);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AlertStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        self.noted(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AlertStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        self.noted(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        self.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.noted(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
