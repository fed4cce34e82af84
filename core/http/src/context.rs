//! What a request carries besides its content: its identifier, and what is learned about it for the one line of log.

use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use http::request::Parts;

/// An error from inside, for the log only.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

/// A request's identifier and notes. Clones share the notes.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// A UUID of version 7: ours, whatever the client sends.
    pub(crate) id: Arc<str>,
    notes: Arc<Mutex<Notes>>,
}

/// What is learned about a request while it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// The tenant.
    pub(crate) tenant: Option<Arc<str>>,
    /// The enrollment that a device names. Not verified where the request failed.
    pub(crate) enrollment: Option<String>,
    /// The name of the token of an administrator.
    pub(crate) administrator: Option<String>,
}

impl Context {
    pub(crate) fn new() -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string().into(),
            notes: Arc::default(),
        }
    }

    pub(crate) fn note(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    /// That of the boundary; one of its own where a vendor left the boundary out.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::new))
    }
}
