//! The plugins that `russet plugin new` writes: one for each hook.

use clap::ValueEnum;
use russet_hooks::HookKind;

/// A hook, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Hook {
    /// Decides who may enroll.
    EnrollmentGate,
    /// Knows people: checks passwords and looks names up.
    Directory,
    /// Decides what happens to escrowed secrets.
    EscrowPolicy,
    /// Renders templates of profiles.
    ProfileTemplate,
    /// Decides which commands go out.
    CommandPolicy,
    /// Plans which declarations a device has.
    DeclarationPlanner,
    /// Reacts to what happened.
    Observer,
    /// Works at certain times.
    Scheduled,
}

/// What differs from hook to hook.
pub(super) struct Template {
    pub(super) description: &'static str,
    pub(super) capabilities: &'static [&'static str],
    /// More of `plugin.toml`.
    pub(super) manifest: &'static str,
    /// Whether the source uses `serde_json`.
    pub(super) json: bool,
    pub(super) source: &'static str,
    pub(super) schema: &'static str,
    pub(super) cases: &'static str,
}

/// What observers say in `plugin.toml`.
const EVENTS: &str = "# The kinds of events that it is told, by how their names begin.
events = [\"enrollment.enrolled\"]
";

/// What scheduled work says in `plugin.toml`.
const SCHEDULES: &str = "
# When it works: every so many minutes, or `daily_at = \"03:00\"` (UTC).
[[schedules]]
name = \"survey\"
every_minutes = 60
";

macro_rules! files {
    ($name:literal) => {
        Template {
            description: "",
            capabilities: &["log.write", "settings.get"],
            manifest: "",
            json: false,
            source: include_str!(concat!("templates/", $name, ".rs")),
            schema: include_str!(concat!("templates/", $name, ".schema.json")),
            cases: include_str!(concat!("templates/", $name, ".host.toml")),
        }
    };
}

impl Hook {
    /// The hook of the contract.
    pub(super) const fn kind(self) -> HookKind {
        match self {
            Self::EnrollmentGate => HookKind::EnrollmentGate,
            Self::Directory => HookKind::Directory,
            Self::EscrowPolicy => HookKind::EscrowPolicy,
            Self::ProfileTemplate => HookKind::ProfileTemplate,
            Self::CommandPolicy => HookKind::CommandPolicy,
            Self::DeclarationPlanner => HookKind::DeclarationPlanner,
            Self::Observer => HookKind::Observer,
            Self::Scheduled => HookKind::Scheduled,
        }
    }

    pub(super) const fn template(self) -> Template {
        match self {
            Self::EnrollmentGate => Template {
                description: "Lets in the devices whose serial number begins as the operator set it",
                ..files!("enrollment_gate")
            },
            Self::Directory => Template {
                description: "Looks people up in LDAP",
                capabilities: &["log.write", "settings.get", "ldap.search", "ldap.bind"],
                ..files!("directory")
            },
            Self::EscrowPolicy => Template {
                description: "Releases secrets to devices and to named administrators",
                ..files!("escrow_policy")
            },
            Self::ProfileTemplate => Template {
                description: "Fills serial number, user and organization into profiles",
                ..files!("profile_template")
            },
            Self::CommandPolicy => Template {
                description: "Lets the commands that the operator named wait for a second administrator",
                ..files!("command_policy")
            },
            Self::DeclarationPlanner => Template {
                description: "Plans a passcode for every device but kiosks",
                json: true,
                ..files!("declaration_planner")
            },
            Self::Observer => Template {
                description: "Welcomes devices that have enrolled",
                capabilities: &[
                    "log.write",
                    "settings.get",
                    "effects.set-attribute",
                    "effects.enqueue-command",
                ],
                manifest: EVENTS,
                json: true,
                ..files!("observer")
            },
            Self::Scheduled => Template {
                description: "Asks the devices of a group every hour how they are",
                capabilities: &[
                    "log.write",
                    "settings.get",
                    "inventory.devices-with-attribute",
                    "effects.enqueue-command",
                ],
                manifest: SCHEDULES,
                json: true,
                ..files!("scheduled")
            },
        }
    }
}
