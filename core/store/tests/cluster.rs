//! The test cluster cleans up after itself, whatever happens to the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use russet_store::testing::{PostgresCluster, postgres_is_skipped};

fn folder_of(url: &str) -> &Path {
    Path::new(url.split_once("host=").unwrap().1)
}

#[test]
fn a_cluster_is_gone_after_a_panic() {
    if postgres_is_skipped() {
        return;
    }
    let (tell, hear) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let cluster = PostgresCluster::start().unwrap();
        let url = cluster.create_database("some").unwrap();
        assert_eq!(cluster.query("some", "SELECT current_database()").unwrap(), "some");
        assert!(cluster.create_database("some").is_err());
        assert!(folder_of(&url).is_dir());
        tell.send(url).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!folder_of(&hear.recv().unwrap()).exists());
}

/// The process that [`killed_when`] kills.
#[test]
#[ignore = "not a test by itself: started by those that kill it"]
fn a_victim() {
    let _cluster = PostgresCluster::start().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        // A spinning test would keep the cluster from its processor.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Kills a process that has a cluster, once the file is there, and waits for the cluster to go.
fn killed_when(file: &str) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_victim", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let folder: PathBuf = std::env::temp_dir().join(format!("russet-pg-{}-0", victim.id()));
    until("the cluster", || folder.join(file).exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("the end of the cluster", || !folder.exists());
}

#[test]
fn a_cluster_is_gone_after_its_test_was_killed() {
    if !postgres_is_skipped() {
        killed_when(".s.PGSQL.5432");
    }
}

#[test]
fn a_cluster_is_gone_after_its_test_was_killed_while_it_was_made() {
    if !postgres_is_skipped() {
        killed_when("data");
    }
}
