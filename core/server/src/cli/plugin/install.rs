//! `russet plugin install`: a component, with settings and grants, becomes a revision on a server.

use std::io::Write;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use russet_plugin_host::Inspection;
use serde_json::json;

use super::super::client::{Client, ClientArgs};
use super::super::context::{self, Context};
use super::super::file;
use super::super::oci::{self, RegistryArgs};
use super::super::output::Output;
use super::super::progress::Progress;
use super::grant::{self, GrantArgs};
use super::rollout::{GateArgs, Share};
use super::{inspect, pull};

#[derive(Debug, Args)]
pub(in crate::cli) struct InstallArgs {
    /// The component, as `russet plugin build` made it and `russet plugin sign` signed it, or where it is in a registry,
    /// as `oci://registry.example.com/plugins/my-gate:1.0.0`.
    file: PathBuf,
    /// A file with the settings, JSON or (by the ending `.toml`) TOML [default: those of the running revision, or the
    /// plugin's own].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    grants: GrantArgs,
    /// The place among the plugins, beginning with 0: who is asked first.
    #[arg(long)]
    position: Option<u32>,
    /// Install it even if its version is lower than one that was in use, or its content is not that of the same version.
    #[arg(long)]
    allow_downgrade: bool,
    /// Compare it with the running revision instead of putting it into use: `russet plugin shadow report` tells what it
    /// would change.
    #[arg(long, conflicts_with = "keep")]
    shadow: bool,
    /// Let it answer this share of the enrollments, such as 5%, and compare it.
    #[arg(long, value_name = "SHARE", conflicts_with = "keep")]
    canary: Option<Share>,
    /// Keep it, and neither use nor compare it.
    #[arg(long)]
    keep: bool,
    /// Put it into use even if its like is in quarantine.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// The component, from a file or a registry.
fn read(args: &InstallArgs) -> miette::Result<(Vec<u8>, Inspection)> {
    let Some(reference) = oci::of_argument(&args.file) else {
        return inspect::read(&args.file);
    };
    let component = context::block_on(pull::fetch(reference, &args.registry))?;
    let inspection = inspect::inspected(&component, &args.file)?;
    Ok((component, inspection))
}

pub(super) fn run(args: &InstallArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    // What is wrong with the file is told before a server is asked for.
    let (component, inspection) = read(args)?;
    let manifest = inspection.manifest;
    let mut body = json!({"component": STANDARD.encode(&component)});
    if let Some(path) = &args.settings {
        body["settings"] = file::read_json_or_toml(path)?;
    }
    if let Some(grants) = args.grants.compose(&manifest) {
        body["grants"] = json!(grants);
    }
    if let Some(position) = args.position {
        body["position"] = json!(position);
    }
    if args.allow_downgrade {
        body["allow_downgrade"] = json!(true);
    }
    if args.shadow || args.canary.is_some() {
        body["rollout"] = json!({
            "permille": args.canary.map_or(0, |share| share.0),
            "automatic": args.gates.automatic(),
            "force": args.force,
        });
        if let Some(gates) = args.gates.compose()? {
            body["rollout"]["gates"] = json!(gates);
        }
    }
    if args.keep {
        body["keep_pending"] = json!(true);
    }
    if args.force {
        body["force"] = json!(true);
    }
    context::block_on(async {
        let client = Client::new(&args.client, context)?;
        let progress = Progress::start(format!(
            "installing {} {} ({} KiB): the server checks and compiles it",
            manifest.name,
            manifest.version,
            component.len().div_ceil(1024)
        ));
        let answer = client
            .put(client.of_tenant(&["plugins", &manifest.name]), &body)
            .await?;
        progress.done("the server has it");
        grant::report(&answer, &mut Output::new(stdout, args.client.json))
    })
}
