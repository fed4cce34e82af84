//! `russet plugin keys`: a publisher's key. Needs no server.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use miette::{Diagnostic, IntoDiagnostic as _};
use russet_plugin_host::package::{KeyError, PublicKey, SigningKey};
use serde_json::json;

use super::super::file;
use super::super::output::Output;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeysCommand {
    /// Make a key to sign plugins with. The file is a secret; the public key, which is printed, is not.
    New {
        /// The file to write, PKCS#8 in PEM. It must not exist yet.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the public key of a key.
    Show {
        /// The file with the key.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A file that is no key.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}: {source}", path.display())]
#[diagnostic(code("key"))]
struct NoKey {
    path: PathBuf,
    source: KeyError,
}

/// Reads a private key.
pub(super) fn read(path: &Path) -> miette::Result<SigningKey> {
    let pem = zeroize::Zeroizing::new(file::read(path)?);
    Ok(SigningKey::from_pem(&pem).map_err(|source| NoKey {
        path: path.to_owned(),
        source,
    })?)
}

pub(super) fn run(command: &KeysCommand, stdout: &mut dyn Write) -> miette::Result<()> {
    match command {
        KeysCommand::New { file: path, json } => {
            let key = SigningKey::generate().into_diagnostic()?;
            let pem = key.to_pem().into_diagnostic()?;
            file::create_private(path, pem.as_bytes())?;
            answer(path, key.public(), &mut Output::new(stdout, *json))
        }
        KeysCommand::Show { file: path, json } => answer(path, read(path)?.public(), &mut Output::new(stdout, *json)),
    }
}

fn answer(path: &Path, key: &PublicKey, output: &mut Output<'_>) -> miette::Result<()> {
    let answer = json!({"file": path, "public_key": key, "key_id": key.id()});
    output.answer(&answer, |output| {
        output.facts(&[
            ("private key".to_owned(), path.display().to_string()),
            ("public key".to_owned(), key.to_string()),
            ("key id".to_owned(), key.id().to_string()),
            ("trusted by".to_owned(), format!("russet publisher add NAME {key}")),
        ])
    })
}
