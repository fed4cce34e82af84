//! `russet import`: devices of another server, taken over.

mod hashes;
mod messages;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use miette::Diagnostic;
use serde_json::{Value, json};

use super::client::{Client, ClientArgs};
use super::context::Context;
use super::device::items;
use super::error::ClientError;
use super::file;
use super::output::{self, Output};
use super::progress::Progress;
use hashes::Hashes;
use messages::{Message, Unread};

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Import what NanoMDM keeps of its devices: Authenticate, TokenUpdate and SetBootstrapToken messages as property lists.
    /// May be repeated: what a device has said here itself stays.
    Nanomdm {
        /// Files with one message each, and folders of such files (`*.plist`, `*.xml`).
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// The certificates of the authority that issued the devices' identities, in PEM: trusted for imported devices.
        #[arg(long, value_name = "FILE")]
        old_ca: Option<PathBuf>,
        /// Which certificate each device has: lines of its enrollment id and the SHA-256 of the certificate, as in
        /// NanoMDM's table `cert_auth_associations`. Devices without a line are left out.
        #[arg(long, value_name = "FILE")]
        cert_hashes: Option<PathBuf>,
        /// Tell observers of the devices as of enrollments.
        #[arg(long)]
        tell_observers: bool,
    },
    /// Show how many devices were imported, and which have not come yet.
    Status,
    /// List the authorities of other servers whose certificates imported devices may have.
    Authorities,
    /// Let imported devices have certificates of an authority.
    Trust {
        /// Its certificate, and those of intermediates, in PEM.
        file: PathBuf,
    },
    /// Trust an authority no longer. Devices that still have its certificates are refused from then on.
    Distrust {
        /// Its SHA-256, as `authorities` shows it.
        sha256: String,
    },
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum ImportError {
    #[error("{failed} of {all} messages were not imported")]
    #[diagnostic(
        code("not-imported"),
        help("the lines above say which and why; mend them and run the same command again: what is imported stays")
    )]
    Failed { failed: usize, all: usize },
    #[error("there is no message in the given paths")]
    #[diagnostic(
        code("not-imported"),
        help("name files, or folders with files whose names end in .plist or .xml")
    )]
    Nothing,
}

pub(super) async fn run(
    command: ImportCommand,
    args: &ClientArgs,
    context: &Context,
    output: &mut Output<'_>,
) -> miette::Result<()> {
    let client = Client::new(args, context)?;
    match command {
        ImportCommand::Nanomdm {
            paths,
            old_ca,
            cert_hashes,
            tell_observers,
        } => {
            let hashes = cert_hashes.as_deref().map(Hashes::read).transpose()?;
            let messages = messages::read(&paths)?;
            if messages.is_empty() {
                return Err(ImportError::Nothing.into());
            }
            if let Some(file) = old_ca {
                trust(&client, &file).await?;
            }
            let import = Import {
                client: &client,
                hashes,
                tell_observers,
            };
            import.all(messages, output).await
        }
        ImportCommand::Status => {
            let answer = client.get(client.of_tenant(&["import"])).await?;
            output.answer(&answer, |output| {
                for (name, label) in [
                    ("devices", "imported devices"),
                    ("arrived", "have come here"),
                    ("without_token", "have no push token"),
                ] {
                    output.line(format!("{label}: {}", output::cell(&answer[name])))?;
                }
                let waiting = answer["waiting"].as_array().map_or(&[][..], Vec::as_slice);
                let rows = output::rows(waiting, &["enrollment", "serial_number"]);
                output.table(&["waited for", "serial"], &rows, "all have come")
            })
        }
        ImportCommand::Authorities => {
            let answer = client.get(client.of_tenant(&["import", "authorities"])).await?;
            authorities(&answer, output)
        }
        ImportCommand::Trust { file } => {
            let answer = trust(&client, &file).await?;
            authorities(&answer, output)
        }
        ImportCommand::Distrust { sha256 } => {
            let answer = client
                .delete(client.of_tenant(&["import", "authorities", &sha256]))
                .await?;
            output.answer(&answer, |output| output.line(format!("{sha256} is trusted no longer")))
        }
    }
}

