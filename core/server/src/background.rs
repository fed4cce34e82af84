//! What a server does beside answering: sending pushes, serving observers and scheduled work, making plans of
//! declarations, chaining decisions, following other nodes' plugins and the clock, renewing its TLS certificate, and
//! throwing away what is old.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russet_engine::Engine;
use russet_http::Tls;
use russet_plugin_host::PluginManager;
use russet_store::{Retention, Store};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::chain::{self, Chaining};
use crate::config::Config;
use crate::parts;

/// How often to look whether the operator's TLS files changed, and to issue the server's own certificate anew.
const TLS: Duration = Duration::from_secs(60 * 60);

/// How often to throw away what is old.
const PURGE: Duration = Duration::from_secs(60 * 60);

/// How often to look which authorities of other servers were added or removed, on this node or another.
const AUTHORITIES: Duration = Duration::from_secs(5);

/// How long the node that throws away is alone with it: a little less than until the next time.
const PURGE_LEASE: SignedDuration = SignedDuration::from_mins(59);

/// How often to look for devices that nobody is going to wake.
const MISSED: Duration = Duration::from_secs(15 * 60);

/// How long the node that looks is alone with it.
const MISSED_LEASE: SignedDuration = SignedDuration::from_mins(14);

/// How often to look for push certificates that end soon.
const REMIND: Duration = Duration::from_secs(60 * 60);

/// How often to look whether the clock went back.
const CLOCK: Duration = Duration::from_secs(2);

/// The tasks of a server.
#[derive(Debug)]
pub(crate) struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    pub(crate) fn start(engine: &Engine, plugins: &Arc<PluginManager>, tls: TlsRenewal, retention: Retention) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(supervised("the push dispatcher", stop.clone(), {
            let (engine, stop) = (engine.clone(), stop.clone());
            move || engine.push_dispatcher().run(stop.clone())
        }));
        tasks.spawn(supervised("the runner of observers", stop.clone(), {
            let (engine, stop) = (engine.clone(), stop.clone());
            move || engine.observer_runner().run(stop.clone())
        }));
        tasks.spawn(supervised("the runner of scheduled work", stop.clone(), {
            let (engine, stop) = (engine.clone(), stop.clone());
            move || engine.schedule_runner().run(stop.clone())
        }));
        tasks.spawn(supervised("the maker of plans", stop.clone(), {
            let (engine, stop) = (engine.clone(), stop.clone());
            move || engine.clone().plan_declarations(stop.clone())
        }));
        tasks.spawn(each(chain::INTERVAL, stop.clone(), {
            let chaining = Arc::new(Chaining::new(engine.store().clone()));
            move || {
                let chaining = Arc::clone(&chaining);
                async move { chaining.join().await }
            }
        }));
        tasks.spawn(each(PURGE, stop.clone(), {
            let (store, node) = (engine.store().clone(), Uuid::new_v4());
            move || purge(store.clone(), retention, node)
        }));
        tasks.spawn(each(MISSED, stop.clone(), {
            let (store, node) = (engine.store().clone(), Uuid::new_v4());
            move || wake_missed(store.clone(), node)
        }));
        tasks.spawn(each(REMIND, stop.clone(), {
            let engine = engine.clone();
            move || remind(engine.clone())
        }));
        tasks.spawn(each(AUTHORITIES, stop.clone(), {
            let (engine, tls, asked) = (engine.clone(), tls.tls.clone(), Arc::default());
            move || follow_authorities(engine.clone(), tls.clone(), Arc::clone(&asked))
        }));
        let tls = Arc::new(tokio::sync::Mutex::new(tls));
        tasks.spawn(each(CLOCK, stop.clone(), {
            let (store, tls) = (engine.store().clone(), Arc::clone(&tls));
            move || follow_clock(store.clone(), Arc::clone(&tls))
        }));
        tasks.spawn(each(TLS, stop.clone(), {
            move || {
                let tls = Arc::clone(&tls);
                async move { tls.lock().await.renew() }
            }
        }));
        // Also where there is no other node: a change whose client went away half-way is in the store and not in use.
        tasks.spawn(supervised("following the plugins", stop.clone(), {
            let (plugins, changed) = (Arc::clone(plugins), engine.store().plugin_signal());
            let stop = stop.clone();
            move || follow(Arc::clone(&plugins), Arc::clone(&changed), stop.clone())
        }));
        tasks.close();
        Self { stop, tasks }
    }

    /// Ends the tasks; pushes that are under way are finished.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// How long to wait before work that ended by a bug is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// Does something until told to stop. A bug that ends it is not the end of it: what it had in its hands is free again when
/// its lease runs out.
async fn supervised<F>(what: &'static str, stop: CancellationToken, work: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = tokio::spawn(work()).await {
        tracing::error!(error = %error, "{what} failed and is started again");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Does something now and then, first after one interval. A time at which it fails by a bug is not the last.
async fn each<F>(interval: Duration, stop: CancellationToken, work: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                if let Err(error) = tokio::spawn(work()).await {
                    tracing::error!(error = %error, "background work failed");
                }
            }
        }
    }
}

