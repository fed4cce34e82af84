//! A byte stream that can be made to stand still, as if the network had begun to swallow packets.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct State {
    on: AtomicBool,
    sleepers: Mutex<Vec<Waker>>,
}

/// The switch for all streams that were made with a clone of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stall(Arc<State>);

impl Stall {
    pub(super) fn set(&self, on: bool) {
        self.0.on.store(on, Ordering::SeqCst);
        if !on {
            let sleepers = std::mem::take(&mut *self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner));
            sleepers.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready while the switch is off.
    fn poll_passes(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.0.on.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let mut sleepers = self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        // Switched off between the look and the lock: nobody would wake this task any more.
        if !self.0.on.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !sleepers.iter().any(|waker| waker.will_wake(cx.waker())) {
            sleepers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Passes everything through to `inner` while the switch is off.
#[derive(Debug)]
pub(super) struct StallStream<S> {
    inner: S,
    stall: Stall,
}

impl<S> StallStream<S> {
    pub(super) fn new(inner: S, stall: Stall) -> Self {
        Self { inner, stall }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.stall.poll_passes(cx));
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.stall.poll_passes(cx));
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stall.poll_passes(cx));
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
