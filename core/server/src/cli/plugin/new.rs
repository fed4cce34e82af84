//! `russet plugin new`: a crate that builds, with tests of its own and cases for the real host.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use miette::Diagnostic;
use russet_plugin_host::is_plugin_name;
use serde_json::json;

use super::templates::Hook;
use crate::cli::file;
use crate::cli::output::Output;

/// What the file with cases begins with.
const CASES_HEAD: &str =
    "# What the plugin does in the real host: `russet plugin test` runs these cases. What a case leaves out of its
# input is that of a plain one, which `russet plugin run --hook @HOOK@ --sample` prints.
";

#[derive(Debug, Args)]
pub(in crate::cli) struct NewArgs {
    /// The plugin's name: letters a-z, digits and hyphens. A folder of that name is made.
    name: String,
    /// What the plugin does.
    #[arg(long)]
    hook: Hook,
    /// The language that it is written in.
    #[arg(long, default_value = "rust")]
    language: Language,
    /// The folder to make the plugin's folder in.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The folder of the SDK (`plugin-sdk/rust` of a checkout) [default: that of the checkout around the new folder].
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust, with the crate `russet-plugin`.
    Rust,
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
    match args.language {
        Language::Rust => write_rust(args, &folder)?,
    }
    let answer = json!({
        "folder": folder,
        "files": ["Cargo.toml", "plugin.toml", "settings.schema.json", "src/lib.rs", "tests/host.toml"],
    });
    Output::new(stdout, args.json).answer(&answer, |output| {
        let folder = folder.display();
        output.line(format!(
            "made {folder}\n\
             \n\
             next:\n  \
             russet plugin test {folder}    # builds it, runs its own tests and its cases in the real host\n  \
             russet plugin build {folder}   # the component, to be installed"
        ))
    })
}

fn write_rust(args: &NewArgs, folder: &Path) -> miette::Result<()> {
    let sdk = sdk(args)?;
    let template = args.hook.template();
    let capabilities: Vec<String> = template.capabilities.iter().map(|name| format!("\"{name}\"")).collect();
    let fill = |text: &str| {
        text.replace("@NAME@", &args.name)
            .replace("@DESCRIPTION@", template.description)
            .replace("@HOOK@", args.hook.kind().as_str())
            .replace("@CAPABILITIES@", &capabilities.join(", "))
            .replace("@MANIFEST@\n", template.manifest)
            .replace(
                "@DEPENDENCIES@",
                if template.json { "serde_json = \"1\"\n" } else { "" },
            )
            .replace("@HEAD@", &CASES_HEAD.replace("@HOOK@", args.hook.kind().as_str()))
            .replace("@SDK@", &sdk)
    };
    for folder in [folder.join("src"), folder.join("tests")] {
        std::fs::create_dir_all(&folder).map_err(|source| file::FileError::Write { path: folder, source })?;
    }
    for (name, text) in [
        ("Cargo.toml", include_str!("templates/Cargo.toml.in")),
        ("plugin.toml", include_str!("templates/plugin.toml.in")),
        ("settings.schema.json", template.schema),
        (".gitignore", "/target\n"),
        ("src/lib.rs", template.source),
        ("tests/host.toml", template.cases),
    ] {
        file::write(&folder.join(name), fill(text))?;
    }
    Ok(())
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
    use super::*;

    fn args(name: &str, path: &Path, sdk: Option<PathBuf>) -> NewArgs {
        NewArgs {
            name: name.to_owned(),
            hook: Hook::EnrollmentGate,
            language: Language::Rust,
            path: path.to_owned(),
            sdk,
            json: false,
        }
    }

    fn make(name: &str, path: &Path) -> miette::Result<()> {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk/rust");
        run(&args(name, path, Some(sdk)), &mut Vec::new())
    }

    #[test]
    fn a_checkout_around_the_new_folder_is_the_sdk() {
        let checkout = tempfile::tempdir().unwrap();
        let sdk_folder = checkout.path().join("plugin-sdk/rust");
        std::fs::create_dir_all(&sdk_folder).unwrap();
        std::fs::write(sdk_folder.join("Cargo.toml"), "[package]\nname = \"russet-plugin\"\n").unwrap();
        let path = checkout.path().join("plugins/mine");
        std::fs::create_dir_all(&path).unwrap();

        let here = sdk(&args("a", &path, None)).unwrap();
        assert_eq!(here, by_path(&sdk_folder.canonicalize().unwrap()));
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(matches!(
            sdk(&args("a", elsewhere.path(), None)),
            Err(NewError::SdkNeeded)
        ));
        assert!(matches!(
            sdk(&args("a", &path, Some(path.clone()))),
            Err(NewError::NoSdk(_))
        ));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        make("gate", folder.path()).unwrap();
        let report = make("gate", folder.path()).unwrap_err();
        assert!(report.to_string().ends_with("/gate exists already"), "{report}");
        for name in ["", "Gate", "my_gate", "1gate", "../gate"] {
            let report = make(name, folder.path()).unwrap_err();
            assert_eq!(report.to_string(), format!("`{name}` can not be the name of a plugin"));
        }
    }

    #[test]
    fn nothing_of_the_templates_is_left_unfilled() {
        for hook in Hook::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk/rust");
            let args = NewArgs {
                hook: *hook,
                ..args("made", folder.path(), Some(sdk))
            };
            run(&args, &mut Vec::new()).unwrap();
            for name in ["Cargo.toml", "plugin.toml", "tests/host.toml"] {
                let text = std::fs::read_to_string(folder.path().join("made").join(name)).unwrap();
                assert!(!text.contains('@'), "{hook:?}: {text}");
                assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{hook:?}: {text}");
            }
        }
    }
}
