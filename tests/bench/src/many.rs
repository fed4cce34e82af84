//! Many different plugins in one process: what each takes in memory, and whether calls notice.

use std::sync::Arc;
use std::time::Instant;

use russet_plugin_host::{ActivePlugin, PluginHost};
use serde_json::json;

use crate::plugins::{self, TENANT};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::{Failure, cpu, say};

const METHOD: &str = "The smallest gate, over and over, each time with another custom section: to the host each is a plugin \
    of its own, compiled for itself. Each belongs to another tenant. Memory is what the process holds (resident), so it \
    counts code, links and bookkeeping, and what the allocator keeps.";

/// How often the calls go round all plugins.
const ROUNDS: usize = 5;

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let cache = tempfile::tempdir()?;
    let engine = plugins::engine(cache.path())?;
    let component = plugins::component("smallest-gate")?;
    let settings = || Some(json!({"prefix": "C02"}));
    let host = PluginHost::new();
    let alone = plugins::load(&engine, &component, settings()).await?;
    host.publish(TENANT, 1, &[ActivePlugin::Loaded(alone)]);
    let mut before = Samples::default();
    for _ in 0..scale.plugins() * ROUNDS {
        before.add(asked(&host, TENANT).await?);
    }

    let resident = cpu::resident(std::process::id())?;
    let mut loads = Samples::with_capacity(scale.plugins());
    let tenants: Vec<String> = (0..scale.plugins()).map(|number| format!("tenant-{number}")).collect();
    for (number, tenant) in tenants.iter().enumerate() {
        if number % 100 == 0 {
            say(&format!("  plugin {number} of {}", tenants.len()));
        }
        let started = Instant::now();
        let plugin = plugins::load(&engine, &variant(&component, number), settings()).await?;
        loads.add(started.elapsed());
        host.publish(tenant, 1, &[ActivePlugin::Loaded(plugin)]);
    }
    let held = cpu::resident(std::process::id())?.saturating_sub(resident);
    let mut among = Samples::default();
    for _ in 0..ROUNDS {
        for tenant in &tenants {
            among.add(asked(&host, tenant).await?);
        }
    }

    let mut section = Section::new("Many plugins", METHOD);
    let size = component.len() / 1024;
    section.add(
        Figure::new(
            "different plugins loaded at once",
            tenants.len(),
            format!("each {size} KiB"),
        )
        .with("", tenants.len() as f64, "plugins")
        .with("memory of each", held as f64 / 1024.0 / tenants.len() as f64, "KiB"),
    );
    section.add(Figure::new("loading one, compiled", loads.len(), "").percentiles(&loads));
    section.add(Figure::new("calls of one plugin alone", before.len(), "").percentiles(&before));
    let how = "each call another plugin than the one before";
    section.add(Figure::new("calls among all of them", among.len(), how).percentiles(&among));
    Ok(section)
}

async fn asked(host: &PluginHost, tenant: &str) -> Result<std::time::Duration, Failure> {
    let request = plugins::request();
    let started = Instant::now();
    let outcome = plugins::ask_for(host, tenant, request).await;
    let elapsed = started.elapsed();
    plugins::allowed(outcome)?;
    Ok(elapsed)
}

/// The component with a custom section that says its number. Nothing reads it, and the file is another one.
fn variant(component: &[u8], number: usize) -> Arc<[u8]> {
    let name = b"variant";
    let number = number.to_string();
    let content = [&[name.len() as u8][..], name, number.as_bytes()].concat();
    // Sections shorter than 128 bytes have a length of one byte.
    [component, &[0, content.len() as u8], &content].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_another_file_and_the_same_plugin() {
        let component = plugins::component("smallest-gate").unwrap();
        let other = variant(&component, 7);
        let manifest = |bytes: &[u8]| russet_plugin_host::inspect(bytes).unwrap();
        assert_eq!(manifest(&component).manifest, manifest(&other).manifest);
        assert_ne!(manifest(&component).digest, manifest(&other).digest);
    }
}
