//! What an author reads in `plugin-sdk/README.md`: every command line in it is run against the real program, in its order, and
//! what it shows is found in what the program says.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use russet_tests::{World, russet, workspace};

/// A command line of the README, with the lines that it shows.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The steps in the blocks that are marked `console`.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            line if line.starts_with("```") => inside = false,
            line if inside => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    command: command.to_owned(),
                    shown: Vec::new(),
                }),
                None => match steps.last_mut() {
                    // A command that goes on in the next line.
                    Some(step) if step.shown.is_empty() && step.command.ends_with('\\') => {
                        step.command.truncate(step.command.len() - 1);
                        step.command.push_str(line.trim_start());
                    }
                    Some(step) => step.shown.push(line.to_owned()),
                    None => panic!("what does {line:?} belong to?"),
                },
            },
            _ => {}
        }
    }
    steps
}

/// Whether a line is the one that is shown. What differs from run to run and from machine to machine is left open: sizes and
/// times (with their unit), digests, keys, moments, and what `…` stands for. Spaces that align do not matter.
fn fits(shown: &str, line: &str) -> bool {
    let (shown, line) = (comparable(shown), comparable(line));
    let Some((start, end)) = shown.split_once('…') else {
        return shown == line;
    };
    line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end)
}

fn comparable(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.trim_start_matches('(').parse::<f64>().is_ok();
    let unit = |word: &str| matches!(word.trim_end_matches([',', ')', ';']), "µs" | "ms" | "s" | "KiB");
    let digest = |word: &str| {
        let word = word.trim_matches(['(', ')', ',', ';']);
        word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let comparable: Vec<&str> = words
        .iter()
        .enumerate()
        .map(|(index, word)| match word {
            word if number(word) && words.get(index + 1).is_some_and(|next| unit(next)) => "N",
            word if digest(word) => "DIGEST",
            word if word.starts_with("ed25519:") => "KEY",
            word if word.trim_end_matches(',').parse::<jiff::Timestamp>().is_ok() => "TIME",
            word => word,
        })
        .collect();
    comparable.join(" ")
}

#[test]
fn what_differs_from_run_to_run_is_left_open() {
    assert!(fits("  106 KiB; hooks: x", "  61 KiB;  hooks: x"));
    assert!(fits(
        "used 874 µs, 192 KiB of memory, 4 calls",
        "used 1 µs, 2 KiB of memory, 4 calls"
    ));
    assert!(!fits("used 874 µs, 4 calls", "used 874 µs, 5 calls"));
    assert!(fits("a … c", "a b c") && !fits("a … c", "a b d"));
    assert!(!fits("1 of 3 would be refused", "2 of 3 would be refused"));
    assert!(!fits("a", "a b"));
    assert_eq!(
        steps("text\n```console\n$ a \\\n    b\nc\n\n$ d\n```\n$ e\n"),
        [
            Step {
                command: "a b".to_owned(),
                shown: vec!["c".to_owned(), String::new()]
            },
            Step {
                command: "d".to_owned(),
                shown: Vec::new()
            },
        ]
    );
}

/// Runs a command line as a shell does, with the program under test in its path.
fn run(command: &str, folder: &Path, world: &World) -> (bool, String) {
    let program = russet();
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = Command::new("sh")
        .arg("-c")
        .arg(command)
        .current_dir(folder)
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env("RUSSET_CONFIG", world.server.config_file())
        .env("RUSSET_SERVER", world.server.url())
        .env("RUSSET_CA", world.server.data_dir().join("ca.pem"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), said.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_of_the_sdk_is_true() {
    // Inside the checkout, so that the new plugin finds the SDK as the reader's does.
    let parent = workspace().join("target/tmp");
    std::fs::create_dir_all(&parent).unwrap();
    let folder = Arc::new(tempfile::tempdir_in(parent).unwrap());
    // The plugin builds where the last run of this test left its dependencies.
    let cargo = folder.path().join(".cargo");
    std::fs::create_dir(&cargo).unwrap();
    let config = format!("[build]\ntarget-dir = {:?}\n", workspace().join("target/e2e-plugin"));
    std::fs::write(cargo.join("config.toml"), config).unwrap();
    let world = World::builder()
        .without_gate()
        .start_in(Arc::clone(&folder))
        .await
        .unwrap();

    let readme = std::fs::read_to_string(workspace().join("plugin-sdk/README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 15, "the README lost its steps: {steps:?}");
    let mut wrong = Vec::new();
    for step in steps {
        let (mut differs, mut said) = try_step(&step, folder.path(), &world);
        if step.command.contains(" report ") {
            // What a revision in the shadow answered is counted after the device has its answer.
            for _ in 0..100 {
                if differs.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                (differs, said) = try_step(&step, folder.path(), &world);
            }
        }
        if let Some(differs) = differs {
            wrong.push(format!("$ {}\n{said}--- {differs}\n", step.command));
        }
        if step.command.starts_with("russet plugin new") {
            // The versions that this workspace is tested with.
            std::fs::copy(workspace().join("Cargo.lock"), folder.path().join("my-gate/Cargo.lock")).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "the README is not true any more:\n\n{}",
        wrong.join("\n")
    );
}

/// Runs a step. What differs from what the README shows, if anything does, and what the program said.
fn try_step(step: &Step, folder: &Path, world: &World) -> (Option<String>, String) {
    let (succeeded, said) = run(&step.command, folder, world);
    let failure = step.shown.iter().any(|line| line.trim_start().starts_with('×'));
    if succeeded == failure {
        return (Some("the README shows another outcome".to_owned()), said);
    }
    let mut lines = said.lines();
    let missing = step
        .shown
        .iter()
        .filter(|line| !line.trim().is_empty())
        .find(|shown| !lines.any(|line| fits(shown, line)));
    let differs = missing.map(|shown| format!("the README shows {shown:?} after the lines before it"));
    (differs, said)
}
