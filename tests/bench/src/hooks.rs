//! Calls of hooks: a plugin in a fresh instance, the same policy in native Rust, and what host calls add.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use russet_hooks::{
    Ask, Denial, EnrollmentGate, FixedHooks, GateHook, GateVerdict, HookSet, HookSource, Ownership, PluginFault,
    SoftwareUpdate,
};
use russet_plugin_host::InstallRequest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::plugins::{self, TENANT};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::{Samples, per_second};
use crate::{Failure, neighbours, say};

const METHOD: &str = "The engine's way to a verdict: pin a generation, set a deadline, ask every gate (one here) through \
    its permit and deadline layers, combine, make the decision record. A plugin is installed in the plugin manager, with \
    its breaker, and has a fresh instance for each call. The \
    kinds take turns in rounds, so that a slow moment of the machine does not hit one alone. A task makes one call after \
    the other.";

/// A kind of call, and what was measured of it.
struct Kind {
    what: &'static str,
    how: &'static str,
    hooks: Arc<dyn HookSource>,
    tasks: usize,
    samples: Samples,
    elapsed: Duration,
}

impl Kind {
    fn new(what: &'static str, how: &'static str, hooks: &Arc<dyn HookSource>, tasks: usize) -> Self {
        Self {
            what,
            how,
            hooks: Arc::clone(hooks),
            tasks,
            samples: Samples::default(),
            elapsed: Duration::ZERO,
        }
    }

    async fn round(&mut self, calls: usize) -> Result<(), Failure> {
        let each = calls / self.tasks;
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..self.tasks {
            let hooks = Arc::clone(&self.hooks);
            tasks.spawn(async move { calling(hooks.as_ref(), each).await });
        }
        while let Some(samples) = tasks.join_next().await {
            self.samples.merge(samples??);
        }
        self.elapsed += started.elapsed();
        Ok(())
    }

    fn rate(&self) -> f64 {
        per_second(self.samples.len(), self.elapsed)
    }

    fn figure(&self) -> Figure {
        let what = match self.tasks {
            1 => self.what.to_owned(),
            tasks => format!("{}, {tasks} tasks", self.what),
        };
        Figure::new(what, self.samples.len(), self.how)
            .percentiles(&self.samples)
            .with("", self.rate(), "calls/s")
    }
}

pub(crate) async fn calling(hooks: &dyn HookSource, calls: usize) -> Result<Samples, Failure> {
    let mut samples = Samples::with_capacity(calls);
    for _ in 0..calls {
        let request = plugins::request();
        let started = Instant::now();
        let outcome = plugins::ask(hooks, request).await;
        samples.add(started.elapsed());
        plugins::allowed(outcome)?;
    }
    Ok(samples)
}

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let cache = tempfile::tempdir()?;
    let engine = plugins::engine(cache.path())?;
    let gate = hosted(cache.path(), "enrollment-gate", plugins::gate_settings()).await?;
    let few = hosted(cache.path(), "hostile", json!({"mode": "allow"})).await?;
    let twenty = hosted(cache.path(), "hostile", json!({"mode": "read-all"})).await?;
    let policy = HookSet::builder().gate("policy", Policy::new()).build();
    let native: Arc<dyn HookSource> = Arc::new(FixedHooks(policy));

    let as_set = "settings parsed from JSON by each call; 3 facts read";
    let in_rust = "the same rules and settings, parsed once; the same layers around it";
    let mut kinds = [
        Kind::new("bundled `enrollment-gate` plugin", as_set, &gate, 1),
        Kind::new("bundled `enrollment-gate` plugin", as_set, &gate, 2),
        Kind::new("the same policy as a native Rust hook", in_rust, &native, 1),
        Kind::new("the same policy as a native Rust hook", in_rust, &native, 2),
        Kind::new(
            "plugin that reads its settings only",
            "test plugin, mode `allow`",
            &few,
            1,
        ),
        Kind::new(
            "plugin that makes 20 host calls more",
            "test plugin, mode `read-all`",
            &twenty,
            1,
        ),
    ];
    for kind in &mut kinds {
        // Code and caches warm, and not counted.
        kind.round(scale.hook_calls() / 10).await?;
        kind.samples = Samples::default();
        kind.elapsed = Duration::ZERO;
    }
    for round in 0..scale.hook_rounds() {
        say(&format!("  round {} of {}", round + 1, scale.hook_rounds()));
        for kind in &mut kinds {
            kind.round(scale.hook_calls()).await?;
        }
    }

    let mut section = Section::new("Hook calls", METHOD);
    for (at, kind) in kinds.iter().enumerate() {
        let figure = kind.figure();
        section.add(match at {
            0 => figure.at_most("a gate's decision, p50", micros(kind.samples.median()), 12.0, "µs"),
            1 => figure.at_least("a gate's decisions, on two cores", kind.rate(), 100_000.0, "calls/s"),
            _ => figure,
        });
    }
    let [plugin, plugin_on_two, native, native_on_two, few, twenty] = &kinds;
    let (slow, fast) = (plugin.samples.median(), native.samples.median());
    section.add(
        Figure::new(
            "ratio: plugin to native",
            plugin.samples.len(),
            "of the medians, 1 task",
        )
        .with("", slow.as_secs_f64() / fast.as_secs_f64(), "×")
        .duration("the sandbox costs", slow.saturating_sub(fast)),
    );
    let cost = twenty.samples.median().saturating_sub(few.samples.median()) / 20;
    section.add(
        Figure::new(
            "one host call",
            twenty.samples.len(),
            "a twentieth of the difference of the medians",
        )
        .duration("", cost),
    );
    section.add(
        Figure::new("ratio: two tasks to one", plugin_on_two.samples.len(), "of the calls/s")
            .with("plugin", plugin_on_two.rate() / plugin.rate(), "×")
            .with("native", native_on_two.rate() / native.rate(), "×"),
    );
    section.add(neighbours::figure(&engine, &gate, scale).await?);
    Ok(section)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A plugin as a server has it: installed in the plugin manager, with its breaker and its share of the calls.
