//! The wire formats as devices and operators meet them: bytes in, values out, and the reverse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checkin;
mod codec;
mod command;
mod connect;
mod ddm;
mod enrollment;
mod forbidden;
mod json;
mod machine_info;
mod profile;
mod properties;

use russet_protocol::Limits;
use russet_protocol::plist::Dictionary;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
    <plist version=\"1.0\">\n";

/// A property list with `root` as its root value.
fn document(root: &str) -> Vec<u8> {
    format!("{HEAD}{root}\n</plist>\n").into_bytes()
}

/// A property list of a dictionary with `entries`.
fn message(entries: &str) -> Vec<u8> {
    document(&format!("<dict>{entries}</dict>"))
}

/// A message with string entries.
fn strings(entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .map(|(key, text)| format!("<key>{key}</key><string>{text}</string>"))
        .collect()
}

/// The root value of a written property list, for snapshots: without the fixed head, two spaces for a tab.
fn root(body: &[u8]) -> String {
    let text = std::str::from_utf8(body).expect("UTF-8");
    let text = text.strip_prefix(HEAD).expect("the head of every property list");
    text.strip_suffix("</plist>\n")
        .expect("the end of every property list")
        .replace('\t', "  ")
}

fn read(body: &[u8]) -> Dictionary {
    russet_protocol::codec::decode(body, &Limits::default()).expect("a property list")
}
