//! Lets decision records join their tenants' chains, and notes in the log where the chains end: who can write to the
//! database can compute a whole new chain, and not what a log keeper has taken away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_store::{ChainHead, Store, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

/// How often decisions join their tenants' chains.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// How long the node that lets decisions join is alone with it.
const LEASE: SignedDuration = SignedDuration::from_secs(30);

/// How often the ends of the chains are noted, if there is something new.
const NOTE: Duration = Duration::from_secs(60 * 60);

/// One node of a cluster does it at a time; the lease spares the others the look.
#[derive(Debug)]
pub(crate) struct Chaining {
    store: Store,
    node: Uuid,
    noted: Mutex<Noted>,
}

/// What this node noted last, by tenant, and when.
#[derive(Debug, Default)]
struct Noted {
    at: Option<Instant>,
    heads: HashMap<String, ChainHead>,
}

impl Chaining {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            node: Uuid::new_v4(),
            noted: Mutex::default(),
        }
    }

    pub(crate) async fn join(&self) {
        match self.try_join().await {
            Ok(joined) => tracing::trace!(joined, "decisions joined their chains"),
            Err(error) => tracing::warn!(error = %error, "decisions could not join their chains; trying again"),
        }
    }

    async fn try_join(&self) -> Result<u64, StoreError> {
        if !self.store.unchained_decisions().await? {
            return Ok(0);
        }
        let now = Timestamp::now();
        let until = now.checked_add(LEASE).unwrap_or(Timestamp::MAX);
        if !self.store.lease("decision-chain", self.node, until, now).await? {
            return Ok(0);
        }
        let joined = self.store.chain_decisions().await?;
        if joined > 0 && self.is_due() {
            self.note(self.store.decision_heads().await?);
        }
        Ok(joined)
    }

    fn is_due(&self) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.at.is_none_or(|at| at.elapsed() >= NOTE)
    }

    fn note(&self, heads: Vec<(String, ChainHead)>) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (tenant, head) in &heads {
            if noted.heads.get(tenant) != Some(head) {
                tracing::info!(tenant.name = %tenant, head = %head, "the chain of decisions ends here");
            }
        }
        *noted = Noted {
            at: Some(Instant::now()),
            heads: heads.into_iter().collect(),
        };
    }
}
