//! What a plugin says about itself: a JSON document in the custom section `russet-manifest` of its component, so that a
//! plugin is one file.

use std::collections::BTreeSet;

use russet_hooks::{HookKind, Schedule, ScheduleTime};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmparser::{Encoding, Parser, Payload};

use crate::checks::{is_event_kind, is_name};

/// The name of the custom section.
pub const MANIFEST_SECTION: &str = "russet-manifest";

/// The largest manifest in bytes.
const MAX_MANIFEST: usize = 256 << 10;

/// Every capability that a manifest can ask for: an interface and a function of `wit/capabilities.wit`.
pub const CAPABILITIES: [&str; 36] = [
    "log.write",
    "settings.get",
    "clock.now-ms",
    "random.bytes",
    "kv.get",
    "kv.set",
    "kv.compare-and-set",
    "kv.delete",
    "kv.keys",
    "inventory.find-device",
    "inventory.devices-with-attribute",
    "inventory.devices-of-person",
    "http.send",
    "ldap.search",
    "ldap.bind",
    "secrets.get",
    "secrets.put",
    "secrets.delete",
    "secrets.seal",
    "secrets.open",
    "signer.hmac-sha256",
    "signer.sign",
    "signer.public-key",
    "escrow-secret.read",
    "effects.set-attribute",
    "effects.clear-attribute",
    "effects.enqueue-command",
    "effects.cancel-command",
    "effects.push",
    "effects.assign-profile",
    "effects.unassign-profile",
    "effects.assign-declarations",
    "effects.unassign-declarations",
    "effects.put-secret",
    "effects.schedule-call",
    "effects.emit-event",
];

/// The most kinds of events that a manifest asks for, and the most schedules.
const MAX_LISTED: usize = 100;
/// The longest name of a schedule, in bytes.
const MAX_SCHEDULE_NAME: usize = 256;

/// A plugin's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name: 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// The version.
    pub version: Version,
    /// What the plugin is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// The hooks that it implements.
    pub hooks: BTreeSet<HookKind>,
    /// The capabilities that it asks for: see [`CAPABILITIES`].
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// The kinds of events that an observer takes: `*`, or beginnings that end at a dot, such as `enrollment` or
    /// `command.answered`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// When scheduled work is due.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ManifestSchedule>,
    /// A JSON Schema of its settings. Without one, the only valid settings are `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<Value>,
    /// The settings that it has until others are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Value>,
}

/// A schedule, with one of the two times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestSchedule {
    /// The name of the work.
    pub name: String,
    /// Every so many minutes: 1 to 10,080 (a week).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_minutes: Option<u32>,
    /// Once a day at this time of UTC: `HH:MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_at: Option<String>,
}

impl ManifestSchedule {
    /// When the work is due; absent if not exactly one valid time is given.
    pub fn when(&self) -> Option<ScheduleTime> {
        match (self.every_minutes, &self.daily_at) {
            (Some(minutes @ 1..=10_080), None) => Some(ScheduleTime::EveryMinutes(minutes)),
            (None, Some(time)) => {
                let (hour, minute) = time.split_once(':')?;
                let number = |text: &str, most: u8| {
                    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                    text.parse().ok().filter(|number| digits && *number <= most)
                };
                Some(ScheduleTime::DailyAt {
                    hour: number(hour, 23)?,
                    minute: number(minute, 59)?,
                })
            }
            _ => None,
        }
    }
}

/// Why a file has no usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file is not WebAssembly.
    #[error("not a WebAssembly component: {0}")]
    NotWasm(String),
    /// The file is a core module.
    #[error("a core WebAssembly module, not a component; build it with `russet plugin build`")]
    CoreModule,
    /// There is no manifest.
    #[error("no manifest (custom section `russet-manifest`); build the plugin with `russet plugin build`")]
    Missing,
    /// There are two.
    #[error("more than one manifest")]
    Repeated,
    /// The manifest is not valid.
    #[error("the manifest is not valid: {0}")]
    Invalid(String),
}

