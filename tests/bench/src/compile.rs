//! Loading a plugin: compiled afresh, and from the cache of an earlier process.

use std::time::Instant;

use russet_plugin_host::LoadedPlugin;
use russet_plugin_host::ports::Ports;

use crate::Failure;
use crate::plugins;
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;

const METHOD: &str = "Inspect, compile or take from the cache, link, and start once. The file's digest is known: the server \
    compares it when it reads the file. Each time with a new engine, as after a start of the process; making the engine \
    itself is not counted, and is the last row.";

/// The smallest of the bundled plugins that decide, and the largest of all.
const PLUGINS: [&str; 2] = ["enrollment-gate", "profile-template"];

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let mut section = Section::new("Compiling plugins", METHOD);
    let mut engines = Samples::default();
    for name in PLUGINS {
        let component = plugins::component(name)?;
        let (mut cold, mut warm) = (Samples::default(), Samples::default());
        for _ in 0..scale.loads() {
            let cache = tempfile::tempdir()?;
            // The second finds what the first left.
            for samples in [&mut cold, &mut warm] {
                let started = Instant::now();
                let engine = plugins::engine(cache.path())?;
                engines.add(started.elapsed());
                // What was granted is known when a server starts.
                let (source, connections) = (plugins::source(&component, None)?, plugins::connections()?);
                let started = Instant::now();
                LoadedPlugin::load(&engine, &connections, &Ports::memory(), source).await?;
                samples.add(started.elapsed());
            }
        }
        let size = component.len() / 1024;
        let ratio = cold.median().as_secs_f64() / warm.median().as_secs_f64();
        section.add(
            Figure::new(format!("`{name}`, compiled"), cold.len(), format!("{size} KiB"))
                .duration("p50", cold.median())
                .at_most(&format!("`{name}`, compiled"), cold.median().as_secs_f64(), 1.0, "s"),
        );
        section.add(
            Figure::new(format!("`{name}`, from the cache"), warm.len(), format!("{size} KiB"))
                .duration("p50", warm.median())
                .with("compiling takes", ratio, "× as long")
                .at_most(
                    &format!("`{name}`, from the cache"),
                    warm.median().as_secs_f64() * 1e3,
                    5.0,
                    "ms",
                ),
        );
    }
    let how = "configuration and the reserved pool of 128 instances";
    section.add(Figure::new("making the engine", engines.len(), how).duration("p50", engines.median()));
    Ok(section)
}
