//! Pushes: the dispatcher that empties the outbox.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_apns::{Push, PushCertificate, PushClient, PushError, Scope};
use russet_store::{PushJob, PushOutcome, TenantId};
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
            pauses: std::sync::Mutex::default(),
        }
    }
}

/// The shortest pause between two looks at an outbox in which something is due that another node has in its hands.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// How long what became of a push waits for others to be written down with it.
const LINGER: Duration = Duration::from_millis(20);

/// Takes pushes from the outbox and sends them.
#[derive(Debug)]
pub struct PushDispatcher {
    engine: Engine,
    /// A client for each tenant and topic, with the time of the certificate that it was made from.
    clients: Mutex<HashMap<(TenantId, String), (Timestamp, PushClient)>>,
    /// Until when APNs wants to be left alone, by tenant and topic.
    pauses: std::sync::Mutex<HashMap<(TenantId, String), Instant>>,
}

impl PushDispatcher {
    /// Works until it is cancelled; pushes that are under way then are finished. One that hangs holds no other up: as long
    /// as there is room, what is due is taken and sent beside it.
    ///
    /// Each push is a task of its own, so that pushes go on while this one waits for the database. What became of them is
    /// collected and written down for many at a time; nothing new is taken before that, so a database that is slow or gone
    /// is not given more to remember.
    pub async fn run(self, cancel: CancellationToken) {
        let this = Arc::new(self);
        let signal = this.engine.inner.store.push_signal();
        let settings = &this.engine.inner.settings.push;
        let batch = usize::try_from(settings.batch).unwrap_or(usize::MAX).max(1);
        let mut pace = settings.per_second.map(Pace::new);
        let mut sending = JoinSet::new();
        let mut sent = Sent::default();
        let (mut turn, mut look, mut more) = (Turn::Claim, Instant::now(), false);
        while !cancel.is_cancelled() {
            if turn != Turn::Wait {
                sent.collect(&mut sending);
                this.write_down(&mut sent).await;
            }
            if turn == Turn::Claim {
                sent.retry = None;
                let mut room = batch.saturating_sub(sending.len());
                if let Some(pace) = &mut pace {
                    room = room.min(pace.allowed(Instant::now()));
                }
                let taken = this.claim(room).await.unwrap_or_else(|error| {
                    tracing::error!(error = %error, "the push outbox cannot be read");
                    Vec::new()
                });
                more = taken.len() >= room;
                if let Some(pace) = &mut pace {
                    pace.took(taken.len());
                }
                this.send_all(taken, &mut sending, &mut sent).await;
                let wait = match (more, &pace) {
                    // As fast as the pace allows, what is left is taken in small lots.
                    (true, Some(_)) => Pace::STEP,
                    (true, None) => settings.idle_interval,
                    (false, _) => this.until_next_due().await,
                };
                look = Instant::now() + wait;
            }
            let at_full_speed = more && pace.is_none();
            let room = sending.len() < batch;
            if at_full_speed && sending.len() <= batch / 2 {
                turn = Turn::Claim;
                continue;
            }
            let soonest = sent.retry.map_or(look, |retry| look.min(retry));
            let write_down = sent.since.map_or(look, |since| since + LINGER);
            turn = tokio::select! {
                Some(one) = sending.join_next() => {
                    sent.add(one);
                    sent.collect(&mut sending);
                    Turn::Wait
                }
                () = signal.notified(), if room && !(pace.is_some() && more) => Turn::Claim,
                () = tokio::time::sleep_until(soonest), if room => Turn::Claim,
                () = tokio::time::sleep_until(write_down), if sent.since.is_some() => Turn::WriteDown,
                () = cancel.cancelled() => Turn::WriteDown,
            };
        }
        while let Some(one) = sending.join_next().await {
            sent.add(one);
        }
        this.write_down(&mut sent).await;
    }

