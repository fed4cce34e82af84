//! Builds plugin crates: `russet-plugin-build [--out DIR] [--target-dir DIR] CRATE_DIR…`.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use russet_plugin_build::{BuildError, BuildOptions, Toolchain, build};

const USAGE: &str = "usage: russet-plugin-build [OPTIONS] CRATE_DIR...

Builds plugin crates to WebAssembly components, one file each.

options:
  --out DIR         where the components go (default: plugins in the target directory)
  --target-dir DIR  where cargo works (default: the target directory of the crate's workspace)
  --debian          use Debian's compiler, whatever else is there
  --quiet           say nothing but errors and results
  --help            this text";

fn main() -> ExitCode {
    let mut stderr = std::io::stderr();
    match run() {
        Ok(text) => {
            // Nobody may be reading; the work is done all the same.
            drop(write!(std::io::stdout(), "{text}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            // What cargo says was shown as it came.
            let shown = error.downcast_ref::<BuildError>();
            let text = match shown {
                Some(BuildError::Cargo(_)) => "cargo could not build the plugins".to_owned(),
                _ => error.to_string(),
            };
            drop(writeln!(stderr, "error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let mut crates = Vec::new();
    let mut options = BuildOptions::new(Vec::<PathBuf>::new());
    let mut quiet = false;
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map(PathBuf::from).ok_or("an option lacks its value");
        match argument.to_str() {
            Some("--out") => options.out = Some(value()?),
            Some("--target-dir") => options.target_dir = Some(value()?),
            Some("--debian") => options.toolchain = Some(Toolchain::debian()?),
            Some("--quiet") => quiet = true,
            Some("--help" | "-h") => return Ok(format!("{USAGE}\n")),
            Some(option) if option.starts_with('-') => return Err(format!("unknown option {option}\n{USAGE}").into()),
            _ => crates.push(PathBuf::from(argument)),
        }
    }
    if crates.is_empty() {
        return Err(USAGE.into());
    }
    options.crates = crates;
    options.progress = Box::new(move |line| {
        if !quiet || line.starts_with("warning: ") || line.starts_with("error") {
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    });
    let mut text = String::new();
    for plugin in build(options)? {
        let state = if plugin.changed { "built" } else { "unchanged" };
        let capabilities: Vec<&str> = plugin.interfaces.capabilities.iter().map(String::as_str).collect();
        text.push_str(&format!(
            "{state} {} ({} KiB; uses {})\n",
            plugin.path.display(),
            plugin.size.div_ceil(1024),
            if capabilities.is_empty() {
                "nothing".to_owned()
            } else {
                capabilities.join(", ")
            },
        ));
    }
    Ok(text)
}
