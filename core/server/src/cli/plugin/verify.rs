//! `russet plugin verify`: who signed a plugin, and whether it is as they signed it. Needs no server.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use miette::Diagnostic;
use russet_plugin_host::package::{Package, PackageError, PublicKey, Signature};
use serde_json::json;

use super::super::file;
use super::super::output::Output;
use super::sign::NotSigned;

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The plugin.
    file: PathBuf,
    /// Fail unless this key has signed it. Repeat it to accept any of several.
    #[arg(long = "key", value_name = "PUBLIC KEY")]
    keys: Vec<PublicKey>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Nobody of those who were named has signed it.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{}: none of the given keys has signed it", path.display())]
#[diagnostic(code("not-signed-by"))]
struct OtherKeys {
    path: PathBuf,
    #[help]
    signers: String,
}

pub(super) fn run(args: &VerifyArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let component = file::read(&args.file)?;
    let refused = |source| NotSigned {
        path: args.file.clone(),
        source,
    };
    let package = Package::read(&component).map_err(refused)?;
    if package.signatures.is_empty() {
        return Err(refused(PackageError::Unsigned).into());
    }
    let wanted = |signature: &Signature| args.keys.contains(&signature.public_key);
    if !args.keys.is_empty() && !package.signatures.iter().any(wanted) {
        let signers: Vec<String> = package
            .signatures
            .iter()
            .map(|one| one.public_key.to_string())
            .collect();
        return Err(OtherKeys {
            path: args.file.clone(),
            signers: format!("it is signed with {}", signers.join(" and ")),
        }
        .into());
    }
    let signatures: Vec<_> = package
        .signatures
        .iter()
        .map(|one| json!({"public_key": one.public_key, "key_id": one.public_key.id(), "signed_at": one.signed_at}))
        .collect();
    let answer = json!({"file": args.file, "content": package.content_digest(), "signatures": signatures});
    Output::new(stdout, args.json).answer(&answer, |output| {
        output.line(format!("{}: as it was signed", args.file.display()))?;
        let rows: Vec<Vec<String>> = package.signatures.iter().map(row).collect();
        output.table(&["key", "signed", "public key"], &rows, "")
    })
}

fn row(signature: &Signature) -> Vec<String> {
    vec![
        signature.public_key.id().to_string(),
        signature.signed_at.to_string(),
        signature.public_key.to_string(),
    ]
}