    /// Stores what became of pushes.
    async fn write_down(&self, sent: &mut Sent) {
        sent.since = None;
        let pushes = std::mem::take(&mut sent.pushes);
        let number = pushes.len();
        if let Err(error) = self.engine.inner.store.push_settle(pushes, Timestamp::now()).await {
            // Their leases run out, and they are sent again: APNs keeps only the last.
            tracing::error!(error = %error, number, "what became of pushes cannot be stored; they will be sent again");
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

    /// Starts to send pushes, or puts them off where there is no certificate to send them with.
    async fn send_all(self: &Arc<Self>, jobs: Vec<PushJob>, sending: &mut JoinSet<Outcome>, sent: &mut Sent) {
        let mut clients = HashMap::new();
        for job in jobs {
            let key = (job.tenant, job.topic.clone());
            if let Some(wait) = self.pause(&key) {
                let due_at = later(Timestamp::now(), wait);
                sent.add(Ok((job, PushOutcome::Refused { due_at }, Some(wait))));
                continue;
            }
            let client = match clients.entry(key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.client_or_complaint(&job).await),
            };
            match client {
                Ok(Some(client)) => {
                    let (this, client) = (Arc::clone(self), client.clone());
                    sending.spawn(async move { this.send(job, &client).await });
                }
                Ok(None) => {
                    let wait = self.engine.inner.settings.push.retry_longest;
                    let due_at = later(Timestamp::now(), wait);
                    sent.add(Ok((job, PushOutcome::Refused { due_at }, Some(wait))));
                }
                // Its lease runs out, and it is tried again.
                Err(_) => {}
            }
        }
    }

    /// Sends a push; what became of it, and how long until it is to be tried again, if it is.
    async fn send(&self, job: PushJob, client: &PushClient) -> Outcome {
        let outcome = client.push(&Push::new(job.token.clone(), job.magic.clone())).await;
        match outcome {
            Ok(_) => (job, PushOutcome::Taken, None),
            Err(PushError::TokenDead { .. }) => {
                tracing::info!(enrollment.id = %job.enrollment, "APNs says that the push token is dead; it is parked");
                (job, PushOutcome::Dead, None)
            }
            Err(error) => {
                let after = match &error {
                    PushError::Retry { after, .. } => *after,
                    _ => None,
                };
                if let (Scope::AllPushes, Some(after)) = (error.scope(), after) {
                    self.begin_pause(&job, after);
                }
                let wait = self.backoff(job.attempts).max(after.unwrap_or_default());
                tracing::warn!(enrollment.id = %job.enrollment, error = %error, retry_in = ?wait, "a push failed");
                let due_at = later(Timestamp::now(), wait);
                (job, PushOutcome::Refused { due_at }, Some(wait))
            }
        }
    }

    /// What APNs asks for (`Retry-After`) holds for every push with the same certificate.
    fn begin_pause(&self, job: &PushJob, after: Duration) {
        let after = after.min(self.engine.inner.settings.push.retry_longest);
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let until = pauses
            .entry((job.tenant, job.topic.clone()))
            .or_insert_with(Instant::now);
        *until = (*until).max(Instant::now() + after);
    }

    /// How long pushes of a tenant and topic are to wait yet.
    fn pause(&self, key: &(TenantId, String)) -> Option<Duration> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let left = pauses.get(key)?.checked_duration_since(Instant::now());
        if left.is_none_or(|left| left.is_zero()) {
            pauses.remove(key);
            return None;
        }
        left
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

    /// The client for a job's topic. Why there is none is said here, once for all jobs that are claimed together: a whole fleet
    /// may wait for one certificate.
    async fn client_or_complaint(&self, job: &PushJob) -> Result<Option<PushClient>, russet_store::StoreError> {
        let client = self.client(job).await;
        match &client {
            Ok(Some(_)) => {}
            Ok(None) => tracing::warn!(push.topic = %job.topic, "no push certificate for this topic; its pushes wait"),
            Err(error) => {
                tracing::error!(push.topic = %job.topic, error = %error, "the push certificate cannot be read");
            }
        }
        client
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

/// A push, what became of it, and how long until it is to be tried again, if it is.
type Outcome = (PushJob, PushOutcome, Option<Duration>);

/// What the dispatcher does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Takes what is due, and writes down what was sent before.
    Claim,
    /// Writes down what was sent.
    WriteDown,
    /// Waits for more.
    Wait,
}

/// Pushes that were sent and are not written down yet.
#[derive(Default)]
struct Sent {
    pushes: Vec<(PushJob, PushOutcome)>,
    /// When the first of them was sent.
    since: Option<Instant>,
    /// When the first of what was refused is due again.
    retry: Option<Instant>,
}

impl Sent {
    fn add(&mut self, sent: Result<Outcome, JoinError>) {
        let (job, outcome, retry) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // Its lease runs out, and it is sent again.
                tracing::error!(error = %error, "a push ended badly");
                return;
            }
        };
        self.since.get_or_insert_with(Instant::now);
        if let Some(at) = retry.map(|wait| Instant::now() + wait) {
            self.retry = Some(self.retry.map_or(at, |first| first.min(at)));
        }
        self.pushes.push((job, outcome));
    }

    /// All that have ended by now.
    fn collect(&mut self, sending: &mut JoinSet<Outcome>) {
        while let Some(sent) = sending.try_join_next() {
            self.add(sent);
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
