//! What a component is, found without running or compiling it: its manifest, what it imports and exports, and whether the
//! three agree.

use std::collections::BTreeSet;

use russet_hooks::HookKind;
use semver::Version;
use serde::Serialize;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{BinaryReaderError, Parser, Payload, ValidPayload, Validator};

use crate::component::{ComponentFile, component_digest};
use crate::contract::Contracts;
use crate::manifest::{CAPABILITIES, Manifest, ManifestError};

/// The largest component in bytes: Python's are 18 MB.
pub const MAX_COMPONENT: usize = 64 << 20;

/// The package of the contract.
const PACKAGE: &str = "russet:plugin/";
/// The interface that needs no grant.
const CONTEXT: &str = "context";

/// The packages of WASI that are offered, and their version.
const WASI_PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
const WASI_VERSION: (u64, u64) = (0, 2);

/// What a component is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Its manifest.
    pub manifest: Manifest,
    /// The version of the contract that it was built against.
    pub contract: Version,
    /// The SHA-256 of the file, in hexadecimal.
    pub digest: String,
    /// The size of the file in bytes.
    pub size: usize,
    /// The capabilities that it imports, such as `ldap.search`.
    pub capabilities: BTreeSet<String>,
    /// The functions of `context` that it imports, such as `device.serial-number`: what it can read of a request.
    pub reads: BTreeSet<String>,
    /// The interfaces of WASI that it imports: its language's run time sees a system with no files, no sockets and no
    /// environment.
    pub wasi: BTreeSet<String>,
    /// The hooks that it exports.
    pub hooks: BTreeSet<HookKind>,
    /// Capabilities that the manifest asks for and the component does not import.
    pub unused: BTreeSet<String>,
}

