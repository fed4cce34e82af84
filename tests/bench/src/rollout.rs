//! Ten thousand swaps under load, and what a shadow costs the calls beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russet_hooks::{HookSource, Scope};
use russet_plugin_host::{Actor, RolloutRequest, Staging};

use crate::plugins::{self, TENANT};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::swap::World;
use crate::{Failure, cpu};

/// How many tasks make calls while revisions come and go.
const CALLERS: usize = 2;

/// Swaps one after the other as fast as they go, while callers ask twice in each of their requests.
pub(crate) async fn storm(world: &Arc<World>, scale: Scale, section: &mut Section) -> Result<(), Failure> {
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
    let (mut samples, mut seen) = (Samples::default(), 0);
    for caller in callers {
        let (called, revisions) = caller.await??;
        samples.merge(called);
        seen += revisions;
    }
    let how = format!(
        "{CALLERS} tasks, each request asks twice; none failed, none was answered by two revisions or by one that was \
         replaced before it began; the tasks saw {seen} revisions"
    );
    section.add(
        Figure::new(format!("requests during {swaps} swaps"), samples.len(), how)
            .percentiles(&samples)
            .rate(swaps, elapsed, "swaps/s"),
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    section.add(
        Figure::new(
            format!("memory over {swaps} swaps"),
            2,
            "of the process, after a tenth of them and at the end",
        )
        .with("early", mib(early), "MiB")
        .with("late", mib(late), "MiB")
        .with("grown", mib(late) - mib(early), "MiB"),
    );
    Ok(())
}

/// Labels of the storm begin here, so that they grow over all others.
const BASE: usize = 10_000_000;

async fn call(world: Arc<World>, done: Arc<AtomicBool>, newest: Arc<AtomicUsize>) -> Result<(Samples, usize), Failure> {
    let (mut samples, mut last, mut revisions) = (Samples::default(), 0, 0);
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
        samples.add(started.elapsed());
        let [first, second] = labels;
        if first != second {
            return Err(format!("one request was answered by the revisions {first} and {second}").into());
        }
        let may_be = newest.load(Ordering::SeqCst).max(first.min(BASE));
        if first < last || first > may_be {
            return Err(format!("revision {first} answered after {last}, and {may_be} is the newest").into());
        }
        revisions += usize::from(first != last);
        last = first;
        // A call that never waits would keep its thread from the task that swaps.
        tokio::task::yield_now().await;
    }
    Ok((samples, revisions))
}

/// Calls with and without a candidate that is asked the same, in turns.
pub(crate) async fn shadow(world: &Arc<World>, scale: Scale, section: &mut Section) -> Result<(), Failure> {
    let (mut without, mut with) = (Samples::default(), Samples::default());
    let time = scale.swap_load() / 5;
    for round in 0..scale.shadow_rounds() {
        world.install(BASE * 2 + round * 2).await?;
        without.merge(world.calls(time).await?);
        let staging = Staging::Compare(RolloutRequest::default());
        world.stage(BASE * 2 + round * 2 + 1, staging).await?;
        with.merge(world.calls(time).await?);
    }
    let status = world.manager.rollout(TENANT, "enrollment-gate").await?;
    let comparison = status.comparison;
    world
        .manager
        .stop_rollout(TENANT, "enrollment-gate", Actor::default())
        .await?;
    let how = format!("1 task, in {} turns with the next", scale.shadow_rounds());
    section.add(Figure::new("calls without a shadow", without.len(), how).percentiles(&without));
    let how = format!(
        "the candidate is asked the same on a thread of low priority; of the last turn {} calls were compared and {} shed",
        comparison.compared, comparison.shed
    );
    section.add(Figure::new("calls with a shadow", with.len(), how).percentiles(&with));
    let ratio = |percent: f64| with.percentile(percent).as_secs_f64() / without.percentile(percent).as_secs_f64();
    section.add(
        Figure::new("ratio: with to without a shadow", with.len(), "")
            .with("p50", ratio(50.0), "×")
            .with("p99", ratio(99.0), "×"),
    );
    Ok(())
}
