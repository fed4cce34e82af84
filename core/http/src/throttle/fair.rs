//! A share of the server for each tenant: one that floods it keeps its own devices waiting, not those of others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::failure::Failure;

/// How long a device is told to wait when its tenant has used up its share.
const AGAIN: Duration = Duration::from_secs(30);

/// A message's turn; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The shares of all tenants.
#[derive(Debug)]
pub(crate) struct Shares {
    at_once: usize,
    patience: Duration,
    tenants: RwLock<HashMap<Arc<str>, Arc<Semaphore>>>,
}

impl Shares {
    pub(crate) fn new(at_once: usize, patience: Duration) -> Self {
        Self {
            at_once: at_once.clamp(1, Semaphore::MAX_PERMITS),
            patience,
            tenants: RwLock::default(),
        }
    }

    /// Waits for a turn. Only for tenants that exist: each takes a little memory for good.
    pub(crate) async fn turn(&self, tenant: &Arc<str>) -> Result<Turn, Failure> {
        let share = self.share(tenant);
        // Without a timer, as long as there is a place.
        if let Ok(permit) = Arc::clone(&share).try_acquire_owned() {
            return Ok(Turn(permit));
        }
        match timeout(self.patience, share.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                Err(Failure::unavailable("too many devices ask at the same time; try again later").retry_after(AGAIN))
            }
        }
    }

    fn share(&self, tenant: &Arc<str>) -> Arc<Semaphore> {
        if let Some(share) = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant) {
            return Arc::clone(share);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let share = tenants
            .entry(Arc::clone(tenant))
            .or_insert_with(|| Arc::new(Semaphore::new(self.at_once)));
        Arc::clone(share)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_tenant_waits_for_itself_and_not_for_others() {
        let shares = Arc::new(Shares::new(1, Duration::from_secs(5)));
        let (busy, other): (Arc<str>, Arc<str>) = ("busy".into(), "other".into());
        let first = shares.turn(&busy).await.unwrap();
        assert!(shares.turn(&other).await.is_ok());
        assert!(shares.turn(&busy).await.is_err());

        let waiting = tokio::spawn({
            let (shares, busy) = (Arc::clone(&shares), Arc::clone(&busy));
            async move { shares.turn(&busy).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
