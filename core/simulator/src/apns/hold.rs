//! Requests that wait until a test lets them go.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    waiting: u64,
    released: bool,
}

/// Keeps requests for one token unanswered; see [`ApnsStandIn::hold`](super::ApnsStandIn::hold). Dropping it releases
/// them.
#[derive(Debug)]
#[must_use = "dropping the hold releases it"]
pub struct Hold {
    state: Arc<watch::Sender<State>>,
}

impl Hold {
    pub(super) fn new() -> (Self, Held) {
        let state = Arc::new(watch::Sender::new(State::default()));
        (
            Self {
                state: Arc::clone(&state),
            },
            Held { state },
        )
    }

    /// Waits until `count` requests have arrived since the hold began.
    pub async fn reached(&self, count: u64) {
        // This handle keeps the sender alive, so the wait cannot fail.
        let _ = self.state.subscribe().wait_for(|state| state.waiting >= count).await;
    }

    /// Lets the requests go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.state.send_modify(|state| state.released = true);
    }
}

/// The requests' side of a [`Hold`].
#[derive(Debug, Clone)]
pub(super) struct Held {
    state: Arc<watch::Sender<State>>,
}

impl Held {
    pub(super) async fn wait(&self) {
        let mut receiver = self.state.subscribe();
        self.state.send_modify(|state| state.waiting += 1);
        let _ = receiver.wait_for(|state| state.released).await;
    }
}
