//! `russet certificate`: the identities that the server issued to devices.

use clap::Subcommand;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::{items, more};
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(super) enum CertificateCommand {
    /// List identity certificates.
    List {
        /// Only those of this device: its serial number, UDID or enrollment identifier.
        #[arg(long)]
        device: Option<String>,
        /// The most certificates to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Revoke a certificate: whoever shows it is refused from now on. A device that loses its only one has to enroll again.
    Revoke {
        /// Its SHA-256, as `list` shows it.
        sha256: String,
        /// Why; kept with the certificate.
        #[arg(long)]
        reason: String,
    },
}

pub(super) async fn run(
    command: CertificateCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        CertificateCommand::List { device, limit } => {
            let mut url = client.of_tenant(&["certificates"]);
            if let Some(device) = device {
                url.query_pairs_mut().append_pair("device", &device);
            }
            let answer = client.list(url, limit).await?;
            let columns = ["sha256", "not_after", "enrolled", "revoked_at", "revoke_reason"];
            let rows = output::rows(items(&answer), &columns);
            output.answer(&answer, |output| {
                output.table(
                    &["sha-256", "until", "in use", "revoked", "because"],
                    &rows,
                    "no certificates",
                )?;
                more(&answer, output)
            })
        }
        CertificateCommand::Revoke { sha256, reason } => {
            let url = client.of_tenant(&["certificates", &sha256, "revoke"]);
            let answer = client.post(url, &json!({ "reason": reason })).await?;
            output.answer(&answer, |output| output.line(format!("revoked {sha256}")))
        }
    }
}
