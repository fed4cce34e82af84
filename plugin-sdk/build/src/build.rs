//! Building plugins, several in one call of cargo.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fmt, fs, thread};

use serde::Deserialize;

use crate::component::{self, ComponentError, Interfaces};
use crate::foreign::{self, Foreign};
use crate::manifest::{Manifest, ManifestError};
use crate::project::{self, Package, Project, ProjectError};
use crate::toolchain::{TARGET, Toolchain, ToolchainError, Way};

/// The profile of a plugin: small before fast, because a call takes microseconds and starts from a fresh instance. Given by
/// environment, so that it binds crates of any workspace.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// The stack of a plugin in bytes. A small one keeps what an instance touches, and so what has to be reset, small.
const STACK_SIZE: u32 = 64 << 10;

/// What to build.
pub struct BuildOptions<'a> {
    /// The folders of the plugin crates.
    pub crates: Vec<PathBuf>,
    /// The folder that cargo's own target directory for plugins is made in; that of a crate's workspace if absent.
    pub target_dir: Option<PathBuf>,
    /// The folder for the results; `plugins` in the target directory if absent.
    pub out: Option<PathBuf>,
    /// The toolchain; searched for if absent.
    pub toolchain: Option<Toolchain>,
    /// Gets a line now and then: what cargo says, and warnings.
    pub progress: Box<dyn FnMut(&str) + Send + 'a>,
}

impl BuildOptions<'_> {
    /// Builds these crates, silently.
    pub fn new(crates: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            crates: crates.into_iter().map(Into::into).collect(),
            target_dir: None,
            out: None,
            toolchain: None,
            progress: Box::new(|_| {}),
        }
    }
}

impl fmt::Debug for BuildOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildOptions")
            .field("crates", &self.crates)
            .field("target_dir", &self.target_dir)
            .field("out", &self.out)
            .field("toolchain", &self.toolchain)
            .finish_non_exhaustive()
    }
}

/// A plugin that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// The component, with the manifest inside.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its hooks, and the capabilities that it really uses.
    pub interfaces: Interfaces,
    /// Whether the file was written: `false` if it already had this content.
    pub changed: bool,
}

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No crates were named.
    #[error("no plugin crate was named")]
    Nothing,
    /// There is no compiler for it.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// A folder holds no plugin crate.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// `plugin.toml` is missing or not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Two crates have one name.
    #[error("two plugins have the name `{0}`; set `name` in one plugin.toml")]
    SameName(String),
    /// Cargo can not be run.
    #[error("cannot run cargo: {0}")]
    Run(#[source] io::Error),
    /// The crate does not compile.
    #[error("cargo could not build the plugins:\n{0}")]
    Cargo(String),
    /// The command that makes a component failed.
    #[error("{}: {reason}", directory.display())]
    Command {
        /// The folder of the plugin.
        directory: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Cargo did not make a module for a crate.
    #[error("cargo made no WebAssembly module of `{0}`")]
    NoModule(String),
    /// The module can not become a component.
    #[error("{name}: {source}")]
    Component {
        /// The plugin.
        name: String,
        /// Why.
        source: ComponentError,
    },
    /// The component does not do what `plugin.toml` says.
    #[error("{name}: {reason}")]
    Mismatch {
        /// The plugin.
        name: String,
        /// What differs, and what to write.
        reason: String,
    },
    /// A file can not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Builds plugin crates: one component file each, `<out>/<name>.wasm`, with its manifest inside. What has not changed is
/// not built again.
///
/// # Errors
///
/// See [`BuildError`].
pub fn build(mut options: BuildOptions<'_>) -> Result<Vec<Built>, BuildError> {
    let (foreign, crates) = foreign::separate(&options.crates)?;
    let projects = project::projects(&crates)?;
    let usual = match (projects.first(), foreign.first()) {
        (Some(project), _) => project.target_directory.clone(),
        (None, Some(plugin)) => plugin.directory.join("target"),
        (None, None) => return Err(BuildError::Nothing),
    };
    let target = options.target_dir.take().unwrap_or(usual);
    let out = options.out.take().unwrap_or_else(|| target.join("plugins"));
    let cache = target.join("plugins-build");

    // Before the long part: mistakes in the manifests.
    let mut manifests = BTreeMap::new();
    for package in projects.iter().flat_map(|project| &project.packages) {
        manifests.insert(package.id.clone(), Manifest::read(package)?);
    }
    let others = foreign.iter().map(|plugin| &plugin.manifest);
    let mut names: Vec<&str> = manifests
        .values()
        .chain(others)
        .map(|manifest| manifest.name.as_str())
        .collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BuildError::SameName(pair[0].to_owned()));
    }

    create_dir(&out)?;
    let mut built = Vec::new();
    for plugin in &foreign {
        built.push(assemble_foreign(plugin, &out, &mut options.progress)?);
    }
    if projects.is_empty() {
        return Ok(built);
    }
    let toolchain = match options.toolchain.take() {
        Some(toolchain) => toolchain,
        None => Toolchain::find(Some(&cache), &mut options.progress)?,
    };
    for project in &projects {
        let modules = compile(&toolchain, project, &cache, &mut options.progress)?;
        for package in &project.packages {
            let (Some(manifest), Some(module)) = (manifests.get(&package.id), modules.get(&package.id)) else {
                return Err(BuildError::NoModule(package.name.clone()));
            };
            built.push(assemble(package, manifest, module, &out, &mut options.progress)?);
        }
    }
    Ok(built)
}

