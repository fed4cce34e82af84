//! Replacing a plugin while it is asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use russet_plugin_host::{ActivePlugin, Grants, InstallRequest, LoadedPlugin, PluginHost, PluginManager, Staging};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::plugins::{self, TENANT};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::storm;

const METHOD: &str = "The bundled `enrollment-gate` in the plugin manager, with revisions kept in memory, as many of \
    them as a database keeps: no database and no HTTP. Each revision has other settings; its component is compiled already.";

/// How often a revision is installed while calls are timed.
const PACE: Duration = Duration::from_millis(10);

/// The attribute that tells revisions apart.
fn labelled(label: usize) -> Value {
    let mut settings = plugins::gate_settings();
    if let Some(attributes) = settings.get_mut("attributes") {
        *attributes = json!({"label": label.to_string()});
    }
    settings
}

pub(crate) struct World {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) manager: PluginManager,
    component: Arc<[u8]>,
    grants: Grants,
}

impl World {
    /// The gate with its first revision, and its compiled code in a folder.
    pub(crate) async fn new(cache: &Path) -> Result<Self, Failure> {
        let (host, manager) = plugins::manager(cache)?;
        let component = plugins::component("enrollment-gate")?;
        let world = Self {
            host,
            manager,
            grants: plugins::grants(&component)?,
            component,
        };
        world.install_and_ask(0).await?;
        Ok(world)
    }

    pub(crate) async fn install(&self, label: usize) -> Result<(), Failure> {
        self.stage(label, Staging::Activate).await
    }

    pub(crate) async fn stage(&self, label: usize, staging: Staging) -> Result<(), Failure> {
        let request = InstallRequest {
            component: Some(self.component.to_vec()),
            settings: Some(labelled(label)),
            grants: Some(self.grants.clone()),
            staging,
            ..InstallRequest::default()
        };
        self.manager.install(TENANT, request).await?;
        Ok(())
    }

    /// Installs, and asks until the new revision has answered, which is the first time.
    async fn install_and_ask(&self, label: usize) -> Result<(), Failure> {
        self.install(label).await?;
        let attributes = plugins::allowed(plugins::ask(self.host.as_ref(), plugins::request()).await)?;
        let answered = attributes.get("label").map(String::as_str);
        if answered != Some(label.to_string().as_str()) {
            return Err(format!("revision {label} was installed, and {answered:?} answered").into());
        }
        Ok(())
    }

    /// Calls for a time, from one task.
    pub(crate) async fn calls(&self, time: Duration) -> Result<Samples, Failure> {
        let host = Arc::clone(&self.host);
        let calling = tokio::spawn(async move {
            let mut samples = Samples::default();
            let ending = Instant::now() + time;
            while Instant::now() < ending {
                let request = plugins::request();
                let started = Instant::now();
                let outcome = plugins::ask(host.as_ref(), request).await;
                samples.add(started.elapsed());
                plugins::allowed(outcome)?;
                // A call that never waits would keep its thread from the tasks that swap.
                tokio::task::yield_now().await;
            }
            Ok::<_, Failure>(samples)
        });
        calling.await?
    }
}

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let cache = tempfile::tempdir()?;
    let world = Arc::new(World::new(cache.path()).await?);
    let mut section = Section::new("Hot swap", METHOD);
    let mut installs = Samples::default();
    for label in 1..=scale.swaps() {
        let started = Instant::now();
        world.install_and_ask(label).await?;
        installs.add(started.elapsed());
    }
    let how = "inspect, check settings and grants, link, start once on probation, store, publish, then one call";
    section.add(Figure::new("install of a revision to its first answer", installs.len(), how).percentiles(&installs));

    let quiet = world.calls(scale.swap_load()).await?;
    let (under_swaps, swaps) = while_swapping(&world, scale).await?;
    section.add(Figure::new("calls without swaps", quiet.len(), "1 task").percentiles(&quiet));
    let how = format!(
        "1 task, while another installs a revision every {} ms ({swaps} of them)",
        PACE.as_millis()
    );
    section.add(Figure::new("calls during swaps", under_swaps.len(), how).percentiles(&under_swaps));
    section.add(
        Figure::new("ratio: during to without swaps", under_swaps.len(), "").with(
            "p99",
            under_swaps.percentile(99.0).as_secs_f64() / quiet.percentile(99.0).as_secs_f64(),
            "×",
        ),
    );

    storm::measure(&world, scale, &mut section).await?;

    let plugin = plugins::load(&plugins::engine(cache.path())?, &world.component, Some(labelled(0))).await?;
    for tenants in [1, 1_000] {
        let samples = publishing(&plugin, tenants, scale.swaps());
        let what = format!("publishing alone, tenants with plugins: {tenants}");
        let how = "the one step that requests can see: the pointer to the generations is replaced";
        section.add(Figure::new(what, samples.len(), how).percentiles(&samples));
    }
    Ok(section)
}

async fn while_swapping(world: &Arc<World>, scale: Scale) -> Result<(Samples, usize), Failure> {
    let done = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (world, done) = (Arc::clone(world), Arc::clone(&done));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PACE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) {
                ticks.tick().await;
                swaps += 1;
                world.install(1_000_000 + swaps).await?;
            }
            Ok::<_, Failure>(swaps)
        })
    };
    let samples = world.calls(scale.swap_load()).await;
    done.store(true, Ordering::Relaxed);
    let swaps = swapping.await??;
    Ok((samples?, swaps))
}

fn publishing(plugin: &LoadedPlugin, tenants: usize, swaps: usize) -> Samples {
    let host = PluginHost::new();
    let plugins = [ActivePlugin::Loaded(plugin.clone())];
    for tenant in 1..tenants {
        host.publish(&format!("tenant-{tenant}"), 1, &plugins);
    }
    let mut samples = Samples::with_capacity(swaps);
    for generation in 1..=swaps as u64 {
        let started = Instant::now();
        host.publish(TENANT, generation, &plugins);
        samples.add(started.elapsed());
    }
    samples
}
