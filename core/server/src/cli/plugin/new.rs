//! `russet plugin new`: a crate that builds, with a test.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use miette::Diagnostic;
use russet_plugin_host::is_plugin_name;

use crate::cli::{file, output};

#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// The plugin's name: letters a-z, digits and hyphens. A folder of that name is made.
    name: String,
    /// What the plugin does.
    #[arg(long)]
    hook: Hook,
    /// The folder to make the plugin's folder in.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The folder of the SDK (`plugin-sdk/rust` of a checkout) [default: that of the checkout around the new folder].
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hook {
    /// Decides who may enroll.
    EnrollmentGate,
    /// Knows people: checks passwords and looks names up.
    Directory,
    /// Decides what happens to escrowed secrets.
    EscrowPolicy,
    /// Renders templates of profiles.
    ProfileTemplate,
}

/// What differs from hook to hook.
struct Template {
    hook: &'static str,
    description: &'static str,
    capabilities: &'static [&'static str],
    source: &'static str,
    schema: &'static str,
}

impl Hook {
    const fn template(self) -> Template {
        match self {
            Self::EnrollmentGate => Template {
                hook: "enrollment-gate",
                description: "Lets in the devices whose serial number begins as the operator set it",
                capabilities: &["log.write", "settings.get"],
                source: include_str!("templates/enrollment_gate.rs"),
                schema: include_str!("templates/enrollment_gate.schema.json"),
            },
            Self::Directory => Template {
                hook: "directory",
                description: "Looks people up in LDAP",
                capabilities: &["log.write", "settings.get", "ldap.search", "ldap.bind"],
                source: include_str!("templates/directory.rs"),
                schema: include_str!("templates/directory.schema.json"),
            },
            Self::EscrowPolicy => Template {
                hook: "escrow-policy",
                description: "Releases secrets to devices and to named administrators",
                capabilities: &["log.write", "settings.get"],
                source: include_str!("templates/escrow_policy.rs"),
                schema: include_str!("templates/escrow_policy.schema.json"),
            },
            Self::ProfileTemplate => Template {
                hook: "profile-template",
                description: "Fills serial number, user and organization into profiles",
                capabilities: &["log.write", "settings.get"],
                source: include_str!("templates/profile_template.rs"),
                schema: include_str!("templates/profile_template.schema.json"),
            },
        }
    }
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum NewError {
    #[error("`{0}` can not be the name of a plugin")]
    #[diagnostic(help("use 1 to 64 letters a-z, digits and hyphens, beginning with a letter, such as my-gate"))]
    Name(String),
    #[error("{} exists already", .0.display())]
    #[diagnostic(help("choose another name, or another folder with --path"))]
    Exists(PathBuf),
    #[error("{} is not the plugin SDK", .0.display())]
    #[diagnostic(help("--sdk names the folder `plugin-sdk/rust` of a checkout"))]
    NoSdk(PathBuf),
    #[error("there is no plugin SDK around the new folder")]
    #[diagnostic(help("name the folder `plugin-sdk/rust` of a checkout with --sdk"))]
    SdkNeeded,
}

pub(super) fn run(args: &NewArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    // Cargo wants a letter first; the rest is the server's rule.
    if !is_plugin_name(&args.name) || !args.name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(NewError::Name(args.name.clone()).into());
    }
    let folder = match args.path.to_str() {
        Some(".") => PathBuf::from(&args.name),
        _ => args.path.join(&args.name),
    };
    if folder.exists() {
        return Err(NewError::Exists(folder).into());
    }
    let sdk = sdk(args)?;
    let template = args.hook.template();
    let capabilities: Vec<String> = template.capabilities.iter().map(|name| format!("\"{name}\"")).collect();
    let fill = |text: &str| {
        text.replace("@NAME@", &args.name)
            .replace("@DESCRIPTION@", template.description)
            .replace("@HOOK@", template.hook)
            .replace("@CAPABILITIES@", &capabilities.join(", "))
            .replace("@SDK@", &sdk)
    };
    let source = folder.join("src");
    std::fs::create_dir_all(&source).map_err(|error| file::FileError::Write {
        path: source.clone(),
        source: error,
    })?;
    file::write(
        &folder.join("Cargo.toml"),
        fill(include_str!("templates/Cargo.toml.in")),
    )?;
    file::write(
        &folder.join("plugin.toml"),
        fill(include_str!("templates/plugin.toml.in")),
    )?;
    file::write(&folder.join("settings.schema.json"), template.schema)?;
    file::write(&folder.join(".gitignore"), "/target\n")?;
    file::write(&source.join("lib.rs"), template.source)?;

