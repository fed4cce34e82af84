//! Messages in files: found, read, and put into the order in which a server can take them.

use std::path::{Path, PathBuf};

use russet_protocol::{CheckIn, Limits};

use super::super::file::{self, FileError};

/// A message that an import can take.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) file: PathBuf,
    /// The enrollment id of its device.
    pub(super) device: String,
    /// As it is in the file.
    pub(super) body: Vec<u8>,
}

/// A file that holds no such message, and why.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) file: PathBuf,
    pub(super) reason: String,
}

/// What has to be there before: devices before their tokens, and those before what belongs to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Device,
    DeviceToken,
    Secret,
    User,
    Other,
}

/// Reads all files, those of a folder by name.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Result<Message, Unread>>, FileError> {
    let mut ranked = Vec::new();
    for path in paths {
        for file in files(path)? {
            let body = file::read(&file)?;
            ranked.push(match CheckIn::decode(&body, &Limits::default()) {
                Ok(message) => {
                    let device = message.key().device_id().to_owned();
                    (rank(&message), Ok(Message { file, device, body }))
                }
                Err(error) => {
                    let reason = error.to_string();
                    (Rank::Other, Err(Unread { file, reason }))
                }
            });
        }
    }
    // Stable: of two tokens of one device the later file goes over the earlier one.
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, message)| message).collect())
}

fn rank(message: &CheckIn) -> Rank {
    match message {
        _ if message.key().channel().is_user() => Rank::User,
        CheckIn::Authenticate(_) => Rank::Device,
        CheckIn::TokenUpdate(_) => Rank::DeviceToken,
        CheckIn::SetBootstrapToken(_) => Rank::Secret,
        _ => Rank::Other,
    }
}

/// The file itself, or the property lists of a folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_plist = |extension: &std::ffi::OsStr| extension == "plist" || extension == "xml";
        if file.is_file() && file.extension().is_some_and(is_plist) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn plist(fields: &[(&str, &str)]) -> String {
        let fields: String = fields
            .iter()
            .map(|(key, value)| match *key {
                "Token" => format!("<key>{key}</key><data>{value}</data>"),
                _ => format!("<key>{key}</key><string>{value}</string>"),
            })
            .collect();
        format!("<?xml version=\"1.0\"?><plist version=\"1.0\"><dict>{fields}</dict></plist>")
    }

    #[test]
    fn devices_come_before_their_tokens_and_users_last() {
        let folder = tempfile::tempdir().unwrap();
        let token = [("Topic", "t"), ("Token", "AAAA"), ("PushMagic", "m"), ("UDID", "A")];
        let user = [&token[..], &[("MessageType", "TokenUpdate"), ("UserID", "U")]].concat();
        let device = [&token[..], &[("MessageType", "TokenUpdate")]].concat();
        let authenticate = [("MessageType", "Authenticate"), ("Topic", "t"), ("UDID", "A")];
        for (name, content) in [
            ("1.plist", plist(&user)),
            ("2.plist", plist(&device)),
            ("3.xml", plist(&authenticate)),
            ("4.plist", "no plist".to_owned()),
            ("5.txt", "not read".to_owned()),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let read = read(&[folder.path().to_owned()]).unwrap();
        let order: Vec<String> = read
            .iter()
            .map(|message| match message {
                Ok(message) => message.file.display().to_string(),
                Err(unread) => unread.file.display().to_string(),
            })
            .map(|file| file.rsplit('/').next().unwrap().to_owned())
            .collect();
        assert_eq!(order, ["3.xml", "2.plist", "1.plist", "4.plist"]);
        assert!(read[3].is_err());
        assert_eq!(read[2].as_ref().unwrap().device, "A");
    }
}
