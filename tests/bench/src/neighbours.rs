//! What plugins that misbehave do to the calls of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russet_hooks::HookSource;
use russet_plugin_host::{ActivePlugin, PluginEngine, PluginHost};
use serde_json::json;
use tokio::task::JoinSet;

use crate::plugins::{self, TENANT};
use crate::report::Figure;
use crate::scale::Scale;
use crate::stats::Samples;
use crate::{Failure, hooks, say};

/// Ways to misbehave, each of which ends in a fault: processor time, memory, the stack, traps, host calls, and what is sent back.
const MODES: [&str; 8] = [
    "loop",
    "memory",
    "stack",
    "panic",
    "host-call-flood",
    "getter-flood",
    "handle-flood",
    "huge-answer",
];

/// A gate's p99 beside them may be so many times what it is alone.
const MOST: f64 = 1.5;

/// Times a gate's calls, alone and beside a task that calls one misbehaving plugin after the other without a pause.
pub(crate) async fn figure(engine: &PluginEngine, gate: &Arc<dyn HookSource>, scale: Scale) -> Result<Figure, Failure> {
    let mut hostile = Vec::with_capacity(MODES.len());
    for mode in MODES {
        let settings = json!({"mode": mode});
        let plugin = plugins::load(engine, &plugins::component("hostile")?, Some(settings)).await?;
        // Without the manager: its breaker would stop a plugin that goes on failing, and there would be nothing to bear.
        let host = PluginHost::new();
        host.publish(TENANT, 1, &[ActivePlugin::Loaded(plugin)]);
        hostile.push(Arc::new(host));
    }
    let hostile: Arc<[Arc<PluginHost>]> = hostile.into();
    let (mut alone, mut beside, mut faults) = (Samples::default(), Samples::default(), 0);
    for round in 0..scale.hook_rounds() {
        say(&format!(
            "  beside hostile plugins, round {} of {}",
            round + 1,
            scale.hook_rounds()
        ));
        alone.merge(hooks::calling(gate.as_ref(), scale.hook_calls()).await?);
        let mut misbehaving = JoinSet::new();
        let count = Arc::new(AtomicUsize::new(0));
        misbehaving.spawn(misbehave(Arc::clone(&hostile), Arc::clone(&count)));
        // All of them have their turns, however fast the others' calls are.
        let least = Instant::now() + Duration::from_secs(scale.hostile_seconds());
        while Instant::now() < least {
            beside.merge(hooks::calling(gate.as_ref(), scale.hook_calls() / 10).await?);
        }
        misbehaving.abort_all();
        if let Some(Ok(Err(failure))) = misbehaving.join_next().await {
            return Err(failure);
        }
        faults += count.load(Ordering::Relaxed);
    }
    if faults < MODES.len() {
        return Err(format!("only {faults} calls misbehaved").into());
    }
    let p99 = |samples: &Samples| samples.percentile(99.0).as_secs_f64();
    let ratio = p99(&beside) / p99(&alone);
    Ok(Figure::new(
        "the gate beside hostile plugins",
        beside.len(),
        format!("1 task, while another calls plugins that end in faults ({faults} of them); alone in turns with it"),
    )
    .percentiles(&beside)
    .duration("p99 alone", alone.percentile(99.0))
    .with("ratio of the p99", ratio, "×")
    .at_most(
        "p99 of a gate's decision, beside hostile plugins to alone",
        ratio,
        MOST,
        "×",
    ))
}

async fn misbehave(hostile: Arc<[Arc<PluginHost>]>, count: Arc<AtomicUsize>) -> Result<(), Failure> {
    loop {
        for host in hostile.iter() {
            let outcome = plugins::ask(host.as_ref(), plugins::request()).await;
            if outcome.verdict.is_ok() {
                return Err("a hostile plugin decided".into());
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
