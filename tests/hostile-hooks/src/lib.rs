//! A plugin that implements every hook, and does in each what its settings say: `{"mode": "…"}`, see [`Mode`].

mod answers;

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use russet_plugin::command::{self, CommandPolicy, CommandRequest};
use russet_plugin::directory::{Directory, Entry, SignIn};
use russet_plugin::escrow::{Clear, Deposit, EscrowPolicy, EscrowRequest, Release};
use russet_plugin::gate::{self, EnrollmentGate, EnrollmentRequest};
use russet_plugin::observer::{Event, Observer};
use russet_plugin::planner::{Declaration, DeclarationPlanner, PlanRequest};
use russet_plugin::scheduled::{Scheduled, ScheduledRun};
use russet_plugin::template::{ProfileTemplate, TemplateRequest};
use russet_plugin::{Error, effects, http, inventory, kv, log, settings};
use serde::Deserialize;
use serde_json::json;

/// What the plugin does, whichever hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Answers in its mildest way.
    Answer,
    /// Reads what there is to read of the question, then answers with some of it.
    Read,
    /// Answers what is not well formed.
    BadAnswer,
    /// Answers with 4 MiB.
    HugeAnswer,
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
    /// Asks for its settings for ever.
    HostCallFlood,
    /// Writes 10,000 lines of log, then answers.
    LogFlood,
    /// Asks its store for a value that does not come.
    Hang,
    /// Sends a request to a connection that was not granted, and fails with what it was told.
    OtherHttp,
    /// Records one effect of each kind on an enrollment, then answers.
    Effects,
    /// Records one effect on the enrollment of the call, and fails with what it was told if it can not.
    OwnEffect,
    /// Records effects until it is told to stop, and fails with what it was told.
    EffectFlood,
    /// Records effects that are not well formed, and fails if one of them is taken.
    BadEffects,
    /// Records an effect, then panics.
    EffectAndPanic,
    /// Emits an event, which is one for the plugin itself, and fails with what it was told if it can not.
    Echo,
    /// Takes every device it can find and keeps the handles.
    HoardDevices,
    /// Goes through 10,000 devices page by page, and writes their number to its store.
    PageDevices,
}

/// The settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    mode: Mode,
}

/// The plugin.
#[derive(Debug)]
pub struct Hostile;

