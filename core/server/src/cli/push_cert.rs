//! `russet push-cert`: the certificates that Apple's push service knows a tenant by.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use miette::Diagnostic;
use russet_pki::Certificate;
use russet_pki::csr::{CertificateRequest, KeyPolicy};
use russet_pki::key::PrivateKey;
use russet_protocol::PushCertificateRequest;
use serde_json::{Value, json};

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
        /// Its private key, in PEM, not encrypted. Left out, it is the key that `push-cert request` made on the server.
        #[arg(long, value_name = "FILE")]
        private_key: Option<PathBuf>,
        /// Take a certificate of another topic than those of the tenant. No device that is enrolled listens to it.
        #[arg(long)]
        other_topic: bool,
    },
    /// Make a key on the server, which never leaves it, and write the request for its certificate.
    Request {
        /// Where the request goes, in PEM. Printed if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign a request as a vendor, for upload at Apple. Needs no server.
    Sign {
        /// The request, in PEM.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// The vendor's certificate followed by its issuers up to Apple's root, in PEM.
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// The vendor's private key, in PEM, not encrypted.
        #[arg(long, value_name = "FILE")]
        private_key: PathBuf,
        /// Where the signed request goes. Printed if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
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
            other_topic,
        } => {
            let body = json!({
                "certificate_pem": file::read_text(&certificate)?,
                "private_key_pem": private_key.as_deref().map(file::read_text).transpose()?,
                "other_topic": other_topic,
            });
            let client = Client::new(args, context)?;
            let answer = client.put(client.of_tenant(&["push-certificates"]), &body).await?;
            output.answer(&answer, |output| output.facts(&output::facts(&answer)))
        }
        PushCertCommand::Request { out } => {
            let client = Client::new(args, context)?;
            let answer = client
                .post(client.of_tenant(&["push-certificates", "request"]), &json!({}))
                .await?;
            let request = answer["request_pem"].as_str().unwrap_or_default();
            write(out.as_deref(), request, &answer, output)
        }
        PushCertCommand::Sign {
            request,
            chain,
            private_key,
            out,
        } => {
            let signed = sign(&request, &chain, &private_key)?;
            let answer = json!({ "signed_request": signed });
            write(out.as_deref(), &signed, &answer, output)
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

#[derive(Debug, thiserror::Error, Diagnostic)]
enum SignError {
    #[error("the request can not be signed: {0}")]
    #[diagnostic(help("give the file that `russet push-cert request` wrote"))]
    Request(russet_pki::csr::CsrError),
    #[error("the chain can not be used: {0}")]
    #[diagnostic(help("give the vendor's certificate first, then Apple's intermediate and root, all in PEM"))]
    Chain(russet_pki::CertificateError),
    #[error("the private key can not be used: {0}")]
    Key(russet_pki::key::KeyError),
    #[error("the private key is not that of the first certificate of the chain")]
    #[diagnostic(help("give the key that the vendor's certificate was made with"))]
    OtherKey,
}

/// A vendor's signature over a request, as Apple takes it.
fn sign(request: &Path, chain: &Path, private_key: &Path) -> miette::Result<String> {
    let request =
        CertificateRequest::from_pem(&file::read_text(request)?, KeyPolicy::default()).map_err(SignError::Request)?;
    let chain_pem = file::read_text(chain)?;
    let chain = Certificate::chain_from_pem(&chain_pem).map_err(SignError::Chain)?;
    let key = PrivateKey::from_pem(&file::read_text(private_key)?).map_err(SignError::Key)?;
    if chain
        .first()
        .is_none_or(|vendor| vendor.public_key_der() != key.public_key_der())
    {
        return Err(SignError::OtherKey.into());
    }
    let signature = key.sign(request.der()).map_err(SignError::Key)?;
    let signed = PushCertificateRequest {
        request_der: request.der(),
        certificate_chain_pem: &chain.iter().map(Certificate::to_pem).collect::<String>(),
        signature: &signature,
    };
    Ok(signed.encode())
}

/// To the file, if one is named, else to the output.
fn write(out: Option<&Path>, text: &str, answer: &Value, output: &mut Output<'_>) -> miette::Result<()> {
    let Some(path) = out else {
        return output.answer(answer, |output| text.lines().try_for_each(|line| output.line(line)));
    };
    file::write(path, text.as_bytes())?;
    output.answer(&json!({ "written": path }), |output| {
        output.line(format!("written to {}", path.display()))
    })
}
