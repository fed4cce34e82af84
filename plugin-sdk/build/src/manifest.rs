//! `plugin.toml`, and the manifest that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::component::Interfaces;
use crate::contract::{CAPABILITIES, HOOKS};
use crate::project::Package;

/// `plugin.toml`: what a plugin says about itself, beside its `Cargo.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginFile {
    /// The name: 1 to 64 of `a-z`, `0-9` and `-`. The name of the package if absent.
    pub name: Option<String>,
    /// The version (semver). The version of the package if absent.
    pub version: Option<String>,
    /// What the plugin is for, in a sentence. The description of the package if absent.
    pub description: Option<String>,
    /// The hooks that it implements.
    pub hooks: BTreeSet<String>,
    /// The capabilities that it asks for, such as `log.write`.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// The file with the JSON Schema of its settings, relative to `plugin.toml`. Without one it has no settings.
    pub settings: Option<PathBuf>,
    /// The settings that it has until others are given.
    pub defaults: Option<BTreeMap<String, toml::Value>>,
    /// What kinds of events an observer takes: how their names begin, such as `enrollment.` or `command.answered`;
    /// `*` for all.
    #[serde(default)]
    pub events: BTreeSet<String>,
    /// When the `scheduled` hook is called.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// What makes the component, for plugins that are no Rust crates.
    pub component: Option<ComponentCommand>,
}

/// What makes a component in another language than Rust.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentCommand {
    /// The program and its arguments, run in the folder of `plugin.toml`; `{out}` is the file to write. Programs are looked
    /// for in `node_modules/.bin` and `.venv/bin` of that folder too.
    pub command: Vec<String>,
}

/// When the `scheduled` hook is called: `every_minutes` or `daily_at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What the plugin knows the work by: 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Every so many minutes, 1 to 10,080 (a week).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_minutes: Option<u32>,
    /// Every day at this time, `HH:MM` in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_at: Option<String>,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file can not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `plugin.toml` is not valid.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write.
        reason: String,
    },
}

/// The document in the component's custom section `russet-manifest`. The host's side of it is its own.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    version: String,
    description: String,
    hooks: BTreeSet<String>,
    capabilities: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_schema: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    defaults: Option<BTreeMap<String, toml::Value>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    events: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schedules: Vec<Schedule>,
}

