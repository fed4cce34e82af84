//! `russet plugin test`: a plugin's own tests, and its cases in the real host.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::Diagnostic;
use russet_plugin_build::NativeTests;
use russet_plugin_test::Plugin;
use russet_plugin_test::cases::{self, CaseFile, CaseFileError, CaseResult};
use serde_json::json;

use super::build::{self, Folders};
use super::scripted::NotRun;
use crate::cli::context;
use crate::cli::output::Output;
use crate::cli::progress::Progress;

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// The folder of the plugin.
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    folders: Folders,
    /// Leave out the plugin's own tests (`cargo test`).
    #[arg(long)]
    host_only: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum TestError {
    #[error("cargo can not be run: {0}")]
    #[diagnostic(
        code("cargo"),
        help("install Rust from https://rustup.rs, or leave the plugin's own tests out with --host-only")
    )]
    Cargo(std::io::Error),
    #[error(transparent)]
    #[diagnostic(code("cases"), help("plugin-sdk/README.md shows how cases are written"))]
    Cases(#[from] CaseFileError),
    #[error("there is nothing to run in {}", .0.display())]
    #[diagnostic(code("cases"), help("write a case to `tests/host.toml`, or leave --host-only away"))]
    Nothing(PathBuf),
    #[error("{0}")]
    #[diagnostic(code("test-failed"))]
    Failed(String),
}

pub(super) fn run(args: &TestArgs, stdout: &mut dyn Write) -> miette::Result<()> {
    let built = build::build(vec![args.folder.clone()], &args.folders)?;
    let native = match !args.host_only && args.folder.join("Cargo.toml").exists() {
        true => Some(native(args)?),
        false => None,
    };
    let file = args.folder.join(cases::FILE);
    let results = match file.exists() {
        false => None,
        true => {
            let path = built.first().map_or_else(PathBuf::new, |built| built.path.clone());
            Some(in_the_host(&file, &path)?)
        }
    };
    if native.is_none() && results.is_none() {
        return Err(TestError::Nothing(args.folder.clone()).into());
    }
    report(native.as_ref(), results.as_deref(), &mut Output::new(stdout, args.json))
}

fn native(args: &TestArgs) -> Result<NativeTests, TestError> {
    let mut shown = Progress::start("running the plugin's own tests");
    let target = args.folders.target_dir.as_deref();
    let tests = russet_plugin_build::native_tests(&args.folder, target, &mut |line| shown.update(line.trim()));
    shown.done("ran the plugin's own tests");
    tests.map_err(TestError::Cargo)
}

fn in_the_host(file: &Path, component: &Path) -> miette::Result<Vec<CaseResult>> {
    let cases = CaseFile::read(file).map_err(TestError::Cases)?;
    let plugin = Plugin::from_file(component).map_err(NotRun)?;
    context::block_on(async {
        let mut shown = Progress::start("running the cases in the real host");
        let mut results = Vec::new();
        for case in &cases.cases {
            shown.update(case.name.clone());
            results.push(cases.run(&plugin, case).await);
        }
        shown.done("ran the cases in the real host");
        Ok(results)
    })
}

fn report(native: Option<&NativeTests>, results: Option<&[CaseResult]>, output: &mut Output<'_>) -> miette::Result<()> {
    let answer = json!({
        "native": native.map(|tests| json!({"passed": tests.passed, "count": tests.count, "output": tests.output})),
        "cases": results,
    });
    let failed: Vec<&CaseResult> = results
        .unwrap_or_default()
        .iter()
        .filter(|case| !case.problems.is_empty())
        .collect();
    output.answer(&answer, |output| {
        match native {
            None => {}
            Some(tests) if tests.passed => output.line(format!("its own tests: {} passed", tests.count))?,
            Some(tests) => {
                output.line(tests.output.trim_end())?;
                output.line("its own tests: FAILED")?;
            }
        }
        let Some(results) = results else {
            return Ok(());
        };
        output.line(format!(
            "in the real host: {} passed, {} failed",
            results.len() - failed.len(),
            failed.len()
        ))?;
        for case in results {
            let mark = if case.problems.is_empty() { "ok    " } else { "FAILED" };
            output.line(format!("  {mark} {}", case.name))?;
            for problem in &case.problems {
                output.line(format!("           {problem}"))?;
            }
        }
        Ok(())
    })?;
    let mut what = Vec::new();
    if native.is_some_and(|tests| !tests.passed) {
        what.push("its own tests".to_owned());
    }
    match failed.len() {
        0 => {}
        1 => what.push("a case in the real host".to_owned()),
        more => what.push(format!("{more} cases in the real host")),
    }
    match what.is_empty() {
        true => Ok(()),
        false => Err(TestError::Failed(format!("the plugin fails {}", what.join(" and "))).into()),
    }
}
