//! The layers over every implementor: permits and the deadline.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};

use crate::{Ask, FaultKind, Hook, HookService, PluginFault};

/// The limits over the calls of one implementor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// The longest that one call may take, host calls and waiting for a permit included.
    pub wall: Duration,
    /// How many calls may run at once; more wait until their deadline.
    pub concurrency: usize,
}

impl Default for CallLimits {
    /// Two seconds, 64 calls at once.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(2),
            concurrency: 64,
        }
    }
}

/// Puts the deadline and the permits over an implementor.
pub fn guarded<H, S>(name: impl Into<Arc<str>>, service: S, limits: CallLimits) -> HookService<H>
where
    H: Hook,
    S: Service<Ask<H>, Response = H::Verdict, Error = PluginFault> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    // The deadline is outside: the time spent waiting for a permit counts.
    let permits = ConcurrencyLimit::new(service, limits.concurrency.max(1));
    BoxCloneSyncService::new(DeadlineLayer::new(name, limits.wall).layer(permits))
}

/// Ends a call when the deadline of its scope or its own longest time is over.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    name: Arc<str>,
    wall: Duration,
}

impl DeadlineLayer {
    /// A layer that blames `name` and grants `wall` at most.
    pub fn new(name: impl Into<Arc<str>>, wall: Duration) -> Self {
        Self {
            name: name.into(),
            wall,
        }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service that [`DeadlineLayer`] makes.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<H, S> Service<Ask<H>> for Deadline<S>
where
    H: Hook,
    S: Service<Ask<H>, Response = H::Verdict, Error = PluginFault> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = H::Verdict;
    type Error = PluginFault;
    type Future = BoxFuture<'static, Result<H::Verdict, PluginFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PluginFault>> {
        // Readiness of the inner service is awaited inside the call, so that it falls under the deadline.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut ask: Ask<H>) -> Self::Future {
        ask.scope.deadline = ask.scope.deadline.min(Instant::now() + self.layer.wall);
        let deadline = ask.scope.deadline;
        let mut inner = self.inner.clone();
        let name = Arc::clone(&self.layer.name);
        async move {
            match timeout_at(deadline, inner.ready()).await {
                Ok(ready) => {
                    let service = ready?;
                    timeout_at(deadline, service.call(ask)).await.unwrap_or_else(|_| {
                        Err(PluginFault::new(
                            name.as_ref(),
                            FaultKind::Deadline,
                            "no answer before the deadline",
                        ))
                    })
                }
                Err(_) => Err(PluginFault::new(
                    name.as_ref(),
                    FaultKind::Busy,
                    "no permit before the deadline",
                )),
            }
        }
        .boxed()
    }
}
