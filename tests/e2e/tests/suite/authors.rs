//! What an author reads in `plugin-sdk/README.md`: every command line in it is run against the real program, in its order, and
//! what it shows is found in what the program says.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use russet_tests::page::{Part, Step, parts};
use russet_tests::{World, russet, workspace};

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
    let steps: Vec<Step> = parts(&readme)
        .into_iter()
        .filter_map(|part| match part {
            Part::Step(step) => Some(step),
            Part::Heading(_) | Part::File { .. } => None,
        })
        .collect();
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
    (step.differs(succeeded, &said), said)
}
