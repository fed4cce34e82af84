//! Pushes: the dispatcher that empties the outbox.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_apns::{Push, PushCertificate, PushClient, PushError};
use russet_store::{PushJob, TenantId};
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Engine;

impl Engine {
    /// Makes the dispatcher of this process. Run it in a task of its own.
    pub fn push_dispatcher(&self) -> PushDispatcher {
        PushDispatcher {
            engine: self.clone(),
            clients: Mutex::default(),
        }
    }
}

/// The shortest pause between two looks at an outbox in which something is due that another node has in its hands.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Takes pushes from the outbox and sends them.
#[derive(Debug)]
pub struct PushDispatcher {
    engine: Engine,
    /// A client for each tenant and topic, with the time of the certificate that it was made from.
    clients: Mutex<HashMap<(TenantId, String), (Timestamp, PushClient)>>,
}

impl PushDispatcher {
    /// Works until it is cancelled; pushes that are under way then are finished. One that hangs holds no other up: as long
    /// as there is room, what is due is taken and sent beside it.
    ///
    /// Each push is a task of its own. As a future of this task it would stand still whenever this one waits for a
    /// connection to the database, and might hold the very one that is waited for.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let store = &this.engine.inner.store;
        let signal = store.push_signal();
        let settings = &this.engine.inner.settings.push;
        let batch = usize::try_from(settings.batch).unwrap_or(usize::MAX).max(1);
        let mut sending = JoinSet::new();
        let mut pace = settings.per_second.map(Pace::new);
        while !cancel.is_cancelled() {
            // Registered before the outbox is read, so that no announcement is missed in between.
            let mut announced = pin!(signal.notified());
            let mut room = batch.saturating_sub(sending.len());
            if let Some(pace) = &mut pace {
                room = room.min(pace.allowed(Instant::now()));
            }
            let taken = this.claim(room).await.unwrap_or_else(|error| {
                tracing::error!(error = %error, "the push outbox cannot be read");
                Vec::new()
            });
            let more = taken.len() >= room;
            if let Some(pace) = &mut pace {
                pace.took(taken.len());
            }
            for job in taken {
                let this = Arc::clone(&this);
                sending.spawn(async move { this.send(job).await });
            }
            let mut look = Instant::now() + this.until_next_due().await;
            // As fast as the pace allows, what is left is taken in small lots.
            let paced = pace.is_some();
            if paced && more {
                look = Instant::now() + Pace::STEP;
            }
            loop {
                let room = sending.len() < batch;
                tokio::select! {
                    Some(sent) = sending.join_next() => {
                        if let Some(retry) = settled(sent) {
                            look = look.min(Instant::now() + retry);
                        }
                        if more && !paced && sending.len() <= batch / 2 {
                            break;
                        }
                    }
                    () = &mut announced, if room && !(paced && more) => break,
                    () = tokio::time::sleep_until(look), if room => break,
                    () = cancel.cancelled() => break,
                }
            }
        }
        while let Some(sent) = sending.join_next().await {
            settled(sent);
        }
    }

    /// Takes what is due, up to a number.
    async fn claim(&self, room: usize) -> Result<Vec<PushJob>, russet_store::StoreError> {
        let Some(limit) = u32::try_from(room).ok().filter(|limit| *limit > 0) else {
            return Ok(Vec::new());
        };
        let now = Timestamp::now();
        let lease = later(now, self.engine.inner.settings.push.lease);
        self.engine.inner.store.push_claim(limit, lease, now).await
    }

    /// How long nothing is due, as far as it is known now.
    async fn until_next_due(&self) -> Duration {
        let idle = self.engine.inner.settings.push.idle_interval;
        match self.engine.inner.store.push_next_due().await {
            Ok(Some(due)) => {
                let wait = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
                wait.clamp(SHORTEST_PAUSE.min(idle), idle)
            }
            Ok(None) | Err(_) => idle,
        }
    }

    /// Sends a push; how long until it is to be tried again, if it is.
    async fn send(&self, job: PushJob) -> Result<Option<Duration>, russet_store::StoreError> {
        let store = &self.engine.inner.store;
        let outcome = match self.client(&job).await? {
            Some(client) => client
                .push(&Push::new(job.token.clone(), job.magic.clone()))
                .await
                .map(|_| ()),
            None => {
                tracing::warn!(push.topic = %job.topic, "no push certificate for this topic; the push waits");
                let retry = self.engine.inner.settings.push.retry_longest;
                let now = Timestamp::now();
                store.push_retry(&job, later(now, retry), now).await?;
                return Ok(Some(retry));
            }
        };
        let now = Timestamp::now();
        match outcome {
            Ok(()) => store.push_done(&job, now).await?,
            Err(PushError::TokenDead { .. }) => {
                tracing::info!(enrollment.id = %job.enrollment, "APNs says that the push token is dead; it is parked");
                store.push_park(&job, now).await?;
            }
            Err(error) => {
                let after = match &error {
                    PushError::Retry { after, .. } => *after,
                    _ => None,
                };
                let wait = self.backoff(job.attempts).max(after.unwrap_or_default());
                tracing::warn!(enrollment.id = %job.enrollment, error = %error, retry_in = ?wait, "a push failed");
                store.push_retry(&job, later(now, wait), now).await?;
                return Ok(Some(wait));
            }
        }
        Ok(None)
    }

    /// Doubles with each attempt, up to the longest.
    fn backoff(&self, attempts: i64) -> Duration {
        let settings = &self.engine.inner.settings.push;
        let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(16);
        settings
            .retry_first
            .saturating_mul(1 << doublings)
            .min(settings.retry_longest)
    }

    /// The client for a job's topic, made anew when the certificate was replaced.
    async fn client(&self, job: &PushJob) -> Result<Option<PushClient>, russet_store::StoreError> {
        let key = (job.tenant, job.topic.clone());
        let current = self
            .engine
            .inner
            .store
            .push_certificate_updated_at(job.tenant, &job.topic)
            .await?;
        let Some(current) = current else { return Ok(None) };
        let mut clients = self.clients.lock().await;
        if let Some((made_from, client)) = clients.get(&key)
            && *made_from == current
        {
            return Ok(Some(client.clone()));
        }
        let Some(identity) = self.engine.inner.store.push_identity(job.tenant, &job.topic).await? else {
            return Ok(None);
        };
        let certificate = match PushCertificate::from_pem(&identity.certificate.certificate, &identity.private_key) {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::error!(push.topic = %job.topic, error = %error, "the stored push certificate cannot be used");
                return Ok(None);
            }
        };
        let settings = &self.engine.inner.settings.push;
        let client = PushClient::new(
            settings.endpoint.clone(),
            Arc::new(certificate),
            settings.client.clone(),
        );
        clients.insert(key, (identity.certificate.updated_at, client.clone()));
        Ok(Some(client))
    }
}

