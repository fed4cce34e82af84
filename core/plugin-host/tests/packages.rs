//! Signed packages: which files are read, which are refused, and whose are trusted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::with_manifest;
use jiff::Timestamp;
use russet_plugin_host::package::{
    Accepted, FormatError, MAX_SIGNATURES, Package, PackageError, Past, Publisher, SIGNATURE_SECTION, SigningKey,
    TrustPolicy, Unsigned, check, check_version, sign,
};
use semver::Version;
use serde_json::{Value, json};

/// How an empty component starts, and ends.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn plugin() -> Vec<u8> {
    named("gate")
}

fn named(name: &str) -> Vec<u8> {
    let manifest = json!({"name": name, "version": "1.0.0", "hooks": ["enrollment-gate"]});
    with_manifest(EMPTY, &manifest)
}

fn now() -> Timestamp {
    "2026-03-04T05:06:07.89Z".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn signed(file: &[u8], key: &SigningKey) -> Vec<u8> {
    sign(file, key, now()).unwrap()
}

fn trusting(publishers: &[(&str, &SigningKey, &[&str])]) -> TrustPolicy {
    let publisher = |&(name, key, plugins): &(&str, &SigningKey, &[&str])| Publisher {
        name: name.to_owned(),
        public_key: *key.public(),
        plugins: plugins.iter().map(|&plugin| plugin.to_owned()).collect(),
    };
    TrustPolicy {
        unsigned: Unsigned::Refuse,
        publishers: publishers.iter().map(publisher).collect(),
    }
}

/// A custom section, with lengths as they are written by hand.
fn section(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    let size = body.len();
    let mut section = vec![0];
    if size < 0x80 {
        section.push(u8::try_from(size).unwrap());
    } else {
        section.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
        section.push(u8::try_from(size >> 7).unwrap());
    }
    section.extend(body);
    section
}

/// The document of a file's only signature.
fn document(file: &[u8], plain: &[u8]) -> Value {
    let tail = &file[plain.len()..];
    let start = tail.iter().position(|&byte| byte == b'{').unwrap();
    serde_json::from_slice(&tail[start..]).unwrap()
}

fn format_error(file: &[u8]) -> FormatError {
    match Package::read(file).unwrap_err() {
        PackageError::Format(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn a_signature_is_read_back() {
    let (plain, key) = (plugin(), key());
    let file = signed(&plain, &key);
    let package = Package::read(&file).unwrap();
    assert_eq!(package.content, plain);
    assert_eq!(package.signatures.len(), 1);
    assert_eq!(package.signatures[0].public_key, *key.public());
    assert_eq!(package.signatures[0].signed_at.to_string(), "2026-03-04T05:06:07Z");

    let accepted = check(&file, &trusting(&[("acme", &key, &[])])).unwrap();
    assert_eq!(
        json!(accepted),
        json!({
            "status": "signed", "publisher": "acme", "key_id": key.public().id().to_string(),
            "signed_at": "2026-03-04T05:06:07Z", "content": package.content_digest(),
        })
    );
    assert_eq!(
        serde_json::from_value::<russet_plugin_host::package::Signed>(json!(accepted)).unwrap(),
        accepted
    );
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let (plain, key) = (plugin(), key());
    let file = signed(&plain, &key);
    let policy = trusting(&[("acme", &key, &[])]);
    for at in 0..file.len() {
        for flip in [1, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= flip;
            assert!(check(&changed, &policy).is_err(), "byte {at} of {}", file.len());
        }
    }
    for length in 0..file.len() {
        assert!(check(&file[..length], &policy).is_err(), "cut at {length}");
    }
}

#[test]
fn unsigned_is_refused_unless_it_is_allowed() {
    let mut policy = TrustPolicy::default();
    let refused = check(&plugin(), &policy).unwrap_err();
    assert!(matches!(refused, PackageError::Unsigned), "{refused}");
    assert!(
        refused.to_string().contains("plugins.unsigned = \"allow\""),
        "{refused}"
    );
    policy.unsigned = Unsigned::Allow;
    assert_eq!(check(&plugin(), &policy).unwrap().accepted, Accepted::Unsigned);
    // What is signed is held against the list all the same.
    let stranger = key();
    assert!(matches!(
        check(&signed(&plugin(), &stranger), &policy),
        Err(PackageError::UnknownPublisher(_))
    ));
}

#[test]
fn an_unknown_publisher_is_refused_with_the_line_to_add() {
    let (known, stranger) = (key(), key());
    let error = check(&signed(&plugin(), &stranger), &trusting(&[("acme", &known, &[])])).unwrap_err();
    let line = format!("russet publisher add NAME {}", stranger.public());
    assert!(error.to_string().contains(&line), "{error}");
}

#[test]
fn a_publisher_may_be_trusted_for_some_plugins_only() {
    let acme = key();
    let policy = trusting(&[("acme", &acme, &["gate", "people"])]);
    assert!(check(&signed(&named("people"), &acme), &policy).is_ok());
    let error = check(&signed(&named("escrow"), &acme), &policy).unwrap_err();
    assert!(
        matches!(&error, PackageError::OtherPlugin { publisher, plugin } if publisher == "acme" && plugin == "escrow"),
        "{error}"
    );
}

#[test]
fn one_trusted_signature_of_several_is_enough_and_all_have_to_fit() {
    let (acme, other) = (key(), key());
    let plain = plugin();
    let both = signed(&signed(&plain, &other), &acme);
    assert_eq!(Package::read(&both).unwrap().signatures.len(), 2);
    let accepted = check(&both, &trusting(&[("acme", &acme, &[])])).unwrap();
    assert!(matches!(accepted.accepted, Accepted::Signed { publisher, .. } if publisher == "acme"));
    // One that fits beside one that is of another file.
    let of_another = signed(&named("people"), &other);
    let foreign = &of_another[named("people").len()..];
    let mixed = [signed(&plain, &acme).as_slice(), foreign].concat();
    let error = check(&mixed, &trusting(&[("acme", &acme, &[])])).unwrap_err();
    assert!(
        matches!(&error, PackageError::Tampered(id) if *id == other.public().id()),
        "{error}"
    );
}

#[test]
fn signing_again_replaces_the_own_signature() {
    let (acme, other) = (key(), key());
    let once = signed(&plugin(), &acme);
    let later = now() + jiff::SignedDuration::from_hours(1);
    let again = sign(&signed(&once, &other), &acme, later).unwrap();
    let package = Package::read(&again).unwrap();
    let keys: Vec<_> = package.signatures.iter().map(|one| one.public_key).collect();
    assert_eq!(keys, [*other.public(), *acme.public()]);
    assert_eq!(package.signatures[1].signed_at.to_string(), "2026-03-04T06:06:07Z");
    assert_eq!(package.content_digest(), Package::read(&once).unwrap().content_digest());
}

#[test]
fn signatures_stand_at_the_end_and_nowhere_else() {
    let (plain, key) = (plugin(), key());
    let file = signed(&plain, &key);
    let after = [file.as_slice(), &section("name", b"x")].concat();
    assert_eq!(format_error(&after), FormatError::NotLast);
    let resigned = sign(&after, &key, now()).unwrap_err();
    assert!(matches!(resigned, PackageError::Format(FormatError::NotLast)));

    // Hidden in a module inside of the component.
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(section(SIGNATURE_SECTION, b"{}"));
    let mut hiding = plain.clone();
    hiding.push(1);
    hiding.push(u8::try_from(module.len()).unwrap());
    hiding.extend(module);
    assert_eq!(format_error(&hiding), FormatError::Inside);

    for garbage in [&b"\0"[..], b"x", b"\0\xff\xff\xff\xff\x7f", b"\0\x05ab"] {
        let trailing = [file.as_slice(), garbage].concat();
        assert!(Package::read(&trailing).is_err(), "{garbage:?}");
    }
    assert_eq!(format_error(b"\0asm\x01\0\0\0"), FormatError::NoComponent);
    assert_eq!(format_error(b""), FormatError::NoComponent);
}

#[test]
fn only_the_form_that_is_written_here_is_read() {
    let (plain, key) = (plugin(), key());
    let file = signed(&plain, &key);
    let genuine = document(&file, &plain);
    let with = |bytes: &[u8]| [plain.as_slice(), &section(SIGNATURE_SECTION, bytes)].concat();
    // The same meaning in other words would be the same signature on another file.
    assert!(Package::read(&with(file[file.len() - genuine.to_string().len()..].as_ref())).is_ok());
    let spaced = serde_json::to_string_pretty(&genuine).unwrap();
    let mut changed = vec![spaced.into_bytes(), b"".to_vec(), b"{}".to_vec(), vec![b'x'; 2000]];
    for (name, value) in [
        ("algorithm", "rsa"),
        ("key_id", "00000000000000000000000000000000"),
        ("public_key", "AAAA"),
        ("signature", "?"),
        ("signed_at", "yesterday"),
        ("signed_at", "2026-03-04T05:06:07.5Z"),
    ] {
        let mut document = genuine.clone();
        document[name] = json!(value);
        changed.push(document.to_string().into_bytes());
    }
    for document in changed {
        assert!(
            matches!(format_error(&with(&document)), FormatError::Malformed { at: 1, .. }),
            "{}",
            String::from_utf8_lossy(&document)
        );
    }
    // The same signature twice.
    let twice = [file.as_slice(), &file[plain.len()..]].concat();
    assert!(matches!(format_error(&twice), FormatError::Malformed { at: 2, .. }));
}

#[test]
fn the_number_of_signatures_is_bounded() {
    let mut file = plugin();
    for _ in 0..MAX_SIGNATURES {
        file = signed(&file, &key());
    }
    assert_eq!(Package::read(&file).unwrap().signatures.len(), MAX_SIGNATURES);
    let error = sign(&file, &key(), now()).unwrap_err();
    assert!(matches!(error, PackageError::Format(FormatError::TooMany)), "{error}");
}

#[test]
fn a_signature_covers_its_time() {
    let (plain, key) = (plugin(), key());
    let file = signed(&plain, &key);
    let text = String::from_utf8_lossy(&file).into_owned();
    assert!(text.contains("2026-03-04T05:06:07Z"));
    let at = file.windows(4).rposition(|window| window == b"2026").unwrap();
    let mut moved = file.clone();
    moved[at..at + 4].copy_from_slice(b"2027");
    assert!(matches!(Package::read(&moved), Err(PackageError::Tampered(_))));
}

#[test]
fn versions_go_up() {
    let version = |text: &str| Version::parse(text).unwrap();
    let past = |text: &str, content: &str| Past {
        version: version(text),
        content: content.to_owned(),
    };
    let used = [past("1.2.0", "a"), past("2.0.0", "b"), past("2.0.0", "c")];
    assert!(check_version(&version("0.1.0"), &["x"], &[]).is_ok());
    assert!(check_version(&version("2.0.1"), &["x"], &used).is_ok());
    assert!(check_version(&version("2.0.0"), &["c"], &used).is_ok());
    assert!(check_version(&version("2.0.0"), &["x", "b"], &used).is_ok());
    assert!(matches!(
        check_version(&version("2.0.0"), &["x"], &used),
        Err(PackageError::SameVersion { .. })
    ));
    for (older, content) in [("1.9.9", "x"), ("1.2.0", "a"), ("2.0.0-rc.1", "b")] {
        let error = check_version(&version(older), &[content], &used).unwrap_err();
        assert!(
            matches!(&error, PackageError::Downgrade { highest, .. } if *highest == version("2.0.0")),
            "{error}"
        );
    }
}
