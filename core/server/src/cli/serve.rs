//! `russet serve`: the server, until it is told to stop.

use std::io::Write;

use clap::Args;
use miette::{Diagnostic, IntoDiagnostic};
use russet::{Running, Server, StartError};

use super::context::{Context, runtime};
use super::output;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Check the configuration and everything it names, then stop without binding a port.
    #[arg(long)]
    check: bool,
}

/// A server that does not start, with all that led to it.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the server does not start")]
#[diagnostic(
    code("not-started"),
    help("`russet config check` looks the configuration over; `russet config example` explains every key")
)]
pub(super) struct NotStarted(#[source] StartError);

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        Self(error)
    }
}

pub(super) fn run(args: &ServeArgs, context: &Context, stdout: &mut dyn Write) -> miette::Result<()> {
    let config = context.checked_config()?;
    if args.check {
        return writeln!(stdout, "the configuration is good").map_err(output::failed);
    }
    russet::logging::init(&config.log).into_diagnostic()?;
    runtime()?.block_on(async {
        let running = Server::builder(config).start().await.map_err(NotStarted)?;
        announce(&running, stdout)?;
        told_to_stop().await.into_diagnostic()?;
        running.shutdown().await;
        Ok(())
    })
}

/// Says where the server is, once it answers there: scripts wait for this line.
fn announce(running: &Running, stdout: &mut dyn Write) -> miette::Result<()> {
    let data = running.data_dir();
    writeln!(
        stdout,
        "russet serves at {} (listening on {})",
        running.public_url(),
        running.address()
    )
    .and_then(|()| {
        writeln!(
            stdout,
            "the first administrator's token is in {}",
            data.admin_token().display()
        )
    })
    .and_then(|()| stdout.flush())
    .map_err(output::failed)
}

/// Waits until the process is told to end: SIGTERM or SIGINT.
pub(super) async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
