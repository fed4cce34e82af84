//! `russet plugin sign`: a publisher's name under a plugin. Needs no server.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use miette::Diagnostic;
use russet_plugin_host::package::{self, PackageError};
use serde_json::json;

use super::super::file;
use super::super::output::Output;
use super::{inspect, keys};

#[derive(Debug, Args)]
pub(in crate::cli) struct SignArgs {
    /// The plugin, as `russet plugin build` made it.
    file: PathBuf,
    /// The file with the private key, as `russet plugin keys new` made it.
    #[arg(long, value_name = "FILE", env = "RUSSET_SIGNING_KEY")]
    key: PathBuf,
    /// The file to write [default: the plugin itself].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A file that can not be signed, or whose signatures do not hold.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}: {source}", path.display())]
#[diagnostic(code("not-signed"))]
pub(super) struct NotSigned {
    pub(super) path: PathBuf,
    pub(super) source: PackageError,
}

pub(super) fn run(args: &SignArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let key = keys::read(&args.key)?;
    // Nobody's name gets under a file that no server would take.
    let (component, inspection) = inspect::read(&args.file)?;
    let signed = package::sign(&component, &key, Timestamp::now()).map_err(|source| NotSigned {
        path: args.file.clone(),
        source,
    })?;
    let path = args.output.as_ref().unwrap_or(&args.file);
    file::replace(path, &signed)?;
    let manifest = inspection.manifest;
    let answer = json!({
        "file": path, "plugin": manifest.name, "version": manifest.version,
        "public_key": key.public(), "key_id": key.public().id(),
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.line(format!(
            "{}: {} {} is signed with key {}",
            path.display(),
            manifest.name,
            manifest.version,
            key.public().id()
        ))
    })
}
