//! The programs that the workspace builds, and one that is run to its end: the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The root of the checkout.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize()
        .expect("the checkout that these tests were built in is gone")
}

/// A program that the workspace builds: it lies beside the folder of the test executable, or beside a program that tests.
///
/// # Panics
/// When it was not built; the message says how to.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the system does not tell where the test executable is");
    let beside = own.parent().expect("an executable lies in a folder");
    let profile = match beside.file_name() {
        Some(folder) if folder == "deps" => beside.parent().expect("target/<profile>/deps lies in target/<profile>"),
        _ => beside,
    };
    let program = profile.join(name);
    assert!(
        program.is_file(),
        "{} is not built; run `make test`, or `cargo build -p {name}` before these tests alone",
        program.display()
    );
    program
}

/// The program under test.
pub fn russet() -> PathBuf {
    program("russet")
}

/// A command of the command line that has ended.
#[derive(Debug)]
pub struct Cli {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error output.
    pub err: String,
}

impl Cli {
    /// Runs a command without a server.
    pub fn offline(arguments: &[&str], folder: &Path) -> Self {
        let mut command = command(&russet());
        command.args(arguments).current_dir(folder);
        Self::run(command)
    }

    pub(crate) fn run(mut command: Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("the program russet starts");
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same command, which has to have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "the command failed: {}{}", self.out, self.err);
        self
    }

    /// The same command, which has to have failed.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "the command did not fail: {}{}", self.out, self.err);
        self
    }

    /// The standard error output as one line: without the frame and the line breaks that make it fit a terminal.
    pub fn complaint(&self) -> String {
        let words = self
            .err
            .split_whitespace()
            .filter(|word| !matches!(*word, "│" | "×" | "╰─▶" | "├─▶"));
        words.collect::<Vec<_>>().join(" ")
    }

    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("this is not JSON ({error}): {}", self.out))
    }
}

/// A command that sees nothing of the tester's own Russet settings, and writes for machines.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RUSSET_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}
