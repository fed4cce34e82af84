//! Ten thousand swaps under load: whether a request is harmed, and whether memory grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russet_hooks::{HookSource, Scope};

use crate::plugins::{self, TENANT};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::start::mebibytes;
use crate::stats::Samples;
use crate::swap::World;
use crate::{Failure, cpu};

/// How many tasks make calls while revisions come and go.
const CALLERS: usize = 2;

/// Which requests are timed: one of so many, into memory that is there from the start, so that what the process holds does
/// not grow by it.
const TIMED: usize = 16;

/// Room for the times of a task.
const ROOM: usize = 1 << 18;

/// How much memory may grow once the process is warm, in MiB: what the allocator keeps is never quite the same.
const GROWTH: f64 = 2.0;

/// Swaps one after the other as fast as they go, while callers ask twice in each of their requests.
pub(crate) async fn measure(world: &Arc<World>, scale: Scale, section: &mut Section) -> Result<(), Failure> {
    let done = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(call(Arc::clone(world), Arc::clone(&done), Arc::clone(&newest))))
        .collect();
    let swaps = scale.storm_swaps();
    let mut early = 0;
    let started = Instant::now();
    for number in 1..=swaps {
        newest.store(BASE + number, Ordering::SeqCst);
        world.install(BASE + number).await?;
        // What a process has once it is warm is what must not grow.
        if number == swaps.div_ceil(10) {
            early = cpu::resident(std::process::id())?;
        }
    }
    let elapsed = started.elapsed();
    let late = cpu::resident(std::process::id())?;
    done.store(true, Ordering::SeqCst);
    let (mut samples, mut requests, mut seen) = (Samples::default(), 0, 0);
    for caller in callers {
        let called = caller.await??;
        samples.merge(called.samples);
        requests += called.requests;
        seen += called.revisions;
    }
    let how = format!(
        "{CALLERS} tasks, each request asks twice; of {requests} requests, every {TIMED}th of them timed, none failed, none \
         was answered by two revisions or by one that was replaced before it began; the tasks saw {seen} revisions"
    );
    section.add(
        Figure::new(format!("requests during {swaps} swaps"), samples.len(), how)
            .percentiles(&samples)
            .rate(swaps, elapsed, "swaps/s"),
    );
    let (early, late) = (mebibytes(early), mebibytes(late));
    let grown = (late - early).max(0.0);
    let what = format!("memory over {swaps} swaps");
    section.add(
        Figure::new(&what, 2, "of the process, after a tenth of them and at the end")
            .with("early", early, "MiB")
            .with("late", late, "MiB")
            .with("grown", grown, "MiB")
            .at_most(&format!("{what}, grown"), grown, GROWTH, "MiB"),
    );
    Ok(())
}

/// Labels of the storm begin here, so that they grow over all others.
const BASE: usize = 10_000_000;

/// What a task did.
struct Called {
    samples: Samples,
    requests: usize,
    /// How often another revision answered than the time before.
    revisions: usize,
}

async fn call(world: Arc<World>, done: Arc<AtomicBool>, newest: Arc<AtomicUsize>) -> Result<Called, Failure> {
    let mut called = Called {
        samples: Samples::with_memory(ROOM),
        requests: 0,
        revisions: 0,
    };
    let mut last = 0;
    while !done.load(Ordering::SeqCst) {
        let started = Instant::now();
        let set = world.host.pin(TENANT);
        let mut labels = [0; 2];
        for label in &mut labels {
            let scope = Scope::new(TENANT, "bench", Duration::from_secs(5));
            let attributes = plugins::allowed(set.check_enrollment(&scope, plugins::request()).await)?;
            let text = attributes
                .get("label")
                .ok_or("a request was answered without a label")?;
            *label = text.parse().map_err(|_| format!("{text:?} is no label"))?;
        }
        if called.requests.is_multiple_of(TIMED) {
            called.samples.add(started.elapsed());
        }
        called.requests += 1;
        let [first, second] = labels;
        if first != second {
            return Err(format!("one request was answered by the revisions {first} and {second}").into());
        }
        let may_be = newest.load(Ordering::SeqCst).max(first.min(BASE));
        if first < last || first > may_be {
            return Err(format!("revision {first} answered after {last}, and {may_be} is the newest").into());
        }
        called.revisions += usize::from(first != last);
        last = first;
        // A call that never waits would keep its thread from the task that swaps.
        tokio::task::yield_now().await;
    }
    Ok(called)
}