async fn trust(client: &Client, file: &Path) -> miette::Result<Value> {
    let body = json!({ "certificates_pem": file::read_text(file)? });
    Ok(client.put(client.of_tenant(&["import", "authorities"]), &body).await?)
}

fn authorities(answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let rows = output::rows(items(answer), &["sha256", "subject", "not_after", "added_by"]);
    output.answer(answer, |output| {
        output.table(
            &["sha256", "subject", "until", "added by"],
            &rows,
            "no authority of another server is trusted; add one with `russet import trust`",
        )
    })
}

/// One run over messages.
struct Import<'a> {
    client: &'a Client,
    hashes: Option<Hashes>,
    tell_observers: bool,
}

impl Import<'_> {
    /// Imports all, in the order in which the server needs them, and says what came of each.
    async fn all(&self, messages: Vec<Result<Message, Unread>>, output: &mut Output<'_>) -> miette::Result<()> {
        let all = messages.len();
        let mut results = Vec::with_capacity(all);
        let mut progress = Progress::start(format!("importing {all} messages"));
        for (number, message) in messages.into_iter().enumerate() {
            if number > 0 && number % 1_000 == 0 {
                progress.update(format!("importing {all} messages: {number} done"));
            }
            results.push(match message {
                Ok(message) => self.one(message).await?,
                Err(unread) => json!({"file": unread.file, "outcome": "failed", "error": unread.reason}),
            });
        }
        progress.done(&format!("read {all} messages"));
        let failed = results.iter().filter(|result| result["outcome"] == "failed").count();
        let answer = json!({"items": results, "failed": failed});
        output.answer(&answer, |output| summary(&results, output))?;
        match failed {
            0 => Ok(()),
            failed => Err(ImportError::Failed { failed, all }.into()),
        }
    }

    /// Imports one message. A refusal is its result; where the server cannot be asked at all, the run ends.
    async fn one(&self, message: Message) -> miette::Result<Value> {
        let mut url = self.client.of_tenant(&["import", "checkin"]);
        if self.tell_observers {
            url.query_pairs_mut().append_pair("tell_observers", "true");
        }
        let file = message.file.display().to_string();
        if let Some(hashes) = &self.hashes {
            let Some(sha256) = hashes.of(&message.device) else {
                let error = "no certificate is named for this device in the file of --cert-hashes";
                return Ok(json!({"file": file, "outcome": "failed", "error": error}));
            };
            url.query_pairs_mut().append_pair("certificate_sha256", sha256);
        }
        match self.client.put_bytes(url, "application/xml", message.body).await {
            Ok(mut answer) => {
                answer["file"] = Value::from(file);
                Ok(answer)
            }
            Err(
                error @ (ClientError::Refused { .. } | ClientError::NotFound { .. } | ClientError::ServerFailed { .. }),
            ) => Ok(json!({"file": file, "outcome": "failed", "error": error.to_string()})),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many of each outcome, each warning once, and every file that failed.
fn summary(results: &[Value], output: &mut Output<'_>) -> miette::Result<()> {
    for (outcome, what) in [
        ("created", "imported"),
        ("updated", "imported again, with changes"),
        ("unchanged", "here already"),
        ("has-come-itself", "left as they are: the device has been here itself"),
        ("removed-here", "left out: the device was removed here"),
    ] {
        let number = results.iter().filter(|result| result["outcome"] == outcome).count();
        if number > 0 {
            output.line(format!("{number} {what}"))?;
        }
    }
    let mut warnings: Vec<(&str, usize)> = Vec::new();
    for warning in results
        .iter()
        .filter_map(|result| result["warnings"].as_array())
        .flatten()
    {
        let warning = warning.as_str().unwrap_or_default();
        match warnings.iter_mut().find(|(known, _)| *known == warning) {
            Some((_, number)) => *number += 1,
            None => warnings.push((warning, 1)),
        }
    }
    for (warning, number) in warnings {
        output.line(format!("warning, for {number}: {warning}"))?;
    }
    for failed in results.iter().filter(|result| result["outcome"] == "failed") {
        output.line(format!(
            "failed: {}: {}",
            output::cell(&failed["file"]),
            output::cell(&failed["error"])
        ))?;
    }
    Ok(())
}
