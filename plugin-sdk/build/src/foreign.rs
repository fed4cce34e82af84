//! Plugins in other languages than Rust: their `plugin.toml` names the command that makes the component.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::build::BuildError;
use crate::manifest::{Manifest, PluginFile};

/// What stands for the file to write.
const OUT: &str = "{out}";

/// Where language toolchains put the programs of a project, beside its manifest.
const PROGRAMS: [&str; 2] = ["node_modules/.bin", ".venv/bin"];

/// A plugin that a command makes.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
    command: Vec<String>,
}

/// Parts the folders of such plugins from those of crates.
pub(crate) fn separate(directories: &[PathBuf]) -> Result<(Vec<Foreign>, Vec<PathBuf>), BuildError> {
    let mut foreign = Vec::new();
    let mut crates = Vec::new();
    for directory in directories {
        let path = directory.join("plugin.toml");
        let file = if path.exists() {
            Some(PluginFile::read(&path)?)
        } else {
            None
        };
        match file.and_then(|file| file.component) {
            None => crates.push(directory.clone()),
            Some(component) => foreign.push(Foreign {
                directory: directory.clone(),
                manifest: Manifest::in_folder(directory, None)?,
                command: component.command,
            }),
        }
    }
    Ok((foreign, crates))
}

impl Foreign {
    /// Runs the command; the component that it wrote to `out`.
    pub(crate) fn make(&self, out: &Path, progress: &mut dyn FnMut(&str)) -> Result<Vec<u8>, BuildError> {
        let failed = |reason: String| BuildError::Command {
            directory: self.directory.clone(),
            reason,
        };
        // The command runs in another folder than this process.
        let out = std::path::absolute(out).map_err(|error| failed(error.to_string()))?;
        let arguments: Vec<String> = self
            .command
            .iter()
            .map(|argument| argument.replace(OUT, &out.to_string_lossy()))
            .collect();
        let Some((program, arguments)) = arguments
            .split_first()
            .filter(|_| self.command.iter().any(|a| a.contains(OUT)))
        else {
            return Err(failed(format!(
                "`command` in plugin.toml names a program and, as {OUT}, the file that it writes"
            )));
        };
        progress(&format!("{}: {}", self.manifest.name, self.command.join(" ")));
        let result = Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            .env("PATH", self.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                failed(format!(
                    "cannot run `{program}` ({error}); install the toolchain beside plugin.toml, with `npm ci` or \
                     into .venv, or put it on the PATH"
                ))
            })?;
        let words = String::from_utf8_lossy(&result.stderr);
        for line in words.lines() {
            progress(line);
        }
        if !result.status.success() {
            return Err(failed(format!(
                "`{program}` failed ({}):\n{}",
                result.status,
                words.trim()
            )));
        }
        fs::read(&out).map_err(|error| failed(format!("`{program}` did not write {OUT}: {error}")))
    }

    /// Where programs are looked for: the plugin's own first.
    fn path(&self) -> OsString {
        let usual = env::var_os("PATH").unwrap_or_default();
        let own = PROGRAMS
            .iter()
            .filter_map(|folder| std::path::absolute(self.directory.join(folder)).ok());
        // A folder with a separator in its name can not be on a path; then it is as if it were not there.
        env::join_paths(own.chain(env::split_paths(&usual))).unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty component.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn plugin(command: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "name = 'other'\nversion = '1.0.0'\nhooks = ['enrollment-gate']\n[component]\ncommand = {command}\n"
        );
        fs::write(folder.path().join("plugin.toml"), text).unwrap();
        fs::write(folder.path().join("component"), COMPONENT).unwrap();
        folder
    }

    fn made(folder: &Path) -> Result<Vec<u8>, String> {
        let (foreign, crates) = separate(&[folder.to_owned()]).map_err(|error| error.to_string())?;
        assert!(crates.is_empty());
        let out = folder.join("out");
        foreign[0].make(&out, &mut |_| {}).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_writes_the_component() {
        let folder = plugin("['cp', 'component', '{out}']");
        assert_eq!(made(folder.path()).unwrap(), COMPONENT);
    }

    #[test]
    fn programs_beside_the_plugin_come_first() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = plugin("['cp', '{out}']");
        let programs = folder.path().join("node_modules/.bin");
        fs::create_dir_all(&programs).unwrap();
        let script = programs.join("real");
        fs::write(&script, "#!/bin/sh\nprintf own > \"$1\"\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(&script, programs.join("cp")).unwrap();
        assert_eq!(made(folder.path()).unwrap(), b"own");
    }

    #[test]
    fn what_fails_is_told_with_its_words() {
        for (command, expected) in [
            ("['sh', '-c', 'echo broken >&2; exit 3', '{out}']", "broken"),
            ("['no-such-toolchain', '{out}']", "cannot run `no-such-toolchain`"),
            ("['true', '{out}']", "did not write {out}"),
            ("['true']", "names a program"),
            ("[]", "names a program"),
        ] {
            let folder = plugin(command);
            let error = made(folder.path()).unwrap_err();
            assert!(error.contains(expected), "{command}: {error}");
        }
    }

    #[test]
    fn without_a_crate_the_file_says_everything() {
        let folder = tempfile::tempdir().unwrap();
        let text = "name = 'other'\nhooks = ['enrollment-gate']\n[component]\ncommand = ['true']\n";
        fs::write(folder.path().join("plugin.toml"), text).unwrap();
        let error = separate(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`version` is missing"), "{error}");
    }
}
