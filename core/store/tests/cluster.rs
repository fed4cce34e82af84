//! The test cluster cleans up after itself, whatever happens to the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

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
