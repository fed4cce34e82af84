//! What every command may need: which configuration file is meant, and a runtime.

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::{Diagnostic, IntoDiagnostic, WrapErr};
use russet::config::{Config, ConfigError};
use russet::data_dir::DataDir;

/// The configuration file that is read if none is named.
const DEFAULT_FILE: &str = "russet.toml";

#[derive(Debug, Args)]
pub(super) struct ContextArgs {
    /// The configuration file [default: russet.toml, if there is one].
    #[arg(long = "config", value_name = "FILE", env = "RUSSET_CONFIG", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Context {
    file: Option<PathBuf>,
}

/// A configuration that can not be used, with what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(
    code("configuration"),
    help("`russet config example` prints every key with its meaning")
)]
struct Unusable(ConfigError);

impl Context {
    pub(super) fn new(args: ContextArgs) -> Self {
        let file = args
            .config
            .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        Self { file }
    }

    /// No configuration file, whatever lies in the folder.
    pub(super) fn without_file() -> Self {
        Self { file: None }
    }

    /// The configuration file, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The configuration, not yet checked.
    pub(super) fn config(&self) -> miette::Result<Config> {
        Config::load(self.file(), variables()).map_err(|source| Unusable(source).into())
    }

    /// The configuration, checked.
    pub(super) fn checked_config(&self) -> miette::Result<Config> {
        let config = self.config()?;
        config.validate().map_err(Unusable)?;
        Ok(config)
    }

    /// The data directory of the server that the configuration describes.
    pub(super) fn data_dir(&self) -> miette::Result<DataDir> {
        Ok(DataDir::new(self.config()?.data_dir))
    }
}

/// The environment; a variable that is not Unicode can not be one of ours.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The runtime of a server.
pub(super) fn runtime() -> miette::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("the system gives no resources to run in")
}

/// Runs a client command, which does one thing at a time.
pub(super) fn block_on<T>(future: impl Future<Output = miette::Result<T>>) -> miette::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("the system gives no resources to run in")?
        .block_on(future)
}