    let folder = folder.display();
    write!(
        stdout,
        "made {folder}\n\
         \n\
         next:\n  \
         cargo test --manifest-path {folder}/Cargo.toml   # the plugin's own tests\n  \
         russet plugin build {folder}                     # the component\n"
    )
    .map_err(output::failed)
}

/// How the new crate depends on the SDK.
fn sdk(args: &NewArgs) -> Result<String, NewError> {
    if let Some(path) = &args.sdk {
        let path = path
            .canonicalize()
            .ok()
            .filter(|path| is_sdk(path))
            .ok_or_else(|| NewError::NoSdk(path.clone()))?;
        return Ok(by_path(&path));
    }
    if let Ok(path) = args.path.canonicalize()
        && let Some(sdk) = path
            .ancestors()
            .map(|folder| folder.join("plugin-sdk/rust"))
            .find(|folder| is_sdk(folder))
    {
        return Ok(by_path(&sdk));
    }
    Err(NewError::SdkNeeded)
}

fn by_path(path: &Path) -> String {
    format!("path = {}", toml::Value::String(path.display().to_string()))
}

fn is_sdk(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"russet-plugin\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::process::Command;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .unwrap()
    }

    fn make(name: &str, hook: Hook, path: &Path) -> miette::Result<PathBuf> {
        let sdk = Some(repository().join("plugin-sdk/rust"));
        let args = NewArgs {
            name: name.to_owned(),
            hook,
            path: path.to_owned(),
            sdk,
        };
        run(&args, &mut Vec::new())?;
        Ok(path.join(name))
    }

    #[test]
    fn every_hook_gives_a_plugin_whose_tests_pass() {
        let folder = tempfile::tempdir().unwrap();
        // One target directory for the four and for later runs: the dependencies are built once.
        let target = repository().join("target/plugin-new");
        for hook in Hook::value_variants() {
            let name = hook.template().hook;
            let made = make(name, *hook, folder.path()).unwrap();
            // The versions that this workspace is tested with.
            std::fs::copy(repository().join("Cargo.lock"), made.join("Cargo.lock")).unwrap();
            let output = Command::new(env!("CARGO"))
                .args(["test", "--quiet", "--manifest-path"])
                .arg(made.join("Cargo.toml"))
                .arg("--target-dir")
                .arg(&target)
                .output()
                .unwrap();
            let text = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat();
            assert!(output.status.success(), "{name}: {text}");
            assert!(text.contains("2 passed"), "{name}: {text}");
            assert!(!text.contains("warning"), "{name}: {text}");
        }
    }

    #[test]
    fn a_checkout_around_the_new_folder_is_the_sdk() {
        let checkout = tempfile::tempdir().unwrap();
        let sdk_folder = checkout.path().join("plugin-sdk/rust");
        std::fs::create_dir_all(&sdk_folder).unwrap();
        std::fs::write(sdk_folder.join("Cargo.toml"), "[package]\nname = \"russet-plugin\"\n").unwrap();
        let path = checkout.path().join("plugins/mine");
        std::fs::create_dir_all(&path).unwrap();
        let args = |path: &Path, sdk| NewArgs {
            name: "a".to_owned(),
            hook: Hook::Directory,
            path: path.to_owned(),
            sdk,
        };

        let here = sdk(&args(&path, None)).unwrap();
        assert_eq!(here, by_path(&sdk_folder.canonicalize().unwrap()));
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(matches!(sdk(&args(elsewhere.path(), None)), Err(NewError::SdkNeeded)));
        assert!(matches!(sdk(&args(&path, Some(path.clone()))), Err(NewError::NoSdk(_))));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        make("gate", Hook::EnrollmentGate, folder.path()).unwrap();
        let report = make("gate", Hook::EscrowPolicy, folder.path()).unwrap_err();
        assert!(report.to_string().ends_with("/gate exists already"), "{report}");
        for name in ["", "Gate", "my_gate", "1gate", "../gate"] {
            let report = make(name, Hook::EnrollmentGate, folder.path()).unwrap_err();
            assert_eq!(report.to_string(), format!("`{name}` can not be the name of a plugin"));
        }
    }
}
