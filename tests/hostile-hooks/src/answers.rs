//! What each hook answers, if it answers at all.

use russet_plugin::command::{self, CommandRequest};
use russet_plugin::directory::Entry;
use russet_plugin::escrow::{Clear, Deposit, EscrowRequest, Release};
use russet_plugin::gate::{self, EnrollmentRequest};
use russet_plugin::observer::Event;
use russet_plugin::planner::{Declaration, PlanRequest};
use russet_plugin::scheduled::ScheduledRun;
use russet_plugin::template::TemplateRequest;
use russet_plugin::{Error, effects};
use serde_json::{Value, json};

use crate::Mode;

/// More than any answer may have.
fn huge() -> String {
    "x".repeat(4 << 20)
}

pub(crate) fn gate(mode: Mode, request: &EnrollmentRequest) -> gate::Verdict {
    match mode {
        Mode::BadAnswer => gate::Verdict::deny("", "no reason"),
        Mode::HugeAnswer => gate::Verdict::deny("huge", huge()),
        Mode::Read => gate::Verdict::allow_with([
            ("stage", format!("{:?}", request.stage())),
            ("tenant", request.tenant()),
            ("replaces", request.replaces().unwrap_or_default()),
            ("serial", request.device().serial_number().unwrap_or_default()),
        ]),
        _ => gate::Verdict::allow(),
    }
}

pub(crate) fn person(mode: Mode, user_name: &str) -> Entry {
    Entry {
        id: match mode {
            Mode::BadAnswer => String::new(),
            Mode::HugeAnswer => huge(),
            _ => format!("uid={user_name}"),
        },
        user_name: user_name.to_owned(),
        full_name: None,
        email: None,
        groups: Vec::new(),
        attributes: Vec::new(),
    }
}

/// The secret the other way round, which shows that it was read.
fn turned(request: &EscrowRequest<'_>) -> Vec<u8> {
    let mut secret = request.secret().unwrap_or_default();
    secret.reverse();
    secret
}

pub(crate) fn deposit(mode: Mode, request: &EscrowRequest<'_>) -> Deposit {
    match mode {
        Mode::BadAnswer => Deposit::AcceptAs(Vec::new()),
        Mode::HugeAnswer => Deposit::reject(huge()),
        Mode::Read => Deposit::AcceptAs(turned(request)),
        _ => Deposit::Accept,
    }
}

pub(crate) fn release(mode: Mode, request: &EscrowRequest<'_>) -> Release {
    match mode {
        Mode::BadAnswer => Release::ReleaseAs(Vec::new()),
        Mode::HugeAnswer => Release::deny(huge()),
        Mode::Read => Release::ReleaseAs(turned(request)),
        _ => Release::Release,
    }
}

pub(crate) fn clear(mode: Mode, request: &EscrowRequest<'_>) -> Clear {
    match mode {
        Mode::BadAnswer => Clear::keep("x".repeat(5_000)),
        Mode::HugeAnswer => Clear::keep(huge()),
        Mode::Read => Clear::keep(format!("{:?}", request.kind())),
        _ => Clear::Clear,
    }
}

pub(crate) fn profile(mode: Mode, request: &TemplateRequest<'_>) -> Vec<u8> {
    match mode {
        Mode::BadAnswer => Vec::new(),
        Mode::HugeAnswer => huge().into_bytes(),
        Mode::Read => format!("{} {} {}", request.name(), request.template(), request.variables()).into_bytes(),
        _ => b"<plist/>".to_vec(),
    }
}

pub(crate) fn command(mode: Mode, request: &CommandRequest<'_>) -> command::Verdict {
    match mode {
        Mode::BadAnswer => command::Verdict::Replace(json!({"RequestType": "SomethingElse"})),
        Mode::HugeAnswer => command::Verdict::deny("huge", huge()),
        Mode::Read => command::Verdict::hold(
            format!("{:?}", request.stage()),
            format!(
                "{} {} {} {}",
                request.request_type(),
                request.destructive(),
                request.targets(),
                request
                    .device()
                    .and_then(|device| device.serial_number())
                    .unwrap_or_default()
            ),
        ),
        _ => command::Verdict::Allow,
    }
}

pub(crate) fn plan(mode: Mode, request: &PlanRequest<'_>) -> Vec<Declaration> {
    let declaration = |payload: Value| Declaration::new("one", "com.apple.configuration.passcode.settings", payload);
    match mode {
        Mode::BadAnswer => vec![declaration(json!({})), declaration(json!({}))],
        Mode::HugeAnswer => vec![declaration(json!({ "text": huge() }))],
        Mode::Read => vec![declaration(json!({
            "os": request.status("device.operating-system.version"),
            "serial": request.device().serial_number(),
        }))],
        _ => vec![declaration(json!({}))],
    }
}

pub(crate) fn observed(mode: Mode, event: &Event<'_>) -> Result<(), Error> {
    match mode {
        // An observer has no answer to get wrong but its error.
        Mode::BadAnswer => Err("\u{0}not\nwell formed".into()),
        Mode::HugeAnswer => Err(huge().into()),
        Mode::Read => {
            let text = format!("{} {} {}", event.id(), event.time_ms(), event.detail());
            Ok(effects::of("UDID-1").set_attribute("event", &text)?)
        }
        _ => Ok(()),
    }
}

pub(crate) fn ran(mode: Mode, run: &ScheduledRun<'_>) -> Result<(), Error> {
    match mode {
        Mode::BadAnswer => Err("\u{0}not\nwell formed".into()),
        Mode::HugeAnswer => Err(huge().into()),
        Mode::Read => {
            let text = format!("{} {} {}", run.name(), run.due_ms(), run.payload());
            Ok(effects::of("UDID-1").set_attribute("run", &text)?)
        }
        _ => Ok(()),
    }
}
