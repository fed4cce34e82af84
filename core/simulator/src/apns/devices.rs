//! The device tokens that the stand-in knows, and what waits for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::hold::{Held, Hold};
use super::{ReceivedPush, Scripted};

/// Whether a token is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registration {
    Unknown,
    Alive { topic: String },
    Dead { since: Timestamp },
}

#[derive(Debug)]
struct Device {
    registration: Registration,
    scripted: VecDeque<Scripted>,
    held: Option<Held>,
    newest: Option<ReceivedPush>,
    arrived: Arc<Notify>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            registration: Registration::Unknown,
            scripted: VecDeque::new(),
            held: None,
            newest: None,
            arrived: Arc::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Devices {
    by_token: Mutex<HashMap<Vec<u8>, Device>>,
}

impl Devices {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Device>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, token: &[u8], change: impl FnOnce(&mut Device) -> T) -> T {
        change(self.lock().entry(token.to_vec()).or_default())
    }

    pub(super) fn register(&self, token: &[u8], topic: &str) {
        self.with(token, |device| {
            device.registration = Registration::Alive {
                topic: topic.to_owned(),
            }
        });
    }

    pub(super) fn unregister(&self, token: &[u8]) {
        let since = Timestamp::now();
        self.with(token, |device| device.registration = Registration::Dead { since });
    }

    /// A token that nobody has mentioned gets no entry, however many of them a client makes up.
    pub(super) fn registration(&self, token: &[u8]) -> Registration {
        self.lock()
            .get(token)
            .map_or(Registration::Unknown, |device| device.registration.clone())
    }

    pub(super) fn answer_next(&self, token: &[u8], answer: Scripted) {
        self.with(token, |device| device.scripted.push_back(answer));
    }

    pub(super) fn take_scripted(&self, token: &[u8]) -> Option<Scripted> {
        self.lock().get_mut(token)?.scripted.pop_front()
    }

    pub(super) fn hold(&self, token: &[u8]) -> Hold {
        let (hold, held) = Hold::new();
        self.with(token, |device| device.held = Some(held));
        hold
    }

    /// Waits while requests for `token` are held; a released hold lets everything through.
    pub(super) async fn wait_while_held(&self, token: &[u8]) {
        let held = self.lock().get(token).and_then(|device| device.held.clone());
        if let Some(held) = held {
            held.wait().await;
        }
    }

    pub(super) fn deliver(&self, push: ReceivedPush) {
        let arrived = self.with(&push.token.clone(), |device| {
            device.newest = Some(push);
            Arc::clone(&device.arrived)
        });
        arrived.notify_waiters();
    }

    pub(super) async fn wait_for_push(&self, token: &[u8]) -> ReceivedPush {
        let arrived = self.with(token, |device| Arc::clone(&device.arrived));
        loop {
            let mut notified = std::pin::pin!(arrived.notified());
            // Listen before looking, or a push between the two would be missed.
            notified.as_mut().enable();
            if let Some(push) = self.with(token, |device| device.newest.take()) {
                return push;
            }
            notified.await;
        }
    }
}
