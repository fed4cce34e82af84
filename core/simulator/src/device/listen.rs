//! Waiting for pushes, and polling when one comes.

use std::future::Future;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::channel::Channel;
use super::event::DeviceEvent;
use super::state::lock;
use crate::apns::ReceivedPush;

/// What wakes a device up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// A push, perhaps for another device.
    Push {
        /// The token that it is addressed to.
        token: Vec<u8>,
        /// The magic that it carries.
        magic: String,
    },
    /// Pushes were missed; the device had better look.
    Missed,
}

/// Where pushes come from. Implemented for the subscription of the stand-in of Apple's push service
/// ([`ApnsStandIn::subscribe`](crate::apns::ApnsStandIn::subscribe)).
pub trait PushSource: Send {
    /// The next push; `None` when there will be none any more.
    fn next(&mut self) -> impl Future<Output = Option<Wake>> + Send;
}

impl PushSource for broadcast::Receiver<ReceivedPush> {
    async fn next(&mut self) -> Option<Wake> {
        match self.recv().await {
            Ok(push) => Some(Wake::Push {
                token: push.token,
                magic: push.magic,
            }),
            Err(RecvError::Lagged(_)) => Some(Wake::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}

impl PushSource for tokio::sync::mpsc::Receiver<Wake> {
    async fn next(&mut self) -> Option<Wake> {
        self.recv().await
    }
}

/// Why a device stopped listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenEnd {
    /// There will be no more pushes.
    SourceClosed,
    /// The device is not managed any more.
    Unenrolled,
}

impl Channel<'_> {
    /// Polls whenever a push with the right token and magic comes, and by itself after a failure or a "not now".
    pub(crate) async fn listen(&self, mut pushes: impl PushSource) -> ListenEnd {
        let mut retry_at = None;
        while self.device.is_enrolled() {
            match wait(&mut pushes, retry_at).await {
                Waited::Closed => return ListenEnd::SourceClosed,
                Waited::Woken(wake) if !self.is_for_us(&wake) => continue,
                Waited::Woken(_) => self.device.emit(&DeviceEvent::Woken),
                Waited::Retry => {}
            }
            let retry = match Box::pin(self.run_until_idle()).await {
                Ok(session) => session.not_now_last,
                Err(error) => {
                    let reason = error.with_causes();
                    tracing::debug!(error = %reason, "a simulated device's session failed");
                    self.device.emit(&DeviceEvent::Failed { reason });
                    error.is_temporary()
                }
            };
            // A point in time, not a delay: pushes for other devices must not put it off.
            retry_at = retry.then(|| Instant::now() + self.device.settings.retry_after);
        }
        ListenEnd::Unenrolled
    }

    fn is_for_us(&self, wake: &Wake) -> bool {
        match wake {
            Wake::Missed => true,
            Wake::Push { token, magic } => {
                let state = lock(self.state);
                if state.token.expose() != token {
                    return false;
                }
                let right = state.magic.expose() == magic;
                drop(state);
                if !right {
                    self.device.emit(&DeviceEvent::PushIgnored);
                }
                right
            }
        }
    }
}

enum Waited {
    Woken(Wake),
    Retry,
    Closed,
}

async fn wait(pushes: &mut impl PushSource, retry_at: Option<Instant>) -> Waited {
    let next = pushes.next();
    let woken = match retry_at {
        None => next.await,
        Some(retry_at) => match tokio::time::timeout_at(retry_at, next).await {
            Ok(woken) => woken,
            Err(_) => return Waited::Retry,
        },
    };
    woken.map_or(Waited::Closed, Waited::Woken)
}