/// What every hook does before it answers.
fn act(settings: &Settings) -> Result<Mode, Error> {
    match settings.mode {
        Mode::Error => return Err("hostile can not decide, on purpose".into()),
        Mode::Loop => spin(),
        Mode::Memory => hoard(),
        Mode::Stack => drop(black_box(recurse(black_box(1)))),
        Mode::Panic => misfire(),
        Mode::HostCallFlood => loop {
            black_box(settings::get::<Settings>()?);
        },
        Mode::LogFlood => (0..10_000).for_each(|line| log::info(format_args!("line {line}"))),
        Mode::Hang => drop(kv::get("hang")?),
        Mode::OtherHttp => drop(http::get("other", "/").send()?),
        Mode::Effects => all_effects()?,
        Mode::OwnEffect => effects::set_attribute("seen", "yes")?,
        Mode::EffectFlood => loop {
            effects::of("UDID-1").push()?;
        },
        Mode::BadEffects => bad_effects()?,
        Mode::EffectAndPanic => {
            effects::of("UDID-1").push()?;
            misfire();
        }
        Mode::Echo => effects::emit_event("echo", &json!({"again": true}))?,
        Mode::HoardDevices => {
            let mut kept = Vec::new();
            loop {
                kept.push(inventory::devices_with_attribute("fleet", "all", None, 1_000)?);
            }
        }
        Mode::PageDevices => page_devices()?,
        Mode::Answer | Mode::Read | Mode::BadAnswer | Mode::HugeAnswer => {}
    }
    Ok(settings.mode)
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

fn all_effects() -> Result<(), Error> {
    let target = || effects::of("UDID-1");
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    target().set_attribute("fleet", "kiosk")?;
    target().clear_attribute("fleet")?;
    let uuid = target()
        .command(&json!({"RequestType": "DeviceInformation", "Queries": ["OSVersion"]}))
        .priority(-5)
        .not_before(at)
        .dedupe_key("once")
        .enqueue()?;
    target().cancel_command(&uuid)?;
    target().push()?;
    target().assign_profile("wifi")?;
    target().unassign_profile("wifi")?;
    target().assign_declarations("base")?;
    target().unassign_declarations("base")?;
    effects::put_secret("api", b"hunter2")?;
    effects::schedule_call("later", at, "{}")?;
    target().emit_event("moved", &json!({"to": "warehouse"}))?;
    Ok(())
}

/// Each of these is refused.
fn bad_effects() -> Result<(), Error> {
    let long = "x".repeat(300);
    let taken = [
        effects::of("").push().is_ok(),
        effects::of("a\nb").push().is_ok(),
        effects::of("UDID-1").set_attribute("", "value").is_ok(),
        effects::of("UDID-1").set_attribute(&long, "value").is_ok(),
        effects::of("UDID-1").set_attribute("name", &"x".repeat(5_000)).is_ok(),
        effects::of("UDID-1").cancel_command("not-a-uuid").is_ok(),
        effects::of("UDID-1").command(&json!("not an object")).enqueue().is_ok(),
        effects::of("UDID-1").assign_profile("").is_ok(),
        effects::put_secret("", b"x").is_ok(),
        effects::put_secret("big", &vec![0; 17 << 10]).is_ok(),
        effects::of("UDID-1").emit_event("Not A Kind", &json!({})).is_ok(),
        effects::of("UDID-1").emit_event("kind", &json!([])).is_ok(),
        effects::schedule_call("big", SystemTime::UNIX_EPOCH, &"x".repeat(17 << 10)).is_ok(),
    ];
    match taken.iter().position(|taken| *taken) {
        None => Ok(()),
        Some(index) => Err(Error::new(format_args!("bad effect {index} was taken"))),
    }
}

fn page_devices() -> Result<(), Error> {
    let mut count = 0_u32;
    let mut after: Option<String> = None;
    loop {
        let page = inventory::devices_with_attribute("fleet", "all", after.as_deref(), 200)?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.device.enrollment_id();
        count += u32::try_from(page.len()).unwrap_or(u32::MAX);
        // A handle of an earlier page must not lead to a device of a later one.
        if page[0].device.serial_number() == last.device.serial_number() && page.len() > 1 {
            return Err("two handles lead to one device".into());
        }
    }
    kv::set("count", count.to_string().as_bytes())?;
    Ok(())
}

impl EnrollmentGate for Hostile {
    type Settings = Settings;

    fn check(settings: Settings, request: &EnrollmentRequest) -> Result<gate::Verdict, Error> {
        Ok(answers::gate(act(&settings)?, request))
    }
}

impl Directory for Hostile {
    type Settings = Settings;

    fn sign_in(settings: Settings, user_name: &str, _password: &str) -> Result<SignIn, Error> {
        Ok(SignIn::Person(answers::person(act(&settings)?, user_name)))
    }

    fn find(settings: Settings, user_name: &str) -> Result<Option<Entry>, Error> {
        Ok(Some(answers::person(act(&settings)?, user_name)))
    }
}

impl EscrowPolicy for Hostile {
    type Settings = Settings;

    fn deposit(settings: Settings, request: &EscrowRequest<'_>) -> Result<Deposit, Error> {
        Ok(answers::deposit(act(&settings)?, request))
    }

    fn release(settings: Settings, request: &EscrowRequest<'_>) -> Result<Release, Error> {
        Ok(answers::release(act(&settings)?, request))
    }

    fn clear(settings: Settings, request: &EscrowRequest<'_>) -> Result<Clear, Error> {
        Ok(answers::clear(act(&settings)?, request))
    }
}

impl ProfileTemplate for Hostile {
    type Settings = Settings;

    fn render(settings: Settings, request: &TemplateRequest<'_>) -> Result<Vec<u8>, Error> {
        Ok(answers::profile(act(&settings)?, request))
    }
}

impl CommandPolicy for Hostile {
    type Settings = Settings;

    fn check(settings: Settings, request: &CommandRequest<'_>) -> Result<command::Verdict, Error> {
        Ok(answers::command(act(&settings)?, request))
    }
}

impl DeclarationPlanner for Hostile {
    type Settings = Settings;

    fn plan(settings: Settings, request: &PlanRequest<'_>) -> Result<Vec<Declaration>, Error> {
        Ok(answers::plan(act(&settings)?, request))
    }
}

impl Observer for Hostile {
    type Settings = Settings;

    fn observe(settings: Settings, event: &Event<'_>) -> Result<(), Error> {
        answers::observed(act(&settings)?, event)
    }
}

impl Scheduled for Hostile {
    type Settings = Settings;

    fn run(settings: Settings, run: &ScheduledRun<'_>) -> Result<(), Error> {
        answers::ran(act(&settings)?, run)
    }
}

russet_plugin::enrollment_gate!(Hostile);
russet_plugin::directory!(Hostile);
russet_plugin::escrow_policy!(Hostile);
russet_plugin::profile_template!(Hostile);
russet_plugin::command_policy!(Hostile);
russet_plugin::declaration_planner!(Hostile);
russet_plugin::observer!(Hostile);
russet_plugin::scheduled!(Hostile);