/// Calls cargo once for the crates of a workspace. Answers with the module of each package.
fn compile(
    toolchain: &Toolchain,
    project: &Project,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    if matches!(toolchain.way(), Way::Debian { build_std: true, .. }) && !cache.join(TARGET).exists() {
        progress("building the standard library for WebAssembly from Debian's sources (about a minute, once)");
    }
    let mut command = toolchain.cargo();
    command
        .args(["build", "--release", "--lib", "--target", TARGET, "--target-dir"])
        .arg(cache)
        .arg("--manifest-path")
        .arg(project.root.join("Cargo.toml"))
        .arg("--message-format=json-render-diagnostics")
        .args(toolchain.build_arguments())
        .envs(PROFILE)
        .env("RUSTFLAGS", rustflags())
        .current_dir(&project.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for package in &project.packages {
        command.args(["--package", &package.id]);
    }
    let mut child = command.spawn().map_err(BuildError::Run)?;

    // Cargo's words on standard error are shown as they come, its results on standard output are read beside.
    let stdout = child.stdout.take();
    let results = thread::spawn(move || stdout.map(modules).unwrap_or_default());
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            progress(&line);
            said.push(line);
        }
    }
    let status = child.wait().map_err(BuildError::Run)?;
    let modules = results.join().unwrap_or_default();
    if status.success() {
        return Ok(modules);
    }
    let errors = said.iter().position(|line| line.starts_with("error"));
    Err(BuildError::Cargo(said.split_off(errors.unwrap_or_default()).join("\n")))
}

/// The compiler's flags. Paths of the machine do not end in the panic messages of a plugin.
fn rustflags() -> String {
    let mut flags = format!("-Clink-arg=-zstack-size={STACK_SIZE}");
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    // A path with a space could not be told from two flags.
    if let Some(home) = cargo_home.as_deref().and_then(Path::to_str)
        && !home.contains(' ')
    {
        flags.push_str(&format!(" --remap-path-prefix={home}=/cargo"));
    }
    flags
}

/// The modules that cargo reports.
fn modules(stdout: impl io::Read) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        package_id: String,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Message>(&line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter_map(|message| {
            let module = message
                .filenames
                .into_iter()
                .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
            Some((message.package_id, module))
        })
        .collect()
}

/// Makes the plugin's file of its module.
fn assemble(
    package: &Package,
    manifest: &Manifest,
    module: &Path,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let bytes = fs::read(module).map_err(|source| file_error(module, source))?;
    let component = component::encode(&bytes).map_err(|source| BuildError::Component {
        name: manifest.name.clone(),
        source,
    })?;
    finish(package.directory(), manifest, component, out, progress)
}

/// Makes the plugin's file with the plugin's own command.
fn assemble_foreign(plugin: &Foreign, out: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let made = out.join(format!(".{}.{}.component", plugin.manifest.name, std::process::id()));
    let component = plugin.make(&made, progress);
    // It was never there if the command failed.
    drop(fs::remove_file(&made));
    finish(&plugin.directory, &plugin.manifest, component?, out, progress)
}

/// Holds a component against its manifest, and writes it with the manifest inside.
fn finish(
    directory: &Path,
    manifest: &Manifest,
    component: Vec<u8>,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let name = manifest.name.clone();
    let refused = |source| BuildError::Component {
        name: name.clone(),
        source,
    };
    let interfaces = Interfaces::of(&component).map_err(refused)?;
    for warning in manifest.check(&interfaces).map_err(|reason| BuildError::Mismatch {
        name: name.clone(),
        reason: format!("{reason} ({})", directory.join("plugin.toml").display()),
    })? {
        progress(&format!("warning: {warning}"));
    }
    let document = serde_json::to_vec(manifest).map_err(|error| BuildError::Mismatch {
        name: name.clone(),
        reason: format!("the manifest cannot be written: {error}"),
    })?;
    let plugin = component::with_manifest(component, &document);
    let path = out.join(&name).with_extension("wasm");
    // A file with the same content is left alone: whoever watches it or caches by its time sees no change.
    let changed = fs::read(&path).map_or(true, |old| old != plugin);
    if changed {
        let new = out.join(format!(".{name}.{}", std::process::id()));
        fs::write(&new, &plugin).map_err(|source| file_error(&new, source))?;
        fs::rename(&new, &path).map_err(|source| file_error(&path, source))?;
    }
    Ok(Built {
        name: name.clone(),
        path,
        size: plugin.len() as u64,
        interfaces,
        changed,
    })
}

fn create_dir(path: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(path).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> BuildError {
    BuildError::File {
        path: path.to_owned(),
        source,
    }
}
