//! `russet plugin pull`: a plugin comes from an OCI registry.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::context;
use super::super::file;
use super::super::oci::{Registry, RegistryArgs};
use super::super::output::Output;
use super::super::progress::Progress;
use super::inspect;

#[derive(Debug, Args)]
pub(in crate::cli) struct PullArgs {
    /// Where from, such as `registry.example.com/plugins/my-gate:1.0.0`, or with a digest, `…/my-gate@sha256:…`.
    reference: String,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &PullArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let component = context::block_on(fetch(&args.reference, &args.registry))?;
    // What is no plugin is not left lying around under a plugin's name.
    let inspection = inspect::inspected(&component, args.reference.as_ref())?;
    file::replace(&args.output, &component)?;
    let manifest = &inspection.manifest;
    let answer = json!({
        "file": args.output, "plugin": manifest.name, "version": manifest.version, "digest": inspection.digest,
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.line(format!(
            "{}: {} {}; `russet plugin verify` shows who signed it",
            args.output.display(),
            manifest.name,
            manifest.version
        ))
    })
}

/// The plugin's file from a registry.
pub(super) async fn fetch(reference: &str, args: &RegistryArgs) -> miette::Result<Vec<u8>> {
    let registry = Registry::connect(reference, args)?;
    let progress = Progress::start(format!("pulling {reference}"));
    let component = registry.pull().await?;
    progress.done("pulled");
    Ok(component)
}
