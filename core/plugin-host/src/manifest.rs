//! What a plugin says about itself: a JSON document in the custom section `russet-manifest` of its component, so that a
//! plugin is one file.

use std::collections::BTreeSet;

use russet_hooks::HookKind;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmparser::{Encoding, Parser, Payload};

/// The name of the custom section.
pub const MANIFEST_SECTION: &str = "russet-manifest";

/// The largest manifest in bytes.
const MAX_MANIFEST: usize = 256 << 10;

/// Every capability that a manifest can ask for: an interface and a function of `wit/capabilities.wit`.
pub const CAPABILITIES: [&str; 5] = ["log.write", "settings.get", "clock.now-ms", "ldap.search", "ldap.bind"];

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
    /// A JSON Schema of its settings. Without one, the only valid settings are `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<Value>,
    /// The settings that it has until others are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Value>,
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

/// Whether a plugin may have this name.
pub fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The SHA-256 of a component file, in hexadecimal.
pub fn component_digest(component: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, component))
}