async fn hosted(cache: &Path, name: &str, settings: serde_json::Value) -> Result<Arc<dyn HookSource>, Failure> {
    let (host, manager) = plugins::manager(cache)?;
    let component = plugins::component(name)?;
    let request = InstallRequest {
        component: Some(component.to_vec()),
        settings: Some(settings),
        grants: Some(plugins::grants(&component)?),
        ..InstallRequest::default()
    };
    manager.install(TENANT, request).await?;
    Ok(host)
}

/// What the bundled gate decides with [`plugins::gate_settings`], in Rust.
struct Policy {
    allow: Vec<&'static str>,
    deny: Vec<&'static str>,
    minimum: BTreeMap<&'static str, Vec<u32>>,
}

impl Policy {
    fn new() -> Self {
        Self {
            allow: vec!["F4K*", "G6T*", "C02*"],
            deny: vec!["C02LOST1"],
            minimum: BTreeMap::from([("Mac", vec![26, 1]), ("iPhone", vec![26, 1])]),
        }
    }
}

fn matches(pattern: &str, serial: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => serial
            .get(..start.len())
            .is_some_and(|beginning| beginning.eq_ignore_ascii_case(start)),
        None => serial.eq_ignore_ascii_case(pattern),
    }
}

fn deny(reason: &str) -> GateVerdict {
    GateVerdict::Deny(Denial {
        reason: reason.to_owned(),
        message: "This device may not enroll.".to_owned(),
    })
}

#[async_trait]
impl EnrollmentGate for Policy {
    async fn check(&self, ask: &Ask<GateHook>) -> Result<GateVerdict, PluginFault> {
        let request = &ask.request;
        if request.ownership != Ownership::Organization {
            return Ok(deny("ownership"));
        }
        let serial = request.device.serial_number.as_deref().unwrap_or_default();
        if self.deny.iter().any(|pattern| matches(pattern, serial)) {
            return Ok(deny("serial-denied"));
        }
        if !self.allow.iter().any(|pattern| matches(pattern, serial)) {
            return Ok(deny("serial-not-listed"));
        }
        let product = request.device.product_name.as_deref().unwrap_or_default();
        let family = product.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
        if let Some(minimum) = self.minimum.get(family) {
            let version = request.device.os_version.as_deref().unwrap_or_default();
            let version: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
            if !version.is_ok_and(|version| version >= *minimum) {
                return Ok(GateVerdict::RequireSoftwareUpdate(SoftwareUpdate {
                    os_version: "26.1".to_owned(),
                    build_version: None,
                    beta: None,
                }));
            }
        }
        Ok(GateVerdict::Allow(BTreeMap::from([(
            "group".to_owned(),
            "field".to_owned(),
        )])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(change: impl FnOnce(&mut russet_hooks::EnrollmentRequest)) -> impl Future<Output = GateVerdict> {
        let mut request = plugins::request();
        change(&mut request);
        async {
            let hooks = FixedHooks(HookSet::builder().gate("policy", Policy::new()).build());
            plugins::ask(&hooks, request).await.verdict.unwrap()
        }
    }

    // The comparison is worth something only if both decide the same.
    #[tokio::test]
    async fn the_native_policy_decides_like_the_plugin() {
        let cache = tempfile::tempdir().unwrap();
        let plugin = hosted(cache.path(), "enrollment-gate", plugins::gate_settings())
            .await
            .unwrap();
        let changes: [fn(&mut russet_hooks::EnrollmentRequest); 6] = [
            |_| {},
            |request| request.ownership = Ownership::Personal,
            |request| request.device.serial_number = Some("C02LOST1".to_owned()),
            |request| request.device.serial_number = Some("ZZZ".to_owned()),
            |request| request.device.os_version = Some("26.0.9".to_owned()),
            |request| request.device.product_name = Some("AppleTV14,1".to_owned()),
        ];
        for change in changes {
            let mut request = plugins::request();
            change(&mut request);
            let decided = plugins::ask(plugin.as_ref(), request).await.verdict.unwrap();
            match (verdict(change).await, decided) {
                (GateVerdict::Deny(native), GateVerdict::Deny(plugin)) => assert_eq!(native.reason, plugin.reason),
                (native, plugin) => assert_eq!(native, plugin),
            }
        }
    }
}