impl PluginFile {
    /// Reads a `plugin.toml`.
    pub(crate) fn read(path: &Path) -> Result<Self, ManifestError> {
        toml::from_str(&read(path)?).map_err(|error| ManifestError::Invalid {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl Manifest {
    /// Reads the `plugin.toml` of a crate and what it refers to.
    pub(crate) fn read(package: &Package) -> Result<Self, ManifestError> {
        Self::in_folder(package.directory(), Some(package))
    }

    /// Reads a `plugin.toml` and what it refers to. Without a package, it has to say everything itself.
    pub(crate) fn in_folder(directory: &Path, package: Option<&Package>) -> Result<Self, ManifestError> {
        let path = directory.join("plugin.toml");
        let file = PluginFile::read(&path)?;
        let invalid = |reason: String| ManifestError::Invalid {
            path: path.clone(),
            reason,
        };
        let missing = |key: &str| {
            invalid(format!(
                "`{key}` is missing, and there is no Cargo.toml to take it from"
            ))
        };
        let name = file
            .name
            .clone()
            .or_else(|| package.map(|package| package.name.clone()));
        let name = name.ok_or_else(|| missing("name"))?;
        if !is_name(&name) {
            return Err(invalid(format!(
                "the name `{name}` is not made of 1 to 64 of a-z, 0-9 and -"
            )));
        }
        if file.hooks.is_empty() {
            return Err(invalid(format!("`hooks` is empty; known are {}", HOOKS.join(", "))));
        }
        known("hook", &file.hooks, &HOOKS).map_err(invalid)?;
        known("capability", &file.capabilities, &CAPABILITIES).map_err(invalid)?;
        check_events(&file).map_err(invalid)?;
        check_schedules(&file).map_err(invalid)?;
        let settings_schema = match &file.settings {
            None => None,
            Some(schema) => Some(read_schema(&directory.join(schema))?),
        };
        Ok(Self {
            name,
            version: file
                .version
                .or_else(|| package.map(|package| package.version.clone()))
                .ok_or_else(|| missing("version"))?,
            description: file
                .description
                .or_else(|| package.and_then(|package| package.description.clone()))
                .unwrap_or_default(),
            hooks: file.hooks,
            capabilities: file.capabilities,
            settings_schema,
            defaults: file.defaults,
            events: file.events,
            schedules: file.schedules,
        })
    }

    /// Compares what the component does with what `plugin.toml` says. Returns warnings; an error names the line to write.
    pub(crate) fn check(&self, interfaces: &Interfaces) -> Result<Vec<String>, String> {
        let foreign: Vec<&str> = interfaces.foreign.iter().map(String::as_str).collect();
        if !foreign.is_empty() {
            return Err(format!(
                "the component imports {}, which the host does not have; a dependency of the plugin needs an operating \
                 system or a browser",
                foreign.join(", ")
            ));
        }
        if !interfaces.capabilities.is_subset(&self.capabilities) {
            let missing: Vec<&str> = interfaces
                .capabilities
                .difference(&self.capabilities)
                .map(String::as_str)
                .collect();
            return Err(format!(
                "the plugin uses {}, which plugin.toml does not ask for; write `capabilities = {}`",
                missing.join(", "),
                list(self.capabilities.union(&interfaces.capabilities)),
            ));
        }
        if interfaces.hooks.is_empty() {
            return Err("the plugin exports no hook; call the macro of one, such as \
                        `russet_plugin::enrollment_gate!(MyGate)`"
                .to_owned());
        }
        if self.hooks != interfaces.hooks {
            return Err(format!(
                "the plugin exports the hooks {} and plugin.toml names {}; export the missing ones with their macros, \
                 or write `hooks = {}`",
                list(&interfaces.hooks),
                list(&self.hooks),
                list(&interfaces.hooks),
            ));
        }
        Ok(self
            .capabilities
            .difference(&interfaces.capabilities)
            .map(|unused| {
                format!(
                    "{}: plugin.toml asks for {unused}, which the plugin does not use",
                    self.name
                )
            })
            .collect())
    }
}

fn known(what: &str, given: &BTreeSet<String>, known: &[&str]) -> Result<(), String> {
    match given.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(format!("unknown {what} `{name}`; known are {}", known.join(", "))),
    }
}

fn check_events(file: &PluginFile) -> Result<(), String> {
    let observes = file.hooks.contains("observer");
    if observes && file.events.is_empty() {
        return Err(
            "an observer is told nothing without `events`; write the kinds that it takes, such as `events = \
             [\"enrollment.\", \"command.answered\"]`"
                .to_owned(),
        );
    }
    if !observes && !file.events.is_empty() {
        return Err("`events` is for observers; write `hooks = [\"observer\"]`, or leave `events` out".to_owned());
    }
    let kind = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let good = |event: &String| event == "*" || (!event.is_empty() && event.chars().all(kind));
    match file.events.iter().find(|event| !good(event)) {
        None => Ok(()),
        Some(event) => Err(format!(
            "`{event}` is no kind of events; write how their names begin, such as `enrollment.`, or `*` for all"
        )),
    }
}

fn check_schedules(file: &PluginFile) -> Result<(), String> {
    if !file.schedules.is_empty() && !file.hooks.contains("scheduled") {
        return Err("`[[schedules]]` needs the hook `scheduled`; write `hooks = [\"scheduled\"]`".to_owned());
    }
    let mut names = BTreeSet::new();
    for schedule in &file.schedules {
        let name = &schedule.name;
        if !is_name(name) {
            return Err(format!(
                "the schedule `{name}` is not named with 1 to 64 of a-z, 0-9 and -"
            ));
        }
        if !names.insert(name) {
            return Err(format!("two schedules have the name `{name}`"));
        }
        let good = match (schedule.every_minutes, &schedule.daily_at) {
            (Some(minutes), None) => (1..=7 * 24 * 60).contains(&minutes),
            (None, Some(time)) => is_time(time),
            _ => false,
        };
        if !good {
            return Err(format!(
                "the schedule `{name}` has to say when: `every_minutes = 60` (1 to 10,080) or `daily_at = \"03:00\"` (UTC)"
            ));
        }
    }
    Ok(())
}

/// `HH:MM`.
fn is_time(text: &str) -> bool {
    let number = |text: &str, below: u32| {
        text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse().is_ok_and(|n: u32| n < below)
    };
    text.split_once(':')
        .is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60))
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn read(path: &Path) -> Result<String, ManifestError> {
    fs::read_to_string(path).map_err(|source| ManifestError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_schema(path: &Path) -> Result<serde_json::Value, ManifestError> {
    let invalid = |reason: String| ManifestError::Invalid {
        path: path.to_owned(),
        reason,
    };
    match serde_json::from_str(&read(path)?).map_err(|error| invalid(error.to_string()))? {
        schema @ serde_json::Value::Object(_) => Ok(schema),
        _ => Err(invalid("not a JSON object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(directory: &Path) -> Package {
        Package {
            id: "path+file:///x#0.3.0".to_owned(),
            name: "some-gate".to_owned(),
            version: "0.3.0".to_owned(),
            description: Some("of Cargo.toml".to_owned()),
            manifest_path: directory.join("Cargo.toml"),
            targets: Vec::new(),
        }
    }

    fn manifest(plugin_toml: &str) -> Result<Manifest, String> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("plugin.toml"), plugin_toml).unwrap();
        fs::write(directory.path().join("schema.json"), r#"{"type": "object"}"#).unwrap();
        fs::write(directory.path().join("bad.json"), "[]").unwrap();
        Manifest::read(&package(directory.path())).map_err(|error| error.to_string())
    }

    fn interfaces(hooks: &[&str], capabilities: &[&str]) -> Interfaces {
        Interfaces {
            hooks: hooks.iter().map(|s| (*s).to_owned()).collect(),
            capabilities: capabilities.iter().map(|s| (*s).to_owned()).collect(),
            foreign: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_not_given_comes_from_the_package() {
        let manifest = manifest("hooks = ['directory']\nsettings = 'schema.json'\n[defaults]\ndays = 2").unwrap();
        assert_eq!(
            serde_json::to_value(&manifest).unwrap(),
            serde_json::json!({
                "name": "some-gate",
                "version": "0.3.0",
                "description": "of Cargo.toml",
                "hooks": ["directory"],
                "capabilities": [],
                "settings_schema": {"type": "object"},
                "defaults": {"days": 2},
            })
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("hooks = ['directory']\nhook = 1", "unknown field `hook`"),
            ("hooks = ['gate']", "unknown hook `gate`; known are command-policy"),
            ("hooks = []", "`hooks` is empty"),
            ("", "missing field `hooks`"),
            ("hooks = ['directory']\nname = 'A b'", "the name `A b` is not made of"),
            (
                "hooks = ['directory']\ncapabilities = ['disk.read']",
                "unknown capability `disk.read`",
            ),
            ("hooks = ['directory']\nsettings = 'none.json'", "none.json"),
            ("hooks = ['observer']", "write the kinds that it takes"),
            ("hooks = ['directory']\nevents = ['push.']", "`events` is for observers"),
            ("hooks = ['observer']\nevents = ['Push *']", "`Push *` is no kind"),
            (
                "hooks = ['directory']\n[[schedules]]\nname = 'x'\nevery_minutes = 1",
                "needs the hook `scheduled`",
            ),
            (
                "hooks = ['scheduled']\n[[schedules]]\nname = 'x'\nevery_minutes = 0",
                "has to say when",
            ),
            (
                "hooks = ['scheduled']\n[[schedules]]\nname = 'x'\nevery_minutes = 5\ndaily_at = '03:00'",
                "has to say when",
            ),
            (
                "hooks = ['scheduled']\n[[schedules]]\nname = 'x'\ndaily_at = '24:00'",
                "has to say when",
            ),
            (
                "hooks = ['scheduled']\nschedules = [{name = 'x', every_minutes = 1}, {name = 'x', every_minutes = 2}]",
                "two schedules",
            ),
            ("hooks = ['directory']\nsettings = 'bad.json'", "not a JSON object"),
        ] {
            let error = manifest(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn events_and_schedules_are_written_through() {
        let manifest = manifest(
            "hooks = ['observer', 'scheduled']\nevents = ['enrollment.', 'command.answered']\n\
             [[schedules]]\nname = 'sync'\nevery_minutes = 60\n[[schedules]]\nname = 'report'\ndaily_at = '03:05'",
        )
        .unwrap();
        let written = serde_json::to_value(&manifest).unwrap();
        assert_eq!(
            written["events"],
            serde_json::json!(["command.answered", "enrollment."])
        );
        assert_eq!(
            written["schedules"],
            serde_json::json!([{"name": "sync", "every_minutes": 60}, {"name": "report", "daily_at": "03:05"}])
        );
    }

    #[test]
    fn a_use_that_is_not_asked_for_is_an_error_with_the_line_to_write() {
        let manifest = manifest("hooks = ['directory']\ncapabilities = ['log.write']").unwrap();
        let error = manifest
            .check(&interfaces(&["directory"], &["log.write", "ldap.bind"]))
            .unwrap_err();
        assert_eq!(
            error,
            "the plugin uses ldap.bind, which plugin.toml does not ask for; write `capabilities = [\"ldap.bind\", \
             \"log.write\"]`"
        );
    }

    #[test]
    fn what_is_asked_for_and_not_used_is_a_warning() {
        let manifest = manifest("hooks = ['directory']\ncapabilities = ['log.write', 'clock.now-ms']").unwrap();
        let warnings = manifest.check(&interfaces(&["directory"], &["log.write"])).unwrap();
        assert_eq!(
            warnings,
            ["some-gate: plugin.toml asks for clock.now-ms, which the plugin does not use"]
        );
    }

    #[test]
    fn hooks_must_be_the_exported_ones() {
        let manifest = manifest("hooks = ['directory']").unwrap();
        let error = manifest.check(&interfaces(&["enrollment-gate"], &[])).unwrap_err();
        assert!(error.contains("write `hooks = [\"enrollment-gate\"]`"), "{error}");
        let error = manifest.check(&interfaces(&[], &[])).unwrap_err();
        assert!(error.contains("exports no hook"), "{error}");
    }

    #[test]
    fn foreign_imports_are_refused() {
        let manifest = manifest("hooks = ['directory']").unwrap();
        let mut interfaces = interfaces(&["directory"], &[]);
        interfaces.foreign.insert("wasi:cli/environment@0.2.0".to_owned());
        assert!(
            manifest
                .check(&interfaces)
                .unwrap_err()
                .contains("wasi:cli/environment")
        );
    }
}