impl Manifest {
    /// Reads the manifest of a component.
    ///
    /// # Errors
    ///
    /// See [`ManifestError`].
    pub fn read(component: &[u8]) -> Result<Self, ManifestError> {
        let mut found = None;
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(|error| ManifestError::NotWasm(error.message().to_owned()))? {
                Payload::Version {
                    encoding: Encoding::Module,
                    ..
                } if depth == 0 => return Err(ManifestError::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section)
                    if depth == 0 && section.name() == MANIFEST_SECTION && found.replace(section.data()).is_some() =>
                {
                    return Err(ManifestError::Repeated);
                }
                _ => {}
            }
        }
        Self::parse(found.ok_or(ManifestError::Missing)?)
    }

    /// Reads a manifest document.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Invalid`].
    pub fn parse(document: &[u8]) -> Result<Self, ManifestError> {
        if document.len() > MAX_MANIFEST {
            return Err(ManifestError::Invalid(format!("larger than {MAX_MANIFEST} bytes")));
        }
        let manifest: Self =
            serde_json::from_slice(document).map_err(|error| ManifestError::Invalid(error.to_string()))?;
        manifest.check().map_err(ManifestError::Invalid)?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if !is_plugin_name(&self.name) {
            return Err(format!(
                "the name {:?} is not made of 1 to 64 of a-z, 0-9 and -",
                self.name
            ));
        }
        if self.hooks.is_empty() {
            return Err("it implements no hook; name at least one in `hooks`".to_owned());
        }
        for capability in &self.capabilities {
            if !CAPABILITIES.contains(&capability.as_str()) {
                return Err(format!(
                    "unknown capability {capability:?}; known are {}",
                    CAPABILITIES.join(", ")
                ));
            }
        }
        self.check_times()?;
        match &self.settings_schema {
            None | Some(Value::Object(_)) => {}
            Some(_) => return Err("`settings_schema` is not a JSON object".to_owned()),
        }
        match &self.defaults {
            None | Some(Value::Object(_)) => Ok(()),
            Some(_) => Err("`defaults` is not a JSON object".to_owned()),
        }
    }
}

impl Manifest {
    /// The schedules, as the server follows them.
    pub fn schedules(&self) -> Vec<Schedule> {
        self.schedules
            .iter()
            .filter_map(|schedule| {
                Some(Schedule {
                    name: schedule.name.clone(),
                    when: schedule.when()?,
                })
            })
            .collect()
    }

    /// Checks when the plugin wants to be called without being asked anything.
    fn check_times(&self) -> Result<(), String> {
        let observes = self.hooks.contains(&HookKind::Observer);
        if observes == self.events.is_empty() {
            return Err(if observes {
                "an observer that takes no events; name their kinds in `events`, such as \"enrollment\"".to_owned()
            } else {
                "`events` is for observers; this plugin is none".to_owned()
            });
        }
        if self.events.len() > MAX_LISTED || self.schedules.len() > MAX_LISTED {
            return Err(format!("more than {MAX_LISTED} `events` or `schedules`"));
        }
        for kind in &self.events {
            if kind != "*" && !is_event_kind(kind.strip_suffix('.').unwrap_or(kind)) {
                return Err(format!(
                    "the kind of event {kind:?} is neither `*` nor made of words of a-z, 0-9 and - with dots between them"
                ));
            }
        }
        if !self.schedules.is_empty() && !self.hooks.contains(&HookKind::Scheduled) {
            return Err("`schedules` is for plugins that implement `scheduled`; this plugin does not".to_owned());
        }
        let mut names = BTreeSet::new();
        for schedule in &self.schedules {
            if !is_name(&schedule.name, MAX_SCHEDULE_NAME) || !names.insert(schedule.name.as_str()) {
                return Err(format!(
                    "the name of the schedule {:?} is empty, too long, or used twice",
                    schedule.name
                ));
            }
            if schedule.when().is_none() {
                return Err(format!(
                    "the schedule {:?} needs either `every_minutes` (1 to 10080) or `daily_at` (\"HH:MM\", UTC)",
                    schedule.name
                ));
            }
        }
        Ok(())
    }
}

/// Whether a plugin may have this name.
pub fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
