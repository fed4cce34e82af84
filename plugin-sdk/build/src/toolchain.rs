//! A compiler for WebAssembly: the active one, with rustup's help if need be, or Debian's.
//!
//! Nothing is installed but a target of rustup's, and that only because rustup is the user's own tool for it. Debian's
//! packages are used where they lie.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;
use std::{env, fmt, fs, thread};

use serde::{Deserialize, Serialize};

/// The target that plugins are built for: no operating system at all.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where Debian's packages put the compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where Debian's packages put cargo.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// How long rustup may take to fetch the target: a few megabytes over a slow line.
const RUSTUP_LIMIT: Duration = Duration::from_secs(150);

/// The same where Debian's packages would do as well.
const RUSTUP_LIMIT_WITH_DEBIAN: Duration = Duration::from_secs(30);

/// What the way that worked is remembered in, below the target directory.
const MEMORY: &str = "toolchain.json";

/// The linkers that can link WebAssembly, where rustup's toolchain brings none.
const LINKERS: [&str; 8] = [
    "rust-lld",
    "wasm-ld-19",
    "lld-19",
    "ld.lld-19",
    "wasm-ld",
    "lld",
    "ld.lld",
    "lld-18",
];

/// How the standard library for WebAssembly comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The active toolchain has it.
    Active,
    /// Debian's compiler, in `/usr/bin`, has it, or builds it from Debian's sources of the same release.
    Debian {
        /// The linker.
        linker: PathBuf,
        /// Whether the standard library is built from source.
        build_std: bool,
    },
}

/// A compiler that can build plugins.
#[derive(Clone, Debug)]
pub struct Toolchain {
    way: Way,
}

/// Why there is no toolchain: what was tried, one line each, and what to install.
#[derive(Debug)]
pub struct ToolchainError {
    tried: Vec<(&'static str, String)>,
}

impl fmt::Display for ToolchainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no Rust toolchain here can build WebAssembly plugins. Tried:")?;
        for (what, why) in &self.tried {
            writeln!(f, "  - {what}: {why}")?;
        }
        write!(
            f,
            "Install one of them:\n  rustup target add {TARGET}\n  apt-get install rustc-web cargo-web rust-web-src \
             lld-19    # Debian, where rustup cannot download"
        )
    }
}

impl std::error::Error for ToolchainError {}

impl Toolchain {
    /// Finds a toolchain, in this order: the active one has the target; `rustup target add` brings it; Debian's packages.
    ///
    /// `memory` is a folder that remembers the way that worked, so that a machine where rustup can fetch nothing asks it
    /// only once. `progress` gets a line before anything that takes long.
    ///
    /// # Errors
    ///
    /// If none works; the error lists what was tried and what to install.
    pub fn find(memory: Option<&Path>, progress: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        let mut tried = Vec::new();
        let active = Self { way: Way::Active };
        match has_target(&rustc()) {
            Ok(()) => return Ok(active),
            Err(why) => tried.push(("the active toolchain", why)),
        }
        if let Some(toolchain) = memory.and_then(remembered) {
            return Ok(toolchain);
        }
        let debian = debian();
        let limit = if debian.is_ok() {
            RUSTUP_LIMIT_WITH_DEBIAN
        } else {
            RUSTUP_LIMIT
        };
        match rustup_target_add(limit, progress).and_then(|()| has_target(&rustc())) {
            Ok(()) => return Ok(active),
            Err(why) => tried.push(("rustup", why)),
        }
        match debian {
            Ok(toolchain) => {
                if let Some(memory) = memory {
                    remember(memory, &toolchain.way);
                }
                Ok(toolchain)
            }
            Err(why) => {
                tried.push(("Debian's packages", why));
                Err(ToolchainError { tried })
            }
        }
    }

    /// Debian's packages, whatever the other ways would give.
    ///
    /// # Errors
    ///
    /// If a package is missing; the error names it.
    pub fn debian() -> Result<Self, ToolchainError> {
        debian().map_err(|why| ToolchainError {
            tried: vec![("Debian's packages", why)],
        })
    }

    /// How the standard library comes about.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Cargo of this toolchain, in an environment of its own: nothing of a cargo that may be running around this process.
    pub(crate) fn cargo(&self) -> Command {
        let Way::Debian { linker, build_std } = &self.way else {
            return active_cargo();
        };
        let mut command = clean(Command::new(DEBIAN_CARGO));
        for name in ["RUSTC", "RUSTDOC", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command
            .env("PATH", "/usr/bin:/bin")
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        if *build_std {
            // Not a stable feature of cargo, and this is a stable one.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// What `cargo build` needs to hear.
    pub(crate) fn build_arguments(&self) -> &'static [&'static str] {
        match self.way {
            Way::Debian { build_std: true, .. } => &["-Zbuild-std=std,panic_abort"],
            Way::Active | Way::Debian { .. } => &[],
        }
    }
}

/// The cargo that the user calls, whatever it can build.
pub(crate) fn active_cargo() -> Command {
    clean(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// Takes away what a cargo around this process says to its own children.
fn clean(mut command: Command) -> Command {
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "MAKEFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}

fn rustc() -> PathBuf {
    env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from)
}

/// Whether a compiler has a standard library for the target.
fn has_target(rustc: &Path) -> Result<(), String> {
    let libraries = PathBuf::from(print(rustc, &["--print", "target-libdir", "--target", TARGET])?);
    let found = fs::read_dir(&libraries).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    });
    if found {
        Ok(())
    } else {
        Err(format!("no standard library for {TARGET} in {}", libraries.display()))
    }
}

/// The single line that a program prints.
fn print(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!(
            "{} {}: {}",
            program.display(),
            arguments.join(" "),
            last_line(&String::from_utf8_lossy(&output.stderr))
        ))
    }
}

