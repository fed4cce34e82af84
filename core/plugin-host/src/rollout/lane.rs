//! Where calls run that only are compared: one thread of low priority with a short queue and a small [`Budget`]. What does
//! not fit is shed, so such a call never takes a processor that a device waits for, nor more than a share of an idle one.
//!
//! What it uses while a device's call runs counts many times, so that where devices never pause it runs beside few of their
//! calls, and where they pause it runs in between.
//!
//! Nobody wakes the thread while it has something to do: that would cost a device's call more than all the rest of a
//! comparison. It looks for calls every few milliseconds, and sleeps for good when none came for a while.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::budget::Budget;
use crate::PluginEngine;

/// How many calls may wait: what a server under load is asked between two looks. Each costs the call that it is a copy of a little,
/// so that more of them would be seen in a loop of calls as soon as there is a candidate.
const WAITING: usize = 64;

/// How nice the thread is to the others: where all want the processor, a tenth of what another one gets. With less its
/// calls would reach their deadlines there.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// How much of a processor it may use in the long run, in hundredths, until somebody says otherwise.
const PERCENT: u8 = 1;

/// How long it sleeps at least between two looks at the queue.
const NAP: Duration = Duration::from_millis(5);

/// After so long without a call it sleeps until one comes.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) type Job = BoxFuture<'static, ()>;

/// A place in the queue.
pub(crate) type Place<'a> = mpsc::Permit<'a, Job>;

/// The thread, started when it is needed first. It ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    engine: PluginEngine,
    percent: u8,
    queue: Arc<OnceLock<Option<mpsc::Sender<Job>>>>,
}

impl Lane {
    /// A thread beside the calls of an engine.
    pub(crate) fn new(engine: PluginEngine) -> Self {
        Self::of(engine, PERCENT)
    }

    /// One that uses so many hundredths of a processor at most.
    pub(crate) fn of(engine: PluginEngine, percent: u8) -> Self {
        Self {
            engine,
            percent,
            queue: Arc::default(),
        }
    }

    /// A place in the queue, if one is free.
    pub(crate) fn reserve(&self) -> Option<Place<'_>> {
        let sender = self.queue.get_or_init(|| match start(self.engine.clone(), self.percent) {
            Ok(sender) => Some(sender),
            Err(error) => {
                tracing::error!(error = %error, "the thread for shadow calls can not be started; nothing is compared");
                None
            }
        });
        sender.as_ref()?.try_reserve().ok()
    }
}

fn start(engine: PluginEngine, percent: u8) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>(WAITING);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("plugin-shadow".to_owned())
        .spawn(move || {
            lower_priority();
            runtime.block_on(work(&engine, jobs, Budget::new(percent)));
        })?;
    Ok(sender)
}

async fn work(engine: &PluginEngine, mut jobs: mpsc::Receiver<Job>, mut budget: Budget) {
    let mut looked = Instant::now();
    // The one call that wakes the thread.
    while let Some(first) = jobs.recv().await {
        let mut first = Some(first);
        let mut last = Instant::now();
        while first.is_some() || last.elapsed() < QUIET {
            // The first one waits as well: its device has no answer yet.
            tokio::time::sleep(budget.pause().max(NAP)).await;
            budget.earn(looked.elapsed());
            looked = Instant::now();
            let mut used = processor_time();
            while !budget.is_spent() {
                let Some(job) = first.take().or_else(|| jobs.try_recv().ok()) else {
                    break;
                };
                let alone = engine.is_idle();
                if AssertUnwindSafe(job).catch_unwind().await.is_err() {
                    tracing::error!("a shadow call failed by a bug of the server");
                }
                last = Instant::now();
                let now = processor_time();
                if alone {
                    budget.spend(now.saturating_sub(used));
                } else {
                    budget.spend_beside_a_call(now.saturating_sub(used));
                }
                used = now;
            }
        }
    }
}

/// The processor time of this thread: what it waits for costs nobody anything.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// The time: elsewhere than on Linux nothing better is at hand.
#[cfg(not(target_os = "linux"))]
fn processor_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Linux has a priority for each thread; elsewhere the small budget has to do.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(error = %error, "the priority of shadow calls can not be lowered");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use tokio::sync::oneshot;

    use super::*;
    use crate::EngineConfig;

    fn engine() -> PluginEngine {
        let config = EngineConfig {
            concurrent_calls: 2,
            ..EngineConfig::default()
        };
        PluginEngine::new(&config).unwrap()
    }

    fn send(lane: &Lane, work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
        let (done, when_done) = oneshot::channel();
        lane.reserve().unwrap().send(Box::pin(async move {
            work();
            let _ = done.send(());
        }));
        when_done
    }

    #[tokio::test]
    async fn what_comes_while_it_looks_is_found_without_a_call() {
        let lane = Lane::of(engine(), 100);
        for _ in 0..3 {
            let several = [(); 4].map(|()| send(&lane, || ()));
            for done in several {
                done.await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_runs_beside_a_devices_call_counts_many_times() {
        let engine = engine();
        let lane = Lane::new(engine.clone());
        let _call = engine.permit().await.unwrap();
        // Less than may be used at once, and far more if it counts many times.
        let (first, second) = [(); 2]
            .map(|()| {
                send(&lane, || {
                    let started = processor_time();
                    while processor_time() - started < Duration::from_millis(1) {}
                })
            })
            .into();
        first.await.unwrap();
        let waited = Instant::now();
        second.await.unwrap();
        assert!(waited.elapsed() > Duration::from_millis(100), "{:?}", waited.elapsed());
    }

    #[tokio::test]
    async fn one_that_panics_takes_no_other_with_it() {
        let lane = Lane::of(engine(), 100);
        let broken = send(&lane, || panic!("on purpose"));
        let next = send(&lane, || ());
        assert!(broken.await.is_err());
        next.await.unwrap();
    }

    #[tokio::test]
    async fn there_are_only_so_many_places() {
        let lane = Lane::new(engine());
        let places: Vec<_> = (0..WAITING).map_while(|_| lane.reserve()).collect();
        assert_eq!(places.len(), WAITING);
        assert!(lane.reserve().is_none());
        drop(places);
        assert!(lane.reserve().is_some());
    }
}