/// One node of a cluster does it at a time.
async fn remind(engine: Engine) {
    if let Err(error) = engine.remind_of_push_certificates(Timestamp::now()).await {
        tracing::warn!(error = %error, "it could not be seen which push certificates end soon; trying again later");
    }
}

async fn purge(store: Store, retention: Retention, node: Uuid) {
    let now = Timestamp::now();
    let until = now.checked_add(PURGE_LEASE).unwrap_or(Timestamp::MAX);
    let purged = match store.lease("purge", node, until, now).await {
        Ok(false) => return,
        Ok(true) => store.purge(now, &retention).await,
        Err(error) => Err(error),
    };
    match purged {
        Ok(purged) => tracing::debug!(?purged, "threw away what is old"),
        Err(error) => tracing::warn!(error = %error, "what is old could not be thrown away; trying again later"),
    }
}

async fn wake_missed(store: Store, node: Uuid) {
    let now = Timestamp::now();
    let until = now.checked_add(MISSED_LEASE).unwrap_or(Timestamp::MAX);
    let missed = match store.lease("missed-pushes", node, until, now).await {
        Ok(false) => return,
        Ok(true) => store.push_missed(now).await,
        Err(error) => Err(error),
    };
    match missed {
        Ok(0) => {}
        Ok(missed) => tracing::info!(missed, "devices had something to fetch and nobody was to wake them"),
        Err(error) => {
            tracing::warn!(error = %error, "it could not be seen whether devices are to be woken; trying again later");
        }
    }
}

/// Has done what waits for a time that a wrong clock set. A certificate of that time is not valid yet.
async fn follow_clock(store: Store, tls: Arc<tokio::sync::Mutex<TlsRenewal>>) {
    match store.follow_clock(Timestamp::now()).await {
        Ok(false) => {}
        Ok(true) => tls.lock().await.follow_clock(),
        Err(error) => tracing::warn!(error = %error, "it could not be seen whether the clock went back; trying again"),
    }
}

/// Follows which authorities devices may show certificates of, and asks for those in TLS.
async fn follow_authorities(engine: Engine, tls: Tls, asked: Arc<Mutex<Vec<Vec<u8>>>>) {
    if let Err(error) = engine.follow_authorities().await {
        tracing::warn!(error = %error, "the authorities of imported devices could not be read; trying again");
        return;
    }
    let authorities = engine.client_authorities_der();
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    // At first only the server's own is asked for.
    if *asked == authorities || (asked.is_empty() && authorities.len() == 1) {
        return;
    }
    match tls.ask_clients_for(authorities.clone()) {
        Ok(()) => *asked = authorities,
        Err(error) => tracing::warn!(error = %error, "clients could not be told which certificates are of use"),
    }
}

/// Follows what other nodes change of the plugins, and judges comparisons, until told to stop. Then this node is taken off
/// the list, with what it has counted.
async fn follow(plugins: Arc<PluginManager>, changed: Arc<Notify>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = plugins.run(changed) => {}
    }
    if let Err(error) = plugins.leave().await {
        tracing::warn!(error = %error, "this node could not be taken off the list of nodes");
    }
}

/// Keeps the TLS identity fresh while the server runs.
#[derive(Debug)]
pub(crate) struct TlsRenewal {
    pub(crate) tls: Tls,
    pub(crate) engine: Engine,
    pub(crate) config: Arc<Config>,
    pub(crate) bound: SocketAddr,
    /// The operator's certificate as it is served.
    pub(crate) served: Option<String>,
    /// When the server's own certificate was issued.
    pub(crate) issued: Timestamp,
}

impl TlsRenewal {
    /// A certificate that was issued before the clock went back may be valid only later. One that is valid stays: clients whose
    /// clocks are behind know it already.
    fn follow_clock(&mut self) {
        if self.issued > Timestamp::now() {
            self.renew();
        }
    }

    fn renew(&mut self) {
        if let Err(error) = self.try_renew() {
            tracing::error!(
                error = &*error,
                "the TLS certificate could not be renewed; the one before stays in use"
            );
        }
    }

    fn try_renew(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match parts::tls_files(&self.config)? {
            Some(files) if self.served.as_ref() == Some(&files.chain) => {}
            Some(files) => {
                self.tls.replace_pem(files.chain.as_bytes(), files.key.as_bytes())?;
                self.served = Some(files.chain);
                tracing::info!("serving the new TLS certificate");
            }
            None => {
                let (names, addresses) = parts::tls_names(&self.config, self.bound);
                let now = Timestamp::now();
                let identity = self.engine.tls_identity(&names, &addresses, now)?;
                self.tls.replace_der(identity.chain, &identity.key_pkcs8)?;
                self.issued = now;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_done_again() {
        let (stop, times) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let work = tokio::spawn(each(Duration::from_secs(60), stop.clone(), {
            let (stop, times) = (stop.clone(), Arc::clone(&times));
            move || {
                let (stop, time) = (stop.clone(), times.fetch_add(1, Ordering::Relaxed));
                async move {
                    assert_ne!(time, 0, "a bug");
                    stop.cancel();
                }
            }
        }));
        // The clock stands still but for this: the first time fails, the second one ends the work.
        tokio::time::timeout(Duration::from_secs(300), work)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(times.load(Ordering::Relaxed), 2);
    }
}