fn last_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or("it says nothing").to_owned()
}

/// Asks rustup for the target, once in the life of a process.
fn rustup_target_add(limit: Duration, progress: &mut dyn FnMut(&str)) -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER
        .get_or_init(|| {
            let mut command = Command::new("rustup");
            command.args(["target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "1");
            run_bounded(command, limit, || {
                progress(&format!(
                    "asking rustup for the target {TARGET} (at most {} s)",
                    limit.as_secs()
                ));
            })
        })
        .clone()
}

/// Runs a program that may hang.
fn run_bounded(mut command: Command, limit: Duration, started: impl FnOnce()) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    started();
    let (done, ended) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        // Ends with the program, whose standard error closes; the receiver may be gone by then, which is fine.
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stderr.read_to_end(&mut text);
            drop(done.send(read.map(|_| String::from_utf8_lossy(&text).into_owned())));
        });
    }
    let Ok(text) = ended.recv_timeout(limit) else {
        drop(child.kill());
        drop(child.wait());
        return Err(format!("{name} took longer than {} s", limit.as_secs()));
    };
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let text = text.unwrap_or_default();
    Err(match text.lines().find(|line| line.starts_with("error")) {
        Some(line) => format!("`rustup target add {TARGET}`: {line}"),
        None => format!("`rustup target add {TARGET}`: {}", last_line(&text)),
    })
}

/// What Debian's packages `rustc-web`, `cargo-web` and `rust-web-src` bring.
fn debian() -> Result<Toolchain, String> {
    for (program, package) in [(DEBIAN_RUSTC, "rustc-web"), (DEBIAN_CARGO, "cargo-web")] {
        if !Path::new(program).exists() {
            return Err(format!("{program} is missing (package {package})"));
        }
    }
    let rustc = Path::new(DEBIAN_RUSTC);
    let build_std = has_target(rustc).is_err();
    if build_std {
        let sysroot = PathBuf::from(print(rustc, &["--print", "sysroot"])?);
        let library = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
        if !library.exists() {
            return Err(format!("{} is missing (package rust-web-src)", library.display()));
        }
    }
    Ok(Toolchain {
        way: Way::Debian {
            linker: linker()?,
            build_std,
        },
    })
}

/// `rust-lld` of the active toolchain, or what Debian has.
fn linker() -> Result<PathBuf, String> {
    let of_rustup = print(&rustc(), &["--print", "sysroot"]).ok().and_then(|sysroot| {
        fs::read_dir(Path::new(&sysroot).join("lib/rustlib"))
            .ok()?
            .flatten()
            .map(|host| host.path().join("bin/rust-lld"))
            .find(|linker| linker.exists())
    });
    of_rustup
        .or_else(|| {
            let folders = [OsString::from("/usr/bin"), OsString::from("/usr/lib/llvm-19/bin")];
            LINKERS.iter().find_map(|name| {
                folders
                    .iter()
                    .map(|folder| Path::new(folder).join(name))
                    .find(|linker| linker.exists())
            })
        })
        .ok_or_else(|| "no linker for WebAssembly (package lld-19)".to_owned())
}

fn remembered(memory: &Path) -> Option<Toolchain> {
    let way: Way = serde_json::from_slice(&fs::read(memory.join(MEMORY)).ok()?).ok()?;
    let Way::Debian { linker, .. } = &way else {
        return None;
    };
    // Packages come and go: then all is looked for again.
    let now = debian().ok()?;
    (now.way == way && linker.exists()).then_some(now)
}

/// Not being able to remember costs the next run its time, and nothing else.
fn remember(memory: &Path, way: &Way) {
    if let Ok(text) = serde_json::to_vec(way) {
        drop(fs::create_dir_all(memory).and_then(|()| fs::write(memory.join(MEMORY), text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_what_was_tried_and_what_to_install() {
        let error = ToolchainError {
            tried: vec![
                ("the active toolchain", "no standard library".to_owned()),
                ("rustup", "it is offline".to_owned()),
            ],
        };
        let text = error.to_string();
        for part in [
            "the active toolchain: no standard library",
            "rustup: it is offline",
            "rustup target add wasm32-unknown-unknown",
            "rustc-web cargo-web rust-web-src lld-19",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let error = run_bounded(command, Duration::from_millis(50), || {}).unwrap_err();
        assert!(error.contains("took longer"), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'error: could not download' >&2; echo hint >&2; exit 1"]);
        let error = run_bounded(command, Duration::from_secs(60), || {}).unwrap_err();
        assert!(error.ends_with("error: could not download"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run_bounded(Command::new("no-such-rustup"), Duration::from_secs(1), || {}).unwrap_err();
        assert!(error.contains("no-such-rustup"), "{error}");
    }

    #[test]
    fn a_way_that_no_longer_works_is_forgotten() {
        let memory = tempfile::tempdir().unwrap();
        let way = Way::Debian {
            linker: "/nonexistent/lld".into(),
            build_std: true,
        };
        remember(memory.path(), &way);
        assert!(memory.path().join(MEMORY).exists());
        assert!(remembered(memory.path()).is_none());
    }
}
