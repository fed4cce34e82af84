//! A gate that misbehaves as its settings say, for the tests of the host.
//!
//! The settings are `{"mode": "…"}`, see [`Mode`]; `label` also takes `{"label": "…"}`. A component that misbehaves while
//! it is being instantiated is not here: Rust has no plain way to run code in a component's start function.

use std::hint::black_box;

use russet_plugin::gate::{EnrollmentGate, EnrollmentRequest, Verdict};
use russet_plugin::{Error, ldap, log, settings};
use serde::Deserialize;

/// What the gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Allows.
    Allow,
    /// Allows, and keeps the setting `label` as the attribute `label`, so that tests can tell revisions apart.
    Label,
    /// Denies with the setting `label` as the reason and as the message.
    Deny,
    /// Requires a sign-in.
    SignIn,
    /// Reads twenty values of the request and its device, one host call each, then allows.
    ReadAll,
    /// Says that it could not decide.
    Error,
    /// Computes for ever.
    Loop,
    /// Allocates for ever.
    Memory,
    /// Recurses for ever.
    Stack,
    /// Panics with the message `hostile on purpose`.
    Panic,
    /// Writes 10,000 log lines, then allows.
    LogFlood,
    /// Writes one log line of 1 MiB, then allows.
    HugeLog,
    /// Asks the host for its settings for ever.
    HostCallFlood,
    /// Reads the device for ever.
    GetterFlood,
    /// Takes handles to the device for ever and keeps them.
    HandleFlood,
    /// Denies with a message of 4 MiB.
    HugeAnswer,
    /// Allows with 100,000 attributes.
    ManyAttributes,
    /// Searches the connection `corp` for the person `slow`, then allows.
    SlowLdap,
    /// Searches the connection `other`, and reports its answer as an attribute named `answer`.
    OtherLdap,
}

/// The settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    mode: Mode,
    #[serde(default)]
    label: String,
}

/// The gate.
#[derive(Debug)]
pub struct Hostile;

impl EnrollmentGate for Hostile {
    type Settings = Settings;

    fn check(settings: Settings, request: &EnrollmentRequest) -> Result<Verdict, Error> {
        match settings.mode {
            Mode::Allow => {}
            Mode::Label => return Ok(Verdict::allow_with([("label", settings.label)])),
            Mode::Deny => return Ok(Verdict::deny(settings.label.clone(), settings.label)),
            Mode::SignIn => return Ok(Verdict::RequireSignIn),
            Mode::ReadAll => read_all(request),
            Mode::Error => return Err("hostile can not decide, on purpose".into()),
            Mode::Loop => spin(),
            Mode::Memory => hoard(),
            Mode::Stack => drop(black_box(recurse(black_box(1)))),
            Mode::Panic => misfire(),
            Mode::LogFlood => (0..10_000).for_each(|line| log::info(format_args!("line {line}"))),
            Mode::HugeLog => log::info("x".repeat(1 << 20)),
            Mode::HostCallFlood => loop {
                black_box(settings::get::<Settings>()?);
            },
            Mode::GetterFlood => {
                let device = request.device();
                loop {
                    black_box(device.serial_number());
                }
            }
            Mode::HandleFlood => {
                let mut devices = Vec::new();
                loop {
                    devices.push(black_box(request.device()));
                }
            }
            Mode::HugeAnswer => return Ok(Verdict::deny("huge", "x".repeat(4 << 20))),
            Mode::ManyAttributes => {
                return Ok(Verdict::allow_with(
                    (0..100_000).map(|n| (n.to_string(), String::new())),
                ));
            }
            Mode::SlowLdap => {
                search("corp")?;
            }
            Mode::OtherLdap => {
                let answer = match search("other") {
                    Ok(entries) => format!("{} entries", entries.len()),
                    Err(error) => error.to_string(),
                };
                return Ok(Verdict::allow_with([("answer", answer)]));
            }
        }
        Ok(Verdict::allow())
    }
}

fn read_all(request: &EnrollmentRequest) {
    black_box((request.stage(), request.method(), request.ownership()));
    black_box(request.can_request_software_update());
    let device = request.device();
    let texts = [
        device.udid(),
        device.serial_number(),
        device.product_name(),
        device.model(),
        device.model_name(),
        device.device_name(),
        device.os_version(),
        device.build_version(),
        device.imei(),
        device.meid(),
        device.language(),
        device.enrollment_id(),
        device.attribute("group"),
        device.attribute("site"),
    ];
    black_box(texts);
    black_box(device.attributes());
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

fn hoard() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 16]));
    }
}

#[expect(unconditional_recursion, reason = "this is what the mode is for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse(depth + 1) + frame[3]
}

#[expect(clippy::panic, reason = "this is what the mode is for")]
fn misfire() {
    panic!("hostile on purpose");
}

fn search(connection: &str) -> Result<Vec<ldap::Entry>, ldap::Error> {
    ldap::Search::under(connection)
        .filter("(uid={0})", ["slow"])
        .attributes(["uid"])
        .limit(1)
        .run()
}

russet_plugin::enrollment_gate!(Hostile);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &str) -> Result<Verdict, Error> {
        Hostile::check(
            settings::parse(settings).unwrap(),
            &EnrollmentRequest::builder().build(),
        )
    }

    #[test]
    fn modes_that_end_answer_as_they_say() {
        assert_eq!(check(r#"{"mode": "allow"}"#), Ok(Verdict::allow()));
        assert_eq!(
            check(r#"{"mode": "label", "label": "two"}"#),
            Ok(Verdict::allow_with([("label", "two")]))
        );
        assert_eq!(check(r#"{"mode": "read-all"}"#), Ok(Verdict::allow()));
        assert_eq!(check(r#"{"mode": "sign-in"}"#), Ok(Verdict::RequireSignIn));
        assert!(check(r#"{"mode": "error"}"#).is_err());
    }
}
