//! The disk is full, or the file may not grow: nothing can be written, not even the log, and everything goes on once it can.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site, folder};

/// A small file system in memory; gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, which takes root's rights.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).expect("a folder for the disk");
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"])
            .arg(at);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }

    /// Takes all the room that is left, to the last byte.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = File::create(&ballast).expect("an empty file fits in");
        for size in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may hold files of it still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The file system with the database is full.
pub(super) async fn full(extent: Extent) -> Outcome {
    let folder = folder();
    let Some(disk) = SmallDisk::mount(&folder.path().join("data")) else {
        return Outcome::left_out("only root may mount a small disk (file-limit is much the same)");
    };
    let started = Site::start_in(Backend::Sqlite, extent, Habits::default(), folder, |builder| builder);
    let mut site = started.await;
    let mut running = site.run().await;
    for _ in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(10, 60)).await;
        let ballast = disk.fill();
        // Once is enough: what the write-ahead log has room for already still goes in.
        site.fleet.is_refused(1).await;
        std::fs::remove_file(ballast).expect("the ballast can go");
        site.fleet.advances(10).await;
        site.after_a_fault("a full disk").await;
    }
    let outcome = site.finish(running).await;
    drop(disk);
    outcome
}

/// The server's files may not grow any more: the same for those who are not root.
pub(super) async fn limit(extent: Extent) -> Outcome {
    let mut site = Site::start(Backend::Sqlite, extent, Habits::default()).await;
    site.world.server.terminate();
    site.world.server.ended().await;
    // The signal that would end the process is ignored, as it is where a service manager sets such a limit.
    let script = r#"trap '' XFSZ; exec "$0" "$@""#;
    site.world.server.through_shell(script);
    site.resume().await;
    let mut running = site.run().await;
    let set = |site: &Site, limit: &str| {
        let id = site.world.server.process_id().to_string();
        let done = Command::new("prlimit")
            .args(["--pid", &id, &format!("--fsize={limit}:unlimited")])
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "prlimit cannot set the limit {limit}"
        );
    };
    for _ in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        site.fleet.advances(site.random.between(10, 60)).await;
        // Somewhere in the write-ahead log, or right at its beginning.
        let log = site.sqlite_file().with_extension("sqlite-wal");
        let size = std::fs::metadata(log).map_or(0, |file| file.len());
        set(&site, &site.random.between(0, size).to_string());
        // Once is enough: what the write-ahead log has room for already still goes in.
        site.fleet.is_refused(1).await;
        set(&site, "unlimited");
        site.fleet.advances(10).await;
        site.after_a_fault("a limit to the size of files").await;
    }
    site.finish(running).await
}