/// Spreads pushes over time: so many a second, none saved up for later than the next step.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    /// How many may be sent now.
    left: f64,
    at: Option<Instant>,
}

impl Pace {
    /// How often to look again while more is due than may be sent.
    const STEP: Duration = Duration::from_millis(100);

    fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            left: 0.0,
            at: None,
        }
    }

    fn allowed(&mut self, now: Instant) -> usize {
        // At a slow pace it takes longer than a step to save up for one.
        let most = (self.per_second * Self::STEP.as_secs_f64()).max(1.0);
        self.left = match self.at {
            None => most,
            Some(at) => (self.left + now.duration_since(at).as_secs_f64() * self.per_second).min(most),
        };
        self.at = Some(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and at most a tenth of a u32"
        )]
        let allowed = self.left as usize;
        allowed
    }

    fn took(&mut self, number: usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.left = (self.left - f64::from(number)).max(0.0);
    }
}

/// How long until a push is to be tried again, if it is. What went wrong is logged.
fn settled(sent: Result<Result<Option<Duration>, russet_store::StoreError>, JoinError>) -> Option<Duration> {
    // Either way the lease runs out, and the push is sent again: APNs keeps only the last.
    match sent {
        Ok(Ok(retry)) => retry,
        Ok(Err(error)) => {
            tracing::error!(error = %error, "what became of a push cannot be stored");
            None
        }
        Err(error) => {
            tracing::error!(error = %error, "a push ended badly");
            None
        }
    }
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many a pace allows in this many steps, if all that it allows is taken.
    fn taken(pace: &mut Pace, from: Instant, steps: u32) -> usize {
        let step = |number: u32| {
            let allowed = pace.allowed(from + Pace::STEP * number);
            pace.took(allowed);
            allowed
        };
        (0..steps).map(step).sum()
    }

    #[test]
    fn pushes_are_spread_over_time() {
        let start = Instant::now();
        let mut pace = Pace::new(50);
        // In ten seconds; a step's worth more or less, as fractions are rounded.
        assert!((495..=505).contains(&taken(&mut pace, start, 100)));
        // What was not used while nothing was due is not made up for.
        assert_eq!(pace.allowed(start + Duration::from_secs(3600)), 5);
        let mut slow = Pace::new(2);
        assert!((19..=21).contains(&taken(&mut slow, start, 100)));
    }
}
