//! `russet simulate`: devices that enroll with any server and answer it, for trying a server out.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use miette::{Context as _, IntoDiagnostic};
use russet_simulator::SimulatedDevice;
use russet_simulator::device::{Credentials, DeviceError, ServerTrust};
use tokio::sync::mpsc;

use super::context::runtime;
use super::output;

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The address of the server.
    #[arg(
        long,
        value_name = "URL",
        env = "RUSSET_SERVER",
        default_value = "https://127.0.0.1:8443"
    )]
    server: String,
    /// A file with the certificates to trust for the server, in PEM.
    #[arg(long, value_name = "FILE", env = "RUSSET_CA")]
    ca: PathBuf,
    /// The tenant.
    #[arg(long, env = "RUSSET_TENANT", default_value = "default")]
    tenant: String,
    /// How many devices.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// What they are.
    #[arg(long, value_enum, default_value_t = Kind::Mac)]
    kind: Kind,
    /// What their serial numbers begin with; a number follows.
    #[arg(long, default_value = "SIM")]
    serial: String,
    /// The user name to sign in with, if the server wants that; the password comes from RUSSET_SIMULATE_PASSWORD.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[arg(
        long,
        env = "RUSSET_SIMULATE_PASSWORD",
        hide = true,
        hide_env_values = true,
        default_value = ""
    )]
    password: String,
    /// How often they poll, in seconds. No pushes reach them, as Apple's service does not know them.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    every: u64,
    /// How often each polls before it stops; without it they go on until they are stopped.
    #[arg(long, value_name = "TIMES")]
    polls: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Mac,
    Iphone,
    Ipad,
}

pub(super) fn run(args: &SimulateArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let trust = std::fs::read_to_string(&args.ca)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be read", args.ca.display()))?;
    let trust = ServerTrust::from_pem(&trust).into_diagnostic()?;
    runtime()?.block_on(async {
        let (lines, mut heard) = mpsc::unbounded_channel();
        let mut devices = tokio::task::JoinSet::new();
        for number in 1..=args.count {
            let device = device(args, number, trust.clone(), lines.clone()).into_diagnostic()?;
            devices.spawn(live(device, Duration::from_secs(args.every.max(1)), args.polls));
        }
        drop(lines);
        while let Some(line) = heard.recv().await {
            writeln!(stdout, "{line}")
                .and_then(|()| stdout.flush())
                .map_err(output::failed)?;
        }
        while let Some(ended) = devices.join_next().await {
            ended.into_diagnostic()?.into_diagnostic()?;
        }
        Ok(())
    })
}

fn device(
    args: &SimulateArgs,
    number: u32,
    trust: ServerTrust,
    lines: mpsc::UnboundedSender<String>,
) -> Result<SimulatedDevice, DeviceError> {
    let serial = format!("{}{number:06}", args.serial);
    let builder = SimulatedDevice::builder();
    let builder = match args.kind {
        Kind::Mac => builder.mac(),
        Kind::Iphone => builder.iphone(),
        Kind::Ipad => builder.ipad(),
    };
    let mut builder = builder
        .udid(format!("00000000-{serial}"))
        .serial_number(serial)
        .server(args.server.trim_end_matches('/'))
        .trust(trust)
        .observe(move |facts, event| {
            // Nobody listens any more only when the command is ending.
            let _ = lines.send(format!("{} {event}", facts.serial_number));
        });
    if args.tenant != "default" {
        builder = builder.tenant(&args.tenant);
    }
    if let Some(user) = &args.user {
        builder = builder.credentials(Credentials::new(user.clone(), args.password.clone()));
    }
    builder.build()
}

/// Enrolls and polls.
async fn live(device: SimulatedDevice, every: Duration, polls: Option<u64>) -> Result<(), DeviceError> {
    device.enroll().await?;
    let mut done = 0;
    while device.is_enrolled() && polls.is_none_or(|polls| done < polls) {
        device.run_until_idle().await?;
        done += 1;
        if polls != Some(done) {
            tokio::time::sleep(every).await;
        }
    }
    Ok(())
}
