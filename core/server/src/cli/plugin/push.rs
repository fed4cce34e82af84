//! `russet plugin push`: a plugin goes to an OCI registry.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::context;
use super::super::oci::{Registry, RegistryArgs};
use super::super::output::Output;
use super::super::progress::{self, Progress};
use super::inspect;

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArgs {
    /// Where to, such as `registry.example.com/plugins/my-gate:1.0.0`. Without a tag, the plugin's version is taken.
    reference: String,
    /// The plugin.
    file: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &PushArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let (component, inspection) = inspect::read(&args.file)?;
    let unsigned =
        russet_plugin_host::package::Package::read(&component).is_ok_and(|package| package.signatures.is_empty());
    if unsigned {
        progress::line(
            "warning: the plugin is not signed, so most servers will not install it; see `russet plugin sign`",
        );
    }
    let manifest = inspection.manifest;
    let pushed = context::block_on(async {
        let registry = Registry::connect(&args.reference, &args.registry)?;
        let progress = Progress::start(format!(
            "pushing {} {} ({} KiB)",
            manifest.name,
            manifest.version,
            component.len().div_ceil(1024)
        ));
        let pushed = registry.push(component, &manifest).await?;
        progress.done("the registry has it");
        miette::Result::Ok(pushed)
    })?;
    let answer = json!({"reference": pushed.reference, "digest": pushed.digest});
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.line(format!("{} is {}", pushed.reference, pushed.digest))
    })
}
