//! A plugin's own tests: plain Rust, run by cargo for the machine here.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;

use crate::toolchain::active_cargo;

/// What came of a plugin's own tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeTests {
    /// Whether all passed.
    pub passed: bool,
    /// How many passed.
    pub count: u32,
    /// What cargo said: the failures, or why the tests do not compile.
    pub output: String,
}

/// Runs `cargo test` in the folder of a plugin crate. `target_dir` is the folder that cargo works in, that of the crate's
/// workspace if absent; `progress` gets a line now and then.
///
/// # Errors
///
/// If cargo can not be run.
pub fn native_tests(
    folder: &Path,
    target_dir: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> io::Result<NativeTests> {
    let mut command = active_cargo();
    command
        .arg("test")
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(target) = target_dir {
        command.arg("--target-dir").arg(target);
    }
    let mut child = command.spawn()?;
    // The compiler's words come on standard error, those of the tests on standard output.
    let stdout = child.stdout.take();
    let results = thread::spawn(move || lines(stdout));
    let mut output = String::new();
    for line in BufReader::new(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?)
        .lines()
        .map_while(Result::ok)
    {
        progress(&line);
        output.push_str(&line);
        output.push('\n');
    }
    let passed = child.wait()?.success();
    let results = results.join().unwrap_or_default();
    let count = results.iter().filter_map(|line| passed_of(line)).sum();
    for line in results {
        output.push_str(&line);
        output.push('\n');
    }
    Ok(NativeTests { passed, count, output })
}

fn lines(stdout: Option<impl io::Read>) -> Vec<String> {
    stdout.map_or_else(Vec::new, |stdout| {
        BufReader::new(stdout).lines().map_while(Result::ok).collect()
    })
}

/// The number in `test result: ok. 2 passed; 0 failed; …`.
fn passed_of(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("test result: ")?;
    let (before, _) = rest.split_once(" passed")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        assert_eq!(
            passed_of("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"),
            Some(12)
        );
        assert_eq!(passed_of("test result: FAILED. 1 passed; 1 failed;"), Some(1));
        assert_eq!(passed_of("test gate::opens ... ok"), None);
    }
}
