//! Files named on the command line.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use miette::Diagnostic;

#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum FileError {
    #[error("{} can not be read: {source}", path.display())]
    #[diagnostic(code("file"), help("check the path and the permissions"))]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can not be written: {source}", path.display())]
    #[diagnostic(code("file"), help("check the path and the permissions of the folder"))]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not {expected}: {reason}", path.display())]
    #[diagnostic(code("file"))]
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

/// Writes a file that is not there yet and that its owner alone can read.
pub(super) fn create_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(|source| FileError::Write {
            path: path.to_owned(),
            source,
        })
}

/// Writes a file, whole or not at all: whoever reads it meanwhile sees the old one or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = std::fs::write(&part, content).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|source| {
        // Nothing is left of it; if even that fails, the first reason is the one to tell.
        drop(std::fs::remove_file(&part));
        FileError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_new_and_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create_private(&path, b"other"), Err(FileError::Write { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
    }

    #[test]
    fn a_file_is_replaced_or_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plugin.wasm");
        for content in [b"one", b"two"] {
            replace(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert!(replace(&folder.path().join("no/such/folder"), b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
