//! Which certificate each device has, by its enrollment id.

use std::collections::HashMap;
use std::path::Path;

use super::super::file::{self, FileError};

/// Digests in hexadecimal, by enrollment id.
#[derive(Debug)]
pub(super) struct Hashes(HashMap<String, String>);

impl Hashes {
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(&file::read_text(path)?).map_err(|reason| FileError::Format {
            path: path.to_owned(),
            expected: "a list of enrollment ids and digests",
            reason,
        })
    }

    /// Lines of an id and a digest, with a comma, tab or spaces between them. Empty lines and a heading are passed over; a
    /// device that is there twice, with different certificates, is a mistake.
    fn parse(text: &str) -> Result<Self, String> {
        let mut hashes: HashMap<String, String> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let mut cells = line
                .split([',', '\t', ' '])
                .map(|cell| cell.trim().trim_matches('"'))
                .filter(|cell| !cell.is_empty());
            let (id, sha256) = match (cells.next(), cells.next()) {
                (None, _) => continue,
                (Some(_), None) => return Err(format!("line {} has no digest", at + 1)),
                (Some(id), Some(sha256)) => (id, sha256.to_ascii_lowercase()),
            };
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                if at == 0 {
                    continue;
                }
                return Err(format!(
                    "line {} has no SHA-256 (64 hexadecimal digits) after its first word",
                    at + 1
                ));
            }
            let before = hashes.insert(id.to_owned(), sha256.clone());
            if before.is_some_and(|before| before != sha256) {
                return Err(format!(
                    "line {} gives the device {id} another certificate than a line before; keep the newest",
                    at + 1
                ));
            }
        }
        Ok(Self(hashes))
    }

    pub(super) fn of(&self, device: &str) -> Option<&str> {
        self.0.get(device).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_read_as_databases_and_people_write_them() {
        let (one, two) = ("ab".repeat(32), "CD".repeat(32));
        let text = format!("id,sha256,created_at\n\"A-1\",\"{one}\",2024-01-01\n\nB-2\t{two}\n");
        let hashes = Hashes::parse(&text).unwrap();
        assert_eq!(hashes.of("A-1"), Some(&*one));
        assert_eq!(hashes.of("B-2"), Some(&*two.to_lowercase()));
        assert_eq!(hashes.of("C-3"), None);
    }

    #[test]
    fn mistakes_are_named_by_their_line() {
        let one = "ab".repeat(32);
        let error = |text: &str| Hashes::parse(text).unwrap_err();
        assert!(error(&format!("A {one}\nB abc")).contains("line 2"));
        assert!(error("A").contains("line 1 has no digest"));
        assert!(error(&format!("A {one}\nA {}", "cd".repeat(32))).contains("line 2 gives the device A"));
    }
}
