//! What can go wrong with a registry, and what to do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

use super::reference::Address;

/// Why nothing was pushed or pulled.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(in crate::cli) enum OciError {
    #[error("`{text}` can not be used: {reason}")]
    #[diagnostic(code("reference"), help("write it like registry.example.com/plugins/my-gate:1.0.0"))]
    Reference { text: String, reason: String },
    #[error("{registry} refused the sign-in")]
    #[diagnostic(
        code("registry-sign-in"),
        help(
            "set RUSSET_REGISTRY_USER and RUSSET_REGISTRY_PASSWORD, or sign in with `docker login` or `podman login`; \
         credential helpers are not asked"
        )
    )]
    SignIn { registry: String },
    #[error("{reference} is not there")]
    #[diagnostic(
        code("not-found"),
        help("check the repository and the tag, and whether the account may see it")
    )]
    NotFound { reference: String },
    #[error("{reference} is no Russet plugin: {reason}")]
    #[diagnostic(code("not-a-plugin"))]
    NoPlugin { reference: String, reason: String },
    #[error("what came back for {reference} does not have its digest; nothing was written ({reason})")]
    #[diagnostic(
        code("wrong-digest"),
        help("the registry, or something on the way to it, changed it; push it again or take another registry")
    )]
    Digest { reference: String, reason: String },
    #[error("{registry}: {reason}")]
    #[diagnostic(
        code("registry"),
        help("a registry without encryption takes --plain-http, one with an authority of its own --registry-ca")
    )]
    Failed { registry: String, reason: String },
    #[error("the credentials in {} can not be used: {reason}", path.display())]
    #[diagnostic(code("credentials"))]
    Credentials { path: PathBuf, reason: String },
    #[error("a user name for the registry is given, and no password")]
    #[diagnostic(code("credentials"), help("set RUSSET_REGISTRY_PASSWORD"))]
    NoPassword,
}

impl OciError {
    pub(super) fn of(address: &Address, error: OciDistributionError) -> Self {
        let registry = address.registry().to_owned();
        let reference = address.to_string();
        match error {
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                Self::SignIn { registry }
            }
            OciDistributionError::ImageManifestNotFoundError(_) => Self::NotFound { reference },
            OciDistributionError::ServerError { code: 404, .. } => Self::NotFound { reference },
            OciDistributionError::ServerError { code: 401 | 403, .. } => Self::SignIn { registry },
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    Self::NotFound { reference }
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Self::SignIn { registry }
                } else {
                    Self::Failed {
                        registry,
                        reason: envelope.to_string(),
                    }
                }
            }
            OciDistributionError::DigestError(error) => Self::Digest {
                reference,
                reason: error.to_string(),
            },
            OciDistributionError::RequestError(error) => {
                let mut reason: &dyn std::error::Error = &error;
                while let Some(source) = reason.source() {
                    reason = source;
                }
                Self::Failed {
                    registry,
                    reason: reason.to_string(),
                }
            }
            other => Self::Failed {
                registry,
                reason: other.to_string(),
            },
        }
    }

    /// What the stream of a blob reports; a wrong digest comes inside of an error of input and output.
    pub(super) fn of_io(address: &Address, error: &io::Error) -> Self {
        let inner = error.get_ref().map(ToString::to_string);
        let is_digest = error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<DigestError>)
            || error.source().is_some_and(<dyn Error>::is::<DigestError>);
        let reason = inner.unwrap_or_else(|| error.to_string());
        if is_digest {
            return Self::Digest {
                reference: address.to_string(),
                reason,
            };
        }
        Self::Failed {
            registry: address.registry().to_owned(),
            reason,
        }
    }
}
