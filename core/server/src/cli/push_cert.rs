//! `russet push-cert`: the certificates that Apple's push service knows a tenant by.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::file;
use super::output::{self, Output};

#[derive(Debug, Subcommand)]
pub(super) enum PushCertCommand {
    /// Upload a push certificate. One with the same topic replaces the one before, as a renewal does.
    Upload {
        /// The certificate, in PEM.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its private key, in PEM, not encrypted.
        #[arg(long, value_name = "FILE")]
        private_key: PathBuf,
    },
    /// Show the push certificates: topics and when they end.
    Show,
}

pub(super) async fn run(
    command: PushCertCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    match command {
        PushCertCommand::Upload {
            certificate,
            private_key,
        } => {
            let body = json!({
                "certificate_pem": file::read_text(&certificate)?,
                "private_key_pem": file::read_text(&private_key)?,
            });
            let client = Client::new(args, context)?;
            let answer = client.put(client.of_tenant(&["push-certificates"]), &body).await?;
            output.answer(&answer, |output| output.facts(&output::facts(&answer)))
        }
        PushCertCommand::Show => {
            let client = Client::new(args, context)?;
            let answer = client.get(client.of_tenant(&["push-certificates"])).await?;
            let rows = output::rows(items(&answer), &["topic", "not_after", "updated_at"]);
            output.answer(&answer, |output| {
                output.table(
                    &["topic", "until", "uploaded"],
                    &rows,
                    "no push certificate; devices can not be woken until one is uploaded with `russet push-cert upload`",
                )
            })
        }
    }
}
