//! From a core module to a component, and what a component imports and exports.

use std::collections::BTreeSet;

use wit_component::{ComponentEncoder, DecodedWasm};

/// The custom section that holds the manifest.
const MANIFEST_SECTION: &str = "russet-manifest";

/// The package of the contract, without its version.
const CONTRACT: &str = "russet:plugin/";

/// The interface whose resources the host hands to a hook; it is no capability.
const CONTEXT: &str = "context";

/// How a component starts: WebAssembly's magic number, and version 13 of layer 1.
const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// Why a module can not become a plugin.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct ComponentError {
    what: &'static str,
    reason: String,
}

/// What a component has to do with the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The exported hooks.
    pub hooks: BTreeSet<String>,
    /// The imported functions, such as `log.write`.
    pub capabilities: BTreeSet<String>,
    /// The imports that are not of the contract.
    pub foreign: BTreeSet<String>,
}

/// Makes a validated component of a core module that carries its WIT.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let failed = |error: &dyn std::fmt::Display| ComponentError {
        what: "the module cannot become a component",
        reason: format!("{error:#}"),
    };
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).map_err(|error| failed(&error))?;
    encoder.encode().map_err(|error| failed(&error))
}

/// Appends the manifest.
pub(crate) fn with_manifest(mut component: Vec<u8>, manifest: &[u8]) -> Vec<u8> {
    let mut section = Vec::with_capacity(manifest.len() + MANIFEST_SECTION.len() + 8);
    push_length(&mut section, MANIFEST_SECTION.len());
    section.extend_from_slice(MANIFEST_SECTION.as_bytes());
    section.extend_from_slice(manifest);
    component.push(0);
    push_length(&mut component, section.len());
    component.extend_from_slice(&section);
    component
}

/// A length in LEB128, as WebAssembly's binary format has it.
fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

impl Interfaces {
    /// Reads what a component imports and exports.
    ///
    /// # Errors
    ///
    /// If it is not a component.
    pub fn of(component: &[u8]) -> Result<Self, ComponentError> {
        let failed = |reason: String| ComponentError {
            what: "not a component",
            reason,
        };
        // The decoder takes a core module for a component that imports and exports nothing.
        if component.get(..8) != Some(COMPONENT_HEADER) {
            return Err(failed("the file does not start as one".to_owned()));
        }
        let (resolve, world) = match wit_component::decode(component).map_err(|error| failed(format!("{error:#}")))? {
            DecodedWasm::Component(resolve, world) => (resolve, world),
            DecodedWasm::WitPackage(..) => return Err(failed("a WIT package".to_owned())),
        };
        let mut found = Self::default();
        let world = &resolve.worlds[world];
        for key in world.imports.keys() {
            let name = resolve.name_world_key(key);
            let Some(interface) = of_contract(&name) else {
                found.foreign.insert(name);
                continue;
            };
            if interface == CONTEXT {
                continue;
            }
            let functions = resolve
                .interfaces
                .iter()
                .filter(|(id, _)| resolve.id_of(*id).as_deref() == Some(name.as_str()))
                .flat_map(|(_, interface)| interface.functions.keys());
            found
                .capabilities
                .extend(functions.map(|function| format!("{interface}.{function}")));
        }
        for key in world.exports.keys() {
            if let Some(hook) = of_contract(&resolve.name_world_key(key)) {
                found.hooks.insert(hook.to_owned());
            }
        }
        Ok(found)
    }
}

/// `log` of `russet:plugin/log@0.1.0`.
fn of_contract(name: &str) -> Option<&str> {
    let interface = name.strip_prefix(CONTRACT)?;
    Some(interface.split_once('@').map_or(interface, |(interface, _)| interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        for (length, expected) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (624_485, vec![0xe5, 0x8e, 0x26]),
        ] {
            let mut out = Vec::new();
            push_length(&mut out, length);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn the_manifest_leaves_a_component_a_component() {
        let plugin = std::fs::read(crate::artifact("smallest-gate")).unwrap();
        let before = Interfaces::of(&plugin).unwrap();
        assert_eq!(before.hooks, BTreeSet::from(["enrollment-gate".to_owned()]));
        assert_eq!(
            before.capabilities,
            BTreeSet::from(["log.write".to_owned(), "settings.get".to_owned()]),
            "a plugin asks only for what it calls"
        );
        assert!(before.foreign.is_empty());

        let again = with_manifest(plugin, &[b' '; 300]);
        assert_eq!(Interfaces::of(&again).unwrap(), before);
        assert!(again.ends_with(b"    "));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(encode(b"not wasm").is_err());
        assert!(Interfaces::of(b"\0asm\x01\0\0\0").is_err());
    }

    #[test]
    fn interfaces_of_the_contract_have_short_names() {
        assert_eq!(of_contract("russet:plugin/log@0.1.0"), Some("log"));
        assert_eq!(of_contract("wasi:cli/exit@0.2.0"), None);
    }
}
