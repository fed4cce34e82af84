//! Start-up time and memory of the server.

use serde_json::json;

use crate::Failure;
use crate::process::{Installation, Server};
use crate::report::{Figure, Section};
use crate::scale::Scale;
use crate::stats::Samples;

const METHOD: &str = "`russet serve` as a process, on SQLite, asked over TLS from outside. Stopped with SIGTERM each \
    time.";

const BUNDLED: [&str; 4] = ["directory-ldap", "enrollment-gate", "escrow-policy", "profile-template"];

pub(crate) async fn section(scale: Scale) -> Result<Section, Failure> {
    let mut section = Section::new("Start and memory", METHOD);
    let installation = Installation::new(None, None)?;
    // The first start makes keys and tables, which is another thing.
    installation.start().await?.stop().await?;

    let plain = timed_starts(&installation, scale, |_| Ok(())).await?;
    let how = "from starting the process to the first 200 of /healthz, no plugins";
    section.add(Figure::new("start", plain.len(), how).percentiles(&plain));
    let server = installation.start().await?;
    let idle = memory("memory, idle, no plugins", &server, scale).await?;
    let used = megabytes(server.resident()?);
    section.add(idle.at_most("memory, idle, no plugins", used, 60.0, "MB"));

    let mut administrator = server.administrator().await?;
    for plugin in BUNDLED {
        let settings = (plugin == "directory-ldap").then(|| json!({"connection": "corp"}));
        administrator.install(plugin, settings).await?;
    }
    drop(administrator);
    server.stop().await?;
    let warm = timed_starts(&installation, scale, |_| Ok(())).await?;
    let how = "the same, with the four bundled plugins, compiled by an earlier start";
    section.add(Figure::new("start, warm cache", warm.len(), how).percentiles(&warm));
    let server = installation.start().await?;
    let idle = memory("memory, idle, four plugins", &server, scale).await?;
    let used = megabytes(server.resident()?);
    section.add(idle.at_most("memory, idle, four plugins", used, 60.0, "MB"));
    server.stop().await?;

    let cold = timed_starts(&installation, scale, |installation| {
        Ok(std::fs::remove_dir_all(installation.cache())?)
    })
    .await?;
    let how = "the same, compiling all four";
    section.add(
        Figure::new("start, cold cache", cold.len(), how)
            .percentiles(&cold)
            .with(
                "",
                cold.median().as_secs_f64() / warm.median().as_secs_f64(),
                "× the warm start",
            ),
    );
    Ok(section)
}

async fn timed_starts(
    installation: &Installation,
    scale: Scale,
    before: fn(&Installation) -> Result<(), Failure>,
) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for _ in 0..scale.starts() {
        before(installation)?;
        let (server, time) = installation.start_and_time().await?;
        samples.add(time);
        server.stop().await?;
    }
    Ok(samples)
}

async fn memory(what: &str, server: &Server, scale: Scale) -> Result<Figure, Failure> {
    tokio::time::sleep(scale.settling()).await;
    let how = format!("resident set, {:.1} s after the start", scale.settling().as_secs_f64());
    Ok(Figure::new(what, 1, how).with("", mebibytes(server.resident()?), "MiB"))
}

/// Bytes as MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes as MB, which the goals are in.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
