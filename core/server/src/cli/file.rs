//! Files named on the command line.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use miette::Diagnostic;

#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum FileError {
    #[error("{} can not be read: {source}", path.display())]
    #[diagnostic(help("check the path and the permissions"))]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can not be written: {source}", path.display())]
    #[diagnostic(help("check the path and the permissions of the folder"))]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not {expected}: {reason}", path.display())]
    Format {
        path: PathBuf,
        expected: &'static str,
        reason: String,
    },
}

/// The bytes of a file; `-` is the standard input.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(failed)
}

/// The text of a file; `-` is the standard input.
pub(super) fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path)?).map_err(|_| FileError::Format {
        path: path.to_owned(),
        expected: "text",
        reason: "it holds bytes that are not UTF-8".to_owned(),
    })
}

/// The JSON in a file.
pub(super) fn read_json(path: &Path) -> Result<serde_json::Value, FileError> {
    serde_json::from_slice(&read(path)?).map_err(|error| FileError::Format {
        path: path.to_owned(),
        expected: "JSON",
        reason: error.to_string(),
    })
}

/// The JSON or, for a name that ends so, the TOML in a file, as JSON.
pub(super) fn read_json_or_toml(path: &Path) -> Result<serde_json::Value, FileError> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return toml::from_str(&read_text(path)?).map_err(|error| FileError::Format {
            path: path.to_owned(),
            expected: "TOML",
            reason: error.message().to_owned(),
        });
    }
    read_json(path)
}

/// Writes a file.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), FileError> {
    std::fs::write(path, content).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}
