//! `plugin.toml`, and the manifest that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::component::Interfaces;
use crate::project::Package;

/// The hooks of the contract.
const HOOKS: [&str; 4] = ["directory", "enrollment-gate", "escrow-policy", "profile-template"];

/// The capabilities of the contract: an interface and a function.
const CAPABILITIES: [&str; 5] = ["clock.now-ms", "ldap.bind", "ldap.search", "log.write", "settings.get"];

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
}

impl Manifest {
    /// Reads `plugin.toml` and what it refers to.
    pub(crate) fn read(package: &Package) -> Result<Self, ManifestError> {
        let path = package.directory().join("plugin.toml");
        let text = read(&path)?;
        let invalid = |reason: String| ManifestError::Invalid {
            path: path.clone(),
            reason,
        };
        let file: PluginFile = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let name = file.name.unwrap_or_else(|| package.name.clone());
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
        let settings_schema = match &file.settings {
            None => None,
            Some(schema) => Some(read_schema(&package.directory().join(schema))?),
        };
        Ok(Self {
            name,
            version: file.version.unwrap_or_else(|| package.version.clone()),
            description: file
                .description
                .or_else(|| package.description.clone())
                .unwrap_or_default(),
            hooks: file.hooks,
            capabilities: file.capabilities,
            settings_schema,
            defaults: file.defaults,
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
            (
                "hooks = ['gate']",
                "unknown hook `gate`; known are directory, enrollment-gate",
            ),
            ("hooks = []", "`hooks` is empty"),
            ("", "missing field `hooks`"),
            ("hooks = ['directory']\nname = 'A b'", "the name `A b` is not made of"),
            (
                "hooks = ['directory']\ncapabilities = ['disk.read']",
                "unknown capability `disk.read`",
            ),
            ("hooks = ['directory']\nsettings = 'none.json'", "none.json"),
            ("hooks = ['directory']\nsettings = 'bad.json'", "not a JSON object"),
        ] {
            let error = manifest(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
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
