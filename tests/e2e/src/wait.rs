//! Waiting for conditions, with a deadline and without guesses at how long something takes.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// The longest that a test waits for something that is bound to happen. Long, because a machine may be busy; a test
/// that passes does not wait so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer, and returns it.
///
/// # Panics
/// When there is none within [`PATIENCE`]; `what` says what did not happen.
#[track_caller]
pub fn eventually<T, F, L>(what: &str, mut look: L) -> impl Future<Output = T>
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let what = format!("{what} (waited for at {})", std::panic::Location::caller());
    async move {
        let deadline = Instant::now() + PATIENCE;
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what}");
        }
    }
}

/// Awaits something that is bound to end.
///
/// # Panics
/// When it does not end within [`PATIENCE`].
#[track_caller]
pub fn soon<T: Debug>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let what = format!("{what} (waited for at {})", std::panic::Location::caller());
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(done) => done,
            Err(_) => panic!("did not end within {PATIENCE:?}: {what}"),
        }
    }
}