/// Why a component is refused.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file is too large.
    #[error("the component has {size} bytes; at most {MAX_COMPONENT} are allowed")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// The manifest is missing or not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The component is not valid.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// It imports something of WASI that nobody offers.
    #[error(
        "the component imports {}; of WASI this server offers cli, clocks, filesystem, io, random and sockets of 0.2 \
         (with nothing in them)", .0.join(", ")
    )]
    Wasi(Vec<String>),
    /// It imports something that nobody offers.
    #[error("the component imports what this server does not offer: {}", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// It speaks another version of the contract.
    #[error("the component is built for {found}, this server speaks {served}; rebuild it with the matching SDK")]
    Contract {
        /// What it speaks.
        found: String,
        /// What the server speaks.
        served: Contracts,
    },
    /// It speaks two versions of the contract at once.
    #[error("the component mixes russet:plugin@{0} and russet:plugin@{1}; a plugin speaks one version")]
    MixedContracts(Version, Version),
    /// It imports a capability that its manifest does not ask for.
    #[error(
        "the component imports {}, which its manifest does not ask for; add it to `capabilities` in plugin.toml",
        .0.join(", ")
    )]
    NotAsked(Vec<String>),
    /// The manifest names a hook that is not exported, or the other way round.
    #[error("the manifest and the component disagree about the hook {hook}: {problem}")]
    Hooks {
        /// The hook.
        hook: HookKind,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Inspects a component and checks that its imports, its exports and its manifest agree.
///
/// # Errors
///
/// See [`InspectError`].
pub fn inspect(component: &[u8]) -> Result<Inspection, InspectError> {
    inspect_for(component, &Contracts::default())
}

/// The same, for a host that serves these versions of the contract.
///
/// # Errors
///
/// See [`InspectError`].
pub fn inspect_for(component: &[u8], contracts: &Contracts) -> Result<Inspection, InspectError> {
    check_size(component)?;
    inspect_digested(component, &component_digest(component), contracts)
}

/// The same as [`inspect`], without computing the digest, of a file whose size was checked.
pub(crate) fn inspect_file(file: &ComponentFile) -> Result<Inspection, InspectError> {
    inspect_digested(file.bytes(), file.digest(), &Contracts::default())
}

/// Whether it is small enough to look at.
pub(crate) fn check_size(component: &[u8]) -> Result<(), InspectError> {
    if component.len() > MAX_COMPONENT {
        return Err(InspectError::TooLarge { size: component.len() });
    }
    Ok(())
}

fn inspect_digested(component: &[u8], digest: &str, contracts: &Contracts) -> Result<Inspection, InspectError> {
    let manifest = Manifest::read(component)?;
    let surface = Surface::read(component, contracts)?;

    let not_asked: Vec<String> = surface
        .capabilities
        .difference(&manifest.capabilities)
        .cloned()
        .collect();
    if !not_asked.is_empty() {
        return Err(InspectError::NotAsked(not_asked));
    }
    for hook in HookKind::ALL {
        let problem = match (manifest.hooks.contains(&hook), surface.hooks.contains(&hook)) {
            (true, false) => "named, but not exported",
            (false, true) => "exported, but not named in `hooks`",
            _ => continue,
        };
        return Err(InspectError::Hooks { hook, problem });
    }
    Ok(Inspection {
        contract: surface.contract.ok_or_else(|| InspectError::Contract {
            found: "no contract".to_owned(),
            served: contracts.clone(),
        })?,
        digest: digest.to_owned(),
        size: component.len(),
        unused: manifest
            .capabilities
            .difference(&surface.capabilities)
            .cloned()
            .collect(),
        capabilities: surface.capabilities,
        reads: surface.reads,
        wasi: surface.wasi,
        hooks: surface.hooks,
        manifest,
    })
}

/// What a component has to do with the outside.
#[derive(Default)]
struct Surface {
    contract: Option<Version>,
    capabilities: BTreeSet<String>,
    reads: BTreeSet<String>,
    wasi: BTreeSet<String>,
    hooks: BTreeSet<HookKind>,
}

impl Surface {
    fn read(component: &[u8], contracts: &Contracts) -> Result<Self, InspectError> {
        let Outline {
            types,
            imports,
            exports,
        } = outline(component)?;
        let mut surface = Self::default();
        let mut wasi = Vec::new();
        let mut unknown = Vec::new();
        for name in imports {
            if name.starts_with("wasi:") {
                if is_offered_wasi(&name) {
                    surface.wasi.insert(name);
                } else {
                    wasi.push(name);
                }
                continue;
            }
            let Some(interface) = surface.interface_of(&name, contracts)? else {
                unknown.push(name);
                continue;
            };
            let Some(ComponentEntityType::Instance(instance)) =
                types.component_item_for_import(&name).map(|item| item.ty)
            else {
                unknown.push(name);
                continue;
            };
            for (function, item) in &types[instance].exports {
                if !matches!(item.ty, ComponentEntityType::Func(_)) {
                    continue;
                }
                let capability = format!("{interface}.{function}");
                if interface == CONTEXT {
                    surface.reads.insert(readable(function));
                } else if CAPABILITIES.contains(&capability.as_str()) {
                    surface.capabilities.insert(capability);
                } else {
                    unknown.push(capability);
                }
            }
            if interface != CONTEXT
                && !CAPABILITIES
                    .iter()
                    .any(|known| known.split('.').next() == Some(interface))
            {
                unknown.push(name.clone());
            }
        }
        if !wasi.is_empty() {
            return Err(InspectError::Wasi(wasi));
        }
        if !unknown.is_empty() {
            unknown.dedup();
            return Err(InspectError::UnknownImports(unknown));
        }
        for name in exports {
            // Exports that the host does not know are left alone: some toolchains add their own.
            let Some(interface) = surface.interface_of(&name, contracts)? else {
                continue;
            };
            surface
                .hooks
                .extend(HookKind::ALL.into_iter().find(|hook| hook.as_str() == interface));
        }
        Ok(surface)
    }

    /// The interface of the contract that a name stands for; absent if it is none. An error if it is of a version that is
    /// not served, or not of the version of the others.
    fn interface_of<'a>(&mut self, name: &'a str, contracts: &Contracts) -> Result<Option<&'a str>, InspectError> {
        let Some((interface, version)) = name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')) else {
            return Ok(None);
        };
        let version = match Version::parse(version) {
            Ok(version) if contracts.serves(&version) => version,
            _ => {
                return Err(InspectError::Contract {
                    found: format!("russet:plugin@{version}"),
                    served: contracts.clone(),
                });
            }
        };
        match &self.contract {
            Some(known) if (known.major, known.minor) != (version.major, version.minor) => {
                return Err(InspectError::MixedContracts(known.clone(), version));
            }
            Some(known) if *known >= version => {}
            _ => self.contract = Some(version),
        }
        Ok(Some(interface))
    }
}

/// Whether an interface of WASI is one of those that are there, with nothing in them.
fn is_offered_wasi(name: &str) -> bool {
    let package_and_version = |name: &str| {
        let (package, rest) = name.strip_prefix("wasi:")?.split_once('/')?;
        let version = Version::parse(rest.split_once('@')?.1).ok()?;
        Some((package.to_owned(), (version.major, version.minor)))
    };
    package_and_version(name)
        .is_some_and(|(package, version)| WASI_PACKAGES.contains(&package.as_str()) && version == WASI_VERSION)
}

/// `[method]device.serial-number` as `device.serial-number`.
fn readable(function: &str) -> String {
    function.split_once(']').map_or(function, |(_, name)| name).to_owned()
}

/// What stands at the outside of a component whose structure is sound.
struct Outline {
    types: Types,
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Reads the outline. The bodies of functions are left to the compiler, which validates what it compiles: what comes from
/// the compilation cache was validated when it got there, and a start from the cache would take twice as long.
fn outline(component: &[u8]) -> Result<Outline, InspectError> {
    let invalid = |error: BinaryReaderError| InspectError::Invalid(error.message().to_owned());
    let mut validator = Validator::new();
    let mut outermost = None;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(invalid)?;
        if let ValidPayload::End(types) = validator.payload(&payload).map_err(invalid)? {
            outermost = Some(types);
        }
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let types = outermost.ok_or_else(|| InspectError::Invalid("it has no end".to_owned()))?;
    Ok(Outline {
        types,
        imports,
        exports,
    })
}
