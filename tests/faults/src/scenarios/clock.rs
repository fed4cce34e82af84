//! The server's clock jumps, by libfaketime; the devices' and the database's clocks stay right.

use std::path::{Path, PathBuf};

use russet_tests::eventually;

use crate::fleet::Habits;
use crate::site::{Backend, Extent, Outcome, Site, faketime};

/// What a scenario is left out for.
pub(super) const MISSING: &str = "libfaketime is not installed (Debian: apt-get install libfaketime)";

const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 24 * HOUR;

/// The clock of one server.
pub(super) struct Clock(PathBuf);

impl Clock {
    /// Starts the server anew with a clock of its own, which is right at first.
    pub(super) async fn of(site: &mut Site, library: &Path) -> Self {
        // Timers are not the clock's.
        let settings = [("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")];
        Self::start(site, library, &settings).await
    }

    /// The same, and what the server waits for passes with the clock: as if it had slept on a machine that was suspended.
    /// Such a clock may only go forward.
    pub(super) async fn with_timers(site: &mut Site, library: &Path) -> Self {
        Self::start(site, library, &[]).await
    }

    async fn start(site: &mut Site, library: &Path, more: &[(&str, &str)]) -> Self {
        let file = site.world.server.folder().path().join("clock");
        let clock = Self(file);
        clock.set(0);
        site.world.server.terminate();
        site.world.server.ended().await;
        let (library, path) = (library.display().to_string(), clock.0.display().to_string());
        let settings = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &path),
            ("FAKETIME_NO_CACHE", "1"),
        ];
        for (name, value) in settings.iter().chain(more) {
            site.world.server.environment(name, value);
        }
        site.resume().await;
        clock
    }

    /// So many seconds before or after the right time.
    pub(super) fn set(&self, seconds: i64) {
        // In one step: the server reads it at any time.
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}s\n")).expect("the clock can be set");
        std::fs::rename(&fresh, &self.0).expect("the clock can be set");
    }
}

/// What the server wrote down of how late it is, if that is later than a time in milliseconds.
const LATER_THAN: &str = "SELECT name FROM leases WHERE name = 'clock' AND until > ";

pub(super) async fn on_sqlite(extent: Extent) -> Outcome {
    jumps(Backend::Sqlite, extent).await
}

pub(super) async fn on_postgres(extent: Extent) -> Outcome {
    jumps(Backend::Postgres, extent).await
}

/// To and fro, by seconds and by days.
async fn jumps(backend: Backend, extent: Extent) -> Outcome {
    let Some(library) = faketime() else {
        return Outcome::left_out(MISSING);
    };
    let mut site = Site::start(backend, extent, Habits::default()).await;
    let clock = Clock::of(&mut site, &library).await;
    let mut running = site.run().await;
    let mut before = 0;
    site.fleet.expect_wrong_clock(true);
    for run in 0..extent.runs {
        if site.random.percent(30) {
            site.one_more(&mut running);
        }
        if before >= 0 {
            site.fleet.advances(site.random.between(10, 40)).await;
        }
        let jumps = [-10 * DAY, -DAY, -HOUR, -30, 0, 30, HOUR, DAY, 10 * DAY];
        // The first are the worst: far ahead, and back; and ahead, and back for the next process.
        let to = match run {
            0 => 10 * DAY,
            2 => DAY,
            1 | 3 => 0,
            _ => *site.random.one(&jumps),
        };
        if to == 0 && (run == 3 || site.random.percent(30)) {
            if before > 0 {
                is_known(&site, before).await;
            }
            site.world.server.kill();
            clock.set(0);
            site.resume().await;
        } else {
            clock.set(to);
        }
        before = to;
        // Before the identities of its devices, a server refuses them, and takes commands until enough wait.
        match to {
            0.. => site.fleet.advances(20).await,
            _ => site.world.admin.reach().await,
        }
        site.after_a_fault(&format!("a jump of the clock to {to:+} seconds"))
            .await;
    }
    // Somebody sets it right.
    clock.set(0);
    site.fleet.expect_wrong_clock(false);
    site.finish(running).await
}

/// Waits until the server has written down that its clock is so many seconds ahead: it looks every few seconds.
async fn is_known(site: &Site, ahead: i64) {
    let later = jiff::Timestamp::now().as_millisecond() + (ahead - 20) * 1_000;
    let sql = format!("{LATER_THAN}{later}");
    eventually("the server writes down how late it is", || async {
        let found = site.checker.tables().rows(&sql).await.expect("the table of leases");
        (!found.is_empty()).then_some(())
    })
    .await;
}

/// Identities expire while devices are away, and are renewed before.
pub(super) async fn expiry(extent: Extent) -> Outcome {
    let Some(library) = faketime() else {
        return Outcome::left_out(MISSING);
    };
    let calm = Habits {
        renew: 0,
        ..Habits::default()
    };
    let mut site = Site::start_with(Backend::Sqlite, extent, calm, |builder| {
        builder.set("enrollment.identity_lifetime_days", 1)
    })
    .await;
    let clock = Clock::of(&mut site, &library).await;
    let mut running = site.run().await;
    // Each lives a day: at 12 hours, half of them renew; at 30 hours, the others have expired. The next run's half renews at
    // that time too: what was renewed at 12 hours lives until 36.
    running.pause().await;
    for run in 0..extent.runs {
        let start = i64::try_from(run).expect("few runs") * 18 * HOUR;
        clock.set(start + 12 * HOUR);
        let members = site.fleet.members();
        let (renewed, expired): (Vec<_>, Vec<_>) = members
            .into_iter()
            .filter(|member| !member.listens)
            .enumerate()
            .partition(|(number, _)| number % 2 == 0);
        for (_, member) in &renewed {
            site.fleet.renew(member).await;
        }
        clock.set(start + 30 * HOUR);
        for (_, member) in &renewed {
            let polled = member.device.run_until_idle().await;
            assert!(
                polled.is_ok(),
                "{} renewed its identity in time: {polled:?}",
                member.serial()
            );
        }
        for (_, member) in &expired {
            // Refused, but not thrown out: its management goes on when somebody renews it.
            let polled = member.device.run_until_idle().await;
            let status = polled
                .as_ref()
                .err()
                .and_then(russet_simulator::device::DeviceError::status);
            assert_eq!(status, Some(400), "{}: {polled:?}", member.serial());
            assert_eq!(member.device.unenrolled(), None, "{}", member.serial());
            // The way back is a new identity for the same enrollment.
            clock.set(start + 12 * HOUR);
            site.fleet.renew(member).await;
            clock.set(start + 30 * HOUR);
            let polled = member.device.run_until_idle().await;
            assert!(polled.is_ok(), "{} renewed its identity: {polled:?}", member.serial());
        }
        // Those who listen would be next: they renew when they are pushed.
        clock.set(start + 12 * HOUR);
        for member in site.fleet.members().iter().filter(|member| member.listens) {
            site.fleet.renew(member).await;
        }
        clock.set(start + 30 * HOUR);
        site.after_a_fault("an expiry").await;
    }
    running.go_on();
    site.fleet.advances(40).await;
    site.finish(running).await
}
